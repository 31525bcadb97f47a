"""Every kind of bad image and bad row in one conversion each: written + rejected = listed, each with its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import KINDS, fill_folder, write_listing
from probe_files import REFUSED

from beam_jobs.convert import Outcome, convert
from beam_jobs.job import Job
from tfpipe.maintenance.check import check_dataset

pytestmark = pytest.mark.faults

GOOD = 40
# The file that a row of a listing names, and the reason for which it is refused.
ROWS: dict[str, tuple[list[str], str]] = {
    "no such file": (["cat/none.jpg", "cat", "1"], "missing"),
    "a file as folder": (["cat/000.jpg/x.jpg", "cat", "1"], "missing"),
    "a name too long": (["y" * 300, "cat", "1"], "unreadable"),
    "a folder": (["cat", "cat", "1"], "not_a_file"),
    "a pipe": (["cat/pipe.jpg", "cat", "1"], "not_a_file"),
    "a link to itself": (["cat/self.jpg", "cat", "1"], "symlink_loop"),
    "no bytes": (["cat/zero.jpg", "cat", "1"], "empty"),
    "too few cells": (["cat/001.jpg", "cat"], "bad_row"),
    "too many cells": (["cat/002.jpg", "cat", "1", "2"], "bad_row"),
    "no file": (["", "cat", "1"], "bad_row"),
    "no label": (["cat/003.jpg", "", "1"], "empty_label"),
    "a label of blanks": (["cat/004.jpg", "  ", "1"], "empty_label"),
    "a label that is not known": (["cat/005.jpg", "owl", "1"], "unknown_label"),
    "a NUL in the name": (["nul\0.jpg", "cat", "1"], "bad_name"),
    "a NUL in a further cell": (["cat/006.jpg", "cat", "\0"], "bad_name"),
    "a cut JPEG": (["cat/cut.jpg", "cat", "1"], "truncated"),
    "a text": (["cat/text.jpg", "cat", "1"], "not_an_image"),
    "a second copy": (["cat/007.jpg", "cat", "1"], "duplicate_key"),
    "its first copy": (["cat/007.jpg", "dog", "1"], "duplicate_key"),
}


def fill(root: Path) -> Path:
    """Good pictures, and files that no listing can take."""
    folder = fill_folder(root, ["cat", "dog"], GOOD, KINDS) / "cat"
    fill_folder(root / "jpegs", ["cat"], 8)
    for path in (root / "jpegs/cat").iterdir():
        path.rename(folder / path.name)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "zero.jpg").touch()
    (folder / "cut.jpg").write_bytes(KINDS[".jpg"](1)[:-2])
    (folder / "text.jpg").write_bytes(b"404 Not Found")
    return root


def rejected(output: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]


def assert_accounted(outcome: Outcome, output: Path, written: int) -> None:
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() == written
    assert written + len(rejected(output)) == outcome.plan.listed
    assert check_dataset(outcome.manifest) == []


def test_every_kind_of_bad_image(tmp_path: Path, figure: Callable[[str], None]) -> None:
    folder = fill_folder(tmp_path / "in", ["cat"], GOOD, KINDS) / "cat"
    expected = {}
    for number, (reason, sentence, data) in enumerate(REFUSED):
        if data:  # An empty file is refused before it is opened.
            (folder / f"bad{number:03d}.jpg").write_bytes(data)
            expected[f"cat/bad{number:03d}.jpg"] = (reason, sentence)
    job = Job(str(tmp_path / "in"), str(tmp_path / "out"), transcode="none", max_rejected="99%", threads=2)
    outcome = convert(job)
    found = {row["key"]: (row["reason"], row["detail"]) for row in rejected(tmp_path / "out")}
    assert found == expected
    assert_accounted(outcome, tmp_path / "out", GOOD)
    reasons = len({reason for reason, _ in expected.values()})
    figure(
        f"{len(expected)} kinds of bad images, {reasons} reasons: each refused with its own, {GOOD} good ones written"
    )
    assert len(expected) >= 20


def test_every_kind_of_bad_row(tmp_path: Path, figure: Callable[[str], None]) -> None:
    fill(tmp_path)
    good = [[f"dog/{path.name}", "dog", "1"] for path in sorted((tmp_path / "dog").iterdir())]
    listing = write_listing(
        tmp_path / "list.csv", [["file", "label", "age"], *good, *(row for row, _ in ROWS.values())]
    )
    with open(listing, "ab") as file:
        file.write(b"\n\n\xff.jpg,cat,1\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    job = Job(input=str(listing), output=str(tmp_path / "out"), labels=str(tmp_path / "labels.txt"), max_rejected="99%")
    outcome = convert(job)
    expected = sorted([(row[0], reason) for row, reason in ROWS.values()] + [("\\udcff.jpg", "bad_name")])
    assert sorted((row["key"], row["reason"]) for row in rejected(tmp_path / "out")) == expected
    assert_accounted(outcome, tmp_path / "out", len(good))
    figure(f"{len(expected)} kinds of bad rows: each refused with its reason, {len(good)} good ones written")
