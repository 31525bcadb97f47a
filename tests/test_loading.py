"""No module and no command loads a heavy library that it does not need: this is the one place that tests it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pictures import files_of
from processes import process

HEAVY = ("tensorflow", "apache_beam", "keras", "jax", "PIL", "rich")
LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
# What runs in every helper process and at every start of the command line.
LIGHT_MODULES = [
    "tfpipe.errors",
    "tfpipe.storage",
    "tfpipe.policy",
    "tfpipe.format.schema",
    "tfpipe.format.sharding",
    "tfpipe.timing",
    "tfpipe.timing.passes",
    "tfpipe.timing.training",
    "tfpipe.search",
    "tfpipe.search.page",
    "tfpipe.search.helpers",
    "tfpipe.search.ray_workers",
    "tfpipe.search.worker",
    "tfpipe.images.moments",
    "tfpipe.images.probe",
    "tfpipe.reader.options",
    "tfpipe.format.framing",
    "tfpipe.format.manifest",
    "tfpipe.maintenance.check",
    "tfpipe.maintenance.adopt",
    "tfpipe.maintenance.repair",
    "tfpipe.cli",
    "tfpipe.cli.convert",
    "tfpipe.cli.bench",
    "tfpipe.cli.bench_fit",
    "tfpipe.cli.tune",
    "tfpipe.cli.check",
    "tfpipe.cli.index",
    "tfpipe.cli.inspect",
    "tfpipe.cli.repair",
    "tfpipe.cli.search",
    "tfpipe.cli.serve",
    "beam_jobs.job",
    "beam_jobs.sources",
    "beam_jobs.plan",
    "beam_jobs.convert",
    "beam_jobs.engines.workers",
]


def test_these_modules_load_neither_tensorflow_nor_beam() -> None:
    code = f"""
import importlib, sys
for name in {LIGHT_MODULES}:
    importlib.import_module(name)
    print(*[(name, heavy) for heavy in {HEAVY} if heavy in sys.modules][:1])
"""
    result = process("-c", code)
    assert (result.returncode, result.stdout.split()) == (0, []), result.stdout + result.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import tfpipe",
        "from tfpipe import policy; policy.load_policy('svhn')",
    ],
)
def test_the_package_and_its_policies_do_not_even_load_numpy(code: str) -> None:
    assert process("-c", f"{code}; import sys; print('numpy' in sys.modules); {LOADED}").stdout == "False\n[]\n"


def test_the_names_of_the_package_load_no_more_than_they_need() -> None:
    code = (
        f"import tfpipe; tfpipe.load_manifest, tfpipe.Manifest, tfpipe.Schema, tfpipe.Feature, tfpipe.index, "
        f"tfpipe.from_arrays; {LOADED}"
    )
    assert process("-c", code).stdout == "[]\n"


def test_the_files_of_make_quick_exist_and_import_no_tensorflow() -> None:
    collect = "print(int(pytest.main(['-q', '--collect-only', '@tests/quick.txt'])))"
    code = f"import pytest; {collect}; {LOADED}"
    status, loaded = process("-c", code).stdout.splitlines()[-2:]
    assert status == "0"
    assert "tensorflow" not in loaded


QUICK = [["--help"], ["convert", "--help"], ["check", "--help"], ["--version"], ["check", "nowhere"]]


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_help_and_check_load_neither_tensorflow_nor_beam(arguments: list[str]) -> None:
    code = f"import sys, atexit; atexit.register(lambda: exec({LOADED!r})); from tfpipe.cli import main; main()"
    assert process("-c", code, *arguments).stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_help_and_check_answer_within_a_second(arguments: list[str]) -> None:
    process("-m", "tfpipe", *arguments)  # the first call reads the files from the disk
    begin = time.monotonic()
    process("-m", "tfpipe", *arguments)
    assert time.monotonic() - begin < 1


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
