"""From finished shards to a dataset: final names, records.index, rejected.jsonl, and last of all the manifest.

Every step can be repeated: after a kill in the middle, the next run finds the finished steps and goes on.
"""

from __future__ import annotations

import json
import os
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
from beam_jobs.encode.transcode import transcoder_versions
from beam_jobs.job import Job
from beam_jobs.plan import Plan
from beam_jobs.shards import ShardStats, merge_counts, merge_notes, sidecar_bytes, sum_moments
from beam_jobs.sources import Refused
from tfpipe import __version__
from tfpipe.errors import SetupError
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
from tfpipe.storage import AnyPath, StorePath, replace_file

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
    """
    stats = [ShardStats.load(state / f"{shard.name}.json") for shard in plan.shards]
    index = b"".join((state / f"{one.name}.index").read_bytes() for one in stats)
    duplicates = find_duplicates(_content_digests(state, plan))
    manifest = _manifest(job, plan, stats, index, refusals, recorded, duplicates)
    _extend_journal(output, _shard_files(output) | {shard.path for shard in _all_shards(manifest)})
    for one, shard in zip(stats, _all_shards(manifest), strict=True):
        _rename_into_place(output / STATE_NAME / f"{one.name}.tfrecord", output / shard.path)
    replace_file(output / INDEX_NAME, index)
    replace_file(output / REJECTED_NAME, rejected_lines(refusals))
    save_manifest(manifest, output)
    remove_stale(output)
    return load_manifest(output)


def _rename_into_place(draft: AnyPath, target: AnyPath) -> None:
    """Gives a shard its final name, where a killed run has not. A store copies it; remove_stale removes the draft."""
    if isinstance(draft, StorePath):
        draft.copy_to(StorePath(str(target)))
    elif draft.exists():
        os.replace(draft, str(target))


def remove_stale(output: AnyPath) -> None:
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
    else:
        shutil.rmtree(state, ignore_errors=True)


def _extend_journal(output: AnyPath, paths: set[str]) -> None:
    """Adds the shards that are about to come or go, before the first rename, to those that a killed run recorded."""
    journal = output / STATE_NAME / _JOURNAL_NAME
    earlier = json.loads(journal.read_text()) if journal.exists() else []
    replace_file(journal, json.dumps(sorted(paths | set(earlier))).encode())


def _content_digests(state: Path, plan: Plan) -> dict[str, np.ndarray]:
    """For each split, the digest of every record's file."""
    digests = {}
    for number, name in enumerate(plan.splits):
        parts = [(state / f"{shard.name}.contents").read_bytes() for shard in plan.shards if shard.split == number]
        digests[name] = np.frombuffer(b"".join(parts), "S16")
    return digests


def _content_tag(recorded: dict[str, Any], stats: Sequence[ShardStats]) -> str:
    """Eight hex digits that change with the plan and with any shard's content.

    A rewrite whose images changed gets other file names even where its plan is the same, so that a reader of the old
    manifest never opens a new shard.
    """
    text = json.dumps([recorded["plan"], [one.digest for one in stats]])
    return xxhash.xxh3_128_hexdigest(text.encode())[:8]


def shard_is_written(state: Path, plan: Plan, name: str, recorded: dict[str, Any]) -> bool:
    """Whether a shard of the plan is complete: its sidecar is there, and its file, renamed already or not."""
    size = sidecar_bytes(state / f"{name}.json")
    paths = (state / f"{name}.tfrecord", _published_path(state, plan, name, recorded))
    return size is not None and size in map(_size, paths)


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
            "source_digest": f"xxh3_128_sum:{digest:032x}",
            "versions": {**versions(job), **_transcoder(stats)},
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
