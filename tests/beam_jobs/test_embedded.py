"""Images embedded in Parquet, as the Hugging Face hub has them, come out as those of a folder do."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import (
    JPEGS,
    hub_table,
    write_hub,
)
from conversions import run
from pictures import stock_read

from beam_jobs.sources import Listed, open_source
from tfpipe.errors import UsageError
from tfpipe.format.manifest import load_manifest


def test_the_names_of_the_hub_s_classes_keep_their_ids(tmp_path: Path) -> None:
    pq.write_table(hub_table(JPEGS, ["zebra", "b", "a"]), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out")
    manifest = load_manifest(tmp_path / "out")
    assert manifest.class_names == ("zebra", "b", "a")
    found = {(r["key"][:1], r["label"], int(r["label_int"])) for r in stock_read(manifest)}
    assert found == {(b"a", b"a", 2), (b"b", b"b", 1)}


def test_every_bad_row_with_an_image_inside_is_refused_with_its_reason(tmp_path: Path) -> None:
    jpeg = JPEGS["a/000.jpg"]
    rows = [
        *[{"image": {"bytes": data, "path": name}, "label": 0, "n": 1} for name, data in JPEGS.items()],
        {"image": {"bytes": jpeg, "path": "minus"}, "label": -1, "n": 1},
        {"image": {"bytes": jpeg, "path": "beyond"}, "label": 7, "n": 1},
        {"image": {"bytes": jpeg, "path": "none"}, "label": None, "n": 1},
        {"image": {"bytes": None, "path": "away.jpg"}, "label": 0, "n": 1},
        {"image": None, "label": 0, "n": 1},
        {"image": {"bytes": jpeg[:-2], "path": "cut"}, "label": 0, "n": 1},
        {"image": {"bytes": jpeg, "path": "twice"}, "label": 0, "n": 1},
        {"image": {"bytes": jpeg, "path": "twice"}, "label": 0, "n": None},
        {"image": {"bytes": jpeg, "path": None}, "label": 0, "n": 1},
    ]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(hub_table(JPEGS, ["a", "b"]).schema.metadata)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    outcome = run(tmp_path / "in.parquet", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert sorted((row["key"], row["reason"]) for row in rows) == sorted(
        [
            *[("minus", "empty_label"), ("beyond", "empty_label"), ("none", "empty_label"), ("away.jpg", "empty")],
            *[("in.parquet/28", "empty"), ("cut", "truncated"), ("twice", "duplicate_key"), ("twice", "duplicate_key")],
        ]
    )
    manifest = load_manifest(tmp_path / "out")
    assert manifest.num_records() == len(JPEGS) + 1 == outcome.plan.listed - len(rows)
    assert manifest.schema["n"].dtype == "float32"
    assert b"in.parquet/32" in {record["key"] for record in stock_read(manifest)}


def test_images_without_a_spool_are_read_from_their_row_group(tmp_path: Path) -> None:
    source = open_source(str(write_hub(tmp_path / "in.parquet", JPEGS)))
    entries = [entry for piece in source.pieces(None) for entry in source.entries(piece)]
    assert all(isinstance(entry, Listed) and entry.locator.startswith("row:0:") for entry in entries)
    assert {entry.key: source.read(entry) for entry in entries} == JPEGS


def test_a_parquet_file_without_images_or_labels_is_refused(tmp_path: Path) -> None:
    pq.write_table(hub_table(JPEGS).drop(["label"]), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match=r"is known as the label; it has \['image'\]. --label_column says"):
        open_source(str(tmp_path / "in.parquet"))
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is not a Parquet file"):
        open_source(str(tmp_path / "no.parquet"))
