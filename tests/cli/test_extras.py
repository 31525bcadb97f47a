"""A plain installation: each verb works, or says in one line which extra to install."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from strange_images import STRANGE

from tfpipe.cli import VERBS
from tfpipe.errors import EXTRAS, MissingExtra, how_to_install, require_extra
from tfpipe.format.manifest import Manifest

ROOT = Path(__file__).parents[2]
PLAIN_CORE = ROOT / "tests/support/plain_core.py"
# The module of each package whose name is another.
MODULES = {
    "apache-beam": "apache_beam", "tensorflow-hub": "tensorflow_hub", "pillow": "PIL", "scikit-image": "skimage",
    "nvidia-ml-py": "pynvml",
}  # fmt: skip
NO_MODULES = {"setuptools", "tfpipe"}
# Extras of those who work on tfpipe, or that join others.
NOT_FOR_USERS = {"dev", "docs", "all"}


def test_the_command_for_every_package_of_an_extra_is_known() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {name: text.split("\n") for name, text in config["options.extras_require"].items()}
    found = set()
    for extra, lines in extras.items():
        if extra in NOT_FOR_USERS:
            continue
        for line in filter(None, lines):
            package = re.split(r"[\[<>=!~ ]", line)[0]
            if package not in NO_MODULES:
                module = MODULES.get(package, package)
                assert EXTRAS[module] in extras, module
                assert any(package in other for other in extras[EXTRAS[module]]), module
                found.add(module)
    assert len(found) > 10
    assert set(EXTRAS.values()) <= set(extras)


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"^A search takes optuna \(.+\); pip install 'tfpipe\[search\]'$") as caught:
        require_extra("A search", "json", "optuna")
    assert isinstance(caught.value, ImportError)
    assert caught.value.exit_code == 3
    require_extra("Nothing", "json")
    assert [how_to_install(name) for name in ("sklearn.ensemble", "json")] == ["pip install scikit-learn", ""]


def test_every_verb_of_a_plain_installation_works_or_names_its_extra(raw_dataset: Manifest, tmp_path: Path) -> None:
    dataset, shards = str(raw_dataset.directory), str(raw_dataset.directory / "*.tfrecord")
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/x.tif").write_bytes(STRANGE["colour.tif"][1])
    # The verb's arguments, and the extra that it takes; None: it works.
    verbs: dict[str, tuple[list[str], str | None]] = {
        "convert": (["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")], "beam"),
        "inspect": ([dataset], None),
        "check": ([dataset], None),
        "report": ([dataset, "-o", str(tmp_path / "r.html")], "report"),
        "show": ([dataset, "--index", "0"], None),
        "show ": ([dataset, "--index", "0", "-o", str(tmp_path / "s.png")], "report"),
        "gallery": (["-o", str(tmp_path / "g.html"), "--only", "invert"], "report"),
        "gallery ": (["-o", str(tmp_path / "g"), "--only", "invert"], "report"),
        "repair": ([dataset, "--output", str(tmp_path / "repaired")], None),
        "export": ([str(tmp_path / "repaired")], None),
        "index": ([shards, "--output", str(tmp_path / "index")], None),
        "bench": ([dataset, "--image_size=8", "--batch_size=4", "--variants=plain"], None),
        "bench ": ([dataset, "--plot", str(tmp_path / "b.svg")], "report"),
        "search": (["bayesian", dataset, "--image_size=8"], "search"),
        "search  ": (["population", dataset, "--image_size=8"], "search"),
        "doctor": ([], None),
        "demo": (["--output", str(tmp_path / "demo")], "demo"),
        "version": ([], None),
    }
    assert {name.strip() for name in verbs} == set(VERBS) - {"tune", "serve"}  # tune is bench's; serve never ends
    commands = [[name.strip(), *arguments] for name, (arguments, _) in verbs.items()]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    done = subprocess.run([sys.executable, PLAIN_CORE, tmp_path / "commands.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command, (code, out, err), (_, extra) in zip(commands, json.loads(done.stdout), verbs.values(), strict=True):
        if extra is None:
            assert (code, err) == (0, ""), (command, code, err)
            assert out, command
        else:
            assert (code, out) == (3, ""), (command, code, out, err)
            assert len(err.splitlines()) == 1, (command, err)
            assert f"pip install 'tfpipe[{extra}]'" in err, (command, err)
