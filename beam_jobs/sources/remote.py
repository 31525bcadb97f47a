"""Images in one folder per class, in a store: gs://bucket/photos/CLASS/**/object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from beam_jobs.sources.files import objects_below
from beam_jobs.sources.folder import ClassFolder
from beam_jobs.sources.listing import (
    Entry,
    Listed,
    Ref,
    Refused,
    in_groups,
    in_turn,
    name_problem,
    ordered_splits,
    printable,
    read_whole,
)


@dataclass(frozen=True)
class RemoteFolderSource:
    """What folder.FolderSource is on this machine. All objects of a class come from one listing, with their sizes."""

    root: str
    folders: tuple[ClassFolder, ...]
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class",)

    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(folder.split for folder in self.folders)

    def pieces(self, limit: int | None) -> list[Any]:
        if limit is not None:
            return [(self.folders, limit)]
        return [(group, None) for group in in_groups(self.folders)]

    def entries(self, piece: tuple[Sequence[ClassFolder], int | None]) -> Iterator[Entry]:
        folders, limit = piece
        walks = [self._walk(folder) for folder in folders]
        if limit is None:
            for walk in walks:
                yield from walk
        else:
            yield from islice(in_turn(walks), limit)

    def path(self, key: str) -> str:
        """The object that a key names."""
        return f"{self.root}/{key}"

    def read(self, ref: Ref) -> bytes:
        return read_whole(self.path(ref.key), ref.size)

    def _walk(self, folder: ClassFolder) -> Iterator[Entry]:
        for name, size in objects_below(f"{self.root}/{folder.path}"):
            key = f"{folder.path}/{name}"
            problem = name_problem(key) or (None if size else ("empty", "The file has no bytes."))
            shown = printable(key)
            yield Refused(shown, shown, *problem) if problem else Listed(key, folder.label, folder.split, size)
