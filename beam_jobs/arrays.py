"""A dataset from NumPy arrays, such as keras.datasets gives them: no image files in between.

    (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    tfpipe.from_arrays(images, labels, "mnist", split={"train": 0.9, "validation": 0.1})
    tfpipe.from_arrays(test_images, test_labels, "mnist_test", split="test")

A source and a payload over the arrays: plan, shards and publishing are those of every conversion, in this process. So
split, order and bytes depend on keys and seed only, whatever the order of the rows. Loads neither TensorFlow nor Beam.
"""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from beam_jobs.encode.record import Encoded, Loaded, Packer
from beam_jobs.engines.locks import LOCK_NAME, lock_output
from beam_jobs.engines.staging import State, StoreState, open_state
from beam_jobs.job import Job
from beam_jobs.plan import Plan, RecordSize, list_piece, make_listing_scan, make_plan, shard_refs
from beam_jobs.publish import publish, remove_stale
from beam_jobs.shards import write_shard
from beam_jobs.sources import Ref
from beam_jobs.sources.arrays import Rows, check_images, check_keys, check_labels
from tfpipe import __version__
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import ImageSpec, record_schema
from tfpipe.format.sharding import DEFAULT_SPLIT, split_bounds
from tfpipe.images.moments import image_moments
from tfpipe.images.probe import ImageHeader
from tfpipe.storage import AnyPath, StorePath, is_url, local_path, to_path

# Images that are encoded together.
_BATCH_BYTES, _MOST_BATCH_RECORDS = 1 << 21, 1024


def from_arrays(
    images: npt.ArrayLike,
    labels: npt.ArrayLike | None,
    output: str | os.PathLike[str],
    *,
    split: Mapping[str, float] | str = DEFAULT_SPLIT,
    class_names: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Manifest:
    """Writes arrays as a dataset of decoded records, without Beam, in the memory of the arrays and of the keys.

    Args:
      images: uint8, or float32 in [0, 1]: [N, H, W, C], or [N, H, W] for gray, which is stored as [H, W, 1].
      labels: integers or texts [N] or [N, 1]; None where there are none: such records are read with labels=None.
      output: the folder to write, or a URL such as gs://bucket/mnist.
      split: fractions by split, which a hash of seed and key fills; or the name of the one split of all records.
      class_names: integers are indices into them, texts are among them. None takes those that occur: integers in
        their order, so that label_int equals them where they are 0 to n - 1, and texts sorted.
      keys: the unique name of each record; None takes the row's number, as "00000042".
      seed: of the split and the order, in [0, 2**64).
      overwrite: replace the dataset there once the new one is complete.

    Returns:
      The manifest of the new dataset. A split that got no record is named in a warning.

    Raises:
      UsageError: a ValueError: the arrays do not fit each other or the types above, or the output is not empty.
      SetupError: another process is writing there.
    """
    pixels = check_images(images)
    ids, names = check_labels(labels, class_names, len(pixels))
    rows = Rows(len(pixels), check_keys(keys, len(pixels)), ids, names, pixels[0].nbytes)
    folder = to_path(output if isinstance(output, StorePath) else _absolute(os.fspath(output)))
    height, width = pixels.shape[1:3]
    job = Job(
        input="arrays",
        output=str(folder),
        payload="decoded",
        split=_fractions(split),
        seed=_checked_seed(seed),
        dtype=pixels.dtype.name,
        image_size=(height, width),
        label_kind="none" if ids is None else "class",
    )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The output {folder} is a file; from_arrays takes a folder.")
    with lock_output(folder):
        _check_empty(folder, overwrite)
        try:
            manifest = _write(folder, job, rows, pixels)
        except BaseException:
            remove_stale(folder)
            raise
    empty = [name for name, share in job.fractions.items() if share and not manifest.num_records(name)]
    if empty:
        text = f"Of {len(pixels)} records none fell into split {empty}; give it a larger share, or leave it out."
        warnings.warn(text, stacklevel=2)
    return manifest


def _absolute(output: str) -> str:
    return output if is_url(output) else os.path.abspath(local_path(output))


def _fractions(split: Mapping[str, float] | str) -> dict[str, float]:
    """The fraction of each split.

    Raises:
      UsageError: a name or a fraction is none, or they do not sum to 1.
    """
    if isinstance(split, str):
        split = {split: 1.0}
    if not isinstance(split, Mapping) or not all(isinstance(name, str) for name in split):
        raise UsageError(f"split is {split!r}; it takes fractions by name, such as {DEFAULT_SPLIT}, or one name.")
    for name, share in split.items():
        if not isinstance(share, Real):
            raise UsageError(f"The fraction of split {name!r} is {share!r}; it must be in [0, 1].")
    fractions = {name: float(share) for name, share in split.items()}
    split_bounds(fractions)
    return fractions


def _checked_seed(seed: int) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise UsageError(f"seed is {seed!r}; it must be an integer in [0, 2**64).")
    return number


def _check_empty(folder: AnyPath, overwrite: bool) -> None:
    found = sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME) if folder.is_dir() else []
    if found and not overwrite:
        raise UsageError(
            f"The output {folder} is not empty, it has {found[0]!r}; overwrite=True replaces a dataset there."
        )
    if overwrite:
        remove_stale(folder)


def _write(folder: AnyPath, job: Job, rows: Rows, pixels: np.ndarray) -> Manifest:
    with open_state(folder) as state:
        runs = state.folder / "runs"
        runs.mkdir()
        scan = make_listing_scan(job, rows, str(runs), rows.class_names)
        list_piece(scan, 0, None)
        plan = make_plan(job, scan, RecordSize())
        recorded = _recorded(job, plan, pixels.shape[3])
        _write_shards(state, job, plan, pixels)
        return publish(folder, state.folder, job, plan, [], recorded)


def _recorded(job: Job, plan: Plan, channels: int) -> dict[str, Any]:
    """What made the dataset, as the manifest records it."""
    options = {name: value for name, value in job.recorded().items() if name not in ("max_pixels", "limit", "resize")}
    recorded: dict[str, Any] = {"options": {**options, "source": "arrays", "channels": channels}}
    recorded["versions"] = {"tfpipe": __version__, "numpy": np.__version__, "xxhash": xxhash.VERSION}
    identity = [recorded, plan.class_names, plan.splits, plan.shards, plan.source_digest]
    return {**recorded, "plan": xxhash.xxh3_128_hexdigest(json.dumps(identity, sort_keys=True).encode())}


def _write_shards(state: State, job: Job, plan: Plan, pixels: np.ndarray) -> None:
    _, height, width, channels = pixels.shape
    spec = ImageSpec(job.dtype, (height, width), channels=channels)
    schema = record_schema("decoded", image=spec, label_kind=job.label_kind)
    payload = ArrayPayload(pixels, Packer(job, plan, schema))
    for shard in plan.shards:
        refs, _ = shard_refs(str(state.folder / "runs"), shard)
        write_shard(state.folder, shard.name, refs, payload)
        if isinstance(state, StoreState):
            state.put_shard(shard.name)


@dataclass
class ArrayPayload:
    """The rows of an array as decoded records; see beam_jobs.encode.payloads.Payload.

    Attributes:
      pixels: uint8 or float32 [N, H, W, C].
      packer: makes the records.
    """

    pixels: np.ndarray
    packer: Packer
    small_batches_help: bool = False

    @property
    def batch_refs(self) -> int:
        """As many as come to 2 MB."""
        return max(1, min(_MOST_BATCH_RECORDS, _BATCH_BYTES // self.pixels[0].nbytes))

    def encode(self, refs: Sequence[Ref]) -> list[Any]:
        """A record for each reference, in order."""
        batch = np.ascontiguousarray(
            self.pixels[[int(ref.locator) for ref in refs]], self.pixels.dtype.newbyteorder("<")
        )
        height, width, channels = batch.shape[1:]
        header = ImageHeader("array", height, width, 1)
        # All images have one size: their sums are made in one go, and belong to the first.
        moments = [image_moments(batch), *[None] * (len(refs) - 1)]
        encoded: list[Encoded] = []
        for ref, image, sums in zip(refs, batch, moments, strict=True):
            values = {"image": image, "shape": (height, width, channels)}
            data = image.tobytes()
            loaded = Loaded(ref, data, header, data)
            encoded.append(self.packer.pack(loaded, values, size=(height, width), moments=sums))
        return encoded
