"""The examples run as they are printed, and their models learn."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tfpipe.format.manifest import Manifest

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_trained_model_is_served_from_bytes(raw_dataset: Manifest, photos: Path, tmp_path: Path) -> None:
    image = next(photos.rglob("*.jpg"))
    name = example("serving").main(str(raw_dataset.directory), str(tmp_path / "served"), str(image))
    assert name in raw_dataset.class_names
    assert (tmp_path / "served/saved_model.pb").exists()


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("detect", ["--count", "240", "--epochs", "12"], {"precision": 0.4, "recall": 0.4}),
        ("segment", ["--count", "80", "--epochs", "8"], {"mean_iou": 0.75, "recall": 0.8}),
    ],
)
def test_an_example_learns(name: str, options: list[str], least: dict[str, float], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / f"examples/{name}.py"), "--work", str(tmp_path), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {key: found[key] >= value for key, value in least.items()} == dict.fromkeys(least, True), found
