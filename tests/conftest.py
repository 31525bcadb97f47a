"""Inputs that several test files share: built once, never changed, with fixed seeds."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports TensorFlow: no GPU, and no start-up messages.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from beam_memory import remember_what_beam_finds_out
from containers import JPEGS
from conversions import run
from pictures import KINDS, fill_folder

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import Manifest

# The first call into TensorFlow or Beam takes seconds, so no deadline; the seeds are fixed: a red run stays red.
settings.register_profile("tfpipe", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tfpipe")

remember_what_beam_finds_out()

# Long files with few tests begin first: pytest-xdist gives the next file to the worker that is free, and a long one at
# the end would leave the other worker idle for minutes.
LONG_FILES = (
    "test_option_table.py",
    "test_ops.py",
    "test_golden.py",
    "test_pipeline.py",
    "test_flow.py",
    "test_dataset.py",
    "test_variants.py",
    "test_failures.py",
    "test_resume.py",
    "test_damage.py",
    "test_apply.py",
    "test_callbacks.py",
    "test_masks.py",
    "test_faults_short.py",
    "test_remote_outputs.py",
    "test_hosts.py",
    "test_shapes.py",
    "test_archives.py",
    "test_crops.py",
    "test_service.py",
)


# The cases of each slow test that `make test` runs; the others are marked `slow`, for `make nightly`.
NIGHTLY = dict(
    line.split()
    for line in Path(__file__).with_name("nightly.txt").read_text().splitlines()
    if not line.startswith("#")
)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the long files to the front; the order inside a file stays. Marks the cases that are nightly."""
    ranks = {name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    seen: Counter[str] = Counter()
    for item in items:
        name = item.nodeid.partition("[")[0].removeprefix("tests/")
        seen[name] += 1
        if seen[name] > int(NIGHTLY.get(name, len(items))):
            item.add_marker(pytest.mark.slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without_tensorflow", action="store_true", help="end at the first test that loads TensorFlow")


def pytest_runtest_teardown(item: pytest.Item) -> None:
    if item.config.getoption("without_tensorflow") and "tensorflow" in sys.modules:
        pytest.exit(f"{item.nodeid} loads TensorFlow; remove its file from tests/quick.txt.", returncode=1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 14 JPEG files."""
    return fill_folder(tmp_path_factory.mktemp("photos"), ("cat", "dog", "emu"), 14)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with two files of every kind each, one with an EXIF orientation."""
    return fill_folder(tmp_path_factory.mktemp("mixed"), ("cat", "dog"), 2 * len(KINDS), KINDS)


@pytest.fixture(scope="session")
def raw_dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The photos as raw records in several shards a split. Copy it before you damage it."""
    output = tmp_path_factory.mktemp("raw") / "out"
    manifest = convert(Job(input=str(photos), output=str(output), target_bytes=8_000)).manifest
    assert manifest is not None
    return manifest


@pytest.fixture(scope="session")
def mixed_dataset(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The files of every kind as raw records."""
    return run(mixed, tmp_path_factory.mktemp("mixed_raw") / "out").manifest


@pytest.fixture
def own_photos(photos: Path, tmp_path: Path) -> Path:
    """A copy of the photos for one test."""
    return shutil.copytree(photos, tmp_path / "photos")


@pytest.fixture(scope="session")
def from_folder(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The images, converted from a folder."""
    root = tmp_path_factory.mktemp("folder")
    for name, data in JPEGS.items():
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "in" / name).write_bytes(data)
    manifest = run(root / "in", root / "out").manifest
    assert manifest is not None
    return manifest
