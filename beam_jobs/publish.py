"""From finished shards to a dataset: final names, records.index, rejected.jsonl, and last of all the manifest.

Every step can be repeated: a run that was killed in the middle finds what is done and goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from beam_jobs.census import census_json, find_duplicates
from beam_jobs.encode.columns import extra_features
from beam_jobs.encode.masks import has_masks
from beam_jobs.encode.payloads import needs_tensorflow
from beam_jobs.job import Job
from beam_jobs.plan import Plan
from beam_jobs.shards import ShardFacts, merge_counts, sum_moments
from beam_jobs.sources import Refused
from tfpipe import __version__
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

_NOTES_NAME = "files.json"


def publish(
    output: AnyPath, state: Path, job: Job, plan: Plan, refusals: Sequence[Refused], recorded: dict[str, Any]
) -> Manifest:
    """Makes the dataset visible, and removes what it replaces.

    Args:
      output: the folder to write, or the place in a store; its `_state` holds the shards.
      state: the folder with their sidecars: `_state` itself, or a copy of what a store's has.
      job: the conversion.
      plan: its plan; every shard has its sidecar.
      refusals: everything that was refused, in any order.
      recorded: what the manifest says of how it was made.

    Returns:
      The manifest, as it was written.
    """
    facts = [ShardFacts.load(state / f"{shard.name}.json") for shard in plan.shards]
    mark = _content_mark(recorded, facts)
    index = b"".join((state / f"{fact.name}.index").read_bytes() for fact in facts)
    duplicates = find_duplicates(_contents(state, plan))
    manifest = _manifest(job, plan, facts, mark, index, refusals, recorded, duplicates)
    _note_files(output, _shard_files(output) | {shard.path for shard in _all_shards(manifest)})
    for fact, shard in zip(facts, _all_shards(manifest), strict=True):
        _move_in(output / STATE_NAME / f"{fact.name}.tfrecord", output / shard.path)
    replace_file(output / INDEX_NAME, index)
    replace_file(output / REJECTED_NAME, rejected_lines(refusals))
    save_manifest(manifest, output)
    sweep(output)
    return load_manifest(output)


def _move_in(draft: AnyPath, target: AnyPath) -> None:
    """Gives a shard its final name, where a killed run has not; a store copies it, and `sweep` removes the draft."""
    if isinstance(draft, StorePath):
        draft.copy_to(StorePath(str(target)))
    elif draft.exists():
        os.replace(draft, str(target))


def sweep(output: AnyPath) -> None:
    """Removes the state folder, and every shard of a dataset before or of one that was never finished.

    Only files that a run noted down itself are removed, and none that the manifest lists.
    """
    state = output / STATE_NAME
    notes = state / _NOTES_NAME
    if notes.exists():
        for path in set(json.loads(notes.read_text())) - _shard_files(output):
            (output / path).unlink(missing_ok=True)
    if isinstance(state, StorePath):
        state.remove_tree()
    else:
        shutil.rmtree(state, ignore_errors=True)


def _note_files(output: AnyPath, paths: set[str]) -> None:
    """Notes down, before the first rename, which shards are about to come or go; adds to what a killed run noted."""
    notes = output / STATE_NAME / _NOTES_NAME
    earlier = json.loads(notes.read_text()) if notes.exists() else []
    replace_file(notes, json.dumps(sorted(paths | set(earlier))).encode())


def _contents(state: Path, plan: Plan) -> dict[str, np.ndarray]:
    """For each split, the digest of every record's file."""
    contents = {}
    for number, name in enumerate(plan.splits):
        parts = [(state / f"{shard.name}.contents").read_bytes() for shard in plan.shards if shard.split == number]
        contents[name] = np.frombuffer(b"".join(parts), "S16")
    return contents


def _content_mark(recorded: dict[str, Any], facts: Sequence[ShardFacts]) -> str:
    """Eight hex digits that change with the plan and with any shard's content.

    A rewrite whose images changed gets other file names even where its plan is the same, so that a reader of the old
    manifest never opens a new shard.
    """
    text = json.dumps([recorded["plan"], [fact.digest for fact in facts]])
    return xxhash.xxh3_128_hexdigest(text.encode())[:8]


def shard_is_written(output: Path, plan: Plan, number: int, recorded: dict[str, Any]) -> bool:
    """Whether a shard of the plan needs no more work: its sidecar is there, and its file, renamed already or not."""
    state = output / STATE_NAME
    name = plan.shards[number].name
    try:
        size = ShardFacts.load(state / f"{name}.json").num_bytes
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return size in (_size(state / f"{name}.tfrecord"), _size(_published_path(output, plan, name, recorded)))


def _published_path(output: Path, plan: Plan, name: str, recorded: dict[str, Any]) -> Path | None:
    """Where a shard goes once all are finished; None while some are not."""
    paths = [output / STATE_NAME / f"{shard.name}.json" for shard in plan.shards]
    if not all(path.exists() for path in paths):
        return None
    return output / f"{name}-{_content_mark(recorded, [ShardFacts.load(path) for path in paths])}.tfrecord"


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.exists() else None


def _shard_files(output: AnyPath) -> set[str]:
    """The shards of the dataset that is there now."""
    try:
        return {shard.path for shard in _all_shards(load_manifest(output))}
    except (FileNotFoundError, ValueError):
        return set()


def _all_shards(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def _manifest(
    job: Job,
    plan: Plan,
    facts: Sequence[ShardFacts],
    mark: str,
    index: bytes,
    refusals: Sequence[Refused],
    recorded: dict[str, Any],
    duplicates: Mapping[str, int],
) -> Manifest:
    moments = [fact.moments for fact in facts if fact.moments is not None]
    total = sum_moments(moments) if moments else None
    digest = sum(fact.source_digest for fact in facts) % (1 << 128)
    return Manifest(
        schema=_schema(job, plan, facts, recorded),
        splits=_splits(plan, facts, mark),
        class_names=plan.class_names,
        index_digest=digest_bytes(index),
        rejected=merge_counts({refusal.reason: 1} for refusal in refusals),
        mean=total and total.mean,
        std=total and total.std,
        statistics=census_json([fact.image_sizes for fact in facts], duplicates),
        made_by={**recorded, "source_digest": f"xxh3_128_sum:{digest:032x}", "versions": versions(job)},
    )


def _splits(plan: Plan, facts: Sequence[ShardFacts], mark: str) -> dict[str, Split]:
    splits = {}
    start = 0
    for number, name in enumerate(plan.splits):
        mine = [fact for fact, shard in zip(facts, plan.shards, strict=True) if shard.split == number]
        counts = merge_counts(fact.class_counts for fact in mine)
        shards = []
        for fact in mine:
            shards.append(Shard(f"{fact.name}-{mark}.tfrecord", fact.num_records, fact.num_bytes, fact.digest, start))
            start += fact.num_records
        splits[name] = Split(tuple(shards), tuple(counts[label] for label in range(len(plan.class_names))))
    return splits


def _schema(job: Job, plan: Plan, facts: Sequence[ShardFacts], recorded: dict[str, Any]) -> Schema:
    sizes = {size for fact in facts if fact.sizes for size in (fact.sizes[:2], fact.sizes[2:])}
    spec = ImageSpec(
        dtype=job.dtype,
        size=sizes.pop() if len(sizes) == 1 else None,
        jpeg_only=all(set(fact.formats) <= {"jpeg"} for fact in facts),
        turned=any(fact.turned for fact in facts),
        masked=has_masks(plan.columns),
    )
    size = recorded.get("model", {}).get("embedding_size")
    extras = extra_features(plan.columns)
    return record_schema(job.payload, spec, embedding_size=size, extras=extras, label_kind=job.label_kind)


def versions(job: Job) -> dict[str, str]:
    """The versions that decide the bytes: TensorFlow's and Keras's only where they take part."""
    names = ["numpy", "xxhash"]
    names += ["tensorflow"] if needs_tensorflow(job) else []
    names += ["keras"] if job.payload == "embedding" else []
    return {"tfpipe": __version__, **{name: version(name) for name in names}}


def rejected_lines(refusals: Sequence[Refused]) -> bytes:
    """rejected.jsonl: one line for each refused input, sorted, so that the listing's order does not show."""
    rows = [json.dumps(refusal._asdict(), ensure_ascii=False) for refusal in sorted(refusals)]
    return "".join(f"{row}\n" for row in rows).encode("utf-8", "backslashreplace")
