"""The options of a conversion as one frozen value, and its command line. Loads neither Beam nor TensorFlow."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tfpipe.errors import UsageError
from tfpipe.format.schema import LABEL_KINDS, PAYLOADS, parse_size
from tfpipe.format.sharding import DEFAULT_SPLIT, DEFAULT_TARGET_BYTES, parse_split, split_bounds
from tfpipe.images.probe import DEFAULT_MAX_PIXELS, ImageHeader

RESIZES = ("pad", "stretch", "crop")
DTYPES = ("float32", "float16", "uint8")
RANGES = ("0,1", "0,255", "-1,1")
DEFAULT_QUALITY = 90

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

EXAMPLES = """examples:
  tfpipe convert --input photos --output photos_tfrecord
      photos/CLASS/**/file to raw shards: 80 % train, 10 % validation, 10 % test
  tfpipe convert --input labels.csv --output out --payload decoded --image_size 224,224 --dtype uint8
      a listing of FILE,LABEL rows, to pixels
  tfpipe convert --input labels.jsonl --output out --label_kind multi
      rows such as {"file": "a.jpg", "label": ["cat", "dog"], "width": 640}; .parquet alike
  tfpipe convert --input 'shards/*.tar' --output out
      WebDataset archives, read in place; photos.zip with CLASS/**/file alike
  tfpipe convert --input data --output out
      Parquet files with images inside, as the Hugging Face hub has them
  tfpipe convert --input annotations/instances_train.json --output out --label_kind multi
      COCO: images beside the file, boxes and box_labels as additional features
  tfpipe convert --input old_dataset --output out --target_bytes 100MB
      a tfpipe dataset with new shards; 'old/*.tfrecord' gives it new splits too
  tfpipe convert --input photos --output out --masks masks
      photos/cat/1.jpg with its mask masks/cat/1.png; in a listing, a column `mask` names the file
  tfpipe convert --input gs://bucket/photos --output gs://bucket/out
      folders in a store: gs:// takes tfpipe[gcp], s3:// takes tfpipe[aws]
  tfpipe convert --input photos --output out --payload embedding --model saved_model_folder
  tfpipe convert --input photos --output out --max_side 256 --quality 90
      smaller JPEG files, for faster reading
  tfpipe convert --input photos --output out --dry_run
      what would be written
  tfpipe convert --input photos --output out --resume
      goes on where a killed run stopped
  tfpipe convert --input photos --output out -- --runner=FlinkRunner --flink_master=localhost:8081
      Beam's own options follow the --
"""


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
      label_kind: "class", one class name a record; "multi", any number of them; "number", a float for regression.
      image_size: (height, width) of decoded images; None keeps each image's size.
      resize: "pad", "stretch" or "crop".
      dtype: of decoded images.
      model: for embedding: a SavedModel folder, a .keras file, a keras.applications name, or a TF-Hub handle.
      model_range: the values the model takes: "0,1", "0,255" or "-1,1"; None depends on the kind of model.
      max_side: re-encode larger raw images so that their longer side has this many pixels; None keeps their size.
      quality: of re-encoded JPEG files; given alone, every image is re-encoded.
      max_rejected: how many inputs may be refused: a count such as "10", or a share such as "1%".
      max_pixels: images with more are refused.
      verify: "decode" decodes every raw image; "none" reads headers and end markers.
      threads: how many images are decoded at once, per worker.
      limit: take only this many inputs, the first; of a folder, round robin over the classes.
      dry_run: plan, and write nothing.
      resume: go on with an unfinished conversion.
      overwrite: replace the contents of the output folder.
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
    label_kind: str = "class"
    image_size: tuple[int, int] | None = None
    resize: str = "pad"
    dtype: str = "float32"
    model: str | None = None
    model_range: str | None = None
    max_side: int | None = None
    quality: int | None = None
    max_rejected: str = "1%"
    max_pixels: int = DEFAULT_MAX_PIXELS
    verify: str = "none"
    threads: int = 1
    limit: int | None = None
    dry_run: bool = False
    resume: bool = False
    overwrite: bool = False
    beam_args: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, allowed in (
            ("payload", PAYLOADS),
            ("label_kind", LABEL_KINDS),
            ("resize", RESIZES),
            ("dtype", DTYPES),
            ("verify", ("none", "decode")),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} is {getattr(self, name)!r}; it takes one of {list(allowed)}.")
        for name in ("target_bytes", "max_pixels", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be at least 1.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; it must be at least 1.")
        if self.image_size is not None and min(self.image_size) < 1:
            raise UsageError(f"--image_size is {self.image_size}; both sides must be at least 1.")
        if self.resume and self.overwrite:
            raise UsageError("--resume goes on with what is there, --overwrite replaces it; take one of the two.")
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"--seed is {self.seed}; it must be in [0, 2**64).")
        split_bounds(self.fractions)
        rejected_limit(self.max_rejected, 0)
        if self.labels is not None and self.label_kind == "number":
            raise UsageError("--labels lists class names; with --label_kind number there are none.")
        self._check_payload()

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
        if self.label_kind != "class":
            options["label_kind"] = self.label_kind
        if self.payload == "raw":
            options["verify"] = self.verify
            if self.shrink is not None:
                options |= {"max_side": self.shrink.max_side, "quality": self.shrink.quality}
        else:
            options |= {"image_size": list(self.image_size) if self.image_size else None, "resize": self.resize}
        if self.payload == "decoded":
            options["dtype"] = self.dtype
        return options


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


def parse_bytes(text: str) -> int:
    """The bytes that "64MB", "10KB" or "1000000" names; MB is 10**6."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B?)", text.strip(), re.IGNORECASE)
    unit = match[2].upper() if match else "?"
    unit += "B" if unit in ("K", "M", "G") else ""
    if match is None or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64MB")
    return int(Fraction(match[1]) * _UNITS[unit])


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser for argparse, which replaces the message of any other error than ArgumentTypeError by its own."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a conversion to a parser."""
    add = parser.add_argument
    input_help = "a folder with a folder per class, a listing, archives, Parquet, COCO or TFRecords; see the examples"
    add("--input", required=True, metavar="PATH", help=input_help)
    add("--output", required=True, metavar="DIR", help="the folder to write, or a URL such as gs://bucket/out")
    add("--payload", choices=PAYLOADS, default="raw", help="file bytes, pixels, or a model's vectors (default: raw)")
    split_help = "default: train=0.8,validation=0.1,test=0.1, or the input's own split folders"
    add("--split", type=_argument(parse_split), metavar="NAME=PART,...", help=split_help)
    target_help = "of a shard (default: 64MB)"
    add("--target_bytes", type=parse_bytes, default=DEFAULT_TARGET_BYTES, metavar="SIZE", help=target_help)
    add("--seed", type=int, default=0, help="of the split and the order (default: 0)")
    kind_help = "one class a record, any number of them, or a number for regression (default: class)"
    add("--label_kind", choices=LABEL_KINDS, default="class", help=kind_help)
    add("--labels", metavar="FILE", help="class names, one a line, in the order of their ids (default: sorted)")
    add("--masks", metavar="DIR", help="a folder with a mask for each image: the input's folders, .png or .bmp")
    size_help = "resize to this (default: keep each size; for embedding: the model's)"
    add("--image_size", type=_argument(parse_size), metavar="H,W", help=size_help)
    add("--resize", choices=RESIZES, default="pad", help="how images that have another shape fit (default: pad)")
    add("--dtype", choices=DTYPES, default="float32", help="of decoded images (default: float32, in [0, 1])")
    model_help = "a SavedModel folder, .keras file, keras.applications name or TF-Hub handle; loading one runs its code"
    add("--model", metavar="HANDLE", help=model_help)
    add("--model_range", choices=RANGES, help="the pixel values the model takes (default: by the kind of model)")
    add("--max_side", type=int, metavar="N", help="re-encode larger raw images to N pixels on their longer side")
    quality_help = f"of re-encoded JPEG files (default: {DEFAULT_QUALITY}); alone, it re-encodes every image"
    add("--quality", type=int, metavar="Q", help=quality_help)
    add("--max_rejected", default="1%", metavar="N|P%", help="how many inputs may be refused (default: 1%%)")
    pixels_help = f"refuse larger images (default: {DEFAULT_MAX_PIXELS})"
    add("--max_pixels", type=int, default=DEFAULT_MAX_PIXELS, metavar="N", help=pixels_help)
    verify_help = "decode each raw image too (default: headers and end markers)"
    add("--verify", choices=("none", "decode"), default="none", help=verify_help)
    cores = os.cpu_count() or 1
    add("--threads", type=int, default=cores, metavar="N", help="per worker (default: the number of cores)")
    add("--limit", type=int, metavar="N", help="take the first N inputs only; of a folder, from each class in turn")
    add("--dry_run", action="store_true", help="show the plan, write nothing")
    add("--resume", action="store_true", help="go on with a conversion that was stopped")
    add("--overwrite", action="store_true", help="replace the dataset there once the new one is complete")


def job_from_arguments(arguments: argparse.Namespace, beam_args: tuple[str, ...]) -> Job:
    """The job that parsed arguments describe."""
    names = [name for name in Job.__dataclass_fields__ if name != "beam_args"]
    return Job(**{name: getattr(arguments, name) for name in names}, beam_args=beam_args)


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
