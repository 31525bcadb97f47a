"""The dense form is fit for a GPU, as far as a machine without one can tell: kernels, lowering, bytes moved."""

from __future__ import annotations

import re
import time

import jax
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
    # One program for both stages.
    assert compiled == 1


def test_the_search_for_kernels_finds_what_is_missing():
    graph = tf.function(lambda table, place: tf.gather(table, place)).get_concrete_function(
        tf.TensorSpec([9], tf.uint8), tf.TensorSpec([3], tf.int32)
    )
    gather = next(node for node in graph.graph.as_graph_def().node if node.op == "GatherV2")
    assert not any(kernels_of(gather))


@pytest.mark.xla
@pytest.mark.parametrize("fill", [None, (128.0,) * 3])
def test_the_loop_lowers_for_a_gpu(fill):
    loop = apply._compiled_loop(tuple(OPS.values()), fill, "nearest")
    assert "ENTRY" in lowered(loop, [*specs(tf.uint8, 2), tf.TensorSpec([], tf.int32)])


def lowered(compiled, arguments):
    ir = compiled.experimental_get_compiler_ir(*arguments)
    return ir(stage="hlo", device_name=None, platform_name="GPU")


@pytest.mark.xla
def test_the_dense_form_has_no_branch_and_only_the_loops_that_it_says():
    """Over the stages; and, where ops read statistics, over the blocks of images that drew one."""
    reading = [name for name in NAMES if OPS[name].needs in ("luma", "extrema", "histogram")]
    for names, stages, loops in ((NAMES, 1, 1), (NAMES, 2, 2), ([n for n in NAMES if n not in reading], 1, 0)):
        compiled = dense.compiled_stages(tuple(OPS[name] for name in names), (128.0,) * 3, "nearest")
        text = lowered(compiled, specs(tf.uint8, stages))
        assert not re.search(r"\bconditional\(", text)
        assert len(re.findall(r"\bwhile\(", text)) == loops


@pytest.mark.xla
def test_rand_augment_moves_few_bytes():
    """What XLA's cost analysis counts, in bytes per byte of the image, as XLA:CPU fuses it.

    Not what a GPU moves, which fuses otherwise. A loop's body counts once; a block is a quarter of the batch, and three
    of the fourteen ops read statistics.
    """
    ops = tuple(OPS[name] for name in FIFTEEN if name not in ("invert", "solarize_add"))
    one, two = (moved(ops, stages) for stages in (1, 2))
    assert one < 10
    # Both stages, and the copies of what the loop carries.
    assert two + one < 24
    assert moved(tuple(op for op in ops if op.family != "lookup"), 1) < 2.5


def moved(ops, stages):
    compiled = dense.compiled_stages(ops, (128.0,) * 3, "nearest")
    arguments = [tf.TensorSpec([BATCH, 224, 224, 3], tf.uint8), *specs(tf.uint8, stages)[1:]]
    text = compiled.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")
    return bytes_accessed(jax.devices("cpu")[0].client, text) / (BATCH * 224 * 224 * 3)


@pytest.mark.xla
def test_no_op_takes_long_to_lower():
    """auto_contrast took 5 s: XLA evaluated what one conditional gives to another, element by element."""

    def seconds(name):
        loop = apply._compiled_loop((OPS["identity"], OPS[name]), (128.0,) * 3, "nearest")
        arguments = [
            tf.TensorSpec([BATCH, 224, 224, 3], tf.uint8),
            *specs(tf.uint8, 2)[1:],
            tf.TensorSpec([], tf.int32),
        ]
        loop.get_concrete_function(*arguments)
        begin = time.process_time()
        lowered(loop, arguments)
        return time.process_time() - begin

    usual = max(seconds("equalize"), 0.1)
    assert {name: spent for name in FIFTEEN[1:] if (spent := seconds(name)) > 5 * usual} == {}


def bytes_accessed(client, text):
    # A private part of jaxlib, which alone counts for a program of TensorFlow's. Where it is gone, the test fails:
    # then another way to count has to be found.
    from jaxlib import xla_client

    module = xla_client.hlo.hlo_module_from_text(text)
    return xla_client._xla.hlo_module_cost_analysis(client, module)["bytes accessed"]
