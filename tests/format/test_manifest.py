"""The manifest survives JSON, and is refused where it is not valid."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from schemas import SCHEMAS

from tfpipe import __version__
from tfpipe.format.framing import frame
from tfpipe.format.manifest import (
    INDEX_NAME,
    MANIFEST_NAME,
    READ_BY,
    STATE_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    digest_file,
    is_as_saved,
    load_manifest,
    manifest_text,
    parse_manifest,
    save_manifest,
)
from tfpipe.format.schema import record_schema

COUNTS = st.integers(0, 2**50)
NAMES = st.text(min_size=1, max_size=8).filter(
    lambda name: "/" not in name and "\0" not in name and name not in (".", "..")
)
SHARDS = st.builds(Shard, NAMES, COUNTS, COUNTS, st.text(max_size=8), st.none() | COUNTS)
CHANNELS = st.none() | st.tuples(*[st.floats(0, 1)] * 3)
TREE = st.recursive(
    st.none() | st.booleans() | COUNTS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    classes = tuple(draw(st.lists(st.text(max_size=6), max_size=3, unique=True)))
    splits = draw(st.dictionaries(NAMES, st.lists(SHARDS, max_size=3), max_size=3))
    counts = st.tuples(*[COUNTS] * len(classes))
    return Manifest(
        schema=draw(SCHEMAS),
        splits={name: Split(tuple(shards), draw(counts)) for name, shards in splits.items()},
        class_names=classes,
        index_digest=draw(st.none() | st.text(max_size=4)),
        rejected=draw(st.dictionaries(st.text(max_size=4), COUNTS, max_size=3)),
        mean=draw(CHANNELS),
        std=draw(CHANNELS),
        made_by=draw(st.dictionaries(st.text(max_size=4), TREE, max_size=3)),
    )


def example() -> Manifest:
    shards = (Shard("train-0.tfrecord", 2, 70, "xxh3_128:aa", 0), Shard("train-1.tfrecord", 1, 30, "xxh3_128:bb", 2))
    return Manifest(
        schema=record_schema("raw"),
        splits={
            "train": Split(shards, (2, 1)),
            "test": Split((Shard("test-0.tfrecord", 1, 40, "xxh3_128:cc", 3),), (0, 1)),
        },
        class_names=("cat", "dog"),
        index_digest="xxh3_128:dd",
        rejected={"truncated": 2},
    )


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example's document with the value at "a/b/0" replaced; `...` removes it."""
    document = json.loads(manifest_text(example()))
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


# ---- JSON


@given(manifests())
def test_a_manifest_survives_json(manifest: Manifest) -> None:
    again = parse_manifest(manifest_text(manifest), Path("elsewhere"))
    assert again == manifest
    assert list(again.splits) == list(manifest.splits)
    assert again.directory == Path("elsewhere")
    assert manifest_text(again) == manifest_text(manifest)
    assert again.fingerprint() == manifest.fingerprint()


def test_the_text_does_not_contain_the_folder() -> None:
    assert manifest_text(replace(example(), directory=Path("/somewhere"))) == manifest_text(example())
    assert json.loads(manifest_text(example()))["format_version"] == 1


def test_a_newer_format_names_the_version_that_reads_it() -> None:
    newer = {**json.loads(manifest_text(example())), "format_version": 3, "read_by": "2.5.0"}
    with pytest.raises(ValueError, match=r"format version 3; .* install tfpipe 2\.5\.0 or newer\.$"):
        parse_manifest(json.dumps(newer), Path())
    del newer["read_by"]
    with pytest.raises(ValueError, match=r"install a newer tfpipe\.$"):
        parse_manifest(json.dumps(newer), Path())


def test_a_newer_format_is_refused_for_its_version_whatever_else_it_holds() -> None:
    for rest in ({}, {"schema": 7}, {"splits": []}):
        with pytest.raises(ValueError, match=r"has format version 2; .* install tfpipe 0\.9\.1 or newer\.$"):
            parse_manifest(json.dumps({"format_version": 2, "read_by": "0.9.1", **rest}), Path())
    with pytest.raises(ValueError, match=r"install a newer tfpipe\.$"):
        parse_manifest(json.dumps({"format_version": 2, "read_by": ["0.9.1"]}), Path())


def test_every_format_up_to_the_reader_s_own_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfpipe.format.manifest.FORMAT_VERSION", 3)
    document = json.loads(manifest_text(example()))
    for version in (1, 2, 3):
        assert parse_manifest(json.dumps({**document, "format_version": version}), Path()) == example()
    with pytest.raises(ValueError, match=r"has format version 4; .* reads up to 3: "):
        parse_manifest(json.dumps({**document, "format_version": 4}), Path())


def test_a_manifest_of_a_later_version_is_as_saved_with_keys_that_are_unknown_here() -> None:
    document = {**example().to_json(), "read_by": "7.0.0", "later": {"by": 1}}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    signed = {**document, "digest": digest_bytes(text.encode())}
    assert is_as_saved(json.dumps(signed, indent=1, ensure_ascii=False) + "\n")
    assert not is_as_saved(json.dumps({**signed, "read_by": "7.0.1"}, indent=1, ensure_ascii=False) + "\n")


def test_this_version_reads_what_it_writes() -> None:
    assert [int(part) for part in READ_BY.split(".")] <= [int(part) for part in __version__.split(".")[:3]]


def test_optional_keys_of_later_versions_are_passed_over_and_read_by_may_be_missing() -> None:
    document = json.loads(manifest_text(example()))
    document["later"] = {"by": 1}
    document["splits"]["train"]["later"] = document["splits"]["train"]["shards"][0]["later"] = 2
    document["schema"]["later"] = document["schema"]["features"][0]["later"] = 3
    assert parse_manifest(json.dumps(document), Path()) == example()
    del document["read_by"]
    assert parse_manifest(json.dumps(document), Path()) == example()


def test_every_manifest_says_which_version_reads_it_and_its_fingerprint_does_not_depend_on_that() -> None:
    document = example().to_json()
    assert document["read_by"] == "0.1.0"
    del document["read_by"]
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    assert example().fingerprint() == xxhash.xxh3_128_hexdigest(text.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("cat", "doe")},
        {"index_digest": None},
        {"rejected": {}},
        {"mean": (0.0,) * 3},
        {"std": (0.0,) * 3},
        {"made_by": {"options": {"seed": 1}}},
        {"schema": record_schema("embedding", embedding_size=3)},
        {"splits": {}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_every_part(change: dict[str, Any]) -> None:
    assert replace(example(), **change).fingerprint() != example().fingerprint()


REFUSED: list[tuple[str, Any, str]] = [
    ("format_version", 2, f"has format version 2; tfpipe {__version__} reads up to 1: install tfpipe 0.1.0 or newer."),
    ("format_version", 0, "is not a tfpipe manifest: its format_version is 0."),
    ("format_version", "1", "is not a tfpipe manifest: its format_version is '1'."),
    ("format_version", ..., "is not a tfpipe manifest: it has no format_version."),
    ("schema", ..., "is not a valid manifest: KeyError: 'schema'."),
    ("schema/payload", "film", "Unknown payload 'film'; known payloads: ['raw', 'decoded', 'embedding']."),
    ("schema/features/0/dtype", 7, "has dtype 7; known dtypes: "),
    ("class_names", None, "is not a valid manifest: TypeError: "),
    ("class_names/0", 5, "5 should be of type str"),
    ("splits", [], "is not a valid manifest: AttributeError: "),
    ("splits/train/num_records", 4, "the shards of split 'train' do not sum to its totals"),
    ("splits/train/num_bytes", 101, "the shards of split 'train' do not sum to its totals"),
    ("splits/train/class_counts", [3], "split 'train' counts 1 classes, there are 2"),
    ("splits/train/class_counts/0", True, "True should be of type int"),
    (
        "splits/train/shards/0/path",
        "../train-0.tfrecord",
        "the shard path '../train-0.tfrecord' is not a plain file name",
    ),
    ("splits/train/shards/0/path", "/etc/passwd", "the shard path '/etc/passwd' is not a plain file name"),
    ("splits/train/shards/0/path", "", "the shard path '' is not a plain file name"),
    ("splits/train/shards/0/path", "..", "the shard path '..' is not a plain file name"),
    ("splits/train/shards/0/num_records", "2", "'2' should be of type int"),
    ("splits/train/shards/0/num_records", 2.0, "2.0 should be of type int"),
    ("splits/train/shards/0/num_bytes", -1, "the shard 'train-0.tfrecord' has a negative number"),
    ("splits/train/shards/0/index_start", -1, "the shard 'train-0.tfrecord' has a negative number"),
    ("splits/train/shards/0/digest", None, "None should be of type str"),
    ("mean", ["a"], "could not convert string to float: 'a'"),
    ("mean", [10**400], "is not a valid manifest: OverflowError: "),
    ("rejected", 3, "is not a valid manifest: TypeError: "),
]


@pytest.mark.parametrize(
    ("path", "value", "sentence"), REFUSED, ids=[f"{path}={str(value)[:20]}" for path, value, _ in REFUSED]
)
def test_an_invalid_manifest_is_refused_with_its_path_and_reason(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_manifest(json.dumps(changed(path, value)), Path("photos"))
    assert str(caught.value).startswith("photos/dataset.json ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "\ufeff{}", "[]", "3", "null", '"format_version"'], ids=lambda text: text[:9]
)
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^photos/dataset.json is not (JSON|a tfpipe manifest): "):
        parse_manifest(text, Path("photos"))


@given(st.data())
def test_a_document_with_any_part_replaced_is_a_manifest_or_a_value_error(draw: st.DataObject) -> None:
    document = json.loads(manifest_text(example()))

    def places(node: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return [way, *(place for key, child in children for place in places(child, (*way, key)))][bool(not way) :]

    broken = copy.deepcopy(document)
    *way, last = draw.draw(st.sampled_from(places(document)))
    node = broken
    for step in way:
        node = node[step]
    node[last] = draw.draw(TREE | st.floats() | st.integers())
    try:
        assert isinstance(parse_manifest(json.dumps(broken), Path("photos")), Manifest)
    except ValueError as error:
        assert "photos/dataset.json" in str(error)


# ---- what it says


def test_records_are_counted_for_a_split_and_for_all() -> None:
    manifest = example()
    assert (manifest.num_records("train"), manifest.num_records("test"), manifest.num_records()) == (3, 1, 4)
    assert manifest.split("train").num_bytes == 100
    assert manifest.shard_path(manifest.split("test").shards[0]) == Path("test-0.tfrecord")


def test_an_unknown_split_gets_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"No split 'val' in photos; it has \['train', 'test'\]\."):
        replace(example(), directory=Path("photos")).num_records("val")


def indexed(directory: Path, *offsets: int) -> Manifest:
    """The example in a directory, with a records.index of its own."""
    data = np.array(offsets, "<u8").tobytes()
    (directory / INDEX_NAME).write_bytes(data)
    return replace(example(), directory=directory, index_digest=digest_bytes(data))


def test_offsets_are_cut_from_the_index_by_shard(tmp_path: Path) -> None:
    manifest = indexed(tmp_path, 0, 30, 0, 0)
    assert [part.tolist() for part in manifest.offsets("train")] == [[0, 30], [0]]
    assert [part.tolist() for part in manifest.offsets("test")] == [[0]]
    with pytest.raises(ValueError, match="train-0.tfrecord has 1 records, the manifest says 2; run tfpipe check"):
        indexed(tmp_path, 0).offsets("train")


@pytest.mark.parametrize("stale", [None, b"", bytes(32), bytes(7)])
def test_offsets_come_from_the_shards_where_the_index_is_another_manifest_s(
    tmp_path: Path, stale: bytes | None
) -> None:
    manifest = indexed(tmp_path, 0, 21, 0, 0)
    (tmp_path / "train-0.tfrecord").write_bytes(b"".join([*frame([b"first"]), *frame([b"second"])]))
    (tmp_path / "train-1.tfrecord").write_bytes(b"".join(frame([b"third"])))
    (tmp_path / INDEX_NAME).unlink()
    if stale is not None:
        (tmp_path / INDEX_NAME).write_bytes(stale)
    with pytest.warns(UserWarning, match="records.index is not this manifest's: all shards are read for their offsets"):
        assert [part.tolist() for part in manifest.offsets("train")] == [[0, 21], [0]]


def test_a_compressed_shard_has_no_offsets(tmp_path: Path) -> None:
    split = Split((Shard("a.tfrecord.gz", 1, 9, "", None),), (1, 0))
    with pytest.raises(ValueError, match="a.tfrecord.gz is compressed: its records have no offsets"):
        replace(indexed(tmp_path), splits={"train": split}).offsets("train")


# ---- files


def test_a_saved_manifest_is_loaded_from_its_folder_or_its_file(tmp_path: Path) -> None:
    save_manifest(example(), tmp_path)
    for path in (tmp_path, tmp_path / MANIFEST_NAME, str(tmp_path)):
        assert load_manifest(path) == example()
        assert load_manifest(path).directory == tmp_path
    assert os.listdir(tmp_path) == [MANIFEST_NAME]


def test_no_manifest_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No manifest .*dataset\.json; tfpipe convert writes one"):
        load_manifest(tmp_path)
    (tmp_path / STATE_NAME).mkdir()
    with pytest.raises(FileNotFoundError, match="its conversion has not finished: run it again with --resume"):
        load_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="No manifest"):
        load_manifest(tmp_path / "file")


def test_bytes_that_are_not_utf8_are_no_manifest(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b'{"format_version": "\xff"}')
    with pytest.raises(ValueError, match="is not JSON"):
        load_manifest(tmp_path)


def test_a_digest_is_xxh3_128_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 30_000  # more than one read
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == digest_bytes(data) == f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"
