"""Images in one folder per class, on this machine or in a store: gs://bucket/photos/CLASS/**/object."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from beam_jobs.sources.files import absolute, children, objects_below
from beam_jobs.sources.listing import (
    EMPTY_FILE,
    SPLIT_FOLDERS,
    Entry,
    Listed,
    Ref,
    Refused,
    chunked,
    file_problem,
    name_problem,
    ordered_splits,
    printable,
    read_whole,
    round_robin,
    stat_problem,
)
from tfpipe.errors import UsageError
from tfpipe.storage import is_url


class ClassFolder(NamedTuple):
    """One class's folder, below ROOT."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class FolderSource:
    """ROOT/CLASS/**/file, or ROOT/SPLIT/CLASS/**/file. Dot files and files directly in ROOT are not listed."""

    root: str
    folders: tuple[ClassFolder, ...]
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class",)

    # See Source for the members that have no docstring.
    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(folder.split for folder in self.folders)

    def pieces(self, limit: int | None) -> list[Any]:
        if limit is not None:
            return [(self.folders, limit)]
        return [(group, None) for group in chunked(self.folders)]

    def entries(self, piece: tuple[Sequence[ClassFolder], int | None]) -> Iterator[Entry]:
        folders, limit = piece
        walk_of = self._walk_store if is_url(self.root) else self._walk
        walks = [walk_of(folder) for folder in folders]
        if limit is None:
            for walk in walks:
                yield from walk
        else:
            yield from islice(round_robin(walks), limit)

    def path(self, key: str) -> str:
        """The file or object that a key names."""
        return f"{self.root}/{key}"

    def read(self, ref: Ref) -> bytes:
        return read_whole(f"{self.root}/{ref.key}", ref.size)

    def _walk_store(self, folder: ClassFolder) -> Iterator[Entry]:
        # All objects of a class come from one listing, with their sizes.
        for name, size in objects_below(f"{self.root}/{folder.path}"):
            key = f"{folder.path}/{name}"
            problem = name_problem(key) or (None if size else EMPTY_FILE)
            shown = printable(key)
            yield Refused(shown, shown, *problem) if problem else Listed(key, folder.label, folder.split, size)

    def _walk(self, folder: ClassFolder) -> Iterator[Entry]:
        top = f"{self.root}/{folder.path}"
        # A stack of folders still to be read, each with all that hold it: they may nest deeper than Python's calls.
        waiting = [(top, frozenset({_identity(os.stat(top))}))]
        while waiting:
            directory, ancestors = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    children = sorted((c for c in found if not c.name.startswith(".")), key=lambda c: c.name)
            except OSError as error:
                yield self._refuse(directory, "unreadable", f"The folder can't be read: {error.strerror}.")
                continue
            for child in children:
                entry = self._entry(child, folder, ancestors)
                if isinstance(entry, os.stat_result):
                    waiting.append((child.path, ancestors | {_identity(entry)}))
                else:
                    yield entry

    def _entry(
        self, child: os.DirEntry[str], folder: ClassFolder, ancestors: frozenset[tuple[int, int]]
    ) -> Entry | os.stat_result:
        """The entry of a child; its status where it is a folder to be walked."""
        try:
            status = child.stat()
        except OSError as error:
            return self._refuse(child.path, *stat_problem(error))
        if stat.S_ISDIR(status.st_mode):
            if _identity(status) in ancestors:
                return self._refuse(child.path, "symlink_loop", "The link leads back to a folder that holds it.")
            return status
        key = child.path[len(self.root) + 1 :]
        problem = file_problem(status) or name_problem(key)
        if problem:
            return self._refuse(child.path, *problem)
        return Listed(key, folder.label, folder.split, status.st_size)

    def _refuse(self, path: str, reason: str, detail: str) -> Refused:
        key = printable(path[len(self.root) + 1 :])
        return Refused(key, key, reason, detail)


def open_folder(root: str) -> FolderSource:
    """The source of a folder that holds a folder per class, or split folders that do.

    Raises:
      UsageError: it holds no folders, or one whose name is not UTF-8.
    """
    root = absolute(root)
    return FolderSource(root, class_folders(root))


def class_folders(root: str) -> tuple[ClassFolder, ...]:
    """The folders of all classes below a path or a URL, each with its split; see open_folder."""
    names = _folders_in(root)
    if not names:
        raise UsageError(f"{root!r} holds no folders; it takes one folder of images per class: {root}/CLASS/image.jpg.")
    if set(names) <= set(SPLIT_FOLDERS) and any(_folders_in(f"{root}/{name}") for name in names):
        parts = [
            (f"{name}/{label}", label, SPLIT_FOLDERS[name]) for name in names for label in _folders_in(f"{root}/{name}")
        ]
    else:
        parts = [(name, name, "") for name in names]
    bad = [path for path, _, _ in parts if name_problem(path)]
    if bad:
        raise UsageError(f"The folder name {printable(bad[0])!r} in {root!r} is not UTF-8; rename it.")
    return tuple(ClassFolder(*part) for part in parts)


def _folders_in(directory: str) -> list[str]:
    return [child.name for child in children(directory) if child.is_folder]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
