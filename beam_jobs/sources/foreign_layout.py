"""The source of TFRecords that others wrote: what their features are, found by reading the files once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from beam_jobs.sources.files import absolute
from beam_jobs.sources.foreign import ForeignSource
from beam_jobs.sources.listing import MASK_COLUMN
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.recordfiles import check_file, file_splits, scan_records
from beam_jobs.sources.slices import Slices
from tfpipe.errors import UsageError
from tfpipe.format.framing import DamagedRecord
from tfpipe.format.schema import LABEL_KINDS, RESERVED, Feature, Schema, load_schema
from tfpipe.maintenance.examine import Examined, examine, parse_record
from tfpipe.maintenance.foreign_images import HOW_TO_SAY, SizeNames, image_array

# The features that become parts of every record.
_TAKEN = ("image", "label", "label_int", "key", "shape", "orientation")


def open_records(paths: Sequence[str], names: Sequence[str], options: SourceOptions) -> ForeignSource:
    """The source of TFRecord files without a manifest.

    Args:
      paths: the files.
      names: the name of each in keys.
      options: the kind of labels; the schema, where one is given; a spool for the records of compressed files.

    Raises:
      UsageError: a file holds no records, or the records have no image or no label.
    """
    paths = [absolute(path) for path in paths]
    compressed = tuple(check_file(path) for path in paths)
    given = load_schema(options.schema) if options.schema else None
    try:
        found = examine(paths, schema=given, scan=scan_records, strict=False)
    except ValueError as error:
        raise UsageError(str(error)) from error
    schema = found.schema
    if "image" not in schema:
        raise UsageError(
            f"The records of {paths[0]!r} have the features {found.stored_names}, none of which is known as an image; "
            f"{HOW_TO_SAY}."
        )
    kinds = _label_kinds(found)
    if not kinds and options.label_kind != "none":
        raise UsageError(_no_label(paths[0], found))
    extras = _columns(found)
    class_names = _class_names(found) if options.label_kind != "number" else None
    notes = _notes(found, class_names or (), {feature.stored_name for feature, _ in extras})
    levels = _levels(found, paths, schema, notes)
    spool = options.spool
    records = [f"{spool}/{number:05d}" if compressed[number] and spool else path for number, path in enumerate(paths)]
    return ForeignSource(
        paths=tuple(paths),
        names=tuple(names),
        records=Slices(tuple(records)),
        spooled=compressed,
        file_splits=file_splits(paths, options.split_folders),
        schema=schema,
        sizes=found.inference.image.sizes,
        levels=levels,
        extras=extras,
        class_names=class_names,
        label_kind=options.label_kind,
        label_kinds=(*kinds, *(kind for kind in LABEL_KINDS if kind == "none")),
        masked=_has_masks(found),
        notes=tuple(notes),
    )


def _label_kinds(found: Examined) -> tuple[str, ...]:
    """The kinds of labels that records can give."""
    schema = found.schema
    if schema.label_kind == "number":
        return ("number",)
    if schema.label_kind == "vector":
        return ("multi",) if found.is_binary else ()
    name = next((name for name in ("label_int", "label") if name in schema), None)
    if name is None:
        return ("class", "multi") if "box_labels" in schema else ()
    return ("class", "multi") if schema[name].shape else ("class", "multi", "number")


def _no_label(path: str, found: Examined) -> str:
    if found.is_vector:
        return (
            f"The labels of {path!r} are vectors of whole numbers that are not all 0 or 1, which are no classes; "
            "tfpipe index adopts the files as they are, and make_dataset gives the vectors."
        )
    return (
        f"The records of {path!r} have the features {found.stored_names}; none is known as a label; {HOW_TO_SAY}, "
        "and tfpipe index adopts files without labels."
    )


def _class_names(found: Examined) -> tuple[str, ...] | None:
    """The name of each class id, every name once; None where texts are the only labels."""
    if "label_int" not in found.schema and "box_labels" not in found.schema:
        return None
    if "label" in found.schema and "label_int" not in found.schema:
        return None
    names = [name.strip() or str(number) for number, name in enumerate(found.class_names)]
    counts = Counter(names)
    return tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))


def _has_masks(found: Examined) -> bool:
    return MASK_COLUMN in found.schema and not found.inference.stats(MASK_COLUMN).is_text


def _columns(found: Examined) -> tuple[tuple[Feature, str], ...]:
    """The features that become columns, each with its column's dtype; see beam_jobs.encode.columns."""
    parts = found.schema.derived_from("boxes")
    columns = []
    for feature in found.schema.features:
        if feature.name not in RESERVED and feature.name not in parts and feature.codec == "plain":
            columns.append((feature, _dtype(feature, found.inference.stats(feature.stored_name).is_text)))
    return tuple(columns)


def _dtype(feature: Feature, is_text: bool) -> str:
    dtype = "bytes" if feature.dtype == "string" and not is_text else feature.dtype
    if not feature.shape:
        return dtype
    first, *rest = feature.shape
    return f"{dtype}[{','.join(map(str, rest)) if rest else '' if first is None else f'={first}'}]"


def _levels(found: Examined, paths: Sequence[str], schema: Schema, notes: list[str]) -> float:
    """What float pixels are multiplied by: 255 where all are in [0, 1], else 1; adds a note on what that means."""
    image = schema["image"]
    if image.dtype == "uint8":
        return 1.0
    low, high = found.inference.image.low, found.inference.image.high
    if low > high:  # A schema was given: the images were not examined.
        low, high = _value_range(paths, image, found.inference.image.sizes)
    unit = low >= 0 and high <= 1
    what = "in [0, 1], are multiplied by 255 and" if unit else f"from {low:g} to {high:g}, are"
    notes.append(f"Pixels are stored as PNG files of 8 bits a channel: the floats, {what} rounded.")
    return 255.0 if unit else 1.0


def _value_range(paths: Sequence[str], image: Feature, sizes: SizeNames) -> tuple[float, float]:
    low, high = float("inf"), float("-inf")
    for path in paths:
        try:
            for record in scan_records(path):
                try:
                    pixels = image_array(image, sizes, parse_record(record.data))
                except ValueError:
                    continue
                low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
        except DamagedRecord:
            continue
    return low, high


def _notes(found: Examined, class_names: Sequence[str], carried: set[str]) -> list[str]:
    """What a user should know of the records, a sentence each."""
    notes = []
    counts = found.class_counts(found.scans, found.class_names)
    empty = [name for name, count in zip(class_names, counts, strict=False) if not count]
    if empty:
        shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        notes.append(f"{len(empty):,} class ids have no record ({shown}); ids are taken as they are stored.")
    renamed = [name for name, text in zip(class_names, found.class_names, strict=False) if name != text.strip()]
    if renamed:
        notes.append(f"{len(renamed):,} classes share their names with others, and got their ids: {renamed[0]!r}, ...")
    if found.inference.boxes.problem and found.inference.boxes.names:
        name, problem = found.inference.boxes.names[0], found.inference.boxes.problem
        notes.append(f"{name!r} and its like are no fractions of the image, and don't move: {problem}.")
    taken = [found.schema[name].stored_name for name in _TAKEN if name in found.schema]
    taken += [*found.schema.derived_from("boxes"), *([MASK_COLUMN] if _has_masks(found) else [])]
    bare = [os.path.basename(scan.path) for scan in found.scans if not scan.offsets]
    if bare:
        notes.append(f"{len(bare):,} files hold no record: {', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''}.")
    lost = [name for name in found.stored_names if name not in carried and name not in taken]
    if lost:
        notes.append(f"These features are left out: {', '.join(lost)}.")
    return notes
