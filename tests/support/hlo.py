"""Programs lowered for a GPU on a machine without one: their text, and whether they convert only what fits.

A small interval analysis over HLO text: for every value the range that it provably lies in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jaxlib import xla_client

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
LINE = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w\-]+)\((?P<rest>.*)$")
# What hands on elements of its first operands, and computes none.
MOVING = {"broadcast", "reshape", "transpose", "slice", "copy", "reverse", "dynamic-slice", "gather", "bitcast"}
JOINING = {"concatenate", "pad", "dynamic-update-slice"}


def serialized(compiled: Any, arguments: list) -> bytes:
    """The HLO module of a compiled tf.function, lowered for a GPU."""
    made = compiled.experimental_get_compiler_ir(*arguments)
    return made(stage="hlo_serialized", device_name=None, platform_name="GPU")


def lowered(compiled: Any, arguments: list) -> str:
    """The text of that module, constants in full."""
    return xla_client.XlaComputation(serialized(compiled, arguments)).as_hlo_text(print_large_constants=True)


def run_by_jax(compiled: Any, arguments: list) -> np.ndarray:
    """What that module gives where JAX's own XLA compiles and runs it, on the CPU."""
    device = jax.devices("cpu")[0]
    module = xla_client.XlaComputation(serialized(compiled, [tf.TensorSpec.from_tensor(one) for one in arguments]))
    text = xla_client._xla.mlir.xla_computation_to_mlir_module(module)
    program = device.client.compile_and_load(text, xla_client.DeviceList((device,)), xla_client.CompileOptions())
    results = program.execute_sharded([jax.device_put(one.numpy(), device) for one in arguments])
    return np.asarray(results.disassemble_into_single_device_arrays()[0][0])


@dataclass
class Instruction:
    name: str
    dtype: str
    op: str
    operands: list[str]
    rest: str
    users: list[Instruction] = field(default_factory=list)


def computations(text: str) -> Iterator[dict[str, Instruction]]:
    """The instructions of each computation, by name, in the order of the text: operands come first."""
    found: dict[str, Instruction] = {}
    for line in text.splitlines():
        if line.rstrip().endswith("{") and "=" not in line.split("(")[0]:
            found = {}
        elif line.strip() == "}":
            yield found
        elif match := LINE.match(line):
            operands = [name for name in re.findall(r"%?([\w.\-]+)", match["rest"].split("), ")[0]) if name in found]
            made = Instruction(match["name"], match["type"].split("[")[0], match["op"], operands, match["rest"])
            for name in operands:
                found[name].users.append(made)
            found[made.name] = made


def limits(dtype: str) -> Range:
    """The values that an integer dtype of HLO holds; of a float one, any."""
    if dtype == "pred":
        return 0, 1
    if not re.fullmatch(r"[su]\d+", dtype):
        return ANY
    bits = int(dtype[1:])
    return (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def constants(rest: str) -> Range:
    numbers = [float(word) for word in re.findall(r"-?(?:\d[\d.]*(?:e[+\-]?\d+)?|inf)", rest.split("), ")[0])]
    numbers += [1.0] * ("true" in rest) + [0.0] * ("false" in rest)
    return (min(numbers), max(numbers)) if numbers else ANY


def times(a: Range, b: Range) -> Range:
    products = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(products), max(products)


def is_guard(bitcast: Instruction) -> bool:
    """Whether the bits of a float are only added to, and read as that float again (see levels.unfused)."""
    return all(
        user.op == "add" and user.users and all(last.op == "bitcast-convert" for last in user.users)
        for user in bitcast.users
    )


def ranges(instructions: dict[str, Instruction]) -> dict[str, Range]:
    """The range of each instruction; where nothing is known, what its dtype holds."""
    found: dict[str, Range] = {}
    for name, one in instructions.items():
        low, high = range_of(one, [found[operand] for operand in one.operands], instructions)
        least, most = limits(one.dtype)
        # An integer that may have wrapped around is anything.
        found[name] = (low, high) if least <= low and high <= most else (least, most)
    return found


def range_of(one: Instruction, given: list[Range], instructions: dict[str, Instruction]) -> Range:
    if one.op == "constant":
        return constants(one.rest)
    if one.op == "iota":
        return 0, 2**20  # a dimension's size: no image here is larger
    if one.op in MOVING or (one.op == "convert" and given):
        return tuple(math.trunc(x) if math.isfinite(x) and one.dtype[0] in "su" else x for x in given[0])
    if one.op in JOINING:
        used = given[:2] if one.op != "concatenate" else given
        return min(low for low, _ in used), max(high for _, high in used)
    if one.op == "select":
        return min(given[1][0], given[2][0]), max(given[1][1], given[2][1])
    if one.op == "clamp":
        (least, _), (low, high), (_, most) = given
        return max(least, min(low, most)), min(most, max(high, least))
    if one.op in ("maximum", "minimum"):
        pick = max if one.op == "maximum" else min
        return pick(given[0][0], given[1][0]), pick(given[0][1], given[1][1])
    return arithmetic(one, given)


def arithmetic(one: Instruction, given: list[Range]) -> Range:
    match one.op:
        case "add":
            return given[0][0] + given[1][0], given[0][1] + given[1][1]
        case "subtract":
            return given[0][0] - given[1][1], given[0][1] - given[1][0]
        case "multiply":
            return times(*given)
        case "negate":
            return -given[0][1], -given[0][0]
        case "abs":
            return 0.0, max(map(abs, given[0]))
        case "floor" | "ceil" | "round-nearest-even" | "round-nearest-afz":
            return tuple(math.floor(x) if math.isfinite(x) else x for x in (given[0][0], given[0][1] + 0.5))
        case "cosine" | "sine" | "sign":
            return -1.0, 1.0
        case "and" if one.dtype != "pred" and given[1][0] == given[1][1] >= 0:
            return 0, given[1][1]
        case "not" if one.dtype[0] == "u":
            return limits(one.dtype)
        case "shift-right-logical" if given[1][0] == given[1][1] and given[0][0] >= 0:
            return 0, given[0][1] / 2 ** given[1][0]
        case "shift-right-arithmetic" if given[1][0] == given[1][1]:
            return tuple(math.floor(x / 2 ** given[1][0]) for x in given[0])
        case "divide" if given[1][0] >= 1:
            return min(given[0][0], 0.0), max(given[0][1], 0.0)
        case "remainder" if given[1][0] >= 1 and given[0][0] >= 0:
            return 0, given[1][1]
    return limits(one.dtype)


def undefined_conversions(text: str) -> list[str]:
    """The conversions to an integer of what may not fit, and the floats whose bits are used as numbers."""
    problems = []
    for instructions in computations(text):
        found = ranges(instructions)
        for one in instructions.values():
            if one.op == "convert" and one.dtype[0] in "su":
                (low, high), (least, most) = found[one.operands[0]], limits(one.dtype)
                if low <= least - 1 or high >= most + 1:
                    source = instructions[one.operands[0]]
                    problems.append(f"{source.dtype} {source.op} in [{low}, {high}] to {one.dtype} ({one.name})")
            elif one.op == "bitcast-convert" and one.dtype[0] in "su" and not is_guard(one):
                problems += [
                    f"the bits of a float as {one.dtype} ({one.name})"
                    for operand in one.operands
                    if instructions[operand].dtype[0] == "f"
                ]
    return problems
