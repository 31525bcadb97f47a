"""From finished shards to a dataset: final names, records.index, rejected.jsonl, and last of all the manifest.

Every step can be repeated: after a kill in the middle, the next run finds the finished steps and goes on. And each is
on the disk before the next one begins: a power cut leaves no manifest whose shards are not there, nor a removed shard
whose manifest still is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from beam_jobs.census import census_json, find_duplicates
from beam_jobs.encode.columns import extra_features
from beam_jobs.encode.masks import has_masks
from beam_jobs.job import Job
from beam_jobs.plan import Plan
from beam_jobs.shards import (
    CONTENT_BYTES,
    ShardStats,
    find_stats,
    merge_counts,
    merge_notes,
    sum_moments,
)
from beam_jobs.sources import Refused
from tfpipe import __version__
from tfpipe.errors import SetupError
from tfpipe.format.framing import INDEX_ENTRY_BYTES
from tfpipe.format.manifest import (
    INDEX_NAME,
    REJECTED_NAME,
    STATE_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    load_manifest,
    save_manifest,
)
from tfpipe.format.schema import ImageSpec, Schema, record_schema
from tfpipe.images.transcode import transcoder_versions
from tfpipe.storage import AnyPath, StorePath, rename_drafts, replace_file, sync_path

# In the state folder: the shards that a run renames into place or replaces.
_JOURNAL_NAME = "files.json"


def publish(
    output: AnyPath, state: Path, job: Job, plan: Plan, refusals: Sequence[Refused], recorded: dict[str, Any]
) -> Manifest:
    """Makes the dataset visible, and removes the files that it replaces.

    Args:
      output: the folder to write, or the URL in a store; its `_state` holds the shards.
      state: the folder with their sidecars: `_state` itself, or a copy of a store's.
      job: the conversion.
      plan: its plan; every shard has its sidecar.
      refusals: all refused inputs, in any order.
      recorded: the job, as the manifest's made_by records it.

    Returns:
      The manifest, as it was written.

    Raises:
      SetupError: a shard is missing.
    """
    stats = load_stats(state, plan, recorded)
    index = b"".join((state / f"{one.name}.index").read_bytes() for one in stats)
    duplicates = find_duplicates(_content_digests(state, plan))
    manifest = _manifest(job, plan, stats, index, refusals, recorded, duplicates)
    shards = _all_shards(manifest)
    _extend_journal(output, _shard_files(output) | {shard.path for shard in shards}, fsync=job.fsync)
    names = {one.name: shard.path for one, shard in zip(stats, shards, strict=True)}
    _rename_shards(output, names, fsync=job.fsync)
    replace_file(output / INDEX_NAME, index, fsync=job.fsync)
    replace_file(output / REJECTED_NAME, rejected_lines(refusals), fsync=job.fsync)
    save_manifest(manifest, output, fsync=job.fsync)
    remove_stale(output, fsync=job.fsync)
    return load_manifest(output)


def load_stats(state: Path, plan: Plan, recorded: dict[str, Any]) -> list[ShardStats]:
    """The stats of every shard of a plan, in its order.

    Raises:
      SetupError: a sidecar is missing or damaged, or another plan's.
    """
    found = [find_stats(state / f"{shard.name}.json", recorded["plan"]) for shard in plan.shards]
    lost = [shard.name for shard, stats in zip(plan.shards, found, strict=True) if stats is None]
    if lost:
        raise SetupError(
            f"{len(lost)} of {len(found)} shards are not in {state} as a worker leaves them, the first is {lost[0]}; "
            "--resume writes them again; nothing else may write there meanwhile."
        )
    return [stats for stats in found if stats is not None]


def _rename_shards(output: AnyPath, names: Mapping[str, str], *, fsync: bool) -> None:
    """Gives shards their final names, where a killed run has not. A store copies them; remove_stale removes the drafts.

    With `fsync` all are synced once more: the run that wrote one may have been one with --no_fsync.

    Args:
      output: the folder or URL.
      names: for each planned name, the final path in the output.
      fsync: see storage.rename_drafts.
    """
    if isinstance(output, StorePath):
        for name, path in names.items():
            (output / STATE_NAME / f"{name}.tfrecord").copy_to(output / path)
        return
    drafts = {}
    for name, path in names.items():
        draft = output / STATE_NAME / f"{name}.tfrecord"
        drafts[draft if draft.exists() else output / path] = output / path
    rename_drafts(drafts, fsync=fsync)


def remove_stale(output: AnyPath, *, fsync: bool = True) -> None:
    """Removes the state folder, and every shard of an earlier dataset or of one that was never finished.

    Only files of the journal are removed, and none that the manifest lists.
    """
    state = output / STATE_NAME
    journal = state / _JOURNAL_NAME
    if journal.exists():
        for path in set(json.loads(journal.read_text())) - _shard_files(output):
            (output / path).unlink(missing_ok=True)
    if isinstance(state, StorePath):
        state.remove_tree()
        return
    # Before the journal goes: it would be missed if a power cut brought the shards back.
    if fsync:
        sync_path(state.parent)
    shutil.rmtree(state, ignore_errors=True)
    if fsync:
        sync_path(state.parent)


def _extend_journal(output: AnyPath, paths: set[str], *, fsync: bool) -> None:
    """Adds the shards that are about to come or go, before the first rename, to those that a killed run recorded."""
    journal = output / STATE_NAME / _JOURNAL_NAME
    earlier = json.loads(journal.read_text()) if journal.exists() else []
    replace_file(journal, json.dumps(sorted(paths | set(earlier))).encode(), fsync=fsync)


def _content_digests(state: Path, plan: Plan) -> dict[str, np.ndarray]:
    """For each split, the digest of every record's file."""
    digests = {}
    for number, name in enumerate(plan.splits):
        parts = [(state / f"{shard.name}.contents").read_bytes() for shard in plan.shards if shard.split == number]
        digests[name] = np.frombuffer(b"".join(parts), f"S{CONTENT_BYTES}")
    return digests


def _content_tag(recorded: dict[str, Any], stats: Sequence[ShardStats]) -> str:
    """Eight hex digits that change with the plan and with any shard's content.

    A rewrite whose images changed gets other file names even where its plan is the same, so that a reader of the old
    manifest never opens a new shard.
    """
    text = json.dumps([recorded["plan"], [one.digest for one in stats]])
    return xxhash.xxh3_128_hexdigest(text.encode())[:8]


def shard_is_written(state: Path, plan: Plan, name: str, recorded: dict[str, Any]) -> bool:
    """Whether a shard of the plan is complete: its sidecar is there, and its files, renamed already or not."""
    stats = find_stats(state / f"{name}.json", recorded["plan"])
    if stats is None or _size(state / f"{name}.index") != INDEX_ENTRY_BYTES * stats.num_records:
        return False
    if _size(state / f"{name}.contents") != CONTENT_BYTES * stats.num_records:
        return False
    return _size(state / f"{name}.tfrecord") == stats.num_bytes or (
        _size(_published_path(state, plan, name, recorded)) == stats.num_bytes
    )


def _published_path(state: Path, plan: Plan, name: str, recorded: dict[str, Any]) -> Path | None:
    """The final path of a shard; None until all shards are finished."""
    paths = [state / f"{shard.name}.json" for shard in plan.shards]
    if not all(path.exists() for path in paths):
        return None
    return state.parent / f"{name}-{_content_tag(recorded, [ShardStats.load(path) for path in paths])}.tfrecord"


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.exists() else None


def _shard_files(output: AnyPath) -> set[str]:
    """The paths of the shards of the dataset that is there now."""
    try:
        return {shard.path for shard in _all_shards(load_manifest(output))}
    except (FileNotFoundError, ValueError):
        return set()


def _all_shards(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def _manifest(
    job: Job,
    plan: Plan,
    stats: Sequence[ShardStats],
    index: bytes,
    refusals: Sequence[Refused],
    recorded: dict[str, Any],
    duplicates: Mapping[str, int],
) -> Manifest:
    moments = [one.moments for one in stats if one.moments is not None]
    total = sum_moments(moments) if moments else None
    digest = sum(one.source_digest for one in stats) % (1 << 128)
    left_out = {"left_out": dict(plan.left_out)} if plan.left_out else {}
    return Manifest(
        schema=_schema(job, plan, stats, recorded),
        splits=_splits(plan, stats, _content_tag(recorded, stats)),
        class_names=plan.class_names,
        index_digest=digest_bytes(index),
        rejected=merge_counts({refusal.reason: 1} for refusal in refusals),
        mean=total and total.mean,
        std=total and total.std,
        statistics=census_json([one.image_sizes for one in stats], duplicates),
        made_by={
            **recorded,
            **left_out,
            "source_digest": f"xxh3_128_sum:{digest:032x}",
            "versions": {**(recorded.get("versions") or versions(job)), **_transcoder(stats)},
            **_recorded_notes(stats),
        },
    )


def _recorded_notes(stats: Sequence[ShardStats]) -> dict[str, Any]:
    """For each category of notes: how many files of each kind, and under NAME_keys the first of them."""
    noted: dict[str, Any] = {}
    for category, kinds in merge_notes(one.notes for one in stats).items():
        noted[category] = {kind: count for kind, (count, _) in kinds.items()}
        noted[f"{category}_keys"] = {kind: keys for kind, (_, keys) in kinds.items()}
    return noted


def _transcoder(stats: Sequence[ShardStats]) -> dict[str, str]:
    """The versions that re-encoded files; none where no file was.

    Raises:
      SetupError: a worker had others than this process, by which the plan goes.
    """
    here = transcoder_versions()
    for one in stats:
        if one.transcoder not in ({}, here):
            raise SetupError(
                f"Shard {one.name} was re-encoded with {one.transcoder}, and the plan was made with {here}; install "
                "the same versions on all machines, and run again with --overwrite."
            )
    return here if any(one.transcoder for one in stats) else {}


def _splits(plan: Plan, stats: Sequence[ShardStats], content_tag: str) -> dict[str, Split]:
    splits = {}
    start = 0
    for number, name in enumerate(plan.splits):
        mine = [one for one, shard in zip(stats, plan.shards, strict=True) if shard.split == number]
        counts = merge_counts(one.class_counts for one in mine)
        shards = []
        for one in mine:
            path = f"{one.name}-{content_tag}.tfrecord"
            shards.append(Shard(path, one.num_records, one.num_bytes, one.digest, start))
            start += one.num_records
        splits[name] = Split(tuple(shards), tuple(counts[label] for label in range(len(plan.class_names))))
    return splits


def _schema(job: Job, plan: Plan, stats: Sequence[ShardStats], recorded: dict[str, Any]) -> Schema:
    sizes = {size for one in stats if one.sizes for size in (one.sizes[:2], one.sizes[2:])}
    spec = ImageSpec(
        dtype=job.dtype,
        size=sizes.pop() if len(sizes) == 1 else None,
        jpeg_only=all(set(one.formats) <= {"jpeg"} for one in stats),
        turned=any(one.turned for one in stats),
        masked=has_masks(plan.columns),
        channels=recorded["options"].get("channels", 3),
    )
    size = recorded.get("model", {}).get("embedding_size")
    extras = extra_features(plan.columns)
    return record_schema(job.payload, image=spec, embedding_size=size, extras=extras, label_kind=job.label_kind)


def versions(job: Job) -> dict[str, str]:
    """The versions that decide the bytes: TensorFlow's and Keras's only where they take part."""
    names = ["numpy", "xxhash"]
    names += ["tensorflow"] if job.needs_tensorflow else []
    names += ["keras"] if job.payload == "embedding" else []
    return {"tfpipe": __version__, **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return version(f"{name}-nightly")  # Pre-releases of TensorFlow bring keras-nightly in place of keras.


def rejected_lines(refusals: Sequence[Refused]) -> bytes:
    """rejected.jsonl: one line for each refused input, sorted, so that the listing's order does not show."""
    rows = [json.dumps(refusal._asdict(), ensure_ascii=False) for refusal in sorted(refusals)]
    return "".join(f"{row}\n" for row in rows).encode("utf-8", "backslashreplace")
