"""Damages a dataset in every way, one at a time, and asks `check` each time. The long and the short suite share it."""

from __future__ import annotations

import random
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tfpipe.format.framing import FOOTER_BYTES, HEADER_BYTES, frame, scan_bytes
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, Manifest, Shard, load_manifest, parse_manifest
from tfpipe.maintenance.check import Problem, check_dataset


@dataclass
class Survey:
    """How many damages were tried, and those that check did not name rightly."""

    tried: int = 0
    missed: list[str] = field(default_factory=list)

    def expect(self, text: str, problems: list[Problem], file: str, record: int | None) -> None:
        """Counts one damage: check has to find it, in that file and at that record (None: no single one)."""
        self.tried += 1
        if not any((problem.file, problem.record) == (file, record) for problem in problems):
            self.missed.append(f"{text}: expected {file}, record {record}; found {[str(p) for p in problems]}")


@contextmanager
def replaced(path: Path, data: bytes | None) -> Iterator[None]:
    """A file with other content, or gone where that is None, for as long as a `with` block runs."""
    original = path.read_bytes()
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(original)


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def shards_of(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def records_of(manifest: Manifest, shard: Shard) -> list[bytes]:
    """The frames of a shard's records."""
    data = manifest.shard_path(shard).read_bytes()
    starts = [record.offset for record in scan_bytes(data)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def starts_of(records: list[bytes]) -> list[int]:
    starts = [0]
    for record in records:
        starts.append(starts[-1] + len(record))
    return starts[:-1]


def survey_flips(manifest: Manifest, count: int, *, seed: int = 0) -> Survey:
    """One bit at random places over all shards and records.index."""
    draw, survey = random.Random(seed), Survey()
    paths = [manifest.directory / INDEX_NAME, *map(manifest.shard_path, shards_of(manifest))]
    starts = {shard.path: starts_of(records_of(manifest, shard)) for shard in shards_of(manifest)}
    for path in draw.choices(paths, [path.stat().st_size for path in paths], k=count):
        data = path.read_bytes()
        bit = draw.randrange(8 * len(data))
        with replaced(path, flipped(data, bit)):
            record = bisect_right(starts[path.name], bit // 8) - 1 if path.name in starts else None
            survey.expect(f"bit {bit} of {path.name}", check_dataset(manifest), path.name, record)
    return survey


def survey_cuts(manifest: Manifest, count: int, *, seed: int = 0) -> Survey:
    """Shards cut at every record's boundary, and at random places up to a count; records.index cut too."""
    draw, survey = random.Random(seed), Survey()
    starts = {shard.path: starts_of(records_of(manifest, shard)) for shard in shards_of(manifest)}
    cuts = [(shard, start) for shard in shards_of(manifest) for start in starts[shard.path]]
    while len(cuts) < count:
        shard = draw.choice(shards_of(manifest))
        cuts.append((shard, draw.randrange(shard.num_bytes)))
    for shard, end in cuts:
        path = manifest.shard_path(shard)
        with replaced(path, path.read_bytes()[:end]):
            record = bisect_right(starts[shard.path], end) - 1
            survey.expect(f"{shard.path} cut at {end}", check_dataset(manifest), shard.path, record)
    return survey


def survey_shards(manifest: Manifest) -> Survey:
    """Each shard removed, emptied, repeated, and put in the place of its neighbour; one that nobody lists."""
    survey = Survey()
    shards = shards_of(manifest)
    for shard, other in zip(shards, [*shards[1:], shards[0]], strict=True):
        path, data = manifest.shard_path(shard), manifest.shard_path(shard).read_bytes()
        foreign = manifest.shard_path(other).read_bytes()
        same = len(starts_of(records_of(manifest, shard)))
        cases = {
            "removed": (None, None),
            "emptied": (b"", 0),
            "repeated": (data + data, same),
            "followed by its neighbour": (data + foreign, same),
            "zeroed": (bytes(len(data)), 0),
        }
        for text, (content, record) in cases.items():
            with replaced(path, content):
                survey.expect(f"{shard.path} {text}", check_dataset(manifest), shard.path, record)
        with replaced(path, foreign), replaced(manifest.shard_path(other), data):
            named = {problem.file for problem in check_dataset(manifest)}
            survey.tried += 1
            survey.missed += [f"{shard.path} swapped with {other.path}"] * (not named >= {shard.path, other.path})
    stranger = manifest.directory / "stranger.tfrecord"
    shutil.copy(manifest.shard_path(shards[0]), stranger)
    survey.expect("a stranger", check_dataset(manifest), stranger.name, None)
    stranger.unlink()
    return survey


def survey_records(manifest: Manifest, count: int, *, seed: int = 0) -> Survey:
    """Two records of a shard swapped, one left out, repeated, taken from another shard, or changed with its CRC."""
    draw, survey = random.Random(seed), Survey()
    shards = [shard for shard in shards_of(manifest) if shard.num_records > 1]
    for number in range(count):
        shard = draw.choice(shards)
        records = records_of(manifest, shard)
        first, second = sorted(draw.sample(range(len(records)), 2))
        changed = list(records)
        way = number % 5
        if way == 0:
            changed[first], changed[second] = records[second], records[first]
        elif way == 1:
            del changed[first]
        elif way == 2:
            changed.insert(second, records[first])
        elif way == 3:
            payload = records[first][HEADER_BYTES:-FOOTER_BYTES]
            changed[first] = b"".join(frame([flipped(payload, draw.randrange(8 * len(payload)))]))
        else:
            changed[first] = draw.choice(records_of(manifest, draw.choice([s for s in shards if s != shard])))
        path = manifest.shard_path(shard)
        with replaced(path, b"".join(changed)):
            record = _first_out_of_place(starts_of(records), starts_of(changed))
            text = f"{shard.path}, records {first} and {second}, way {way}"
            survey.expect(text, check_dataset(manifest), shard.path, record)
    return survey


def _first_out_of_place(before: list[int], after: list[int]) -> int | None:
    """The first record that begins elsewhere or is missing; None where only the shard's size or digest can tell."""
    moved = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    if moved is None and len(before) != len(after):
        return min(len(before), len(after))
    return moved


def survey_manifest_flips(manifest: Manifest, count: int, *, seed: int = 0) -> tuple[Survey, Counter[str]]:
    """One bit at random places of dataset.json: refused, reported, without any effect, or missed; and how many each."""
    draw, survey, outcomes = random.Random(seed), Survey(), Counter[str]()
    path = manifest.directory / MANIFEST_NAME
    data = path.read_bytes()
    for bit in draw.sample(range(8 * len(data)), count):
        survey.tried += 1
        with replaced(path, flipped(data, bit)):
            outcome = _outcome(manifest)
            outcomes[outcome] += 1
            if outcome == "missed":
                line = data[: bit // 8].count(b"\n")
                survey.missed.append(f"bit {bit}: {data.splitlines()[line].decode().strip()}")
    return survey, outcomes


def _outcome(manifest: Manifest) -> str:
    try:
        changed = load_manifest(manifest.directory)
    except ValueError:
        return "refused"
    if check_dataset(changed):
        return "reported"
    text = (manifest.directory / MANIFEST_NAME).read_text()
    return "no effect" if parse_manifest(text, manifest.directory) == manifest else "missed"
