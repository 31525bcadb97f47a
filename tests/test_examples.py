"""The examples run as they are printed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tfpipe.format.manifest import Manifest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
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
