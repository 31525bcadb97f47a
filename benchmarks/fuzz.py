"""Do broken inputs raise only the documented errors? Everything that reads third-party data gets them.

    python benchmarks/fuzz.py                     # 1,200,000 inputs; make fuzz
    python benchmarks/fuzz.py --targets probe --first 4711 --count 1      # one of them again

Input n of a target is a pure function of n. Mutations know the formats: lengths get the CRC that belongs to them, JSON
stays JSON, so that the code behind the first check is reached too. Prints a JSON line for each target: inputs,
how many were taken and how many refused by which error, and the slowest. Exit 1 with the input and its traceback where
another error came out.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rounds import Results, add_json_argument, recorded

from beam_jobs.sources import open_source
from tfpipe.errors import UsageError
from tfpipe.format.framing import DamagedRecord, frame, masked_crc, scan_bytes
from tfpipe.format.manifest import Manifest, Shard, Split, manifest_text, parse_manifest
from tfpipe.format.schema import record_schema
from tfpipe.format.wire import NotAnExample, bytes_feature, float_feature, int64_feature, pack_example, parse_example
from tfpipe.images.probe import NotAnImage, probe

Draw = random.Random

_EDGES = [0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


@dataclass(frozen=True)
class Target:
    """Something that reads.

    Attributes:
      count: how many inputs it gets by default.
      make: the input of a draw.
      read: reads it, to the end.
      errors: what it may raise.
    """

    count: int
    make: Callable[[Draw], Any]
    read: Callable[[Any], Any]
    errors: tuple[type[Exception], ...]


# ---- mutations


def mutated(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes of any kind."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(_CHANGES)(draw, data, others)
    return data


def _flip(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _remove(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    begin, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8, 50))
    return data[:begin] + data[begin + size :]


def _insert(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.randbytes(draw.choice((1, 2, 4, 8, 30))) + data[place:]


def _put_edge(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number at which something may run over, in either byte order, over what is there."""
    size = draw.choice((1, 2, 4, 8))
    number = (draw.choice(_EDGES) % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "big")))
    place = draw.randrange(len(data) + 1)
    return data[:place] + number + data[place + size :]


def _splice(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def _repeat(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    return data[:end] + data[begin : min(end, begin + 200)] + data[end:]


_CHANGES = (_flip, _flip, _cut, _remove, _insert, _put_edge, _put_edge, _splice, _repeat)


# ---- inputs


def _examples() -> list[bytes]:
    image = bytes(range(200))
    features = {"key": bytes_feature(b"cat/1.jpg"), "label_int": int64_feature([3]), "image": bytes_feature(image)}
    floats = {"embedding": float_feature(np.arange(9)), "many": int64_feature([0, -1, 300]), "none": bytes_feature()}
    return [b"".join(pack_example(part)) for part in (features, floats, {**features, **floats}, {})]


_EXAMPLES = _examples()
_SHARDS = [b"".join(b"".join(frame([one])) for one in _EXAMPLES[:n]) for n in (1, 2, 4)]


def make_shard(draw: Draw) -> bytes:
    """A shard with changes anywhere, or with a length that its CRC vouches for."""
    data = draw.choice(_SHARDS)
    if draw.random() < 0.3:
        length = struct.pack("<Q", draw.choice((*_EDGES, len(data), draw.randrange(600))))
        data = draw.choice((b"", data)) + length + struct.pack("<I", masked_crc((length,))) + data[12:]
    return mutated(draw, data, _SHARDS) if draw.random() < 0.8 else data


def make_example(draw: Draw) -> bytes:
    """A serialized Example with changes."""
    return mutated(draw, draw.choice(_EXAMPLES), _EXAMPLES)


def _pictures() -> list[bytes]:
    levels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image, exif = Image.fromarray(levels), Image.Exif()
    exif[0x0112] = 6
    files = []
    for name, kind, options in (
        ("JPEG", "RGB", {"exif": exif.tobytes()}),
        ("JPEG", "L", {"progressive": True}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {"save_all": True, "append_images": [image.convert("P")]}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True, "exif": exif.tobytes()}),
        ("WEBP", "RGB", {}),
        ("TIFF", "RGB", {}),
    ):
        file = io.BytesIO()
        image.convert(kind).save(file, name, **options)
        files.append(file.getvalue())
    return files


_PICTURES = _pictures()


def make_picture(draw: Draw) -> bytes:
    """An image file with changes; half of them in the headers."""
    data = draw.choice(_PICTURES)
    head = draw.choice((len(data), 60))
    return mutated(draw, data[:head], _PICTURES) + data[head:]


def _manifest() -> dict[str, Any]:
    shards = tuple(Shard(f"train-{i}.tfrecord", 5, 500, f"xxh3_128:{i:032x}", 5 * i) for i in range(3))
    splits = {"train": Split(shards, (5, 10)), "test": Split((), (0, 0))}
    means = (0.5, 0.4, 0.3)
    manifest = Manifest(record_schema("raw"), splits, ("cat", "dog"), "xxh3_128:0", {"empty": 3}, means, means)
    return json.loads(manifest_text(manifest))


_MANIFEST = _manifest()
_MANIFEST_BYTES = json.dumps(_MANIFEST).encode()
_ODD_VALUES: list[Any] = [None, True, -1, 0, 2**64, 1e308, float("nan"), float("inf"), "", "../x", "a" * 300, "\ud800"]
_ODD_VALUES += ["1", [], {}, [[]], [None], {"a": {}}, [1, 2], "image", "\0", -(2**63)]


def make_manifest(draw: Draw) -> str:
    """A manifest with values that do not belong there, or with changed bytes."""
    if draw.random() < 0.3:
        return mutated(draw, _MANIFEST_BYTES, [_MANIFEST_BYTES, b"[" * 3000]).decode("utf-8", "replace")
    document = json.loads(_MANIFEST_BYTES)
    for _ in range(draw.choice((1, 1, 2, 3))):
        _change_value(draw, document)
    return json.dumps(document)


def _change_value(draw: Draw, node: Any) -> None:
    """Walks down at random, and there replaces, removes or adds a value."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw.choice(keys) if keys else None
        if key is not None and isinstance(node[key], dict | list) and node[key] and draw.random() < 0.85:
            node = node[key]
            continue
        if key is not None and draw.random() < 0.2:
            del node[key]
        elif key is None or draw.random() < 0.1:
            node.update(extra=1) if isinstance(node, dict) else node.append(draw.choice(_ODD_VALUES))
        else:
            node[key] = draw.choice(_ODD_VALUES)
        return


_LISTINGS = [
    b"file,label\na.jpg,cat\nb.jpg,dog\n",
    b'a.jpg,cat,1,0.5\n"b, 2.jpg","dog ""x""",2,nan\r\nc.jpg,emu,3,\r\n',
    b"\xef\xbb\xbfuri,label,age\n/abs.jpg,cat,7\n\n\nlist.csv,cat,8\n",
    "größe.jpg,Katze\n日本.jpg,猫\n".encode(),
]
_ODD_CELLS = [b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"../.."]
_LONG_CELL = b"x" * 200_000


def make_listing(draw: Draw) -> bytes:
    """A CSV listing with changes, or with what CSV readers stumble over."""
    data = mutated(draw, draw.choice(_LISTINGS), _LISTINGS) if draw.random() < 0.7 else draw.choice(_LISTINGS)
    for _ in range(draw.choice((0, 1, 2))):
        place = draw.randrange(len(data) + 1)
        # A cell of 200 kB takes a hundred times as long as all others together: now and then is enough.
        odd = _LONG_CELL if draw.random() < 0.005 else draw.choice(_ODD_CELLS)
        data = data[:place] + odd + data[place:]
    return data


_ROWS = (
    b'{"file": "a.jpg", "label": "cat", "age": 3, "weight": 0.5, "tags": ["a", "b"]}\n'
    b'{"file": "b.jpg", "label": "dog", "age": 4, "weight": -1e3, "tags": []}\n'
)
_ODD_TOKENS = [b"null", b"true", b"NaN", b"1e999", b"-0", b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"', b"[[1]]"]
_ODD_TOKENS += [b"9" * 30, b"[" * 2000, b'{"label": "x"}', b'["cat", "dog"]', b"\n", b",", b'"file": "c.jpg",']


def make_rows(draw: Draw) -> bytes:
    """A JSONL listing with changes, or with values that do not belong there."""
    data = mutated(draw, _ROWS, [_ROWS]) if draw.random() < 0.5 else _ROWS
    for _ in range(draw.choice((0, 1, 2))):
        parts = re.split(rb"(?<=[:,\[])|(?=[,}\]])", data)
        parts[draw.randrange(len(parts))] = draw.choice(_ODD_TOKENS)
        data = b"".join(parts)
    return data


def read_listing(name: str, data: bytes) -> None:
    """Lists everything, and holds each entry to what the next step takes for granted."""
    path = _FOLDER / name
    path.write_bytes(data)
    source = open_source(str(path))
    for piece in source.pieces(None):
        for entry in source.entries(piece):
            for cell in (getattr(entry, "key", ""), *getattr(entry, "extras", ()), getattr(entry, "reason", "")):
                cell.encode()
            if len(getattr(entry, "extras", source.columns)) != len(source.columns):
                raise RuntimeError(f"{entry} has not the columns {source.columns}")


# Listings are read from files, so one is written over and over: in memory where the machine has such a place.
_SHM = Path("/dev/shm")
_FOLDER = Path(tempfile.mkdtemp(prefix="tfpipe_fuzz_", dir=_SHM if _SHM.is_dir() else None))

TARGETS = {
    "scan_bytes": Target(300_000, make_shard, lambda data: list(scan_bytes(data)), (DamagedRecord,)),
    "parse_example": Target(300_000, make_example, parse_example, (NotAnExample,)),
    "probe": Target(300_000, make_picture, probe, (NotAnImage,)),
    "parse_manifest": Target(100_000, make_manifest, lambda text: parse_manifest(text, Path("x")), (ValueError,)),
    "csv": Target(100_000, make_listing, partial(read_listing, "list.csv"), (UsageError,)),
    "jsonl": Target(100_000, make_rows, partial(read_listing, "list.jsonl"), (UsageError,)),
}


# ---- the run


def fuzz(target: Target, first: int, count: int, *, seed: int = 0) -> tuple[Counter[str], float]:
    """Feeds inputs [first, first + count) to a target.

    Returns:
      How many were taken or refused, by error, and the seconds of the slowest.

    Raises:
      RuntimeError: an error came out that is not documented; the text holds the input.
    """
    outcomes, slowest = Counter[str](), 0.0
    for number in range(first, first + count):
        data = target.make(random.Random(seed << 40 | number))
        started = time.perf_counter()
        try:
            target.read(data)
            outcomes["taken"] += 1
        except target.errors as error:
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            raise RuntimeError(f"input {number}: {str(data[:2000])!r} gave {error!r}") from error
        slowest = max(slowest, time.perf_counter() - started)
    return outcomes, slowest


def main() -> None:
    """Runs the targets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--count", type=int, help="for each target (default: its own)")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    add_json_argument(parser)
    arguments = parser.parse_args()
    try:
        with recorded(arguments.json) as results:
            total, failed = run_targets(arguments, results)
    finally:
        for path in _FOLDER.iterdir():
            path.unlink()
        _FOLDER.rmdir()
    print(f"{total:,} inputs, {failed} targets failed")
    sys.exit(failed > 0)


def run_targets(arguments: argparse.Namespace, results: Results) -> tuple[int, int]:
    """Feeds each target; the inputs of the targets that passed, and the number of targets that failed."""
    total, failed = 0, 0
    for name in arguments.targets.split(","):
        target = TARGETS[name]
        count = arguments.count or target.count
        started = time.perf_counter()
        try:
            outcomes, slowest = fuzz(target, arguments.first, count, seed=arguments.seed)
        except RuntimeError:
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
            continue
        total += count
        row = {"target": name, "inputs": count, "seconds": round(time.perf_counter() - started, 2)}
        results.add({**row, "slowest_ms": round(1e3 * slowest, 1), "outcomes": dict(outcomes)})
    return total, failed


if __name__ == "__main__":
    main()
