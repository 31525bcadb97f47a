"""What a command loads: nothing that it does not need."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pictures import files_of
from processes import process

HEAVY = ("tensorflow", "apache_beam", "keras", "jax", "PIL", "rich")
LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


@pytest.mark.parametrize(
    "code",
    [
        "import tfpipe",
        "from tfpipe.format import framing, manifest, schema; import tfpipe.images.probe, tfpipe.maintenance.check",
        "import tfpipe; tfpipe.load_manifest, tfpipe.Manifest, tfpipe.Schema, tfpipe.Feature",
        "import beam_jobs.job, beam_jobs.sources, beam_jobs.plan",
    ],
    ids=["tfpipe", "modules", "names", "options"],
)
def test_importing_loads_neither_tensorflow_nor_beam(code: str) -> None:
    assert process("-c", f"{code}; {LOADED}").stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["convert", "--help"], ["check", "--help"], ["--version"], ["check", "nowhere"]],
    ids=" ".join,
)
def test_help_and_check_load_neither_tensorflow_nor_beam(arguments: list[str]) -> None:
    code = f"import sys, atexit; atexit.register(lambda: exec({LOADED!r})); from tfpipe.cli import main; main()"
    begin = time.monotonic()
    result = process("-c", code, *arguments)
    # A second is the contract; the machine that runs the tests may be busy.
    assert time.monotonic() - begin < 3
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_raw_conversion_loads_no_tensorflow(photos: Path, tmp_path: Path) -> None:
    code = (
        f"import sys, atexit; atexit.register(lambda: exec({LOADED!r})); from tfpipe.cli import main; main('convert')"
    )
    result = process("-c", code, "--input", photos, "--output", tmp_path / "out", "--json", "--threads", 2)
    assert result.returncode == 0, result.stderr
    document, loaded = result.stdout.splitlines()
    assert (json.loads(document)["written"], loaded) == (42, "['apache_beam']")


def test_the_module_and_the_job_are_the_same_command(photos: Path, tmp_path: Path) -> None:
    arguments = ["--input", photos, "--target_bytes", "8KB", "--threads", 2]
    one = process("-m", "beam_jobs.convert", *arguments, "--output", tmp_path / "one")
    two = process("-m", "tfpipe", "convert", *arguments, "--output", tmp_path / "two")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert one.stdout.replace("/one", "/two") == two.stdout
