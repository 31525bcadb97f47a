"""Transforms as JSON and back: what a saved layer keeps of them.

    document = to_json(compose([flip_left_right(), rand_augment(2, 9)]))
    transform = from_json(document)

A transform is written as the call that made it: {"kind": "tfpipe transform 1", "factory": "rand_augment", "arguments":
{"n": 2, ...}}. A user's op is written by its name, and handed in again when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfpipe.augment import (
    augmix,
    conditional,
    crops,
    deepaugment,
    following,
    mixing,
    mosaics,
    pasting,
    policies,
    schedules,
    single,
    switch,
    views,
)
from tfpipe.augment.ops.op import Op
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.transform import BatchTransform, OpTransform, Transform, added_arguments
from tfpipe.policy import POLICY_KIND, SCHEDULE_KIND, Policy, Schedule, table_of_version

_TRANSFORM_KIND, _OP_KIND = "tfpipe transform 1", "tfpipe op 1"
FACTORIES: dict[str, Callable[..., Transform]] = {
    factory.__name__: factory
    for factory in (
        *(conditional.choose_n, conditional.compose, conditional.one_of, conditional.select, conditional.sometimes),
        *(crops.center_crop, crops.normalize, crops.random_crop, crops.random_resized_crop),
        *(augmix.aug_mix, deepaugment.deep_augment, mixing.cutmix, mixing.mixup, switch.mixup_or_cutmix),
        *(
            following.drop_boxes,
            following.keypoint_pairs,
            mosaics.mosaic,
            pasting.copy_paste,
            views.repeated,
            views.views,
        ),
        *(policies.auto_augment, policies.policy, policies.rand_augment, policies.trivial_augment_wide, schedules.pba),
        *(single.coarse_dropout, single.color_jitter, single.cutout, single.flip_left_right, single.flip_up_down),
        *(single.gamma, single.gaussian_blur, single.gaussian_noise, single.grayscale, single.op),
        *(single.pad_and_crop, single.salt_and_pepper, single.zoom),
    )
}


def to_json(transform: Transform) -> dict[str, Any]:
    """The transform as plain JSON values.

    Raises:
      ValueError: an argument is a tensor, a function or another thing that JSON cannot hold.
    """
    if not isinstance(transform, OpTransform | BatchTransform):
        raise ValueError(f"{transform!r} is not a transform of tfpipe.augment; only those can be written down.")
    return _written(transform)


def from_json(document: Any, *, ops: Mapping[str, Op] | None = None) -> Transform:
    """The transform that `to_json` wrote.

    Args:
      document: from `to_json`.
      ops: users' ops by name.

    Raises:
      ValueError: the document names a transform or an op that is unknown, or arguments that it refuses.
    """
    made = _read(document, dict(ops or {}))
    if not isinstance(made, OpTransform | BatchTransform):
        raise ValueError(f"Not a transform: {document!r}.")
    return made


def named_ops(document: Any) -> set[str]:
    """The names of the ops, users' ones among them, that a document holds as objects."""
    if isinstance(document, Mapping):
        if document.get("kind") == _OP_KIND:
            return {str(document.get("name"))}
        document = list(document.values())
    if isinstance(document, list | tuple):
        return set().union(*map(named_ops, document))
    return set()


def _written(value: Any) -> Any:
    if isinstance(value, OpTransform | BatchTransform):
        return {"kind": _TRANSFORM_KIND, "factory": value.factory, "arguments": _written(value.arguments)}
    if isinstance(value, Policy | Schedule):
        return value.to_json()
    if isinstance(value, Op):
        return {"kind": _OP_KIND, "name": value.name}
    if isinstance(value, Mapping):
        return {str(name): _written(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_written(part) for part in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{value!r} cannot be written as JSON.")


def _read(value: Any, ops: Mapping[str, Op]) -> Any:
    if isinstance(value, list | tuple):
        return [_read(part, ops) for part in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind == _TRANSFORM_KIND:
        return _made(value, ops)
    if kind == _OP_KIND:
        return _known_op(value.get("name"), ops)
    if kind in (POLICY_KIND, SCHEDULE_KIND):
        return (Policy if kind == POLICY_KIND else Schedule).from_json(value)
    return {name: _read(part, ops) for name, part in value.items()}


def _made(document: Mapping[str, Any], ops: Mapping[str, Op]) -> Transform:
    name = document.get("factory")
    if not isinstance(name, str) or name not in FACTORIES:
        raise ValueError(f"Unknown transform {name!r}; known transforms: {sorted(FACTORIES)}.")
    arguments = _read(document.get("arguments", {}), ops)
    if not isinstance(arguments, dict):
        raise ValueError(f"The arguments of transform {name!r} are {arguments!r}; they must be an object.")
    if name == "op" and (missing := sorted({"name", "values"} - set(arguments))):
        raise ValueError(f"Transform 'op' lacks the arguments {missing}.")
    # What was written before an argument came: as it was then.
    arguments = {**added_arguments(FACTORIES[name]), **arguments}
    if arguments.get("version") == 1 and "table" in arguments and isinstance(arguments["table"], str):
        arguments["table"] = table_of_version(arguments["table"], 1)
    try:
        if name == "op":
            return single.op(arguments.pop("name"), *arguments.pop("values"), **arguments)
        return FACTORIES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"Transform {name!r} takes no such arguments: {error}.") from error


def _known_op(name: Any, ops: Mapping[str, Op]) -> Op:
    known = {**OPS, **ops}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"Unknown op {name!r}; known ops: {sorted(known)}; a user's op is handed in by name.")
    return known[name]
