"""tfpipe doctor, gallery and export on the command line."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.version import Version

from tfpipe.cli import doctor
from tfpipe.format.manifest import Manifest

Run = Callable[..., tuple[int, str, str]]


def test_doctor_s_document_has_versions_devices_and_limits(tfpipe: Run) -> None:
    import tensorflow as tf

    code, out, err = tfpipe("doctor", "--json")
    document = json.loads(out)
    assert (code, err, document["problems"]) == (0, "", [])
    assert Version(document["packages"]["tensorflow"]) == Version(tf.__version__)  # "2.22.0rc0" and "2.22.0-rc0"
    assert [device["kind"] for device in document["devices"]] == ["CPU"]
    assert document["cores"]["usable"] >= 1
    assert document["memory_bytes"]["machine"] > 1 << 28


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions of what is installed, to be changed."""
    found = dict.fromkeys((*doctor._CORE, "tfpipe"), "1.0")

    def version(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(doctor, "version", version)
    return found


def test_doctor_finds_two_kerases_and_says_what_to_do(tfpipe: Run, installed: dict[str, str]) -> None:
    installed["keras-nightly"] = "3.16.0.dev"
    code, out, _ = tfpipe("doctor")
    assert code == 3
    assert (
        "Problem: keras and keras-nightly lie over each other: pip uninstall keras keras-nightly, then pip install one"
        in out
    )


def test_a_keras_of_a_pre_release_is_a_keras(tfpipe: Run, installed: dict[str, str]) -> None:
    del installed["keras"]
    installed["keras-nightly"] = "3.16.0.dev"
    code, out, _ = tfpipe("doctor", "--json")
    document = json.loads(out)
    assert (code, document["packages"]["keras"], document["problems"]) == (0, "3.16.0.dev", [])


def test_a_tfpipe_that_is_not_installed_is_a_problem_and_no_crash(tfpipe: Run, installed: dict[str, str]) -> None:
    del installed["tfpipe"]
    code, out, _ = tfpipe("doctor")
    assert (code, out.count("Problem: ")) == (3, 1)
    assert "Problem: tfpipe is read from a folder and is not installed" in out


def test_doctor_names_each_missing_extra_with_the_command(
    tfpipe: Run, installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ['jinja2>=3.1; extra == "report"', 'pillow>=11; extra == "report"', 'fsspec; extra == "gcp"', "numpy>=2.0"]
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    installed["pillow"] = "12"
    code, out, _ = tfpipe("doctor")
    assert code == 0
    assert "pip install 'tfpipe[report]' (missing: jinja2)" in out
    assert "pip install 'tfpipe[gcp]' (missing: fsspec)" in out
    assert "tfpipe[aws]" not in out


@pytest.mark.parametrize(
    ("files", "memory", "cores"),
    [
        ({"memory.max": "2000000000\n", "cpu.max": "150000 100000\n"}, 2_000_000_000, 1.5),
        ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, None, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1"}, None, None),
        (
            {
                "memory/memory.limit_in_bytes": "1000000000",
                "cpu/cpu.cfs_quota_us": "200000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            1_000_000_000,
            2.0,
        ),
        ({}, None, None),
    ],
)
def test_doctor_reads_the_limits_of_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], memory: int | None, cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(doctor, "_CGROUP", tmp_path)
    assert (doctor._container_memory(), doctor._container_cores()) == (memory, cores)


def test_gallery_writes_a_page_or_pictures(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    code, out, _ = tfpipe("gallery", "-o", tmp_path / "g.html", "--only", "invert,rotate", "--json")
    assert (code, json.loads(out)) == (0, {"written": [str(tmp_path / "g.html")], "names": ["invert", "rotate"]})
    assert (tmp_path / "g.html").read_text().count("<img") == 2
    arguments = ["--only", "invert", "--image", photos / "cat/000.jpg"]
    code, _, _ = tfpipe("gallery", "-o", tmp_path / "pictures", *arguments)
    assert (code, [path.name for path in (tmp_path / "pictures").iterdir()]) == (0, ["invert.png"])
    code, _, err = tfpipe("gallery", "-o", tmp_path / "g.html", "--only", "rotat")
    assert code == 2
    assert "No op or policy ['rotat']; there are [" in err


def test_export_writes_beside_the_dataset_and_says_what(tfpipe: Run, raw_dataset: Manifest, tmp_path: Path) -> None:
    folder = shutil.copytree(raw_dataset.directory, tmp_path / "out")
    code, out, _ = tfpipe("export", folder)
    shards = sum(len(split.shards) for split in raw_dataset.splits.values())
    assert code == 0
    assert out.splitlines()[-1] == f"{folder}/dali_index: {shards} index files"
    assert (folder / "croissant.json").exists()
    code, _, err = tfpipe("export", folder, "--to", "parquet")
    assert (code, err) == (
        2,
        "tfpipe: error: --to is 'parquet'; it takes some of ['tfds', 'croissant', 'dali'], with commas between them.\n",
    )


def test_convert_exports_what_also_names(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    arguments = ["--input", photos, "--output", tmp_path / "out", "--also"]
    code, _, err = tfpipe("convert", *arguments, "tfsd")
    assert (code, (tmp_path / "out").exists()) == (2, False)
    assert "--also is 'tfsd'" in err
    code, out, _ = tfpipe("convert", *arguments, "tfds", "--json")
    assert (code, json.loads(out)["also"]) == (0, ["features.json", "dataset_info.json", "label_int.labels.txt"])
