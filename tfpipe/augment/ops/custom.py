"""A user's own op, which takes part in every policy and in both forms.

@augment.augmentation(range=(0.0, 80.0), mirrored=True)
def warmer(images, values):
    shift = values[:, None, None, None] * tf.constant([1.0, 0.0, -1.0])
    return tf.cast(tf.clip_by_value(tf.cast(images, tf.float32) + shift, 0, 255), tf.uint8)

transform = augment.rand_augment(2, 9, ops=[*augment.OPS.values(), warmer])
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfpipe.augment.ops.op import Op

Pixels = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def augmentation(
    *, range: tuple[float, float] = (0.0, 0.0), mirrored: bool = False, name: str | None = None
) -> Callable[[Pixels], Op]:
    """Makes an Op of a function: f(images uint8 [B, H, W, C], values float32 [B]) -> images.

    The function is traced inside an XLA program: it must compile, keep shape and dtype, and treat each image by
    itself. It sees one image at a time in the loop form, the whole batch in the dense one.

    Args:
      range: the value at magnitude 0, the weakest, and at 1.
      mirrored: whether a policy draws the value's sign at random.
      name: what policies and errors call it; the function's name by default.
    """
    low, high = range

    def decorate(function: Pixels) -> Op:
        if isinstance(function, Op):
            raise TypeError(f"{function.name!r} is an op already.")
        title = name or function.__name__

        @functools.wraps(function)
        def checked(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            made = tf.convert_to_tensor(function(images, values))
            if made.dtype != images.dtype or not made.shape.is_compatible_with(images.shape):
                # Said here, since branches of different shapes would end the whole process inside XLA.
                raise ValueError(
                    f"Op {title!r} must keep shape and dtype of the images; it made {made.dtype.name} {made.shape} of "
                    f"{images.dtype.name} {images.shape}."
                )
            return made

        return Op(title, "custom", checked, float(low), float(high), mirrored)

    return decorate
