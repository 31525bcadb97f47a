"""Draws every op at five magnitudes and every policy, with a box and a mask: one HTML page, or a PNG file each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.cli.arguments import output_file
from tfpipe.cli.progress import progress, start_tensorflow
from tfpipe.errors import UsageError, require_extra
from tfpipe.storage import write_file

EXAMPLES = """examples:
  tfpipe gallery -o gallery.html
      all ops and policies on a drawn picture
  tfpipe gallery -o pictures/ --only rotate,cutout,svhn
      a PNG file each
  tfpipe gallery -o gallery.html --image cat.jpg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument(
        "-o",
        "--output",
        default="gallery.html",
        metavar="FILE.html|DIR",
        help="the page, or a folder for PNG files (default: gallery.html)",
    )
    parser.add_argument("--only", metavar="NAME,...", help="these ops and policies (default: all)")
    parser.add_argument("--image", metavar="FILE", help="your own image (default: a drawn one, with box and mask)")


def run(arguments: argparse.Namespace) -> int:
    """Writes the page or the pictures."""
    output = Path(arguments.output)
    is_page = output.suffix.lower() in (".html", ".htm")
    if is_page:
        output_file(arguments.output)
    elif output.exists() and not output.is_dir():
        raise UsageError(f"--output is {arguments.output!r}; it takes a name that ends in .html, or a folder.")
    require_extra("tfpipe gallery", *(["jinja2"] if is_page else []), "PIL")
    start_tensorflow(quiet=arguments.json)
    from tfpipe.report.gallery import Sheet, gallery_page, make_sheet, sheet_names, sheet_png

    names = _select(arguments.only, sheet_names())
    record = None if arguments.image is None else _own_image(arguments.image)
    sheets: dict[str, Sheet] = {}
    with progress("drawing", total=len(names), quiet=arguments.json) as update:
        for name in names:
            sheets[name] = make_sheet(name, record=record)
            update(advance=1)
    if is_page:
        write_file(output, gallery_page(sheets).encode())
        written = [str(output)]
    else:
        output.mkdir(parents=True, exist_ok=True)
        for name, sheet in sheets.items():
            write_file(output / f"{name}.png", sheet_png(sheet))
        written = [str(output / f"{name}.png") for name in sheets]
    if arguments.json:
        print(json.dumps({"written": written, "names": names}))
    else:
        print(f"{output}: {len(sheets)} ops and policies")
    return 0


def _select(text: str | None, names: list[str]) -> list[str]:
    if text is None:
        return names
    chosen = [name.strip() for name in text.split(",")]
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise UsageError(f"No op or policy {unknown}; there are {names}.")
    return chosen


def _own_image(path: str) -> dict[str, Any]:
    from tfpipe.report.gallery import SIDE
    from tfpipe.serving.files import load_image

    return {"image": np.asarray(load_image(path, image_size=SIDE, resize="crop"))}
