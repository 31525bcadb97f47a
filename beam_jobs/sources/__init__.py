"""The sources of images: a listing is cut into pieces, and a piece yields one entry for each input that it lists.

    source = open_source("photos")            # photos/CLASS/**/file
    for piece in source.pieces(limit=None):
        for entry in source.entries(piece):
            ...

One module a family: `folder`, here or in a store; `rows` (CSV, JSON lines and Parquet listings) and `coco`; `tar`,
`zips`, `embedded` (images inside Parquet) and `tfrecords`, whose images are parts of larger files. `masked` adds masks
to any of them. `listing` and `labels` hold the values and checks that all share, `layout` which folders and files are
splits, `members` the headers of a tar, `files` the access to paths and URLs; `tables`, `columns`, `cells`, `lookup` and
`box_rows` are the parts of `rows`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from beam_jobs.sources.coco import CocoSource, open_coco
from beam_jobs.sources.embedded import EmbeddedSource, image_column, open_embedded
from beam_jobs.sources.files import children, is_file, is_folder, matches
from beam_jobs.sources.folder import open_folder
from beam_jobs.sources.foreign_layout import open_records
from beam_jobs.sources.listing import Entry as Entry
from beam_jobs.sources.listing import LeftOut as LeftOut
from beam_jobs.sources.listing import Listed as Listed
from beam_jobs.sources.listing import Ref as Ref
from beam_jobs.sources.listing import Refusal as Refusal
from beam_jobs.sources.listing import Refused as Refused
from beam_jobs.sources.listing import Source as Source
from beam_jobs.sources.masked import with_masks
from beam_jobs.sources.options import LISTING_OPTIONS, SourceOptions
from beam_jobs.sources.rows import RowSource, open_rows
from beam_jobs.sources.tables import open_parquet
from beam_jobs.sources.tar import open_tars
from beam_jobs.sources.tfrecords import open_dataset
from beam_jobs.sources.zips import open_zip
from tfpipe.errors import UsageError
from tfpipe.format.manifest import MANIFEST_NAME
from tfpipe.format.record_files import is_record_file
from tfpipe.storage import check_url, local_path

READS = (
    "a folder with a folder per class; a listing (.csv, .txt, .jsonl, .ndjson, .parquet); COCO .json; Parquet files "
    "with images inside; .tar archives (WebDataset), one, a folder or a pattern as 'shards/*.tar'; a .zip archive; "
    "a tfpipe dataset or .tfrecord files"
)


def open_source(location: str, *, options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008 (frozen)
    """The source at a path or a URL.

    Args:
      location: a file, a folder or a pattern, or a URL of one; see READS.
      options: how to read it.

    Raises:
      UsageError: nothing is there, or nothing that tfpipe can read.
      SetupError: a package is missing.
    """
    source = _open_location(local_path(check_url(location)), options)
    given = [name for name in LISTING_OPTIONS if getattr(options, name) is not None]
    if "image_root" in given and isinstance(source, CocoSource):
        given.remove("image_root")
    if isinstance(source, EmbeddedSource):
        given = [name for name in given if name in ("file_column", "box_order", "image_root")]
    if given and not isinstance(source, RowSource):
        raise UsageError(f"--{given[0]} goes with a CSV, JSON lines or Parquet listing; {location!r} is none.")
    return with_masks(source, options.masks) if options.masks else source


def _open_location(location: str, options: SourceOptions) -> Source:
    if is_folder(location):
        return _open_directory(location, options)
    if is_file(location) and location.lower().endswith(".json"):
        _refuse_split_folders(location, options)
        return open_coco(location, options)
    if is_file(location):
        return _open_files([location], [os.path.basename(location)], location, options)
    paths = matches(location)
    if not paths:
        raise UsageError(f"No input at {location!r}; --input takes {READS}.")
    # A key holds the part in which the paths differ: moving them to another folder changes no key.
    top = os.path.commonpath([os.path.dirname(path) for path in paths])
    return _open_files(paths, [os.path.relpath(path, top or ".") for path in paths], location, options)


def _open_directory(location: str, options: SourceOptions) -> Source:
    if is_file(os.path.join(location, MANIFEST_NAME)):
        _refuse_split_folders(location, options)
        if options.schema:
            raise UsageError(f"--schema says what TFRecords without a manifest hold; {location!r} has {MANIFEST_NAME}.")
        return open_dataset(location, options.label_kind)
    inside = children(location)
    if not any(child.is_folder for child in inside):
        names = [child.name for child in inside if _family(child.name) in _SEVERAL]
        if names:
            return _open_files([os.path.join(location, name) for name in names], names, location, options)
    return open_folder(location, options)


def _refuse_split_folders(location: str, options: SourceOptions) -> None:
    if options.split_folders != "auto":
        raise UsageError(
            f"--split_folders goes with folders and with archives and files named by splits; {location!r} is neither."
        )


# The endings of file names, and the family that reads each.
_ENDINGS = {
    (".csv", ".tsv", ".txt"): "csv",
    (".jsonl", ".ndjson"): "rows",
    (".parquet", ".pq"): "parquet",
    (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"): "tar",
    (".zip",): "zip",
}
# The families of which there may be several files.
_SEVERAL = ("parquet", "tar", "tfrecord")


def _family(name: str) -> str | None:
    if is_record_file(name):
        return "tfrecord"
    lowered = name.lower()
    return next((family for endings, family in _ENDINGS.items() if lowered.endswith(endings)), None)


def _open_files(paths: Sequence[str], names: Sequence[str], location: str, options: SourceOptions) -> Source:
    families = {_family(path) for path in paths}
    family = families.pop() if len(families) == 1 else None
    if options.schema and family != "tfrecord":
        raise UsageError(f"--schema says what the features of TFRecords are; {location!r} holds none.")
    if family is None:
        raise UsageError(f"tfpipe can't read {location!r}; --input takes {READS}.")
    if len(paths) > 1 and family not in _SEVERAL:
        raise UsageError(f"{location!r} names {len(paths)} files; of {family} --input takes one.")
    if family == "tar":
        return open_tars(paths, names, options)
    if family == "tfrecord":
        return open_records(paths, names, options)
    if family == "parquet":
        return _open_parquet(paths, names, options)
    if family == "zip":
        return open_zip(paths[0], options.split_folders)
    _refuse_split_folders(location, options)
    return open_rows(paths[0], options)


def _open_parquet(paths: Sequence[str], names: Sequence[str], options: SourceOptions) -> Source:
    """Files with images inside, or one listing."""
    with open_parquet(paths[0]) as file:
        embedded = image_column(file.schema_arrow) is not None
    if embedded:
        return open_embedded(paths, names, options)
    if len(paths) > 1:
        raise UsageError(f"{paths[0]!r} holds no images; of Parquet listings --input takes one.")
    _refuse_split_folders(paths[0], options)
    return open_rows(paths[0], options)
