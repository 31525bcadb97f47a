"""A reader made from docs/format.md alone reads the golden data.

It shares no code with tfpipe: only the list of keys is compared with a manifest that tfpipe makes.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import xxhash
from PIL import Image

import tfpipe

TEXT = Path(__file__).parents[2] / "docs" / "format.md"
DATA = Path(__file__).parent / "data"
DATASETS = sorted(path.parent.name for path in DATA.glob("*/dataset.json"))
CONVERTED = sorted({*DATASETS} - {"adopted"})
# The case of pixels.npz or more_pixels.npz to compare each dataset with.
CASES = {
    "decoded uint8": ("pixels", "decoded_uint8"),
    "decoded float16": ("pixels", "decoded_float16"),
    "decoded float32": ("pixels", "decoded_float32"),
    "raw, padded": ("pixels", "raw"),
    "embedding": ("pixels", "embedding"),
    "boxes": ("pixels", "boxes"),
    "adopted, compressed": ("pixels", "adopted"),
    "masks": ("more_pixels", "masks"),
    "several labels, masks as pixels": ("more_pixels", "several_labels"),
    "numbers": ("more_pixels", "numbers"),
}
# Features that tfpipe decoded or fitted to the size of the batch, so that they are not as they are stored.
FITTED = {
    "raw": {"image"},
    "boxes": {"image", "boxes"},
    "adopted": {"image"},
    "masks": {"image", "mask"},
    "several_labels": {"image", "mask"},
    "numbers": {"image"},
}


def digest(data: bytes) -> str:
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"


def manifest(name: str) -> dict[str, Any]:
    return json.loads((DATA / name / "dataset.json").read_bytes())


def shards(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [shard for split in document["splits"].values() for shard in split["shards"]]


def masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def frames(name: str, shard: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """The offset and the payload of each record; both checksums are those of the text."""
    data = (DATA / name / shard["path"]).read_bytes()
    assert (len(data), digest(data)) == (shard["num_bytes"], shard["digest"])
    data = gzip.decompress(data) if shard.get("compression") == "GZIP" else data
    at = 0
    while at < len(data):
        length, crc = struct.unpack_from("<QI", data, at)
        payload = data[at + 12 : at + 12 + length]
        assert crc == masked_crc(data[at : at + 8])
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked_crc(payload),)
        yield at, payload
        at += 16 + length


def varints(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """The fields of a message that has fields of wire type 2 only: their numbers and bytes."""
    found, at = [], 0
    while at < len(data):
        sizes = []
        while len(sizes) < 2:
            end = next(i for i in range(at, len(data)) if data[i] < 128) + 1
            sizes.append(next(varints(data[at:end])))
            at = end
        assert sizes[0] % 8 == 2
        found.append((sizes[0] >> 3, data[at : at + sizes[1]]))
        at += sizes[1]
    return found


def example(payload: bytes) -> dict[str, tuple[int, list[bytes]]]:
    """For each feature of an Example, the number of its list's kind, and the list's fields."""
    ((_, features),) = messages(payload)
    entries = [dict(messages(entry)) for _, entry in messages(features)]
    names = [entry[1] for entry in entries]
    assert names == sorted(names, key=lambda name: name + b"\xff"), "a name comes before its own prefixes"
    kinds = {entry[1].decode(): messages(entry[2])[0] for entry in entries}
    return {name: (kind, [value for _, value in messages(body)]) for name, (kind, body) in kinds.items()}


def values(feature: dict[str, Any], record: dict[str, tuple[int, list[bytes]]]) -> Any:
    """A feature as the table of codecs says: an array, or the bytes of an image file."""
    stored, codec, dtype = feature.get("stored_as", feature["name"]), feature["codec"], feature["dtype"]
    if stored not in record:
        return np.array(feature["default"])
    kind, parts = record[stored]
    if codec in ("jpeg", "image"):
        assert (kind, len(parts)) == (1, 1)
        assert parts[0].startswith(b"\xff\xd8" if codec == "jpeg" else (b"\xff\xd8", b"\x89PNG"))
        return parts[0]
    if codec == "pixels":
        array = np.frombuffer(parts[0], np.dtype(dtype).newbyteorder("<"))
    else:
        assert kind == {"string": 1, "float32": 2, "int64": 3}[dtype]
        packed = b"".join(parts)
        array = (
            np.array(parts) if kind == 1 else np.frombuffer(packed, "<f4") if kind == 2
            else np.array(list(varints(packed)), np.uint64).astype(np.int64)
        )  # fmt: skip
    return array.reshape(own_shape(feature, record))


def own_shape(feature: dict[str, Any], record: dict[str, tuple[int, list[bytes]]]) -> list[int]:
    """The shape, its unknown sizes filled in: an image's from `shape`, a list's from the number of its values."""
    if feature["name"] in ("image", "mask"):
        known = [*list(varints(record["shape"][1][0]))[:2], feature["shape"][2]]
        assert all(size in (None, own) for size, own in zip(feature["shape"], known, strict=True))
        return known
    return [-1 if size is None else size for size in feature["shape"]]


def records(name: str) -> Iterator[dict[str, Any]]:
    document = manifest(name)
    for shard in shards(document):
        for _, payload in frames(name, shard):
            record = example(payload)
            yield {feature["name"]: values(feature, record) for feature in document["schema"]["features"]}


@pytest.mark.parametrize("name", DATASETS)
def test_the_manifest_is_written_as_the_text_says(name: str) -> None:
    text = (DATA / name / "dataset.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert text == json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    own = document.pop("digest")
    assert own == digest((json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    names = [feature["name"] for feature in document["schema"]["features"]]
    assert names == sorted(names)
    for split in document["splits"].values():
        for key in ("num_records", "num_bytes"):
            assert split[key] == sum(shard[key] for shard in split["shards"])


def test_the_text_lists_the_keys_of_manifests_in_their_order() -> None:
    section = TEXT.read_text(encoding="utf-8").split("\n## ")[1]
    rows = [line.split("|")[1] for line in section.split("\n\n")[2].splitlines()[2:]]
    keys = [key for row in rows for key in re.findall("`(.*?)`", row)]
    assert [*tfpipe.load_manifest(DATA / "raw").to_json(), "digest"] == keys
    for name in DATASETS:
        assert list(manifest(name)) == [key for key in keys if key != "read_by"]


@pytest.mark.parametrize("name", DATASETS)
def test_the_index_has_the_offset_of_every_record(name: str) -> None:
    document = manifest(name)
    offsets = [[offset for offset, _ in frames(name, shard)] for shard in shards(document)]
    assert [len(part) for part in offsets] == [shard["num_records"] for shard in shards(document)]
    if document["index_digest"] is None:
        assert all(shard["index_start"] is None and shard["compression"] == "GZIP" for shard in shards(document))
        return
    data = (DATA / name / "records.index").read_bytes()
    assert digest(data) == document["index_digest"]
    index = struct.unpack(f"<{len(data) // 8}Q", data)
    assert [offset for part in offsets for offset in part] == list(index)
    for shard, part in zip(shards(document), offsets, strict=True):
        assert part == list(index[shard["index_start"] :][: shard["num_records"]])


@pytest.mark.parametrize("name", CONVERTED)
def test_shards_have_the_names_of_the_text(name: str) -> None:
    document = manifest(name)
    tag = json.dumps([document["made_by"]["plan"], [shard["digest"] for shard in shards(document)]])
    tag = xxhash.xxh3_128_hexdigest(tag.encode())[:8]
    for split, fields in document["splits"].items():
        count = len(fields["shards"])
        names = [f"{split}-{i:05d}-of-{count:05d}-{tag}.tfrecord" for i in range(count)]
        assert [shard["path"] for shard in fields["shards"]] == names


@pytest.mark.parametrize("name", CONVERTED)
def test_the_hash_of_its_key_gives_a_record_its_split_and_position(name: str) -> None:
    document, found = manifest(name), records(name)
    options = document["made_by"]["options"]
    bounds = np.cumsum(list(options["split"].values()))
    for number, fields in enumerate(document["splits"].values()):
        keys = [next(found)["key"].item() for _ in range(fields["num_records"])]
        hashes = [xxhash.xxh3_128_intdigest(key, options["seed"]) for key in keys]
        assert {int(np.searchsorted(bounds, (value >> 64) / 2**64, "right")) for value in hashes} <= {number}
        orders = [value % 2**64 for value in hashes]
        assert orders == sorted(orders)


@pytest.mark.parametrize("name", DATASETS)
def test_labels_index_the_classes_and_are_counted(name: str) -> None:
    document, found = manifest(name), records(name)
    classes = document["class_names"]
    for fields in document["splits"].values():
        counts: Counter[int] = Counter()
        for record in (next(found) for _ in range(fields["num_records"])):
            if classes:
                ids = np.atleast_1d(record["label_int"]).tolist()
                assert [classes[i] for i in ids] == [text.decode() for text in np.atleast_1d(record["label"]).tolist()]
                counts.update(ids)
            else:
                assert record["label"].dtype == np.float32
        assert fields["class_counts"] == [counts[i] for i in range(len(classes))]


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_that_tfpipe_gives(case: str) -> None:
    stem, name = CASES[case]
    by_key = {record["key"].item(): record for record in records(name)}
    with np.load(DATA / f"{stem}.npz") as arrays:
        expected = {key.removeprefix(f"{case}/"): arrays[key] for key in arrays.files if key.startswith(f"{case}/")}
    assert len(expected["key"]) == 4
    for i, key in enumerate(expected["key"].tolist()):
        assert set(by_key[key]) == set(expected)
        for feature in set(expected) - FITTED.get(name, set()):
            value, given = by_key[key][feature], expected[feature][i]
            if value.ndim and len(value) < len(given):  # Lists are padded to the longest of the batch.
                assert set(given[len(value) :].ravel().tolist()) <= {-1, b""}
                given = given[: len(value)]
            np.testing.assert_array_equal(value, given, err_msg=f"{key} {feature}")


@pytest.mark.parametrize("name", ["decoded_float16", "decoded_float32", "numbers"])
def test_floats_are_uint8_values_divided_by_255(name: str) -> None:
    other = "several_labels" if name == "numbers" else "decoded_uint8"
    images = {record["key"].item(): record["image"] for record in records(other)}
    for record in records(name):
        exact = images[record["key"].item()] / np.float32(255)
        np.testing.assert_array_equal(record["image"], exact.astype(record["image"].dtype))


def test_boxes_are_corners_in_pixels_of_the_image_as_stored() -> None:
    for record in records("boxes"):
        count = 1 + int(record["key"].item()[0:1]) % 3  # See coco() in write.py.
        boxes = [[2 + k, 3, 10.5 + k, 9 + k] for k in range(count)]
        assert record["boxes"].tolist() == boxes
        assert record["box_labels"].tolist() == list(range(count))


@pytest.mark.parametrize("name", CONVERTED)
def test_the_first_bytes_of_an_image_file_are_of_its_kind_and_size(name: str) -> None:
    turned = Counter()
    for record in records(name):
        if isinstance(record.get("image"), bytes):
            with Image.open(io.BytesIO(record["image"])) as image:
                height, width, channels = record["shape"].tolist()
                assert (image.height, image.width, 3) == (height, width, channels)
                assert image.getexif().get(0x0112, 1) == record.get("orientation", np.array(1))
                turned[int(record.get("orientation", 1))] += 1
            if "mask" in record:
                with Image.open(io.BytesIO(record["mask"])) as mask:
                    assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (width, height))
    assert not turned or set(turned) == ({1} if name == "boxes" else {1, 6})


@pytest.mark.parametrize("name", CONVERTED)
def test_rejected_inputs_have_a_line_each(name: str) -> None:
    rows = [json.loads(line) for line in (DATA / name / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(list(row) == ["key", "source", "reason", "detail"] for row in rows)
    assert Counter(row["reason"] for row in rows) == manifest(name)["rejected"]
