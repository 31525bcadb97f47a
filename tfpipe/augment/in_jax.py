"""Transforms inside a program of JAX: TensorFlow lowers them, and JAX compiles them with what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfpipe.augment.forms.apply import lowering_for


def call_in_jax(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of tensors gives for JAX's arrays or tracers, in structures of them; it must compile.

    Under jax.jit it becomes part of the program, for JAX's platform, whatever devices TensorFlow sees.
    """
    import jax
    from jax.experimental import jax2tf

    compiled = tf.function(function, jit_compile=True, autograph=False)
    with lowering_for(accelerator=jax.default_backend() != "cpu"):
        return jax2tf.call_tf(compiled, has_side_effects=False)(*arguments)
