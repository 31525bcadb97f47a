"""Images in a store are listed and read through their URLs, and give the same bytes as on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from coco_files import BOXES, coco
from containers import CONTAINERS, JPEGS, sample_members, shards_of, write_tar
from conversions import assert_accounted, reasons_in, run
from fsspec.implementations.memory import MemoryFileSystem
from pictures import files_of, fill_folder, write_listing
from stores import store as store
from stores import upload

from beam_jobs.sources import Listed, open_source
from tfpipe import storage
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import Manifest


def converted(source: str | Path, output: Path, **options: Any) -> dict[str, bytes]:
    """The files that a conversion writes."""
    run(source, output, **options)  # type: ignore[arg-type]
    return files_of(output)


@pytest.mark.parametrize("payload", [{}, {"payload": "decoded", "dtype": "uint8"}], ids=["raw", "decoded"])
def test_a_folder_in_a_store_gives_the_bytes_of_the_folder_here(
    photos: Path, tmp_path: Path, store: str, payload: dict[str, Any]
) -> None:
    upload(photos, f"{store}/in")
    upload(photos / "cat/000.jpg", f"{store}/in/top.txt")
    upload(photos / "cat/000.jpg", f"{store}/in/dog/Thumbs.db")
    upload(photos / "cat/000.jpg", f"{store}/in/__MACOSX/dog/000.jpg")
    upload(photos / "cat/000.jpg", f"{store}/in/dog/.hidden")
    for slash in ("", "/"):
        there = converted(f"{store}/in{slash}", tmp_path / f"there{slash and 1}", **payload)
        assert there == converted(photos, tmp_path / f"here{slash and 1}", **payload)


def test_empty_objects_and_foreign_files_in_a_store_are_refused_and_split_folders_kept(
    photos: Path, tmp_path: Path, store: str
) -> None:
    for split in ("train", "val"):
        upload(photos / "cat", f"{store}/in/{split}/cat")
    (tmp_path / "empty").touch()
    upload(tmp_path / "empty", f"{store}/in/val/cat/zero.jpg")
    (tmp_path / "text").write_text("404")
    upload(tmp_path / "text", f"{store}/in/val/cat/deep/text.jpg")
    outcome = run(f"{store}/in", tmp_path / "out")  # type: ignore[arg-type]
    assert reasons_in(tmp_path / "out") == {"val/cat/zero.jpg": "empty", "val/cat/deep/text.jpg": "not_an_image"}
    assert_accounted(outcome, tmp_path / "out")
    assert outcome.manifest is not None
    assert {name: outcome.manifest.num_records(name) for name in outcome.manifest.splits} == {
        "train": 14,
        "validation": 14,
    }


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A listing of (file, label), of the kind that the path's ending says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".csv":
        return write_listing(path, [("file", "label"), *rows])
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{"file": file, "label": label} for file, label in rows]), path)
        return path
    path.write_text("".join(json.dumps({"file": file, "label": label}) + "\n" for file, label in rows))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_listing_in_a_store_gives_the_bytes_of_the_listing_here(tmp_path: Path, store: str, kind: str) -> None:
    fill_folder(tmp_path / "in", ["cat", "dog"], 12)
    (tmp_path / "in/cat/zero.jpg").touch()
    rows = [(f"{label}/{i:03d}.jpg", label) for label in ("cat", "dog") for i in range(12)]
    rows += [("cat/zero.jpg", "cat"), ("gone.jpg", "dog"), ("", "cat")]
    write_rows(tmp_path / f"in/list.{kind}", rows)
    upload(tmp_path / "in", f"{store}/in")
    there = converted(f"{store}/in/list.{kind}", tmp_path / "there")
    assert there == converted(tmp_path / f"in/list.{kind}", tmp_path / "here")
    reasons = {key: reason for key, reason in reasons_in(tmp_path / "there").items() if key}
    assert reasons == {"cat/zero.jpg": "empty", "gone.jpg": "missing"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_listing_here_may_name_objects_in_a_store(tmp_path: Path, store: str, kind: str) -> None:
    upload(fill_folder(tmp_path / "in", ["cat"], 200), f"{store}/in")
    rows = [(f"{store}/in/cat/{i:03d}.jpg", "cat") for i in range(200)]
    path = write_rows(tmp_path / f"list.{kind}", [*rows, (f"{store}/gone.jpg", "cat")])
    outcome = run(path, tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {f"{store}/gone.jpg": "missing"}
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() == 200
    listed = [entry.key for entry in open_source(str(path)).entries(None) if isinstance(entry, Listed)]
    assert listed == [file for file, _ in rows]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_in_a_store_gives_the_shards_of_the_container_here(tmp_path: Path, store: str, kind: str) -> None:
    source = CONTAINERS[kind](tmp_path / kind, JPEGS)
    there = converted(upload(source, f"{store}/{kind}"), tmp_path / "there")
    assert there == converted(source, tmp_path / "here")


def test_patterns_and_folders_of_archives_in_a_store_name_them_as_here(tmp_path: Path, store: str) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_tar(tmp_path / f"in/part-{number}.tar", sample_members(JPEGS))
    upload(tmp_path / "in", f"{store}/in")
    here = converted(tmp_path / "in", tmp_path / "here")
    assert converted(f"{store}/in/part-*.tar", tmp_path / "pattern") == here
    assert converted(f"{store}/in", tmp_path / "folder") == here


def test_coco_and_a_dataset_in_a_store_are_taken(from_folder: Manifest, tmp_path: Path, store: str) -> None:
    coco(tmp_path / "in")
    upload(tmp_path / "in", f"{store}/in")
    there = converted(f"{store}/in/annotations/instances_train.json", tmp_path / "there")
    assert there == converted(tmp_path / "in/annotations/instances_train.json", tmp_path / "here")
    assert len(reasons_in(tmp_path / "there")) == sum(not marks for marks in BOXES.values())
    upload(from_folder.directory, f"{store}/old")
    run(f"{store}/old", tmp_path / "again")  # type: ignore[arg-type]
    assert shards_of(tmp_path / "again").values() != {}
    assert [*shards_of(tmp_path / "again").values()] == [*shards_of(from_folder.directory).values()]


# ---- what is missing or fails


@pytest.mark.parametrize(("url", "package", "extra"), [("gs://b/x", "gcsfs", "gcp"), ("s3://b/x.csv", "s3fs", "aws")])
def test_a_missing_driver_is_one_sentence_with_its_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=rf"^'{url}' takes {package}; pip install 'tfpipe\[{extra}\]' \(.*\)\.$"):
        open_source(url)


def test_other_schemes_and_empty_places_are_refused(store: str) -> None:
    with pytest.raises(UsageError, match="tfpipe knows no store 'https'; it knows"):
        open_source("https://example.com/photos")
    with pytest.raises(UsageError, match=f"No input at '{store}/nothing'"):
        open_source(f"{store}/nothing")


def test_a_file_url_is_a_path_of_this_machine(photos: Path, tmp_path: Path) -> None:
    assert open_source(f"file://{photos}") == open_source(str(photos))
    assert storage.to_path(f"file://{photos}") == photos


def test_a_store_that_fails_ends_the_run_in_one_sentence_and_drops_no_image(
    photos: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(photos, f"{store}/in")
    real = MemoryFileSystem.cat_file

    def fail(self: Any, path: str, *args: Any, **options: Any) -> bytes:
        if path.endswith("dog/005.jpg"):
            raise RuntimeError("503 the store is busy\nfor long")
        return real(self, path, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(SetupError, match=rf"^{store}/in/dog/005.jpg: RuntimeError: 503 the store is busy\.$"):
        run(f"{store}/in", tmp_path / "out")  # type: ignore[arg-type]
    monkeypatch.undo()
    assert converted(f"{store}/in", tmp_path / "out", resume=True) == converted(photos, tmp_path / "here")


def test_an_object_is_a_file_that_can_be_sought(tmp_path: Path, store: str) -> None:
    from beam_jobs.sources.files import open_binary

    data = bytes(range(256)) * 40
    (tmp_path / "x").write_bytes(data)
    upload(tmp_path / "x", f"{store}/x")
    with open_binary(f"{store}/x") as file:
        assert file.read(5) == data[:5]
        assert file.seek(-3, 2) == len(data) - 3
        assert (file.read(), file.read()) == (data[-3:], b"")
        assert (file.seek(1000), file.seek(7, 1), file.tell()) == (1000, 1007, 1007)
        assert file.read() == data[1007:]
