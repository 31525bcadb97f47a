"""Shows records as a model gets them: resized and, with --policy, augmented; as text, in the terminal, as a PNG."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.progress import start_tensorflow
from tfpipe.errors import UsageError, require_extra
from tfpipe.format.lookup import Place, find_key, list_shards, place_of_index, read_record, scan_records
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example

EXAMPLES = """examples:
  tfpipe show photos_tfrecord
      the first records of the first split, as text, and as images where the terminal has colours
  tfpipe show photos_tfrecord cat/001.jpg -o cat.png
  tfpipe show photos_tfrecord --index 17 --split validation
  tfpipe show photos_tfrecord --class cat --count 8 --image_size 224 --policy rand_augment -o cats.png
      eight cats, each as it is and augmented four times
"""
_SIDE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument("key", metavar="KEY", nargs="?", help="the record with this key")
    parser.add_argument("--index", type=int, metavar="N", help="the record of this number, from 0 on")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="records of this class")
    parser.add_argument("--split", metavar="NAME", help="of this split only (default: all, in their order)")
    parser.add_argument("--count", type=int, default=6, metavar="N", help="records to show (default: 6)")
    parser.add_argument("--image_size", metavar="H,W|N", help="resize to this (default: the stored size)")
    parser.add_argument(
        "--resize", default="pad", choices=["pad", "stretch", "crop"], help="pad, stretch or crop (default: pad)"
    )
    parser.add_argument("--policy", metavar="NAME|FILE", help="augment by this policy")
    parser.add_argument("--draws", type=int, default=4, metavar="N", help="augmented images a record (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the augmentation (default: 0)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a contact sheet as this .png file")


def run(arguments: argparse.Namespace) -> int:
    """Prints the records, and draws them where that is asked for or possible."""
    manifest = load_manifest(arguments.dataset)
    size = image_size(arguments.image_size)
    _check(arguments, manifest.schema)
    places = _choose(arguments, manifest)
    start_tensorflow(quiet=arguments.json)
    from tfpipe.serving.lookup import plain_value, record_preparer

    if arguments.policy is not None and size is None and None in _image_shape(manifest.schema)[:2]:
        raise UsageError(
            "--policy takes images of one size, and the stored ones differ: give --image_size, such as 224."
        )
    prepare = record_preparer(manifest, size, arguments.resize)
    prepared = [prepare(read_record(manifest, place)) for place in places]
    texts = [{name: plain_value(value) for name, value in record.items()} for record in prepared]
    documents = [_document(manifest, place, record) for place, record in zip(places, texts, strict=True)]
    if "image" in manifest.schema:
        captions = [str(document["features"].get("key", document["record"])) for document in documents]
        _draw(arguments, list(zip(captions, prepared, strict=True)))
    if arguments.json:
        print(json.dumps({"dataset": str(arguments.dataset), "output": arguments.output, "records": documents}))
    else:
        for document in documents:
            _print(document)
        if arguments.output is not None:
            print(f"{arguments.output}: {len(documents)} image{'' if len(documents) == 1 else 's'}{_drawn(arguments)}")
    return 0


def _check(arguments: argparse.Namespace, schema: Schema) -> None:
    given = [name for name in ("key", "index", "class_name") if getattr(arguments, name) is not None]
    if len(given) > 1:
        raise UsageError("KEY, --index and --class exclude each other: name records in one way.")
    for option in ("policy", "output"):
        if "image" not in schema and getattr(arguments, option) is not None:
            raise UsageError(f"--{option} draws images; the records hold {schema.payload}s.")
    for name in ("count", "draws"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} is {getattr(arguments, name)}; it must be at least 1.")
    if arguments.policy is not None and arguments.output is None and (arguments.json or not _has_colours()):
        raise UsageError("--policy draws images: give -o FILE.png, or use a terminal with 24-bit colours.")
    if arguments.output is not None:
        output_file(arguments.output, endings=(".png",))
        require_extra("--output", "PIL")


def _image_shape(schema: Schema) -> tuple[int | None, ...]:
    return schema["image"].shape if "image" in schema else ()


# ---- which records


def _choose(arguments: argparse.Namespace, manifest: Manifest) -> list[Place]:
    if arguments.split is not None:
        manifest.split(arguments.split)
    total = manifest.num_records(arguments.split)
    if not total:
        raise UsageError(f"There is nothing to show: {_where(arguments)} has no records.")
    if arguments.key is not None:
        return [find_key(manifest, arguments.key)]
    if arguments.index is not None:
        return [place_of_index(manifest, arguments.index, split=arguments.split)]
    if arguments.class_name is not None:
        found = _of_class(manifest, arguments.class_name, arguments.split, arguments.count)
        if not found:
            raise UsageError(
                f"There is nothing to show: {_where(arguments)} has no record of class {arguments.class_name!r}."
            )
        return found
    return [place_of_index(manifest, index, split=arguments.split) for index in range(min(arguments.count, total))]


def _where(arguments: argparse.Namespace) -> str:
    return "the dataset" if arguments.split is None else f"split {arguments.split!r}"


def _of_class(manifest: Manifest, name: str, split: str | None, count: int) -> list[Place]:
    if name not in manifest.class_names:
        raise UsageError(f"No class {name!r}; the classes are {list(manifest.class_names)[:50]}.")
    feature, wanted = manifest.schema["label_int"], manifest.class_names.index(name)
    found: list[Place] = []
    for split_name, at, shard in list_shards(manifest):
        if split not in (None, split_name):
            continue
        for number, data in enumerate(scan_records(manifest, shard)):
            try:
                labels = parse_example(data).get(feature.stored_name, ())
            except NotAnExample:
                continue
            if wanted in labels:
                found.append(Place(split_name, at, number))
                if len(found) == count:
                    return found
    return found


# ---- what is shown of them


def _document(manifest: Manifest, place: Place, record: dict[str, Any]) -> dict[str, Any]:
    shard = manifest.split(place.split).shards[place.shard].path
    return {
        "split": place.split,
        "shard": shard,
        "record": place.number,
        "features": {name: _plain(value) for name, value in sorted(record.items())},
    }


def _plain(value: Any) -> Any:
    """A value for JSON: short arrays as lists, others as their dtype, shape and range."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if not isinstance(value, np.ndarray | np.generic):
        return value
    if value.dtype == object:
        return [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in value.ravel()]
    if value.size <= 32:
        return value.tolist()
    least, most = (float(part) for part in (value.min(), value.max()))
    return {"dtype": str(value.dtype), "shape": list(value.shape), "least": least, "most": most}


def _drawn(arguments: argparse.Namespace) -> str:
    return "" if arguments.policy is None else f", as prepared and in {arguments.draws} draws of {arguments.policy}"


def _print(document: dict[str, Any]) -> None:
    features = document["features"]
    print(f"{features.get('key', 'record')}  {document['split']}, record {document['record']} of {document['shard']}")
    for name, value in features.items():
        if name != "key":
            print(f"  {name}: {_sentence(value)}")


def _sentence(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    shape = " x ".join(str(side) for side in value["shape"])
    return f"{value['dtype']} {shape}, {value['least']:g} to {value['most']:g}"


def _draw(arguments: argparse.Namespace, records: list[tuple[str, dict[str, Any]]]) -> None:
    in_terminal = not arguments.json and _has_colours()
    if arguments.output is None and not in_terminal:
        return
    from tfpipe.report.preview import load_transform, preview_rows
    from tfpipe.report.sheet import draw_sheet, png_bytes

    transform = None if arguments.policy is None else load_transform(arguments.policy)
    rows = preview_rows(records, transform, draws=arguments.draws, seed=arguments.seed)
    if transform is None:
        cells = [cell for row in rows for cell in row]
        rows = [cells[begin : begin + 6] for begin in range(0, len(cells), 6)]
    if arguments.output is not None:
        Path(arguments.output).write_bytes(png_bytes(draw_sheet(rows, side=_SIDE)))
    if in_terminal:
        print(in_half_blocks(draw_sheet(rows, side=_SIDE), shutil.get_terminal_size().columns))


def _has_colours() -> bool:
    """Whether stdout is a terminal that shows 24-bit colours."""
    return sys.stdout.isatty() and os.environ.get("COLORTERM") in ("truecolor", "24bit")


def in_half_blocks(image: Any, columns: int) -> str:
    """A Pillow image as text of a terminal with 24-bit colours: each character is two pixels, one above the other."""
    width = min(columns, image.width)
    height = max(2, round(image.height * width / image.width) // 2 * 2)
    pixels = np.asarray(image.convert("RGB").resize((width, height)))
    lines = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        cells = [
            f"\x1b[38;2;{a};{b};{c};48;2;{d};{e};{f}m\u2580" for (a, b, c), (d, e, f) in zip(upper, lower, strict=True)
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
