"""Masks in a folder that mirrors the images': ROOT/cat/1.jpg has its mask in MASKS/cat/1.png, or 1.bmp."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from beam_jobs.sources.files import absolute, is_file, is_folder, map_files, read_file, resolve
from beam_jobs.sources.listing import MASK_COLUMN, Entry, Listed, Ref, Refused, Source
from tfpipe.errors import UsageError
from tfpipe.storage import check_url, is_url, local_path

ENDINGS = (".png", ".bmp", ".PNG", ".BMP")


@dataclass(frozen=True)
class MaskedSource:
    """A source with masks for its images; everything else is the source's own.

    Attributes:
      source: the source of the images.
      folder: the folder of the masks.
    """

    source: Source
    folder: str

    # See Source for the members that have no docstring.
    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.source.columns, MASK_COLUMN)

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return (*self.source.dtypes, (MASK_COLUMN, MASK_COLUMN))

    @property
    def splits(self) -> tuple[str, ...]:
        return self.source.splits

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return self.source.label_kinds

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source has to say of its inputs."""
        return tuple(getattr(self.source, "notes", ()))

    def pieces(self, limit: int | None) -> list[Any]:
        return self.source.pieces(limit)

    def entries(self, piece: Any) -> Iterator[Entry]:
        yield from map_files(self._with_mask, self.source.entries(piece), concurrent=is_url(self.folder))

    def read(self, ref: Ref) -> bytes:
        return self.source.read(ref)

    def fill_cells(self, ref: Ref) -> Ref:
        """See encode.record.Files.load."""
        fill = getattr(self.source, "fill_cells", None)
        return ref if fill is None else fill(ref)

    def read_mask(self, ref: Ref) -> bytes:
        return read_file(resolve(self.folder, ref.extras[-1]))

    def _with_mask(self, entry: Entry) -> Entry:
        if not isinstance(entry, Listed):
            return entry
        key = entry.key
        if key.startswith("/") or "://" in key or ".." in key.split("/"):
            detail = "Its key leads out of the input's folder; --masks mirrors paths below it."
            return Refused(key, key, "missing_mask", detail)
        stem = os.path.splitext(key)[0]
        name = next((stem + end for end in ENDINGS if is_file(resolve(self.folder, stem + end))), None)
        if name is None:
            return Refused(key, key, "missing_mask", f"The folder of masks has no {stem}.png, nor a .bmp.")
        return entry._replace(extras=(*entry.extras, name))


def with_masks(source: Source, folder: str) -> MaskedSource:
    """The source with masks from a folder that mirrors its keys.

    Raises:
      UsageError: there is no such folder, or the source names masks itself.
    """
    if not is_folder(local_path(check_url(folder))):
        raise UsageError(f"--masks {folder!r}: there is no such folder.")
    if MASK_COLUMN in source.columns:
        raise UsageError(f"The input has masks of its own in the column {MASK_COLUMN!r}; leave out --masks.")
    return MaskedSource(source, absolute(folder))
