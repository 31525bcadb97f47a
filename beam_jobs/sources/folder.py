"""Images in one folder per class, on this machine or in a store: gs://bucket/photos/CLASS/**/object."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from beam_jobs.sources.files import Child, absolute, children, folders_with_files, is_ignored, objects_below
from beam_jobs.sources.layout import find_layout, split_folders_only
from beam_jobs.sources.listing import (
    EMPTY_FILE,
    OUTSIDE,
    Entry,
    LeftOut,
    Listed,
    Ref,
    Refused,
    chunked,
    file_problem,
    first_inputs,
    looks_like_image,
    name_problem,
    ordered_splits,
    printable,
    read_whole,
    round_robin,
    stat_problem,
)
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import UsageError
from tfpipe.storage import is_url


class ClassFolder(NamedTuple):
    """One class's folder, below ROOT."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class FolderSource:
    """ROOT/CLASS/**/file, or ROOT/SPLIT/CLASS/**/file.

    Files outside the class folders are not listed, nor what files.is_ignored names.

    Attributes:
      root: the folder.
      folders: those of the classes.
      outside: how many images lie outside them.
    """

    root: str
    folders: tuple[ClassFolder, ...]
    outside: int = 0
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "none")

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
        if self.outside and folders[0] == self.folders[0]:
            yield LeftOut(OUTSIDE, self.outside)
        walk_of = self._walk_store if is_url(self.root) else self._walk
        walks = [walk_of(folder) for folder in folders]
        if limit is None:
            for walk in walks:
                yield from walk
        else:
            yield from first_inputs(round_robin(walks), limit)

    def path(self, key: str) -> str:
        """The file or object that a key names."""
        return f"{self.root}/{key}"

    def read(self, ref: Ref) -> bytes:
        return read_whole(f"{self.root}/{ref.key}", ref.size)

    def _walk_store(self, folder: ClassFolder) -> Iterator[Entry]:
        # All objects of a class come from one listing, with their sizes.
        for name, size in objects_below(f"{self.root}/{folder.path}"):
            key = f"{folder.path}/{name}".lstrip("/")
            problem = name_problem(key) or (None if size else EMPTY_FILE)
            shown = printable(key)
            yield Refused(shown, shown, *problem) if problem else Listed(key, folder.label, folder.split, size)

    def _walk(self, folder: ClassFolder) -> Iterator[Entry]:
        top = f"{self.root}/{folder.path}".rstrip("/")
        # A stack of folders still to be read, each with all that hold it: they may nest deeper than Python's calls.
        waiting = [(top, frozenset({_identity(os.stat(top))}))]
        while waiting:
            directory, ancestors = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    children = sorted((c for c in found if not is_ignored(c.name)), key=lambda c: c.name)
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


def open_folder(root: str, options: SourceOptions) -> FolderSource:
    """The source of a folder that holds a folder per class, or split folders that do.

    Args:
      root: the folder.
      options: of the source; see layout.find_layout for split_folders. With label_kind "none" all folders that say no
        split are alike.

    Raises:
      UsageError: it holds no folders, one whose name is not UTF-8, or some that may be splits or classes.
    """
    root = absolute(root)
    if options.label_kind == "none":
        return _open_unlabelled(root, options.split_folders)
    inside = cache(lambda folder: _children(f"{root}/{folder}".rstrip("/")))

    def folders_in(folder: str) -> list[str]:
        return [child.name for child in inside(folder) if child.is_folder]

    if not folders_in(""):
        raise UsageError(
            f"{root!r} holds no folders; it takes one folder of images per class: {root}/CLASS/image.jpg. "
            "--label_kind none takes images without labels."
        )
    layout = find_layout(folders_in, options.split_folders, root)
    tops = [(f"{layout.top}{name}/", split) for name, split in layout.splits.items()] or [(layout.top, "")]
    folders = tuple(
        ClassFolder(f"{top}{label}", label, split) for top, split in sorted(tops) for label in folders_in(top)
    )
    bad = [folder.path for folder in folders if name_problem(folder.path)]
    if bad:
        raise UsageError(f"The folder name {printable(bad[0])!r} in {root!r} is not UTF-8; rename it.")
    above = ["/".join(layout.top.split("/")[:depth]) for depth in range(layout.top.count("/"))]
    others = [f"{layout.top}{name}/" for name in layout.others]
    places = {*(f"{folder}/" if folder else "" for folder in above), layout.top, *(top for top, _ in tops), *others}
    outside = sum(not c.is_folder and looks_like_image(c.name) for place in places for c in inside(place))
    return FolderSource(root, folders, outside)


def _open_unlabelled(root: str, split_folders: str) -> FolderSource:
    """The source of all images below a folder."""
    layout = split_folders_only(folders_with_files(root), split_folders, root)
    folders = [ClassFolder(f"{layout.top}{name}", "", split) for name, split in sorted(layout.splits.items())]
    return FolderSource(root, tuple(folders) or (ClassFolder("", "", ""),))


def _children(folder: str) -> list[Child]:
    try:
        return children(folder)
    except OSError:  # It is named when its files are listed.
        return []


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
