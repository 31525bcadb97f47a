"""Exit codes: 1 for data, 2 for usage, 3 for the environment, 70 for what nobody expected; one line on stderr."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import text, tfds, write
from pictures import file_bytes, fill_folder, photo
from processes import process

import tfpipe
from beam_jobs.sources.listing import Refusal
from tfpipe import cli
from tfpipe.cli.failures import CLOSED_PIPE, TRACEBACK
from tfpipe.errors import DataError, InputNotFound, SetupError, ShardNotFound, UsageError
from tfpipe.format.framing import DamagedRecord
from tfpipe.format.manifest import MANIFEST_NAME, Manifest, load_manifest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process: exit code, stdout, stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfpipe", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


# What each verb has to be given.
ARGUMENTS = {
    "convert": ["--input", "named", "--output", "there"],
    "inspect": ["named"],
    "check": ["named"],
    "report": ["named"],
    "show": ["named"],
    "gallery": ["-o", "named"],
    "export": ["named"],
    "doctor": [],
    "repair": ["named", "--output", "there"],
    "index": ["named"],
    "bench": ["named"],
    "tune": ["named"],
    "serve": ["--host=named"],
    "search": ["bayesian", "named", "--image_size=8"],
    "demo": ["--output", "named"],
    "version": [],
}
TAKES_A_PATH = sorted(set(ARGUMENTS) - {"version", "doctor"})


def overflow() -> None:
    np.zeros(3).reshape(2, 2)


def tensorflow_error(name: str) -> BaseException:
    import tensorflow as tf

    return getattr(tf.errors, name)(None, None, "the words of TensorFlow")


def beam_error() -> BaseException:
    words = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: bad [while running "Write"]\n'
    return RuntimeError(words)


# What a verb raises -> the exit code, and a part of the line.
FAILURES: dict[str, tuple[Callable[[], BaseException], int, str]] = {
    "data": (lambda: DataError("the shard is damaged"), 1, "error: the shard is damaged\n"),
    "a shard": (lambda: ShardNotFound("no shard x"), 1, "error: no shard x\n"),
    "a record": (lambda: DamagedRecord("x", 3, 7, "it is cut"), 1, "error: x: record 3 at byte 7: it is cut.\n"),
    "lost data": (lambda: tensorflow_error("DataLossError"), 1, "the words of TensorFlow; tfpipe check names"),
    "usage": (lambda: UsageError("take one of the two"), 2, "error: take one of the two\n"),
    "usage in two lines": (lambda: UsageError("take one\nof the two"), 2, "error: take one of the two\n"),
    "no input": (lambda: InputNotFound("no manifest"), 2, "error: no manifest\n"),
    "set-up": (lambda: SetupError("the lock is held"), 3, "error: the lock is held\n"),
    "no room": (
        lambda: OSError(errno.ENOSPC, "No space left on device", "x"),
        3,
        "error: x: No space left on device\n",
    ),
    "no right": (lambda: PermissionError(errno.EACCES, "Permission denied", "x"), 3, "error: x: Permission denied\n"),
    "read-only": (lambda: OSError(errno.EROFS, "Read-only file system", "x"), 3, "error: x: Read-only file system\n"),
    "input/output": (lambda: OSError(errno.EIO, "Input/output error", "x"), 3, "error: x: Input/output error\n"),
    "another file": (
        lambda: FileNotFoundError(errno.ENOENT, "No such file", "/else"),
        3,
        "error: /else: No such file\n",
    ),
    "no network": (lambda: ConnectionRefusedError("refused"), 3, "error: refused\n"),
    "a timeout": (lambda: TimeoutError("timed out"), 3, "error: timed out\n"),
    "a worker": (lambda: ChildProcessError("a worker ended with -9"), 3, "error: a worker ended with -9\n"),
    "a helper's pipe": (lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"), 3, "error: Broken pipe\n"),
    "no package": (lambda: ModuleNotFoundError("No x", name="apache_beam.io"), 3, "No x; pip install 'tfpipe[beam]'\n"),
    "a broken one": (lambda: ImportError("libx.so: no such file", name="x"), 3, "error: libx.so: no such file\n"),
    "no memory": (lambda: MemoryError("64 GB"), 3, f"There is not enough memory: 64 GB; {TRACEBACK}=1 shows where.\n"),
    "no device memory": (lambda: tensorflow_error("ResourceExhaustedError"), 3, "error: the words of TensorFlow; "),
    "a service gone": (lambda: tensorflow_error("UnavailableError"), 3, "error: the words of TensorFlow; "),
    "a value": (lambda: ValueError("zip() is too short"), 70, "unexpected ValueError: zip() is too short; "),
    "text": (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 70, "unexpected UnicodeDecodeError: 'utf-8'"),
    "a type": (lambda: TypeError("not an int"), 70, f"unexpected TypeError: not an int; {TRACEBACK}=1 shows where.\n"),
    "a key": (lambda: KeyError("image"), 70, "unexpected KeyError: 'image'; "),
    "an index": (lambda: IndexError("out of range"), 70, "unexpected IndexError: out of range; "),
    "nothing said": (AssertionError, 70, "unexpected AssertionError: AssertionError; "),
    "several lines": (lambda: RuntimeError("first\nsecond\n"), 70, "unexpected RuntimeError: first; "),
    "Beam's text": (beam_error, 70, 'unexpected RuntimeError: ValueError: bad [while running "Write"]; '),
    "recursion": (lambda: RecursionError("too deep"), 70, "unexpected RecursionError: too deep; "),
    "an unknown number": (lambda: OSError("cannot identify image"), 70, "unexpected OSError: cannot identify image; "),
    "a bad handle": (lambda: OSError(errno.EBADF, "Bad file descriptor"), 70, "unexpected OSError: [Errno 9] Bad file"),
    "our own import": (lambda: ImportError("cannot import x", name="tfpipe.x"), 70, "unexpected ImportError: cannot"),
    "a refusal": (lambda: Refusal("empty", "No bytes."), 70, "unexpected Refusal: "),
    "an argument": (lambda: tensorflow_error("InvalidArgumentError"), 70, "unexpected InvalidArgumentError: the words"),
    "Ctrl-C": (KeyboardInterrupt, 130, "\ntfpipe: interrupted.\n"),
}


def raising(monkeypatch: pytest.MonkeyPatch, verb: str, error: Callable[[], BaseException]) -> None:
    """Makes a verb fail."""

    def run(arguments: Any) -> int:
        raise error()

    monkeypatch.setattr(importlib.import_module(cli.VERBS[verb][0]), "run", run)


def test_every_verb_is_in_the_tables() -> None:
    assert set(ARGUMENTS) == set(cli.VERBS)


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("verb", ARGUMENTS)
def test_every_failure_has_its_exit_code_under_every_verb(
    command: Run, monkeypatch: pytest.MonkeyPatch, verb: str, case: str
) -> None:
    error, expected, words = FAILURES[case]
    raising(monkeypatch, verb, error)
    code, out, err = command(verb, *ARGUMENTS[verb])
    assert (code, out) == (expected, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert err.endswith(".\n") or code != 70
    assert (f"{TRACEBACK}=1" in err) >= (code == 70)


@pytest.mark.parametrize("kind", [FileNotFoundError, IsADirectoryError])
@pytest.mark.parametrize("verb", TAKES_A_PATH)
def test_a_path_of_the_command_line_that_is_not_there_is_a_mistake_of_the_user(
    command: Run, monkeypatch: pytest.MonkeyPatch, verb: str, kind: type[OSError]
) -> None:
    for path in ("named", os.path.abspath("named"), Path("named")):
        raising(monkeypatch, verb, lambda path=path: kind(errno.ENOENT, "No such file or directory", path))
        code, _, err = command(verb, *ARGUMENTS[verb])
        assert (code, err) == (2, f"tfpipe: error: {path}: No such file or directory\n")


@pytest.mark.parametrize("case", ["data", "usage", "no room", "a value", "Beam's text"])
@pytest.mark.parametrize("verb", ARGUMENTS)
def test_the_traceback_comes_on_demand(command: Run, monkeypatch: pytest.MonkeyPatch, verb: str, case: str) -> None:
    error, expected, words = FAILURES[case]
    raising(monkeypatch, verb, error)
    for value, shown in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(TRACEBACK, value)
        code, _, err = command(verb, *ARGUMENTS[verb])
        assert code == expected
        assert words in err.splitlines(keepends=True)[-1]
        assert ('test_failures.py", line' in err) == shown


def test_a_module_that_does_not_load_is_a_failure_like_others(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")

    monkeypatch.setattr(cli, "_module", missing)
    assert command("demo")[0::2] == (
        3,
        "tfpipe: error: No module named 'mlxtend'; pip install 'tfpipe[demo]'\n",
    )


# ---- a reader that has had enough

PRINTING = """
import importlib, sys
from tfpipe import cli
module = importlib.import_module(cli.VERBS[sys.argv[1]][0])
def run(arguments):
    for number in range(100_000):
        print(number)
    return 0
module.run = run
cli.main()
"""


def cut(*arguments: Any, environment: dict[str, str] | None = None, lines: int = 0) -> tuple[int, str]:
    """The exit code and stderr of a Python process whose output is read for some lines only."""
    started = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert started.stdout is not None
    assert started.stderr is not None
    for _ in range(lines):
        assert started.stdout.readline()
    started.stdout.close()
    errors = started.stderr.read()
    return started.wait(timeout=120), errors


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_a_reader_that_stops_reading_ends_every_verb_quietly(verb: str) -> None:
    assert cut("-c", PRINTING, verb, *ARGUMENTS[verb], lines=1) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["inspect", "check", "version"])
def test_short_outputs_end_quietly_too(raw_dataset: Manifest, verb: str, unbuffered: str) -> None:
    arguments = [verb] if verb == "version" else [verb, raw_dataset.directory]
    assert cut("-m", "tfpipe", *arguments, environment={"PYTHONUNBUFFERED": unbuffered}) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_so_does_help(unbuffered: str) -> None:
    code, err = cut("-m", "tfpipe", "bench", "--help", environment={"PYTHONUNBUFFERED": unbuffered})
    assert (code in (0, CLOSED_PIPE), err) == (True, "")  # argparse forgives a closed pipe


def test_a_shell_s_head_hears_nothing(raw_dataset: Manifest) -> None:
    line = f"set -o pipefail; {sys.executable} -m tfpipe inspect {raw_dataset.directory} --json | head -c 1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert (result.stdout, result.stderr) == ("{", "")
    assert result.returncode in (0, CLOSED_PIPE)


def test_an_output_without_room_is_said_once(raw_dataset: Manifest) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tfpipe", "inspect", str(raw_dataset.directory)]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (3, "tfpipe: error: No space left on device\n")


# ---- failures as they happen

WRITING = """
from beam_jobs import shards
from tfpipe.cli import main

def fail():
    {}

real = shards.ShardStats.to_bytes
shards.ShardStats.to_bytes = lambda self: (real(self), fail())[0]
main("convert")
"""


@pytest.mark.parametrize(
    ("happening", "code", "line"),
    [
        ("[].pop()", 70, "tfpipe: error: unexpected "),
        ("float('x')", 70, "tfpipe: error: unexpected "),
        ("raise MemoryError", 3, "tfpipe: error: There is not enough memory"),
        (
            "import tfpipe.errors; raise tfpipe.errors.DataError('the data is bad')",
            1,
            "tfpipe: error: the data is bad.",
        ),
    ],
    ids=["index", "value", "memory", "data"],
)
@pytest.mark.parametrize("shown", ["", "1"])
def test_a_failure_in_a_worker_keeps_its_kind(
    photos: Path, tmp_path: Path, happening: str, code: int, line: str, shown: str
) -> None:
    arguments = ["--input", photos, "--output", tmp_path / "out", "--target_bytes", 8000, "--threads", 1]
    result = process("-c", WRITING.replace("{}", happening), *arguments, env={**os.environ, TRACEBACK: shown})
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1].startswith(line)
    assert (len(result.stderr.splitlines()) > 1) == bool(shown), result.stderr
    assert ("in fail" in result.stderr) == bool(shown)


@pytest.fixture
def damaged(raw_dataset: Manifest, tmp_path: Path) -> Path:
    """A copy of the dataset to damage."""
    return shutil.copytree(raw_dataset.directory, tmp_path / "copy")


FEW = ("--batch_size", 4, "--image_size", "8,8", "--repeats", 1, "--limit", 1)
READING = [("bench", "{}", *FEW, "--variants", "plain"), ("tune", "{}", *FEW)]


@pytest.mark.parametrize("content", ["{", '{"format_version": 1}', "\x80"])
@pytest.mark.parametrize("verb", ["inspect", "check", "bench", "tune", "repair"])
def test_a_damaged_manifest_is_a_problem_of_the_data(command: Run, damaged: Path, verb: str, content: str) -> None:
    (damaged / MANIFEST_NAME).write_bytes(content.encode("latin-1"))
    more = ["--output", damaged.parent / "new"] if verb == "repair" else []
    code, out, err = command(verb, damaged, *more)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"{damaged}/{MANIFEST_NAME} is not " in err


@pytest.mark.parametrize("how", ["missing", "short"])
@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_a_missing_shard_is_a_problem_of_the_data(
    command: Run, damaged: Path, arguments: tuple[Any, ...], how: str
) -> None:
    shard = damaged / load_manifest(damaged).split("train").shards[0].path
    if how == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    code, out, err = command(*[str(one).replace("{}", str(damaged)) for one in arguments])
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"The shard {shard} " in err


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adopted records, of which one holds a PNG that is cut: adopting notes it, and goes on."""
    folder = tmp_path_factory.mktemp("adopted")
    records = [tfds(number) for number in range(12)]
    records[7]["image"] = text(file_bytes(photo(7), "PNG")[:-40])
    write(folder / "a-train.tfrecord", records)
    tfpipe.index(folder)
    return folder


def test_inspect_names_the_image_that_has_no_pixels(command: Run, unreadable: Path) -> None:
    before = (unreadable / MANIFEST_NAME).read_bytes()
    for flags in ([], ["--json"]):
        code, out, err = command("inspect", unreadable, "--statistics", *flags)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert f"record 7 of {unreadable}/a-train.tfrecord (key unknown, byte " in err
        assert "cannot be decoded" in err
    assert (unreadable / MANIFEST_NAME).read_bytes() == before


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_so_do_bench_and_tune(command: Run, unreadable: Path, arguments: tuple[Any, ...]) -> None:
    code, out, err = command(*[str(one).replace("{}", str(unreadable)) for one in arguments])
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"record 7 of {unreadable}/a-train.tfrecord" in err


def test_inspect_names_a_damaged_record_and_its_key(command: Run, damaged: Path) -> None:
    manifest = load_manifest(damaged)
    shard = manifest.split("train").shards[1]
    data = bytearray((damaged / shard.path).read_bytes())
    data[int(manifest.offsets("train")[1][2]) + 60] ^= 1
    (damaged / shard.path).write_bytes(data)
    code, _, err = command("inspect", damaged, "--statistics")
    assert (code, len(err.splitlines())) == (1, 1)
    assert f"record 2 of {damaged}/{shard.path} (key " in err
    assert "is damaged: its checksum is wrong; tfpipe repair saves the other records" in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["bench", "{}", "--batch_sizes", "2,x"], 2, "--batch_sizes is '2,x'; it takes N,N,..., such as 32,128."),
        (["bench", "{}", "--batch_sizes", "0"], 2, "--batch_sizes is '0'"),
        (["bench", "{}", "--seconds", "nan"], 2, "--seconds is nan; it must be a number above 0."),
        (["bench", "{}", "--seconds", "-1"], 2, "--seconds is -1.0"),
        (["bench", "{}", "--limit", "0"], 2, "--limit is 0; it must be at least 1."),
        (["bench", "{}", "--batch_size", "0"], 2, "batch_size is 0; it must be at least 1."),
        (["bench", "{}", "--batch_size", "9999"], 2, "not one batch of 9999"),
        (["bench", "{}", *FEW, "--options", "{}/nowhere.json"], 2, "{}/nowhere.json: No such file or directory"),
        (["bench", "{}", *FEW, "--options", "{}"], 2, "{}: Is a directory"),
        (["bench", "{}", *FEW, "--options", "{}/text"], 2, "{}/text is no file of read options"),
        (["bench", "{}", *FEW, "--options", "{}/bytes"], 2, "{}/bytes is no file of read options"),
        (["bench", "{}", *FEW, "--fit", "--model", "{}/none.keras"], 2, "--model {}/none.keras can't be loaded: "),
        (["bench", "{}", *FEW, "--fit", "--model", "{}/text.keras"], 2, "--model {}/text.keras can't be loaded: "),
        (["bench", "{}", *FEW, "--fit", "--model", "{}/other.keras"], 2, "other.keras does not take these batches: "),
        (["tune", "{}", *FEW, "-o", "{}"], 2, "--output is '{}', which is a folder; name a file."),
        (["tune", "{}", "--seconds", "inf"], 2, "--seconds is inf"),
        (["serve", "--host", "nobody.invalid"], 2, "The host is 'nobody.invalid', of which this machine knows no"),
        (["serve", "--workers", "0"], 2, "A service takes at least one worker"),
        (["serve", "--port", "99999"], 2, "a port in [0, 65535]"),
        (["serve", "--port", "{port}"], 3, "The port {port} can't be taken: Address already in use."),
        (["demo", "--output", "{}/demo", "--epochs", "0"], 2, "--epochs is 0; it must be at least 1."),
        (["index", "{}/none-*"], 2, "No file matches "),
        (["repair", "{}/none-*", "--output", "{}/new"], 2, "No manifest "),
        (["repair", "{}", "--output", "{}"], 2, "is not empty"),
        (["inspect", "{}/text"], 2, "No manifest {}/text/dataset.json"),
    ],
    ids=lambda value: " ".join(map(str, [value] if not isinstance(value, list) else [value[0], *value[-2:]]))[:40],
)
def test_mistakes_are_told_from_accidents(
    command: Run, damaged: Path, arguments: list[Any], code: int, sentence: str
) -> None:
    import keras

    for name in ("text", "text.keras"):
        (damaged / name).write_text("text")
    (damaged / "bytes").write_bytes(b"\xff\xfe\x80")
    if "other.keras" in str(arguments):
        model = keras.Sequential([keras.Input((5, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
        model.compile("adam", "mse")
        model.save(damaged / "other.keras")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]

        def placed(text: Any) -> str:
            return str(text).replace("{}", str(damaged)).replace("{port}", str(port))

        found, out, err = command(*map(placed, arguments))
    assert (found, out, len(err.splitlines())) == (code, "", 1)
    assert placed(sentence) in err


# ---- convert: nothing left


@pytest.mark.parametrize("allowed", ["1%", "100%", "99"])
@pytest.mark.parametrize("when", ["listing", "reading"])
def test_convert_says_that_all_inputs_were_refused(command: Run, tmp_path: Path, allowed: str, when: str) -> None:
    source = tmp_path / "in/cat"
    source.mkdir(parents=True)
    for number in range(3):
        (source / f"{number}.jpg").write_bytes(b"" if when == "listing" else b"404 not found")
    reason, detail = {
        "listing": ("empty", "The file has no bytes."),
        "reading": ("not_an_image", "The b"),
    }[when]
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "o", "--max_rejected", allowed]
    code, out, err = command("convert", *arguments)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"All 3 inputs were refused (3 {reason}): there is nothing to write; " in err
    assert f"the first is 'cat/0.jpg': {detail}" in err
    assert err.endswith(f"All are in {tmp_path}/o/rejected.jsonl.\n")
    assert "--resume" not in err
    assert len((tmp_path / "o/rejected.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "o" / MANIFEST_NAME).exists()


def test_a_dry_run_says_so_too(command: Run, tmp_path: Path) -> None:
    source = fill_folder(tmp_path / "in", ["cat"], 2)
    for path in source.rglob("*.jpg"):
        path.write_bytes(b"")
    code, out, err = command("convert", "--input", source, "--output", tmp_path / "out", "--dry_run")
    assert (code, out) == (1, "")
    assert err == "tfpipe: error: All 2 inputs were refused (2 empty): there is nothing to write.\n"


# ---- documents


def test_every_verb_takes_json(command: Run) -> None:
    for verb in cli.VERBS:
        assert "--json" in command(verb, "--help")[1]


def test_the_quick_verbs_print_one_document_and_nothing_else(
    command: Run, raw_dataset: Manifest, unreadable: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(unreadable, tmp_path / "adopted")
    for name in (MANIFEST_NAME, "records.index"):
        (copy / name).unlink()
    for arguments in (
        ["inspect", raw_dataset.directory],
        ["check", raw_dataset.directory],
        ["repair", raw_dataset.directory, "--output", tmp_path / "new"],
        ["index", copy],
        ["version"],
    ):
        code, out, err = command(*arguments, "--json")
        assert (code, err, out.count("\n")) == (0, "", 1), arguments
        assert isinstance(json.loads(out), dict)
