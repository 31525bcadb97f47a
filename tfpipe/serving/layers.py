"""The Keras layer that makes a model take image files as they are, and prepares them as its training data was.

inputs = keras.Input((), dtype="string", name="image_bytes")
served = keras.Model(inputs, model(layers.Preprocess("photos_tfrecord", image_size=224)(inputs)))
served.export("served")      # a SavedModel: bytes in, classes out; docs/serving.md
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras
import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.images.graph_probe import read_header
from tfpipe.reader.crops import Crop
from tfpipe.serving.preparation import Task, prepare_like
from tfpipe.tf_internals import fail_unless


@keras.saving.register_keras_serializable("tfpipe")
class Preprocess(keras.layers.Layer):
    """The images of a batch of files: decoded, turned, resized and scaled as make_dataset does in evaluation.

    Takes strings [B] or [B, 1], whole files; returns the images [B, height, width, channels] that make_dataset yields
    of a dataset like the one named, pixel for pixel: uint8, or floats where decoded records hold them; for a dataset of
    embeddings, what their model takes. JPEG, PNG, GIF, BMP and WebP are decoded and turned by EXIF and XMP; the kinds
    of file that conversion re-encodes by Pillow are refused by name, in an InvalidArgumentError: tfpipe.load_image
    takes them. Bytes that are cut or broken are refused by the decoder.

    The layer keeps what it has to know of the dataset, not the dataset. It works on the CPU, and only with TensorFlow:
    in the input pipeline on any backend of Keras, inside a model on TensorFlow's.

    Args:
      like: the dataset, by its folder or manifest; a mapping: as get_config has it.
      image_size, resize, antialias, channels: as for make_dataset; None for resize is "pad".
      dct: "exact" or "fast", as in ReadOptions.
      name: of the layer.
      dtype: Keras's policy; it changes nothing here.

    Raises:
      FileNotFoundError: there is no such dataset.
      ValueError: an argument is out of range, or neither image_size nor the dataset says one size.
    """

    def __init__(
        self,
        like: str | os.PathLike[str] | Manifest | Mapping[str, Any],
        *,
        image_size: int | Sequence[int] | None = None,
        resize: str | Crop | None = None,
        antialias: bool = True,
        channels: int = 3,
        dct: str = "exact",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype, autocast=False, trainable=False)
        task = Task(image_size, resize, antialias, channels, dct)
        self.preparation = prepare_like(like, task)
        if self.preparation.size is None:
            raise UsageError(f"The images of {like} differ in size; give image_size=(height, width).")
        # XLA knows no strings: Keras asks this before it compiles a model.
        self.supports_jit = False
        self.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras's call; past it for TensorFlow's tensors on another backend, in the input pipeline."""
        if keras.backend.backend() != "tensorflow" and tf.is_tensor(inputs):
            return self.call(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any) -> tf.Tensor:
        """The images of files, strings [B] or [B, 1]."""
        with tf.device("CPU:0"):
            files = tf.reshape(tf.convert_to_tensor(inputs, tf.string), [-1])
            numbers = tf.range(tf.size(files))
            shape, dtype = self.compute_output_shape(files.shape), self.preparation.dtype
            spec = tf.TensorSpec(shape[1:], dtype)
            return tf.map_fn(self._image, (numbers, files), fn_output_signature=spec)

    def _image(self, file: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        number, data = file
        header = read_header(data, sixteen_bit=self.preparation.stored.sixteen_bit)
        sentence = tf.strings.join(["file ", tf.strings.as_string(number), " of the batch: ", header.refusal])
        with tf.control_dependencies([fail_unless(tf.equal(header.refusal, ""), sentence)]):
            taken = tf.identity(data)
        return self.preparation.pixels(taken, jpeg_only=False, orientation=header.orientation)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(B, height, width, channels)."""
        return input_shape[0], *(self.preparation.size or ()), self.preparation.task.channels

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """The shape and dtype of the images."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.preparation.dtype)

    def get_config(self) -> dict[str, Any]:
        """The layer as plain values, without the dataset."""
        config = super().get_config()
        config.pop("trainable", None)
        return config | {"like": asdict(self.preparation.stored), **self.preparation.task.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preprocess:
        """The layer that `get_config` wrote."""
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        return cls(**config)
