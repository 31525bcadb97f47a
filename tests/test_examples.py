"""The examples run, and their models learn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("detect", ["--count", "240", "--epochs", "12"], {"precision": 0.4, "recall": 0.4}),
        ("segment", ["--count", "80", "--epochs", "4"], {"mean_iou": 0.5, "recall": 0.4}),
    ],
)
def test_an_example_learns(name, options, least, tmp_path):
    command = [sys.executable, str(ROOT / f"examples/{name}.py"), "--work", str(tmp_path), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {key: found[key] >= value for key, value in least.items()} == dict.fromkeys(least, True), found
