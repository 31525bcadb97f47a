"""The command line of a conversion: its options, their help with examples, and the job that they describe."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from beam_jobs.job import (
    BOX_ORDERS,
    DEFAULT_QUALITY,
    DTYPES,
    RANGES,
    RESIZES,
    SIXTEEN_BITS,
    SPLIT_FOLDERS,
    TRANSCODES,
    Job,
)
from tfpipe.format.schema import LABEL_KINDS, PAYLOADS, parse_size
from tfpipe.format.sharding import DEFAULT_TARGET_BYTES, parse_split
from tfpipe.images.probe import DEFAULT_MAX_PIXELS
from tfpipe.maintenance.export import KINDS

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

EXAMPLES = """examples:
  tfpipe convert --input photos --output photos_tfrecord
      photos/CLASS/**/file to raw shards: 80 % train, 10 % validation, 10 % test
  tfpipe convert --input photos --output out --split_folders yes
      photos/training_set/CLASS/**/file and photos/test_set/CLASS/**/file keep their splits; "no" takes them as classes
  tfpipe convert --input labels.csv --output out --payload decoded --image_size 224,224 --dtype uint8
      a listing of FILE,LABEL rows, to pixels
  tfpipe convert --input labels.jsonl --output out --label_kind multi
      rows such as {"file": "a.jpg", "label": ["cat", "dog"], "width": 640}; .parquet alike
  tfpipe convert --input train.csv --image_root train --output out
      ids such as 0a1b2c find train/0a1b2c.jpg; columns go by their names, file and label, split, mask, xmin ... ymax
  tfpipe convert --input train.csv --image_root train --output out --label_kind multi --label_separator '|'
      several labels in a cell; columns of 0 and 1, one for each class, need no separator
  tfpipe convert --input scans.csv --output out --label_column finding --group_column patient
      all records of a patient in one split
  tfpipe convert --input odd.csv --output out --file_column shot --label_column species --split_column none
      columns of unusual names; records are split by their hash
  tfpipe convert --input boxes.csv --output out --box_order xyxy
      a row for each box, whose column bbox holds two corners
  tfpipe convert --input captions.csv --output out --label_kind none
      images without labels; the captions ride along
  tfpipe convert --input 'shards/*.tar' --output out
      WebDataset archives, read in place; photos.zip with CLASS/**/file alike
  tfpipe convert --input data --output out
      Parquet files with images inside, as the Hugging Face hub has them
  tfpipe convert --input annotations/instances_train.json --output out --label_kind multi
      COCO: images beside the file, boxes and box_labels as additional features
  tfpipe convert --input old_dataset --output out --target_bytes 100MB
      a tfpipe dataset with new shards
  tfpipe convert --input 'old/*.tfrecord' --output out
      TFRecords of others, as `tfpipe index` takes them: class ids, boxes and all other features are kept
  tfpipe convert --input cifar_train.tfrecords --output out --schema schema.json
      where nothing tells what the features are, such as the size of pixels: {"payload": "decoded", "features": [
      {"name": "image", "dtype": "uint8", "shape": [32, 32, 3], "codec": "pixels", "stored_as": "img_raw"},
      {"name": "label_int", "dtype": "int64", "stored_as": "label"}]}
  tfpipe convert --input photos --output out --masks masks
      photos/cat/1.jpg with its mask masks/cat/1.png; in a listing, a column `mask` names the file
  tfpipe convert --input photos --output out --masks masks --payload decoded --image_size 224 --mask_fill 255
      pixels and masks of 224 x 224, the aspect kept; 255 around the masks
  tfpipe convert --input gs://bucket/photos --output gs://bucket/out
      folders in a store: gs:// takes tfpipe[gcp], s3:// takes tfpipe[aws]
  tfpipe convert --input photos --output out --payload embedding --model saved_model_folder
  tfpipe convert --input photos --output out --max_side 256 --quality 90
      smaller JPEG files, for faster reading
  tfpipe convert --input scans --output out --sixteen_bit scale
      TIFF, ICO, GIF, WebP with alpha and their like become PNG; here the levels of 16-bit gray are spread over 0..255
  tfpipe convert --input photos --output out --transcode none
      they are refused, and listed in rejected.jsonl
  tfpipe convert --input photos --output out --dry_run
      what would be written
  tfpipe convert --input photos --output out --resume
      goes on where a killed run stopped
  tfpipe convert --input photos --output out --also tfds,croissant,dali
      then tfds.builder_from_directory("out") reads it, too
  tfpipe convert --input photos --output /scratch/out --no_fsync
      does not wait for the disk: for data that is soon converted again
  tfpipe convert --input photos --output out -- --runner=FlinkRunner --flink_master=localhost:8081
      Beam's own options follow the --
"""


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
    folders_help = "whether folders and files named train, Testing, dev, ... are splits (default: auto: where all are)"
    add("--split_folders", choices=SPLIT_FOLDERS, default="auto", help=folders_help)
    target_help = "of a shard (default: 64MB)"
    add("--target_bytes", type=parse_bytes, default=DEFAULT_TARGET_BYTES, metavar="SIZE", help=target_help)
    add("--seed", type=int, default=0, help="of the split and the order (default: 0)")
    kind_help = "one class a record, any number of them, or a number for regression (default: class)"
    add("--label_kind", choices=LABEL_KINDS, default="class", help=kind_help)
    add("--file_column", metavar="C", help="the column of a listing that names the file (default: by its name)")
    add("--label_column", metavar="C", help="the column with the label; of --label_kind multi also 0/1 columns: A,B")
    add("--split_column", metavar="C", help="the column with the split; none: no column (default: by its name)")
    add("--group_column", metavar="C", help="records with the same cell, a patient's say, fall into one split")
    add("--label_separator", metavar="S", help="between several labels of one cell, such as '|' or ' '")
    add("--box_order", choices=BOX_ORDERS, help="the four numbers of a box: two corners, or a corner and the sides")
    add("--image_root", metavar="DIR", help="where a listing's files are (default: its own folder)")
    add("--labels", metavar="FILE", help="class names, one a line, in the order of their ids (default: sorted)")
    add("--schema", metavar="FILE", help="a JSON schema of TFRecords that others wrote (default: inferred)")
    add("--masks", metavar="DIR", help="a folder with a mask for each image: the input's folders, .png or .bmp")
    size_help = "resize to this; N is a square (default: keep each size; for embedding: the model's)"
    add("--image_size", type=_argument(parse_size), metavar="H,W|N", help=size_help)
    add("--resize", choices=RESIZES, default="pad", help="how images that have another shape fit (default: pad)")
    fill_help = "what surrounds a padded mask, such as 255 for pixels that a loss ignores (default: 0)"
    add("--mask_fill", type=int, default=0, metavar="N", help=fill_help)
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
    transcode_help = "TIFF, GIF with transparency, WebP with alpha and their like: to PNG, or refused (default: png)"
    add("--transcode", choices=TRANSCODES, default="png", help=transcode_help)
    sixteen_help = "of 16-bit gray, keep the high 8 bits, or 255 v / the file's largest value (default: high)"
    add("--sixteen_bit", choices=SIXTEEN_BITS, default="high", help=sixteen_help)
    verify_help = "decode each raw image too (default: headers and end markers)"
    add("--verify", choices=("none", "decode"), default="none", help=verify_help)
    cores = os.cpu_count() or 1
    add("--threads", type=int, default=cores, metavar="N", help="per worker (default: the number of cores)")
    add("--limit", type=int, metavar="N", help="take the first N inputs only; of a folder, from each class in turn")
    add("--dry_run", action="store_true", help="show the plan, write nothing")
    add("--resume", action="store_true", help="go on with a conversion that was stopped")
    add("--overwrite", action="store_true", help="replace the dataset there once the new one is complete")
    hasty_help = "do not wait for the disk: faster, but a power cut may leave a dataset whose shards are not there"
    add("--no_fsync", dest="fsync", action="store_false", help=hasty_help)
    add("--also", metavar="KIND,...", help=f"then write what others need to read it, of {', '.join(KINDS)}")


def job_from_arguments(arguments: argparse.Namespace, beam_args: tuple[str, ...]) -> Job:
    """The job that parsed arguments describe."""
    names = [name for name in Job.__dataclass_fields__ if name != "beam_args"]
    return Job(**{name: getattr(arguments, name) for name in names}, beam_args=beam_args)
