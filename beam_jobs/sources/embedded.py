"""Images embedded in Parquet files, as the Hugging Face hub has them: a column of {bytes, path} and one of labels.

The images of a shard are spread over all files, since its order is that of the hash, and Parquet unpacks whole row
groups. So the images are copied once, while they are listed, into a spool of plain bytes; each is one pread away
afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from beam_jobs.sources.column_names import FILE_NAMES, plain_name
from beam_jobs.sources.columns import ColumnFinder, split_names
from beam_jobs.sources.files import absolute
from beam_jobs.sources.labels import name_classes
from beam_jobs.sources.layout import file_splits
from beam_jobs.sources.listing import (
    Entry,
    LeftOut,
    Listed,
    Ref,
    Refusal,
    check_names,
    ordered_splits,
    printable,
    to_cell,
)
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.row_values import RowValues
from beam_jobs.sources.slices import FilePiece, Slices, entries_of_files, file_pieces
from beam_jobs.sources.tables import SAMPLE_ROWS, open_parquet
from tfpipe.errors import UsageError
from tfpipe.storage import draft_path

# Rows that are unpacked into Python values at a time.
_BATCH_ROWS = 64


@dataclass(frozen=True)
class EmbeddedSource:
    """Parquet files with images inside. The key is the `key` column, the image's path, or else FILE/ROW.

    Attributes:
      files: the Parquet files.
      names: the name of each in keys.
      image: the column of images.
      values: reads labels, splits and groups.
      spool: the folder that images are copied to while they are listed; None copies none, and each read costs a row
        group.
      left_out: of each row.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    image: str
    values: RowValues
    class_names: tuple[str, ...] | None
    file_splits: tuple[str, ...]
    spool: str | None
    spooled: Slices
    left_out: tuple[LeftOut, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    label_kinds: tuple[str, ...] = ("class", "multi", "number", "none")

    # See Source for the members that have no docstring.
    @property
    def columns(self) -> tuple[str, ...]:
        return self.values.columns.features

    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(self.file_splits) or self.values.splits

    def pieces(self, limit: int | None) -> list[Any]:
        return file_pieces(len(self.files), limit)

    def entries(self, piece: FilePiece) -> Iterator[Entry]:
        return entries_of_files(piece, self._entries_of)

    def read(self, ref: Ref) -> bytes:
        kind, _, locator = ref.locator.partition(":")
        if kind == "spool":
            return self.spooled.read_at(locator, ref.size)
        number, group, row = map(int, locator.split(":"))
        with open_parquet(self.files[number]) as file:
            return image_of(file.read_row_group(group, [self.image])[self.image][row].as_py())[0]

    def _entries_of(self, number: int) -> Iterator[Entry]:
        if self.spool is None:
            yield from self._rows(number, None)
            return
        os.makedirs(self.spool, exist_ok=True)
        path = Path(self.spooled.paths[number])
        draft = draft_path(path)  # Another worker may list the same file, and this one's be read already.
        try:
            with open(draft, "wb") as spool:
                yield from self._rows(number, spool)
        finally:
            os.replace(draft, path)

    def _rows(self, number: int, spool: IO[bytes] | None) -> Iterator[Entry]:
        wanted, locator = [self.image, *self.values.columns.used], ""
        with open_parquet(self.files[number]) as file:
            first = 0
            for group in range(file.num_row_groups):
                row = 0
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted):
                    for values in batch.to_pylist():
                        yield from self.left_out
                        data, path = image_of(values[self.image])
                        if spool is None:
                            locator = f"row:{number}:{group}:{row}"
                        else:
                            locator = f"spool:{number}:{spool.tell()}"
                            spool.write(data)
                        yield self._entry(number, first + row, values, path, len(data), locator)
                        row += 1
                first += row

    def _entry(self, number: int, row: int, values: Mapping[str, Any], path: str, size: int, locator: str) -> Entry:
        name, columns = self.names[number], self.values.columns
        key = to_cell(values.get(columns.key)) if columns.key else ""
        key = key or (f"{name}/{path}" if len(self.files) > 1 and path else path) or f"{name}/{row}"
        if columns.label is not None:
            values = {**values, columns.label: name_classes(values[columns.label], self.class_names)}
        try:
            label, group = self.values.label(values), self.values.group(values)
            split = self.file_splits[number] or self.values.split(values)
            extras = [to_cell(values[column]) for column in columns.extras]
            extras += [group] if columns.group else []
            check_names(key, label, split, *extras)
            if not size:
                raise Refusal("empty", "The row has no image bytes.")
        except Refusal as refusal:
            return refusal.of(printable(key))
        return Listed(key, label, split, size, tuple(extras), locator, group)


def image_of(value: Any) -> tuple[bytes, str]:
    """The bytes and the path of a cell that holds an image; empty where it has none."""
    if isinstance(value, Mapping):
        return value.get("bytes") or b"", value.get("path") or ""
    return value or b"", ""


def image_column(schema: Any) -> str | None:
    """The column of a pyarrow schema that holds images: a struct with `bytes`, or bytes under a usual name."""
    import pyarrow

    for field in schema:
        names = [inner.name for inner in field.type] if pyarrow.types.is_struct(field.type) else []
        if "bytes" in names or (
            _is_bytes(field.type) and plain_name(field.name) in (*FILE_NAMES, "bytes", "jpg", "png")
        ):
            return field.name
    return None


def _is_bytes(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def open_embedded(paths: Sequence[str], names: Sequence[str], options: SourceOptions) -> EmbeddedSource:
    """The source of one or several Parquet files with images inside.

    Args:
      paths: the files.
      names: the name of each in keys; split words in them say the splits, see layout.file_splits.
      options: of the source.

    Raises:
      UsageError: the files differ in their columns, have no image or no label, or some name a split and others none.
    """
    paths = tuple(absolute(path) for path in paths)
    schemas = [_schema(path) for path in paths]
    first = schemas[0]
    for path, schema in zip(paths, schemas, strict=True):
        if schema.names != first.names:
            raise UsageError(f"{path!r} has the columns {schema.names}, {paths[0]!r} has {first.names}.")
    image = image_column(first)
    if image is None:
        raise UsageError(f"{paths[0]!r} has the columns {first.names}; it needs a column of images, {{bytes, path}}.")
    further = [field for field in first if field.name != image]
    left_out = tuple(LeftOut(f"{field.name}_cells") for field in further if _holds_bytes(field.type))
    values = _row_values(paths, image, [field.name for field in further if not _holds_bytes(field.type)], options)
    splits = file_splits(names, options.split_folders)
    if any(splits) and values.columns.split is not None:
        raise UsageError(
            f"The names of the files say splits, and so does the column {values.columns.split!r} of {paths[0]!r}; "
            "--split_column none or --split_folders no leaves one of them out."
        )
    if any(splits) and values.columns.group is not None:
        raise UsageError("--group_column splits by groups, and the names of the files say splits; --split_folders no.")
    spooled = Slices(tuple(f"{options.spool}/{number:05d}" for number in range(len(paths))))
    classes = _hub_names(first, values.columns.label)
    return EmbeddedSource(paths, tuple(names), image, values, classes, splits, options.spool, spooled, left_out)


def _row_values(paths: Sequence[str], image: str, names: Sequence[str], options: SourceOptions) -> RowValues:
    def cells(column: str) -> Iterator[str]:
        for path in paths:
            with open_parquet(path) as file:
                for batch in file.iter_batches(columns=[column]):
                    yield from (to_cell(value) for value in batch.column(0).to_pylist())

    with open_parquet(paths[0]) as file:
        sample = next(file.iter_batches(SAMPLE_ROWS, columns=list(names)), None) if names else None
    finder = ColumnFinder(
        [*names, image],
        paths[0],
        replace(options, file_column=image),
        sample=sample.to_pylist() if sample is not None else [],
        values=cells,
        lookup=None,
    )
    columns = finder.columns()
    split_of = split_names(cells(columns.split), columns.split, paths[0]) if columns.split else {}
    return RowValues(columns, options.label_separator, split_of)


def _schema(path: str) -> Any:
    with open_parquet(path) as file:
        return file.schema_arrow


def _holds_bytes(kind: Any) -> bool:
    """Whether a column holds additional images or other bytes: they are left out."""
    import pyarrow

    return _is_bytes(kind) or (pyarrow.types.is_struct(kind) and any(_is_bytes(inner.type) for inner in kind))


def _hub_names(schema: Any, label: str | None) -> tuple[str, ...] | None:
    """The names of a ClassLabel column, or of a list of them, from the metadata that the hub's library leaves."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        feature = feature if "names" in feature else feature["feature"]
        return tuple(str(name) for name in feature["names"])
    except (KeyError, TypeError, ValueError):
        return None
