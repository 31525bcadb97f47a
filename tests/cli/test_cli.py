"""The command line: exit codes, sentences on stderr, results on stdout."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import KINDS, files_of, fill_folder
from processes import process

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe import __version__, cli
from tfpipe.cli.convert_options import parse_bytes
from tfpipe.cli.tables import print_table
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.schema import parse_size

Run = Callable[..., tuple[int, str, str]]


# ---- convert


def test_convert_says_what_it_wrote(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = tfpipe("convert", "--input", photos, "--output", tmp_path / "out", "--target_bytes", "8KB")
    manifest = load_manifest(tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{tmp_path}/out: 42 raw records of 3 classes"
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines()[2:]}
    assert rows == {name: [str(split.num_records), str(len(split.shards))] for name, split in manifest.splits.items()}


def test_convert_s_json_is_one_document(tfpipe: Run, photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    source = shutil.copytree(photos, tmp_path / "in")
    (source / "cat/zero.jpg").touch()
    arguments = [
        "convert",
        "--input",
        source,
        "--output",
        tmp_path / "out",
        "--max_rejected",
        "1",
        "--json",
        "--target_bytes",
        "8KB",
    ]
    code, out, err = tfpipe(*arguments)
    manifest = load_manifest(tmp_path / "out")
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    assert json.loads(out) == {
        "dry_run": False,
        "listed": 43,
        "written": 42,
        "rejected": {"empty": 1},
        "left_out": {},
        "replaces": None,
        "shards": len(shards),
        "resumed_shards": 0,
        "bytes": sum(shard.num_bytes for shard in shards),
        "gain": None,
        "notes": [],
        "warnings": [],
        "class_names": ["cat", "dog", "emu"],
        "records": {name: split.num_records for name, split in manifest.splits.items()},
        "fingerprint": manifest.fingerprint(),
    }
    code, out, _ = tfpipe(*arguments, "--resume")
    assert (code, json.loads(out)["resumed_shards"]) == (0, len(shards))


def test_convert_says_what_it_leaves_out_and_what_changes(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    source = shutil.copytree(photos, tmp_path / "in/Training")
    shutil.copy(source / "cat/000.jpg", source / "loose.jpg")
    convert = ["convert", "--input", tmp_path / "in", "--output", tmp_path / "out"]
    code, out, _ = tfpipe(*convert, "--split_folders", "no")
    assert code == 0
    assert "Left out" not in out
    code, out, err = tfpipe(*convert, "--dry_run")
    assert code == 0
    assert "Left out: 1 images outside class folders" in out.splitlines()
    assert err.splitlines()[0] == f"tfpipe: {tmp_path}/out holds a dataset that differs from the one to be written:"
    assert any(line.startswith("tfpipe:   class ids: Training 0 -> none, cat none -> 0") for line in err.splitlines())
    code, out, err_of_json = tfpipe(*convert, "--overwrite", "--json")
    assert (code, err_of_json) == (0, err)
    document = json.loads(out)
    assert document["left_out"] == {"images_outside_class_folders": 1}
    assert document["replaces"]["class_ids"]["dog"] == [None, 1]
    assert load_manifest(tmp_path / "out").made_by["left_out"] == document["left_out"]
    code, out, err = tfpipe(*convert, "--overwrite")
    assert (code, err) == (0, "")
    assert "Left out: 1 images outside class folders" in out.splitlines()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_shows_the_plan_and_writes_nothing(tfpipe: Run, photos: Path, tmp_path: Path, as_json: bool) -> None:
    arguments = [
        "convert",
        "--input",
        photos,
        "--output",
        tmp_path / "out",
        "--dry_run",
        *(["--json"] if as_json else []),
    ]
    code, out, err = tfpipe(*arguments)
    assert (code, err, os.listdir(tmp_path)) == (0, "", [])
    if as_json:
        document = json.loads(out)
        assert (document["dry_run"], document["listed"], document["written"], document["fingerprint"]) == (
            True,
            42,
            0,
            None,
        )
        assert sum(document["records"].values()) == 42
    else:
        assert out.splitlines()[0] == "Would write 0.0 MB of 3 classes:"
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["split", "train", "validation", "test"]


def test_options_reach_the_job(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    code, _, err = tfpipe(
        "convert",
        "--input",
        photos,
        "--output",
        tmp_path / "out",
        "--payload",
        "decoded",
        "--dtype",
        "uint8",
        "--image_size",
        "8,9",
        "--resize",
        "crop",
        "--split",
        "train=0.5,test=0.5",
        "--seed",
        3,
        "--limit",
        30,
        "--target_bytes",
        "10KB",
        "--threads",
        2,
        "--",
        "--direct_num_workers=1",
    )
    assert (code, err) == (0, "")
    manifest = load_manifest(tmp_path / "out")
    assert manifest.made_by["options"] == {
        "payload": "decoded",
        "split": {"train": 0.5, "test": 0.5},
        "target_bytes": 10_000,
        "seed": 3,
        "max_pixels": 2**26,
        "limit": 30,
        "image_size": [8, 9],
        "resize": "crop",
        "dtype": "uint8",
    }


def test_rejected_inputs_and_empty_classes_are_reported(tfpipe: Run, tmp_path: Path) -> None:
    source = fill_folder(tmp_path / "in", ["cat"], 6)
    (source / "dog").mkdir()
    (source / "dog/1.jpg").write_bytes(KINDS[".jpg"](1)[:-2])
    code, out, err = tfpipe("convert", "--input", source, "--output", tmp_path / "out", "--max_rejected", "50%")
    assert code == 0
    assert err.splitlines() == [
        "tfpipe: warning: no record of class 'dog'.",
        "tfpipe: warning: fewer than 10 records of class 'cat'.",
    ]
    assert out.splitlines()[-1] == f"Rejected 1: 1 truncated; see {tmp_path}/out/rejected.jsonl"


# ---- exit codes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: VERB"),
        (["fly"], "invalid choice: 'fly'"),
        (["convert"], "the following arguments are required: --input, --output"),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--thread", "3"],
            "unrecognized arguments: --thread 3",
        ),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--runner=DirectRunner"],
            "unrecognized arguments: --runner=DirectRunner",
        ),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--image_size", "5,"],
            "'5,' is not HEIGHT,WIDTH such as 224,224",
        ),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--target_bytes", "big"],
            "'big' is not a size such as 64MB",
        ),
        (["convert", "--input", "{photos}", "--output", "{out}", "--split", "a=2"], "The fraction of split 'a' is 2.0"),
        (["convert", "--input", "{photos}", "--output", "{out}", "--dtype", "int4"], "invalid choice: 'int4'"),
        (
            ["convert", "--input", "{photos}/nowhere", "--output", "{out}"],
            "No input at '{photos}/nowhere'; --input takes a folder",
        ),
        (["convert", "--input", "{photos}", "--output", "{photos}/out"], "is inside --input"),
        (["convert", "--input", "{photos}", "--output", "{out}", "--resume", "--overwrite"], "take one of the two"),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--", "--nonsense=1"],
            "Beam has no option '--nonsense=1'; what follows -- goes to Beam.",
        ),
        (
            ["convert", "--input", "{photos}", "--output", "{out}", "--", "--direct_num_worker=2"],
            "Beam has no option '--direct_num_worker=2'",
        ),
        (["convert", "--input", "{photos}", "--output", "{out}", "--", "stray"], "Beam has no option 'stray'"),
        (["check", "{out}"], "No manifest {out}/dataset.json; tfpipe convert writes one."),
        (["check", "{out}", "--", "--runner=x"], "tfpipe check takes nothing after --."),
        (["check", "{out}", "--quik"], "unrecognized arguments: --quik"),
        (["version", "now"], "unrecognized arguments: now"),
    ],
)
def test_a_wrong_use_exits_with_2_and_a_sentence(
    tfpipe: Run, photos: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    def placed(text: str) -> str:
        return text.replace("{photos}", str(photos)).replace("{out}", str(tmp_path / "out"))

    code, out, err = tfpipe(*map(placed, arguments))
    assert (code, out) == (2, "")
    assert placed(sentence) in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_too_many_rejected_inputs_exit_with_1(tfpipe: Run, tmp_path: Path) -> None:
    source = fill_folder(tmp_path / "in", ["cat"], 3)
    (source / "cat/text.jpg").write_bytes(b"404")
    code, out, err = tfpipe("convert", "--input", source, "--output", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("tfpipe: error: 1 of 4 inputs were refused (1 not_an_image), 0 may be (--max_rejected 1%); ")
    assert len(err.splitlines()) == 1


def test_the_environment_s_faults_exit_with_3(
    tfpipe: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    code, _, err = tfpipe("convert", "--input", photos, "--output", tmp_path / "file/out")
    assert (code, err) == (3, f"tfpipe: error: {tmp_path}/file/out: Not a directory\n")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    code, _, err = tfpipe("convert", "--input", photos, "--output", tmp_path / "out")
    assert code == 3
    assert "has 0 bytes free; about " in err


@pytest.mark.parametrize(("module", "extra"), [("apache_beam", "beam"), ("tensorflow_hub", "hub")])
def test_a_missing_extra_is_named(
    tfpipe: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == module or name == "beam_jobs.engines.graphs"
    ]:
        monkeypatch.delitem(sys.modules, name)
    import beam_jobs

    monkeypatch.delattr(beam_jobs, "pipelines", raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # the import system's own way to say: there is none
    (tmp_path / "model").mkdir()
    model = ["--payload", "embedding", "--model", tmp_path / "model"] if extra == "hub" else []
    code, _, err = tfpipe("convert", "--input", photos, "--output", tmp_path / "out", *model)
    assert code == 3
    assert f"pip install 'tfpipe[{extra}]'" in err


# Something happens when the first shard is done, in whatever thread Beam runs.
HAPPENING = """
import os, signal, time
from beam_jobs import shards
from tfpipe.cli import main

def full():
    raise OSError(28, "No space left on device", "x.draft")

real = shards.rename_drafts
shards.rename_drafts = lambda *names, **options: (real(*names, **options), {})
main("convert")
"""


@pytest.mark.parametrize(
    ("happening", "code", "line"),
    [
        (
            "os.kill(os.getpid(), signal.SIGINT), time.sleep(30)",
            130,
            "tfpipe: interrupted; --resume goes on from here.",
        ),
        ("full()", 3, "tfpipe: error: x.draft: No space left on device."),
    ],
    ids=["interrupt", "full disk"],
)
def test_a_stopped_run_prints_one_line_and_can_be_resumed(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, happening: str, code: int, line: str
) -> None:
    arguments = ["--input", photos, "--output", tmp_path / "out", "--target_bytes", 8000, "--threads", 1]
    result = process("-c", HAPPENING.replace("{}", happening), *arguments)
    assert (result.returncode, result.stdout, result.stderr.split("\n")[-2:]) == (code, "", [line, ""])
    assert len(result.stderr.splitlines()) <= 2, result.stderr
    assert not (tmp_path / "out/dataset.json").exists()
    outcome = convert(Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=8000, resume=True))
    assert outcome.resumed == 1
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


# ---- check and version


def test_check_exits_with_0_on_an_undamaged_dataset(tfpipe: Run, raw_dataset: Manifest) -> None:
    shards = sum(len(split.shards) for split in raw_dataset.splits.values())
    for quick in ([], ["--quick"], ["--threads", 2]):
        code, out, err = tfpipe("check", raw_dataset.directory, *quick)
        assert (code, out, err) == (0, f"{raw_dataset.directory}: {shards} shards, 42 records: no problems\n", "")
    code, out, _ = tfpipe("check", raw_dataset.directory, "--json")
    assert (code, json.loads(out)) == (0, {"shards": shards, "records": 42, "problems": []})


def test_check_exits_with_1_and_names_shard_and_record(tfpipe: Run, raw_dataset: Manifest, tmp_path: Path) -> None:
    folder = shutil.copytree(raw_dataset.directory, tmp_path / "copy")
    shard = raw_dataset.split("train").shards[1]
    (folder / shard.path).write_bytes((folder / shard.path).read_bytes()[:-1])
    code, out, _ = tfpipe("check", folder)
    assert code == 1
    assert out.splitlines()[0].startswith(f"{shard.path}: record {shard.num_records - 1}: at byte ")
    assert out.splitlines()[1].endswith(": 1 problems")
    code, out, _ = tfpipe("check", folder, "--json")
    (problem,) = json.loads(out)["problems"]
    assert (code, problem["file"], problem["record"]) == (1, shard.path, shard.num_records - 1)


def test_version_lists_the_dependencies(tfpipe: Run) -> None:
    code, out, _ = tfpipe("version", "--json")
    found = json.loads(out)
    assert (code, found["tfpipe"]) == (0, __version__)
    assert {"python", "tensorflow", "keras", "numpy", "apache-beam"} <= set(found)
    assert tfpipe("version")[1].splitlines()[1].split() == ["tfpipe", __version__]
    assert tfpipe("--version")[1] == f"tfpipe {__version__}\n"


def test_help_shows_every_verb_and_the_examples(tfpipe: Run) -> None:
    code, out, _ = tfpipe("--help")
    assert code == 0
    assert all(verb in out for verb in cli.VERBS)
    assert "tfpipe convert --input photos --output photos_tfrecord" in tfpipe("convert", "--help")[1]


# ---- values


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("64MB", 64_000_000),
        ("1.5 gb", 1_500_000_000),
        ("10k", 10_000),
        ("123", 123),
        ("7B", 7),
        ("0.1MB", 100_000),
    ],
)
def test_sizes_are_read_in_powers_of_ten(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1MiB", "1e6", "1,000", "64 M B"])
def test_text_that_is_no_size_is_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size such as 64MB"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "size"), [("224,256", (224, 256)), ("1, 2", (1, 2)), ("224", (224, 224))])
def test_an_image_size_is_height_and_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "224,", ",224", "2x4", "0,224", "224,0", "-1,5", "1.5,2", "2,2,3", "a,b"])
def test_what_is_no_image_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HEIGHT,WIDTH such as 224,224"):
        parse_size(text)


def test_a_table_puts_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["split", "records"], [["train", "1,234"], ["test", "5"]])
    assert capsys.readouterr().out == "  split  records\n  train    1,234\n  test         5\n"
