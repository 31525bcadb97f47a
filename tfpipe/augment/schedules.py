"""Population Based Augmentation: up to two ops an image, likelier and stronger from epoch to epoch.

pba("rcifar10")                     over batches that have an "epoch"
pba("rcifar10", recipe=True)        and what the published training has after it
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tfpipe.augment.conditional import compose
from tfpipe.augment.draw.selection import from_policies
from tfpipe.augment.ops.op import Op
from tfpipe.augment.policies import CIFAR_MEAN, PUBLISHED, keeps_transparency, published_fill
from tfpipe.augment.single import cutout, flip_left_right, pad_and_crop
from tfpipe.augment.transform import BatchTransform, Fill, OpTransform, Rendering, check_version, record_call
from tfpipe.policy import VERSION, Schedule, load_schedule

# The means of other data sets, in levels: of reduced SVHN 0.45163885, 0.4557915 and 0.48093327.
MEANS: dict[str, Fill] = {"rsvhn": (115, 116, 123)}


@record_call
def pba(
    schedule: Schedule | str | os.PathLike[str],
    *,
    num_epochs: int | None = None,
    epoch: int | None = None,
    flatten: bool = False,
    ops: Sequence[Op] = (),
    recipe: bool = False,
    fill: Fill | Literal["published"] = PUBLISHED,
    interpolation: str = "nearest",
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
    version: int = VERSION,
) -> OpTransform | BatchTransform:
    """Population Based Augmentation: a policy that changes with the epoch.

    What an op uncovered stays transparent until the last op, and then gets the fill (forms/transparency.py).

    Args:
      schedule: "rcifar10" (200 epochs) or "rsvhn" (160), a Schedule, or a JSON file of one.
      num_epochs: stretch the schedule over this number of epochs; None: as it is. After its end the last policy stays.
      epoch: take the policy of this epoch throughout; None: of batch["epoch"], an integer scalar.
      flatten: each image gets the policy of a random epoch; then the epoch has no part.
      ops: users' ops that the schedule names.
      recipe: whether that follows which the published training has after the policy: 4 pixels of padding and a crop,
        a flip left and right, and cutout of 16 px, all with the fill; for "rsvhn", which has none of them, nothing.
        Without it, as by default, the policy is all there is. (The published crop never takes the last of its nine
        offsets a side; this one does.)
      fill: "published" is the data set's mean in levels: (115, 116, 123) for "rsvhn", else (125, 122, 113), CIFAR-10's.
      interpolation: as for rand_augment.
      form: as for rand_augment.
      check_values: as for rand_augment.
      mask_fill: as for rand_augment.
      version: 1 fills what an op uncovers at once, before the next op.

    Raises:
      ValueError: the schedule is unknown or one of its ops is; when drawing, there is no epoch.
    """
    check_version(version)
    loaded = schedule if isinstance(schedule, Schedule) else load_schedule(schedule)
    if flatten and epoch is not None:
        raise ValueError(f"epoch is {epoch} and flatten is set; a flattened schedule has no epochs.")
    if epoch is not None:
        loaded.policy_at(epoch)
    stretched = loaded if num_epochs is None else loaded.stretched(num_epochs)
    policies = [segment.policy for segment in stretched.segments]
    lengths = [segment.epochs for segment in stretched.segments]
    arguments = {} if isinstance(schedule, str) else {"schedule": loaded}
    mean = published_fill(fill, MEANS.get(loaded.name, CIFAR_MEAN))
    transparent = version > 1 and all(map(keeps_transparency, policies))
    made = OpTransform(
        *from_policies(policies, lengths, ops, (None, None), epoch=epoch, flatten=flatten),
        Rendering(mean, interpolation, form, check_values, mask_fill, transparent),
        arguments=arguments,
    )
    if not recipe or loaded.name == "rsvhn":
        return made
    after = (
        pad_and_crop(4, fill=mean, form=form, mask_fill=mask_fill),
        flip_left_right(),
        cutout(16, fill=mean, form=form),
    )
    return replace(compose([made, *after]), arguments=arguments)
