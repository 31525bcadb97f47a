"""The dense form is fit for a GPU, as far as a machine without one can tell: kernels, lowering, bytes moved."""

from __future__ import annotations

import re

import pytest
import tensorflow as tf
from cases import FIFTEEN, NAMES
from tensorflow.python.framework import kernels

from tfpipe.augment.forms import apply, dense
from tfpipe.augment.forms.apply import apply_choices
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS

BATCH, HEIGHT, WIDTH = 4, 24, 32
# What holds or passes on values, and computes none.
STRUCTURE = {"Const", "Placeholder", "Identity", "NoOp", "_Arg", "_Retval"}
FAMILIES = dense.families([OPS[name] for name in NAMES])


def graph_of(names, form, dtype=tf.uint8, interpolation="nearest"):
    ops = [OPS[name] for name in names]

    def apply_all(images, places, values, seeds):
        return apply_choices(images, Choices(places, values, seeds), ops, form=form, interpolation=interpolation)

    return tf.function(apply_all, autograph=False).get_concrete_function(*specs(dtype, 2))


def specs(dtype, num_stages=None):
    """Of images and of choices, or of one stage of them."""
    stages = [] if num_stages is None else [num_stages]
    return [
        tf.TensorSpec([BATCH, HEIGHT, WIDTH, 3], dtype),
        tf.TensorSpec([BATCH, *stages], tf.int32),
        tf.TensorSpec([BATCH, *stages, 4]),
        tf.TensorSpec([BATCH, *stages, 2], tf.int32),
    ]


def kernels_of(node):
    """The GPU kernels of a node's type that its dtypes fit, without host memory for data."""
    for kernel in kernels.get_registered_kernels_for_op(node.op).kernel:
        fits = all(
            node.attr[limit.name].type in limit.allowed_values.list.type
            for limit in kernel.constraint
            if limit.name in node.attr
        )
        if kernel.device_type == "GPU" and fits and not kernel.host_memory_arg:
            yield kernel


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [tf.uint8, tf.float16])
def test_every_operation_of_the_dense_form_has_a_gpu_kernel_or_is_compiled(dtype, interpolation):
    graph = graph_of(NAMES, "dense", dtype, interpolation).graph
    library = {function.signature.name: function for function in graph.as_graph_def().library.function}
    compiled = 0
    for node in graph.as_graph_def().node:
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            called = library[node.attr["f"].func.name]
            assert called.attr["_XlaMustCompile"].b, node.name
            compiled += 1
        else:
            assert node.op in STRUCTURE or any(kernels_of(node)), f"{node.op} {node.name}"
    # Every pass of two stages, and what cuts the choices into stages.
    assert compiled == 2 * len(FAMILIES) + 1


def test_the_search_for_kernels_finds_what_is_missing():
    graph = tf.function(lambda table, place: tf.gather(table, place)).get_concrete_function(
        tf.TensorSpec([9], tf.uint8), tf.TensorSpec([3], tf.int32)
    )
    gather = next(node for node in graph.graph.as_graph_def().node if node.op == "GatherV2")
    assert not any(kernels_of(gather))


@pytest.mark.xla
@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_pass_of_the_dense_form_lowers_for_a_gpu(family, dtype):
    compiled = dense.compiled_pass(family, tuple(OPS.values()), (128.0,) * 3, "nearest")
    assert "ENTRY" in lowered(compiled, specs(dtype))


@pytest.mark.xla
def test_bilinear_warps_and_the_loop_lower_for_a_gpu():
    compiled = dense.compiled_pass("warp", tuple(OPS.values()), None, "bilinear")
    assert "ENTRY" in lowered(compiled, specs(tf.uint8))
    loop = apply._compiled_loop(tuple(OPS.values()), (128.0,) * 3, "nearest")
    assert "ENTRY" in lowered(loop, [*specs(tf.uint8, 2), tf.TensorSpec([], tf.int32)])


def lowered(compiled, arguments):
    ir = compiled.experimental_get_compiler_ir(*arguments)
    return ir(stage="hlo", device_name=None, platform_name="GPU")


@pytest.mark.xla
def test_the_dense_form_has_no_branch_and_no_loop():
    for family in FAMILIES:
        compiled = dense.compiled_pass(family, tuple(OPS.values()), (128.0,) * 3, "nearest")
        text = lowered(compiled, specs(tf.uint8))
        assert not re.search(r"\b(conditional|while)\(", text), family


@pytest.mark.xla
def test_a_stage_of_rand_augment_moves_few_bytes():
    """What XLA's cost analysis counts, in bytes per byte of the image, for each pass as XLA:CPU fuses it."""
    import jax

    client = jax.devices("cpu")[0].client
    ops = tuple(OPS[name] for name in FIFTEEN if name not in ("invert", "solarize_add"))
    moved = {}
    for family in dense.families(ops):
        compiled = dense.compiled_pass(family, ops, (128.0,) * 3, "nearest")
        arguments = [tf.TensorSpec([BATCH, 224, 224, 3], tf.uint8), *specs(tf.uint8)[1:]]
        text = compiled.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")
        moved[family] = bytes_accessed(client, text) / (BATCH * 224 * 224 * 3)
    assert set(moved) == {"lookup", "color", "stencil", "warp"}
    # Each reads the image and writes it; the histogram, and what XLA:CPU does not fuse with it, cost the most.
    assert moved["color"] < 2.2
    assert moved["stencil"] < 8
    assert moved["warp"] < 8
    assert moved["lookup"] < 28


def bytes_accessed(client, text):
    # A private part of jaxlib, which alone counts for a program of TensorFlow's. Where it is gone, the test fails:
    # then another way to count has to be found.
    from jaxlib import xla_client

    module = xla_client.hlo.hlo_module_from_text(text)
    return xla_client._xla.hlo_module_cost_analysis(client, module)["bytes accessed"]
