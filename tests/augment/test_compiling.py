"""Compiled programs that outlive their process."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tfpipe import compile_cache
from tfpipe.augment import compiling
from tfpipe.errors import UsageError

FLAG = "--tf_xla_persistent_cache_directory="
PROGRAM = """
import sys, tfpipe
tfpipe.compile_cache(sys.argv[1])
import numpy as np, tensorflow as tf
from tfpipe import augment
images = np.full([4, 16, 16, 3], 100, np.uint8)
print(augment.apply_op("brightness", images, [1.5] * 4).numpy().sum())
"""


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    # In this process other tests have long used TensorFlow.
    monkeypatch.setattr(compiling, "has_read_flags", lambda: False)


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_second_process_compiles_nothing(tmp_path):
    folder = tmp_path / "made" / "for it"
    with pytest.raises(UsageError, match="no space in its name"):
        compile_cache(folder)
    folder = tmp_path / "made" / "kept"
    first, kept = run(folder), files(folder)
    assert kept
    assert folder.stat().st_mode & 0o077 == 0
    assert run(folder) == first == str(150 * 4 * 16 * 16 * 3)
    assert files(folder) == kept


def run(folder):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_flags_that_are_set_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit")
    compile_cache(tmp_path)
    compile_cache(tmp_path)
    assert os.environ["TF_XLA_FLAGS"] == f"--tf_xla_cpu_global_jit {FLAG}{tmp_path}"


def test_a_second_folder_is_refused(tmp_path):
    compile_cache(tmp_path)
    with pytest.raises(UsageError, match=re.escape(f"already keeps compiled programs in {tmp_path}; ")):
        compile_cache(tmp_path / "other")


def test_it_is_refused_where_it_would_have_no_effect(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    import tensorflow as tf

    tf.config.list_physical_devices()
    with pytest.raises(UsageError, match="call compile_cache before anything else of TensorFlow"):
        compile_cache(tmp_path)
    assert os.environ["TF_XLA_FLAGS"] == ""


def test_a_folder_of_everybody_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match=re.escape(f"Everybody may write to {tmp_path}")):
        compile_cache(tmp_path)
