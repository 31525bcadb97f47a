"""tfpipe: from a heap of images to a training pipeline that never lets the accelerator wait.

    tfpipe convert --input photos --output photos_tfrecord

    import tfpipe
    train = tfpipe.make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224))
    model.fit(train)

Importing tfpipe loads neither TensorFlow nor Beam: the names below load their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_manifest": "tfpipe.format.manifest",
    "Manifest": "tfpipe.format.manifest",
    "index": "tfpipe.maintenance.adopt",
    # With the command line, the only way from tfpipe to beam_jobs.
    "from_arrays": "beam_jobs.arrays",
    "make_dataset": "tfpipe.reader.dataset",
    "load_image": "tfpipe.serving.files",
    "get": "tfpipe.serving.lookup",
    "class_weights": "tfpipe.reader.mixtures",
    "RandomResizedCrop": "tfpipe.reader.crops",
    "PaddedCrop": "tfpipe.reader.crops",
    "ReadOptions": "tfpipe.reader.options",
    "compile_cache": "tfpipe.augment.compiling",
    "Schema": "tfpipe.format.schema",
    "Feature": "tfpipe.format.schema",
}
_MODULES = ("augment", "callbacks", "layers", "policy", "regions", "search", "tiles", "timing")

__all__ = [*_HOMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"tfpipe.{name}")
    raise AttributeError(f"module 'tfpipe' has no attribute {name!r}; it has {sorted(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
