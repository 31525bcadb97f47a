"""The options of a conversion as one frozen value. Loads neither Beam nor TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tfpipe.errors import UsageError
from tfpipe.format.schema import LABEL_KINDS, PAYLOADS, load_schema
from tfpipe.format.sharding import DEFAULT_SPLIT, DEFAULT_TARGET_BYTES, split_bounds
from tfpipe.images.probe import DEFAULT_MAX_PIXELS, ImageHeader
from tfpipe.images.sizes import RESIZES, as_size
from tfpipe.images.transcode import Transcoding

DTYPES = ("float32", "float16", "uint8")
SPLIT_FOLDERS = ("auto", "yes", "no")
TRANSCODES = ("png", "none")
SIXTEEN_BITS = ("high", "scale")
RANGES = ("0,1", "0,255", "-1,1")
BOX_ORDERS = ("xyxy", "xywh")
DEFAULT_QUALITY = 90
_OLD = {"transcode": "png", "sixteen_bit": "high"}


@dataclass(frozen=True)
class Shrink:
    """How images are re-encoded.

    Attributes:
      max_side: the longest side that stays, in pixels; None keeps every size.
      quality: of the JPEG files, 1 to 100.
    """

    max_side: int | None
    quality: int = DEFAULT_QUALITY

    def size(self, header: ImageHeader) -> tuple[int, int] | None:
        """The (height, width) that an image gets; None where it keeps its bytes."""
        height, width = header.upright_size
        if self.max_side is None:
            return height, width
        longest = max(height, width)
        if longest <= self.max_side:
            return None
        scale = self.max_side / longest
        return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
      input: a folder with a folder per class, a listing, or another kind in beam_jobs.sources.READS; or a URL of one.
      output: the folder to write, or a URL such as gs://bucket/photos_tfrecord.
      payload: "raw", "decoded" or "embedding".
      split: fractions by split; None takes the default, or the split folders of the input.
      target_bytes: the target size of each shard.
      seed: of the split and the order.
      labels: a file with one class name a line; None takes the names that occur, sorted.
      masks: a folder that mirrors the input's, with a mask file for each image; None where there are none, or where a
        column of the listing names them.
      label_kind: "class", one class name a record; "multi", any number of them; "number", a float for regression;
        "none", no label.
      file_column, label_column, split_column, group_column: the columns of a listing; None goes by their names.
        split_column "none" takes no column for the split; label_column may name several columns of 0 and 1.
      label_separator: what stands between several labels of a cell.
      box_order: "xyxy" or "xywh": the numbers of a listing's boxes; None goes by the columns' names.
      image_root: the folder that a listing's relative paths start from; None is its own folder.
      split_folders: whether folders and files named by split words say the splits: "auto" where all are, "yes", "no".
      image_size: (height, width) of decoded images, or one number for a square; None keeps each image's size.
      schema: a JSON file with the schema of TFRecords that others wrote; None infers it.
      resize: "pad", "stretch" or "crop".
      mask_fill: what "pad" puts around a mask, and what the reader then takes by default: 0 to 255.
      dtype: of decoded images.
      model: for embedding: a SavedModel folder, a .keras file, a keras.applications name, or a TF-Hub handle.
      model_range: the values the model takes: "0,1", "0,255" or "-1,1"; None depends on the kind of model.
      max_side: re-encode larger raw images so that their longer side has this many pixels; None keeps their size.
      quality: of re-encoded JPEG files; given alone, every image is re-encoded.
      max_rejected: how many inputs may be refused: a count such as "10", or a share such as "1%".
      max_pixels: images with more are refused.
      transcode: "png" re-encodes what Pillow reads and TensorFlow does not, or reads wrongly; "none" refuses it.
      sixteen_bit: of 16 bits of gray, "high" keeps the upper 8, "scale" gives 255 * v / the file's largest value.
      verify: "decode" decodes every raw image; "none" reads headers and end markers.
      threads: how many images are decoded at once, per worker.
      limit: take only this many inputs, the first; of a folder, round robin over the classes.
      dry_run: plan, and write nothing.
      resume: go on with an unfinished conversion.
      overwrite: replace the contents of the output folder.
      fsync: shards are on the disk before the manifest names them. Without it a power cut may leave a manifest whose
        shards are not there; a killed process does no harm either way.
      beam_args: Beam's pipeline options.
    """

    input: str
    output: str
    payload: str = "raw"
    split: Mapping[str, float] | None = None
    target_bytes: int = DEFAULT_TARGET_BYTES
    seed: int = 0
    labels: str | None = None
    masks: str | None = None
    split_folders: str = "auto"
    schema: str | None = None
    label_kind: str = "class"
    file_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    label_separator: str | None = None
    box_order: str | None = None
    image_root: str | None = None
    image_size: tuple[int, int] | None = None
    resize: str = "pad"
    mask_fill: int = 0
    dtype: str = "float32"
    model: str | None = None
    model_range: str | None = None
    max_side: int | None = None
    quality: int | None = None
    max_rejected: str = "1%"
    max_pixels: int = DEFAULT_MAX_PIXELS
    transcode: str = "png"
    sixteen_bit: str = "high"
    verify: str = "none"
    threads: int = 1
    limit: int | None = None
    dry_run: bool = False
    resume: bool = False
    overwrite: bool = False
    fsync: bool = True
    beam_args: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, allowed in (
            ("payload", PAYLOADS),
            ("label_kind", LABEL_KINDS),
            ("split_folders", SPLIT_FOLDERS),
            ("resize", RESIZES),
            ("dtype", DTYPES),
            ("transcode", TRANSCODES),
            ("sixteen_bit", SIXTEEN_BITS),
            ("verify", ("none", "decode")),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} is {getattr(self, name)!r}; it takes one of {list(allowed)}.")
        for name in ("target_bytes", "max_pixels", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be at least 1.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; it must be at least 1.")
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _checked_size(self.image_size))
        if self.resume and self.overwrite:
            raise UsageError("--resume goes on with what is there, --overwrite replaces it; take one of the two.")
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"--seed is {self.seed}; it must be in [0, 2**64).")
        if self.sixteen_bit != "high" and self.transcode == "none":
            raise UsageError(
                f"--sixteen_bit {self.sixteen_bit} re-encodes files, --transcode none forbids it; take one of the two."
            )
        split_bounds(self.fractions)
        rejected_limit(self.max_rejected, 0)
        if self.labels is not None and self.label_kind in ("number", "none"):
            raise UsageError(f"--labels lists class names; with --label_kind {self.label_kind} there are none.")
        self._check_columns()
        self._check_payload()

    def _check_columns(self) -> None:
        if self.split_column not in (None, "none"):
            for name, value in (("group_column", self.group_column), ("split", self.split)):
                if value is not None:
                    raise UsageError(f"--split_column and --{name} both assign splits; take one of the two.")
        if self.label_column is not None and self.label_kind == "none":
            raise UsageError("--label_column names a label; with --label_kind none there are none.")
        if self.label_separator is not None and (self.label_kind != "multi" or not self.label_separator):
            raise UsageError("--label_separator is the text between several labels, which takes --label_kind multi.")
        if self.box_order not in (None, *BOX_ORDERS):
            raise UsageError(f"--box_order is {self.box_order!r}; it takes one of {list(BOX_ORDERS)}.")

    def _check_payload(self) -> None:
        if self.payload == "embedding" and not self.model:
            raise UsageError(
                "--payload embedding needs --model: a SavedModel folder, a .keras file, a "
                "keras.applications name, or a TF-Hub handle."
            )
        if self.payload != "embedding" and (self.model or self.model_range):
            raise UsageError(f"--model and --model_range go with --payload embedding, not {self.payload}.")
        if self.payload == "raw" and self.image_size:
            raise UsageError("--image_size goes with --payload decoded or embedding; raw keeps each file as it is.")
        if self.payload != "raw" and self.verify != "none":
            raise UsageError(f"--verify goes with --payload raw; {self.payload} decodes every image anyway.")
        if self.payload == "embedding" and self.masks:
            raise UsageError("--masks goes with --payload raw or decoded; an embedding has no pixels.")
        if self.payload != "raw" and (self.max_side or self.quality):
            raise UsageError(
                f"--max_side and --quality go with --payload raw; for {self.payload} there is --image_size."
            )
        if not 0 <= self.mask_fill <= 255:
            raise UsageError(f"--mask_fill is {self.mask_fill}; a mask holds 0 to 255.")
        if self.payload != "decoded" and self.mask_fill:
            raise UsageError(
                f"--mask_fill goes with --payload decoded, whose masks get their size here, not {self.payload}; "
                "for raw records, make_dataset(mask_fill=...) says what surrounds a mask."
            )
        if self.max_side is not None and self.max_side < 1:
            raise UsageError(f"--max_side is {self.max_side}; it must be at least 1.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality is {self.quality}; it must be in [1, 100].")
        if self.model_range is not None and self.model_range not in RANGES:
            raise UsageError(f"--model_range is {self.model_range!r}; it takes one of {list(RANGES)}.")

    @property
    def fractions(self) -> Mapping[str, float]:
        """The fractions in force where the source does not assign splits itself."""
        return DEFAULT_SPLIT if self.split is None else self.split

    @property
    def shrink(self) -> Shrink | None:
        """How raw images are re-encoded; None where they keep their bytes."""
        if self.max_side is None and self.quality is None:
            return None
        return Shrink(self.max_side, DEFAULT_QUALITY if self.quality is None else self.quality)

    @property
    def transcoding(self) -> Transcoding:
        """How files are taken that TensorFlow does not read."""
        return Transcoding(self.max_pixels, self.transcode == "png", self.sixteen_bit)

    @property
    def needs_tensorflow(self) -> bool:
        """Whether the job decodes pixels; raw records are packed without TensorFlow."""
        return self.payload != "raw" or self.verify == "decode" or self.shrink is not None

    def recorded(self) -> dict[str, Any]:
        """The options that change bytes, as the manifest records them. Paths are left out: they change no byte."""
        options: dict[str, Any] = {
            "payload": self.payload,
            "split": dict(self.fractions),
            "target_bytes": self.target_bytes,
        }
        options |= {"seed": self.seed, "max_pixels": self.max_pixels, "limit": self.limit}
        # What was added later only where it differs: datasets that were written before are found to be the same.
        options |= {
            name: getattr(self, name) for name in ("transcode", "sixteen_bit") if getattr(self, name) != _OLD[name]
        }
        if self.label_kind != "class":
            options["label_kind"] = self.label_kind
        columns = ("file_column", "label_column", "split_column", "group_column", "label_separator", "box_order")
        options |= {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        if self.split_folders != "auto":
            options["split_folders"] = self.split_folders
        if self.schema:
            options["schema"] = load_schema(self.schema).to_json()
        if self.payload == "raw":
            options["verify"] = self.verify
            if self.shrink is not None:
                options |= {"max_side": self.shrink.max_side, "quality": self.shrink.quality}
        else:
            options |= {"image_size": list(self.image_size) if self.image_size else None, "resize": self.resize}
        if self.payload == "decoded":
            options["dtype"] = self.dtype
            if self.mask_fill:
                options["mask_fill"] = self.mask_fill
        return options


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        return as_size(size, "--image_size")
    except ValueError as error:
        raise UsageError(str(error)) from error


def rejected_limit(text: str, listed: int) -> int:
    """How many of the listed inputs may be refused, by a count or a percentage.

    Raises:
      UsageError: the text is neither.
    """
    part = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if part:
        return int(Fraction(part[1]) * listed / 100)
    if text.isdecimal():
        return int(text)
    raise UsageError(f"--max_rejected is {text!r}; it takes a count such as 10, or a share such as 1%.")


def read_labels(path: str) -> tuple[str, ...]:
    """The class names that a labels file lists, one a line.

    Raises:
      UsageError: no such file, or a line is blank or occurs twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--labels {path!r} can't be read: {error}.") from error
    names = [line.strip() for line in lines]
    for number, name in enumerate(names, 1):
        if not name:
            raise UsageError(f"{path}:{number}: the line is blank; every line is a class name.")
        if names.index(name) != number - 1:
            raise UsageError(
                f"{path}:{number}: the class {name!r} occurs twice, first in line {names.index(name) + 1}."
            )
    if not names:
        raise UsageError(f"--labels {path!r} lists no classes.")
    return tuple(names)
