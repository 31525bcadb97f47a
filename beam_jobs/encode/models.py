"""Models that turn images into vectors, for the embedding payload.

Only the user names a model, since loading one runs its code. Its digest and the preprocessing go into the
manifest, so that the vectors can be made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import digest_file
from tfpipe.images.scales import scale_pixels

# Images go through the model in batches of this size, always full, so that a vector does not depend on its neighbours.
BATCH = 32


@dataclass(frozen=True)
class Embedder:
    """A loaded model.

    Attributes:
      name: as the manifest records it; never a path of this machine.
      digest: over the model's files or weights.
      image_size: (height, width) that it takes.
      scale: "0,1", "0,255", "-1,1", or the keras.applications module whose preprocess_input is applied.
      function: float32 [32, H, W, 3] after scaling, or uint8 where the model takes that, to [32, ...].
      takes_uint8: whether the function takes uint8 values.
    """

    name: str
    digest: str
    image_size: tuple[int, int]
    scale: str
    function: Callable[[Any], Any]
    takes_uint8: bool = False

    def embed(self, images: np.ndarray) -> np.ndarray:
        """The vectors of up to 32 images.

        Args:
          images: uint8 [B, H, W, 3].

        Returns:
          float32 [B, D]: the output of the model, flattened.
        """
        full = np.zeros((BATCH, *images.shape[1:]), np.uint8)
        full[: len(images)] = images
        outputs = self.function(full if self.takes_uint8 else self._scaled(full))
        if isinstance(outputs, Mapping | list | tuple):
            raise UsageError(f"--model {self.name!r} gives {len(outputs)} outputs; it has to give one, the vectors.")
        return np.asarray(outputs, np.float32).reshape(BATCH, -1)[: len(images)]

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        return scale_pixels(images.astype(np.float32), self.scale)

    def recorded(self) -> dict[str, Any]:
        """The model as the manifest records it."""
        size = list(self.image_size)
        scale = "uint8" if self.takes_uint8 else self.scale
        return {"name": self.name, "digest": self.digest, "image_size": size, "scale": scale, "batch": BATCH}


def load_embedder(handle: str, image_size: tuple[int, int] | None, scale: str | None) -> Embedder:
    """The model that a handle names.

    Args:
      handle: a .keras file, a SavedModel folder, a keras.applications name such as "MobileNetV2", or a TF-Hub handle.
      image_size: the size to feed; None takes the model's own.
      scale: the values to feed; None takes "0,1", TF-Hub's convention, or the preprocessing of keras.applications.

    Raises:
      UsageError: there is no such model, or its image size has to be given.
      SetupError: an extra is missing, or the model can't be fetched.
    """
    handle = handle.removeprefix("file://")
    if handle.endswith(".keras"):
        return _load_keras(handle, image_size, scale)
    if _looks_like_application(handle):
        return _load_application(handle, image_size, scale)
    return _load_saved_model(handle, image_size, scale)


def _load_keras(path: str, image_size: tuple[int, int] | None, scale: str | None) -> Embedder:
    import keras

    if not os.path.isfile(path):
        raise UsageError(f"--model {path!r}: there is no such file.")
    model = keras.models.load_model(path, compile=False)
    size = image_size or _model_size(path, model.input_shape)
    return Embedder(Path(path).name, digest_file(path), size, scale or "0,1", _compile(model))


def _compile(model: Any) -> Callable[[Any], Any]:
    """The model's inference as one call: layer by layer MobileNetV2 takes twice the time, and two threads gain less."""
    import keras

    def infer(batch: Any) -> Any:
        return model(batch, training=False)

    if keras.backend.backend() != "tensorflow":
        return infer
    import tensorflow as tf

    return tf.function(infer, autograph=False)


def _looks_like_application(handle: str) -> bool:
    return "/" not in handle and not os.path.exists(handle)


def _load_application(name: str, image_size: tuple[int, int] | None, scale: str | None) -> Embedder:
    import keras

    build = getattr(keras.applications, name, None)
    if not callable(build):
        known = sorted(n for n in dir(keras.applications) if n[0].isupper())
        raise UsageError(f"--model {name!r} is no file, no folder and no keras.applications model; those are {known}.")
    module = next(m for m in vars(keras.applications).values() if hasattr(m, "preprocess_input") and hasattr(m, name))
    shape = (*image_size, 3) if image_size else None
    try:
        model = build(include_top=False, pooling="avg", input_shape=shape)
    except Exception as error:
        raise SetupError(
            f"--model {name}: its weights could not be loaded ({error}); put them into ~/.keras/models first, "
            "or give a SavedModel folder."
        ) from error
    size = image_size or _model_size(name, model.input_shape, fallback=(224, 224))
    digest = xxhash.xxh3_128()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    scale = scale or module.__name__.rpartition(".")[2]
    return Embedder(name, f"xxh3_128:{digest.hexdigest()}", size, scale, _compile(model))


def _load_saved_model(handle: str, image_size: tuple[int, int] | None, scale: str | None) -> Embedder:
    import tensorflow as tf

    try:
        import tensorflow_hub as hub
    except ImportError as error:
        raise SetupError(f"--model {handle!r} needs TensorFlow Hub: pip install 'tfpipe[hub]' ({error}).") from error
    path = _resolve(hub, handle)
    try:
        loaded = hub.load(path)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UsageError(f"--model {handle!r} is not a valid SavedModel: {error}") from error
    function = _callable_of(loaded, handle)
    spec = _input_spec(function, loaded)
    size = image_size or _model_size(handle, None if spec is None else spec.shape.as_list())
    is_path = os.path.isdir(handle)
    name = Path(os.path.abspath(handle)).name if is_path else handle
    takes_uint8 = scale is None and spec is not None and spec.dtype.name == "uint8"
    return Embedder(name, _digest_folder(path), size, scale or "0,1", function, takes_uint8)


def _resolve(hub: Any, handle: str) -> str:
    if os.path.isdir(handle):
        return handle
    if "://" not in handle:
        raise UsageError(f"--model {handle!r}: there is no such folder.")
    try:
        return hub.resolve(handle)
    except Exception as error:  # URLError, HTTPError, tarfile errors: the error depends on the scheme of the handle.
        cache = os.environ.get("TFHUB_CACHE_DIR", "the temporary folder (set TFHUB_CACHE_DIR to keep it)")
        raise SetupError(
            f"--model {handle!r} could not be fetched ({error}); it was not in {cache}. "
            "Fetch it where there is a network, unpack it, and give the folder."
        ) from error


def _callable_of(loaded: Any, handle: str) -> Callable[[Any], Any]:
    if callable(loaded):
        return lambda batch: loaded(batch)
    signature = getattr(loaded, "signatures", {}).get("serving_default")
    if signature is None:
        raise UsageError(f"--model {handle!r} can't be called and has no serving_default signature.")
    name = next(iter(signature.structured_input_signature[1]))

    def call(batch: Any) -> Any:
        import tensorflow as tf

        (vectors,) = signature(**{name: tf.constant(batch)}).values()
        return vectors

    return call


def _input_spec(function: Callable[[Any], Any], loaded: Any) -> Any:
    """The TensorSpec of the images that a SavedModel takes, where it says so."""
    for signature in getattr(loaded, "signatures", {}).values():
        specs = list(signature.structured_input_signature[1].values())
        if len(specs) == 1:
            return specs[0]
    return None


def _model_size(handle: str, shape: Any, fallback: tuple[int, int] | None = None) -> tuple[int, int]:
    if shape is not None and len(shape) == 4 and shape[1] and shape[2]:
        return int(shape[1]), int(shape[2])
    if fallback is None:
        raise UsageError(f"--model {handle!r} does not say which image size it takes; give --image_size H,W.")
    return fallback


def _digest_folder(path: str) -> str:
    digest = xxhash.xxh3_128()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        # fingerprint.pb holds a random number of each export.
        if file.name != "fingerprint.pb":
            digest.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return f"xxh3_128:{digest.hexdigest()}"
