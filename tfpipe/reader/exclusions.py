"""What a stream cannot honour is refused by the name of the setting: nothing that was asked for is dropped in silence.

ReadOptions refuses the settings that exclude each other whatever is read; here are those that depend on the data, or on
other arguments of make_dataset. docs/options.md has the whole table.
"""

from __future__ import annotations

import dataclasses
import logging

from tfpipe.errors import UsageError
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.placing import check_placing
from tfpipe.reader.request import Request, has_boxes, has_polygons

# make_dataset's defaults.
_MAX_BOXES, _MAX_POINTS = 100, 128
_LOG = logging.getLogger("tfpipe")
_BUFFER = next(field.default for field in dataclasses.fields(ReadOptions) if field.name == "shuffle_buffer")


def check_exclusions(request: Request) -> None:
    """Raises ValueError for a setting that this stream would drop; the sentence names it, and what to do."""
    _check_unused(request)
    _check_weights(request)
    _check_boxes(request)
    _check_hosts(request)
    _check_service(request)
    _check_random_crop(request)
    check_placing(request)


def _check_unused(request: Request) -> None:
    options = request.options
    if request.transforms and not request.training:
        # Not refused: one call's arguments serve training and evaluation.
        _LOG.warning(
            "transforms are applied in training only; split %r is read for evaluation without them. What evaluation "
            "needs too is a .map of its batches.",
            request.split,
        )
    if request.labels != "boxes" and request.max_boxes != _MAX_BOXES:
        raise UsageError(f"max_boxes is {request.max_boxes}, but labels is {request.labels!r}: it goes with 'boxes'.")
    if request.max_points != _MAX_POINTS and not has_polygons(request.manifest, request.schema):
        raise UsageError(
            f"max_points is {request.max_points}, but these batches have no polygons: records of COCO files have some, "
            "with labels='boxes' or None."
        )
    if request.schema.payload == "embedding" and request.resize != "pad":
        raise UsageError(
            f"resize is {request.resize!r}, but {request.manifest.directory} holds embeddings: nothing is resized."
        )
    if request.training and options.shuffle_buffer != _BUFFER and not request.has_limited_buffer:
        raise UsageError(
            f"shuffle_buffer is {options.shuffle_buffer}, but shuffle={options.shuffle!r} has no such buffer here: it "
            "goes with shuffle='buffer', or with compressed shards and no cache."
        )


def _check_weights(request: Request) -> None:
    """Groups are drawn where the position in an epoch gives the record; everything else reads every record once."""
    groups, options = request.groups, request.options
    if groups is None or (len(request.sources) == 1 and not options.balance_classes):
        return
    obstacles = [f"shuffle={options.shuffle!r}"] if request.shuffle != "global" else []
    if options.cache != "none" and options.cache_place == "records":
        obstacles.append(f"cache={options.cache!r} with cache_place='records'")
    obstacles += [
        f"compressed shards ({source.directory})"
        for source in request.sources
        if not source.split(request.split).is_seekable
    ]
    if not obstacles:
        return
    what = "balance_classes samples" if options.balance_classes else "The weights of a mixture sample"
    instead = "balance_classes=False" if options.balance_classes else "training=False"
    raise UsageError(
        f"{what} records through their offsets, in the order of shuffle='global': not with {' and '.join(obstacles)}; "
        f"{instead} reads every record once."
    )


def _check_boxes(request: Request) -> None:
    """Boxes of adopted records are left as they are, those of converted ones move with their images."""
    if request.labels is None and has_boxes(request.schema):
        adopted = [source.directory for source in request.sources if "adopted" in source.made_by]
        if adopted and len(adopted) < len(request.sources):
            raise UsageError(
                f"The boxes of {adopted[0]} were adopted and stay as they are, those of other sources are moved with "
                "their images: they can't be mixed. Convert both, or read them one by one."
            )


def _check_hosts(request: Request) -> None:
    hosts, size, records = request.options.host_count, request.batch_size, request.num_records
    if hosts > 1 and not request.is_seekable:
        raise UsageError(
            f"host_count is {hosts}, but split {request.split!r} has compressed shards: each host seeks its own "
            "records, and compressed shards have no offsets."
        )
    left_out = records % (size * hosts)
    if hosts > 1 and not request.training and left_out:
        fitting = "" if records % hosts else f"a batch_size that divides {records // hosts}, or "
        raise UsageError(
            f"host_count is {hosts}: in evaluation every record counts, but hosts read equally many whole batches of "
            f"{size} and no partial batch, which would leave out {left_out} of the {records} records of split "
            f"{request.split!r}. Use {fitting}host_count=1, which evaluates the whole split on every host."
        )


def _check_service(request: Request) -> None:
    if request.options.service is not None and not (request.has_random_access and not request.has_partial_batch):
        raise UsageError(
            "The workers of a service read whole batches by random access: not with compressed shards, "
            "shuffle='buffer', or an evaluation that ends in a partial batch."
        )


def _check_random_crop(request: Request) -> None:
    options, name = request.options, type(request.resize).__name__
    if request.has_random_crop and not (request.has_random_access and options.cache == "none" and not options.service):
        raise UsageError(
            f"{name} is drawn where records have random access: not with a cache, shuffle='buffer', a service or "
            "compressed shards; transforms=[augment.random_resized_crop(...)] crops batches from anywhere."
        )
