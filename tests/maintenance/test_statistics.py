"""Mean and std of a raw dataset, computed afterwards."""

import json
import shutil

import numpy as np
import pytest

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.cli import main
from tfpipe.format.manifest import load_manifest
from tfpipe.maintenance.statistics import dataset_moments


def test_statistics_afterwards_equal_those_of_a_verified_conversion(mixed, tmp_path):
    verified = convert(Job(input=str(mixed), output=str(tmp_path / "a"), verify="decode")).manifest
    plain = convert(Job(input=str(mixed), output=str(tmp_path / "b"))).manifest
    assert plain.mean is None
    moments = dataset_moments(plain)
    assert (moments.mean, moments.std) == (verified.mean, verified.std)
    assert all(0 < value < 1 for value in (*moments.mean, *moments.std))


def test_inspect_writes_statistics_into_the_manifest(raw_dataset, tmp_path, monkeypatch, capsys):
    shutil.copytree(raw_dataset.directory, tmp_path / "copy")
    monkeypatch.setattr("sys.argv", ["tfpipe", "inspect", str(tmp_path / "copy"), "--statistics", "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    after = load_manifest(tmp_path / "copy")
    np.testing.assert_allclose(after.mean, shown["mean"])
    assert shown["fingerprint"] == after.fingerprint() != raw_dataset.fingerprint()
