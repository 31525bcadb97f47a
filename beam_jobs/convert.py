"""Converts a listing of images into a tfpipe dataset: list, plan, write, publish.

    python -m beam_jobs.convert --input photos --output photos_tfrecord
    tfpipe convert --input photos --output photos_tfrecord        # the same

From Python:

    manifest = convert(Job(input="photos", output="photos_tfrecord")).manifest
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from beam_jobs.encode.embedding import open_embedder
from beam_jobs.encode.models import Embedder
from beam_jobs.encode.shrink import Gain
from beam_jobs.encode.sizes import needs_sample, record_size, shrink_gain
from beam_jobs.engines.locks import LOCK_NAME, SPOOL_NAME, lock_output
from beam_jobs.engines.progress import WatchedProgress
from beam_jobs.engines.staging import LocalState, State, open_state
from beam_jobs.engines.workers import num_helpers, prestarted_helpers
from beam_jobs.job import Job, read_labels, rejected_limit
from beam_jobs.plan import Plan, RecordSize, listing_refusals, lowest_refs, make_listing_scan, make_plan
from beam_jobs.publish import load_stats, publish, remove_stale, versions
from beam_jobs.replaced import Changes, changes_of
from beam_jobs.sources import Refused, Source, open_source
from beam_jobs.sources.listing import MASK_COLUMN
from beam_jobs.sources.options import LISTING_OPTIONS, SourceOptions
from tfpipe.errors import DataError, SetupError, UsageError
from tfpipe.format.manifest import MANIFEST_NAME, REJECTED_NAME, STATE_NAME, Manifest, load_manifest
from tfpipe.images.transcode import transcoder_versions
from tfpipe.maintenance.check import check_dataset
from tfpipe.storage import AnyPath, is_url, local_path, replace_file, to_path

# How many images, the first by hash, are measured where only a sample tells the size of records.
_SAMPLE = 64
# Part of the plan of images that get a size: shards of an earlier meaning are not gone on with. See tfpipe.images.fit.
_PIXELS = "pixels 4"


@dataclass(frozen=True)
class Outcome:
    """The result of a conversion.

    Attributes:
      plan: the plan.
      manifest: the manifest of the dataset; None for a dry run.
      refused: how many inputs were refused, by reason.
      resumed: how many shards an earlier run had finished.
      gain: the gain of re-encoding, measured on a sample; None where nothing is re-encoded.
      replaces: what changes against the dataset that is or was in the output folder, see beam_jobs.replaced; None where
        there is none.
      notes: what a user should know of the source, a sentence each.
    """

    plan: Plan
    manifest: Manifest | None
    refused: Mapping[str, int]
    resumed: int = 0
    gain: Gain | None = None
    replaces: Changes | None = None
    notes: tuple[str, ...] = ()


def convert(job: Job, *, quiet: bool = True, announce: Callable[[Changes], None] = lambda _: None) -> Outcome:
    """Runs a conversion.

    Args:
      job: the conversion.
      quiet: show no progress bar.
      announce: is called, before anything is written, with what changes against a dataset that is replaced.

    Raises:
      UsageError: the job contradicts itself or the files at its paths.
      DataError: more inputs were refused than allowed; nothing is published, and --resume can go on.
      SetupError: the disk is full, another writer holds the output, a model or an extra is missing.
    """
    output = to_path(job.output if is_url(job.output) else os.path.abspath(local_path(job.output)))
    finished = job.resume and (output / MANIFEST_NAME).exists() and not (output / STATE_NAME).exists()
    with _spool_folder(job, output, finished) as spool:
        names = read_labels(job.labels) if job.labels else None
        source = open_source(job.input, options=_source_options(job, spool, names))
        class_names = _known_classes(job, source, names)
        _check_places(job, output)
        if job.dry_run:
            planned = _plan_aside(job, source, output, class_names)
            if sum(planned.plan.refused.values()) == planned.plan.listed:
                raise DataError(
                    f"{_refused_text(planned.plan.refused, planned.plan.listed)}: there is nothing to write."
                )
            replaces = _announce_changes(job, output, planned, announce)
            return Outcome(planned.plan, None, planned.plan.refused, 0, planned.gain, replaces, _notes(source))
        # On another runner the workers are other processes, with helpers of their own.
        helpers = 0 if job.beam_args else num_helpers(job)
        with lock_output(output, fsync=job.fsync), prestarted_helpers(helpers):
            if finished:
                return _verify_finished(job, source, output, class_names)
            return _write(job, source, output, class_names, quiet, announce)


@contextlib.contextmanager
def _spool_folder(job: Job, output: AnyPath, finished: bool) -> Iterator[str | None]:
    """The folder that a source may copy its images into first; None where it reads everything in place.

    Nothing is copied for a dry run, nor where a finished dataset is verified. For an output in a store the spool is on
    this machine, where workers elsewhere don't see it.
    """
    if job.dry_run or finished or (job.beam_args and not isinstance(output, Path)):
        yield None
    elif isinstance(output, Path):
        yield str(output / STATE_NAME / SPOOL_NAME)
    else:
        with tempfile.TemporaryDirectory(prefix="tfpipe-spool-") as folder:
            yield folder


def _source_options(job: Job, spool: str | None, class_names: tuple[str, ...] | None) -> SourceOptions:
    names = ("label_kind", "masks", "schema", "split_folders", *LISTING_OPTIONS)
    return SourceOptions(spool=spool, class_names=class_names, **{name: getattr(job, name) for name in names})


def _known_classes(job: Job, source: Source, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The classes and their order, the names of the labels file or the source's; None takes those that occur.

    Raises:
      UsageError: the source does not support the job's options.
    """
    if job.split is not None and source.splits:
        raise UsageError(f"{job.input!r} assigns the splits {list(source.splits)}; --split can't change them.")
    if job.label_kind not in source.label_kinds:
        kinds = list(source.label_kinds)
        raise UsageError(f"{job.input!r} can't hold labels of --label_kind {job.label_kind}; it takes one of {kinds}.")
    if MASK_COLUMN in source.columns and job.payload == "embedding":
        raise UsageError(f"{job.input!r} has masks; they go with --payload raw or decoded: an embedding has no pixels.")
    if job.mask_fill and MASK_COLUMN not in source.columns:
        raise UsageError(f"--mask_fill is {job.mask_fill}, but {job.input!r} has no masks; --masks names their folder.")
    if names is not None:
        return names
    return None if job.label_kind in ("number", "none") else source.class_names


def _notes(source: Source) -> tuple[str, ...]:
    """What a source has to say of its inputs."""
    return tuple(getattr(source, "notes", ()))


@dataclass(frozen=True)
class _Planned:
    plan: Plan
    recorded: dict[str, Any]
    gain: Gain | None


def _plan_aside(job: Job, source: Source, output: AnyPath, class_names: tuple[str, ...] | None) -> _Planned:
    """The plan, without writing into the output; made by this process where workers may see nothing but a store."""
    here = job if isinstance(output, Path) else replace(job, beam_args=())
    with tempfile.TemporaryDirectory() as folder:
        return _plan(here, source, LocalState(Path(folder)), class_names)


def _plan(job: Job, source: Source, state: State, class_names: tuple[str, ...] | None) -> _Planned:
    from beam_jobs.engines.graphs import run_listing

    scan = make_listing_scan(job, source, str(state.folder / "runs"), class_names)
    run_listing(source.pieces(job.limit), scan, job, state)
    embedder = open_embedder(job) if job.payload == "embedding" else None
    size, gain = _measure_records(job, source, scan.sorted_runs, embedder)
    plan = make_plan(job, scan, size)
    if not plan.listed:
        raise UsageError(f"{job.input!r} lists no images.")
    return _Planned(plan, _recorded(job, source, plan, embedder, size), gain)


def _measure_records(
    job: Job, source: Source, sorted_runs: str, embedder: Embedder | None
) -> tuple[RecordSize, Gain | None]:
    """The size of a record, and the gain of re-encoding where there is some; on a sample, where one is needed."""
    sample = lowest_refs(sorted_runs, _SAMPLE) if needs_sample(job, source) else []
    if job.shrink is None:
        return record_size(job, sample, source, embedder), None
    gain = shrink_gain(job.shrink, sample, source, job.transcoding)
    return RecordSize(per_file_byte=gain.bytes_ratio), gain


def _recorded(job: Job, source: Source, plan: Plan, embedder: Embedder | None, size: RecordSize) -> dict[str, Any]:
    """The options and the model as the manifest records them, and a digest by which a later run knows the same plan."""
    recorded: dict[str, Any] = {"options": job.recorded()}
    if source.splits:
        recorded["options"]["split"] = "folders"
    if embedder is not None:
        recorded["model"] = {**embedder.recorded(), "resize": job.resize, "embedding_size": size.fixed // 4}
    # The shards too: where images keep their sizes, a sample of their headers decides the cuts.
    identity = [recorded, plan.class_names, plan.columns, plan.splits, plan.shards, plan.source_digest, versions(job)]
    if job.payload == "embedding" or job.image_size is not None:
        identity.append(_PIXELS)
    # Files that only their bytes betray have the sidecars: shards of other versions are never published together.
    if job.transcode == "png" and plan.may_transcode:
        identity.append(transcoder_versions())
    recorded["plan"] = xxhash.xxh3_128_hexdigest(json.dumps(identity, sort_keys=True).encode())
    return recorded


def _announce_changes(
    job: Job, output: AnyPath, planned: _Planned, announce: Callable[[Changes], None]
) -> Changes | None:
    """What the plan changes against the dataset that is there, once it was announced; None where there is none."""
    try:
        old = load_manifest(output)
    except (FileNotFoundError, ValueError):
        return None
    changes = changes_of(old, planned.plan, planned.recorded, versions(job))
    if changes:
        announce(changes)
    return changes


def _write(
    job: Job,
    source: Source,
    output: AnyPath,
    class_names: tuple[str, ...] | None,
    quiet: bool,
    announce: Callable[[Changes], None],
) -> Outcome:
    if job.overwrite and (output / STATE_NAME).exists():
        remove_stale(output, fsync=job.fsync)
    with open_state(output, fsync=job.fsync) as state:
        try:
            planned = _plan(job, source, state, class_names)
            replaces = _announce_changes(job, output, planned, announce)
            _match_earlier_plan(output / STATE_NAME / "plan.json", planned, fsync=job.fsync)
            refusals = list(listing_refusals(str(state.folder / "runs")))
            _check_refusals(job, output, planned.plan, refusals)
        except UsageError:
            _remove_if_unused(output)
            raise
        plan = planned.plan
        written = state.written_shards(plan, planned.recorded)
        missing = [i for i, shard in enumerate(plan.shards) if shard.name not in written]
        _write_missing(missing, job, planned, source, state, quiet)
        for stats in load_stats(state.folder, plan, planned.recorded):
            refusals += stats.refused
        _check_refusals(job, output, plan, refusals)
        manifest = publish(output, state.folder, job, plan, refusals, planned.recorded)
    return Outcome(plan, manifest, manifest.rejected, len(written), planned.gain, replaces, _notes(source))


def _write_missing(
    missing: Sequence[int], job: Job, planned: _Planned, source: Source, state: State, quiet: bool
) -> None:
    plan = planned.plan
    is_local = isinstance(state.place, Path)
    if is_local:
        _check_space(state.folder.parent, plan, len(missing))
    if missing:
        from beam_jobs.engines.graphs import write_shards

        # The bar looks at the folder's size; in a store each look would be a request.
        with WatchedProgress(state.folder, plan.num_bytes, plan.listed, quiet=quiet or not is_local):
            write_shards(missing, job, plan, source, state, planned.recorded["plan"])


def _verify_finished(job: Job, source: Source, output: AnyPath, class_names: tuple[str, ...] | None) -> Outcome:
    manifest = load_manifest(output)
    planned = _plan_aside(job, source, output, class_names)
    if manifest.made_by.get("plan") != planned.recorded["plan"]:
        earlier = {key: manifest.made_by.get(key) for key in planned.recorded}
        raise UsageError(
            f"{output} holds another dataset: {_difference(earlier, planned.recorded)}; --overwrite replaces it."
        )
    problems = check_dataset(manifest)
    if problems:
        raise DataError(f"{output} is finished but damaged: {problems[0]}")
    return Outcome(planned.plan, manifest, manifest.rejected, resumed=len(planned.plan.shards))


# ---- the output folder


def _check_places(job: Job, output: AnyPath) -> None:
    if _is_inside(output, job.input):
        raise UsageError(f"--output {job.output!r} is inside --input {job.input!r}; write elsewhere.")
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {job.output!r} is a file; it takes a folder.")
    if (
        output.is_dir()
        and any(path.name != LOCK_NAME for path in output.iterdir())
        and not (job.resume or job.overwrite or job.dry_run)
    ):
        unfinished = (output / STATE_NAME).exists()
        hint = "--resume goes on with the unfinished conversion there" if unfinished else "--resume verifies it"
        raise UsageError(f"--output {job.output!r} is not empty; {hint}, --overwrite replaces a dataset there.")


def _is_inside(output: AnyPath, location: str) -> bool:
    """Whether an output is the folder of the input, or below it."""
    if not isinstance(output, Path):
        return f"{output}/".startswith(location.rstrip("/") + "/")
    inputs, real = Path(os.path.realpath(local_path(location))), Path(os.path.realpath(output))
    return inputs.is_dir() and (real == inputs or inputs in real.parents)


def _remove_if_unused(output: AnyPath) -> None:
    """Removes an empty state folder, and the output folder if nothing else is in it."""
    state = output / STATE_NAME
    if any(state.glob("*.json")):
        return
    if isinstance(output, Path):
        shutil.rmtree(output / STATE_NAME)
        with contextlib.suppress(OSError):
            output.rmdir()
    else:
        (output / STATE_NAME).remove_tree()


def _match_earlier_plan(path: AnyPath, planned: _Planned, *, fsync: bool) -> None:
    """Raises a UsageError where the shards are of another plan; writes the plan where there is none yet."""
    document = {"recorded": planned.recorded, "plan": planned.plan.to_json()}
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["recorded"]["plan"] != planned.recorded["plan"]:
            found = _difference({**earlier["plan"], **earlier["recorded"]}, {**document["plan"], **planned.recorded})
            raise UsageError(
                f"{path.parent.parent} holds an unfinished conversion of another kind: {found}; "
                "run it with the same options and input, or take --overwrite."
            )
    replace_file(path, json.dumps(document).encode(), fsync=fsync)


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first difference between two records of a job, as a phrase."""
    for name in ("options", "model"):
        before, after = earlier.get(name) or {}, now.get(name) or {}
        for key in sorted(set(before) | set(after)):
            if before.get(key) != after.get(key):
                return f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
    for key in ("class_names", "columns", "listed", "splits"):
        if key in earlier and earlier[key] != now.get(key):
            return f"{key} was {str(earlier[key])[:80]} and is {str(now.get(key))[:80]}"
    return "the input or the versions of the packages changed"


def _check_space(output: Path, plan: Plan, missing: int) -> None:
    needed = plan.num_bytes * missing // max(len(plan.shards), 1)
    free = shutil.disk_usage(output).free
    if needed > free:
        raise SetupError(f"{output} has {free:,} bytes free; about {needed:,} are needed.")


def _refused_text(reasons: Mapping[str, int], listed: int) -> str:
    """How many inputs were refused, and why, as the beginning of a sentence."""
    total = sum(reasons.values())
    count = f"All {total}" if total == listed else f"{total} of {listed}"
    return f"{count} inputs were refused ({', '.join(f'{number} {reason}' for reason, number in reasons.items())})"


def _check_refusals(job: Job, output: AnyPath, plan: Plan, refusals: Sequence[Refused]) -> None:
    """Raises a DataError where too many inputs were refused, or all; rejected.jsonl then lists them."""
    from beam_jobs.publish import rejected_lines

    allowed = rejected_limit(job.max_rejected, plan.listed)
    if len(refusals) <= allowed and len(refusals) < plan.listed:
        return
    replace_file(output / REJECTED_NAME, rejected_lines(refusals), fsync=job.fsync)
    text = _refused_text(dict(Counter(refusal.reason for refusal in refusals).most_common()), plan.listed)
    first = min(refusals)
    details = f"the first is {first.key!r}: {first.detail} All are in {output / REJECTED_NAME}."
    if len(refusals) == plan.listed:
        raise DataError(f"{text}: there is nothing to write; {details}")
    raise DataError(
        f"{text}, {allowed} may be (--max_rejected {job.max_rejected}); {details} "
        "Correct them, or go on with --resume and a higher --max_rejected."
    )


if __name__ == "__main__":
    from tfpipe.cli import main

    main("convert")
