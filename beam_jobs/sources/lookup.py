"""Where the file of a row is: below the listing's folder or --image_root, as the listing writes it or nearly so."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from beam_jobs.sources.files import absolute, file_bytes, is_folder, objects_below, resolve
from beam_jobs.sources.listing import EMPTY_FILE, IMAGE_ENDINGS, Refusal, file_problem, stat_problem
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import UsageError
from tfpipe.storage import check_url, is_url, local_path


class Found(NamedTuple):
    """A file that a row names.

    Attributes:
      key: its name in the dataset.
      name: its path, absolute or below the folder.
      size: its bytes.
    """

    key: str
    name: str
    size: int


@dataclass(frozen=True)
class Lookup:
    """Finds the files that cells name.

    Attributes:
      folder: the folder or URL that relative paths start from.
    """

    folder: str

    def path(self, name: str) -> str:
        """The path of a name."""
        return resolve(self.folder, name)

    def find(self, cell: str) -> Found:
        r"""The file of a cell: of that name; with the "/" that it has as "\"; or the one file with that stem.

        Raises:
          Refusal: there is no such file, several have that stem, or it can't be taken.
        """
        try:
            return self.find_exactly(cell)
        except Refusal as refusal:
            if refusal.reason != "missing" or _ending(cell) in IMAGE_ENDINGS:
                raise
            missing = refusal
        names = _stems(self.folder).get(cell, ())
        if not names:
            raise missing
        if len(names) > 1:
            detail = f"{len(names)} files have that stem, {names[0]!r} and {names[1]!r} among them."
            raise Refusal("several_files", detail)
        return Found(cell, names[0], file_size(self.path(names[0])))

    def find_exactly(self, cell: str) -> Found:
        r"""The file of a cell, of that name or with the "/" that it has as "\"; raises as `find` does."""
        try:
            return Found(cell, cell, file_size(self.path(cell)))
        except Refusal as refusal:
            slashed = cell.strip().replace("\\", "/")
            if refusal.reason != "missing" or slashed == cell:
                raise
        return Found(slashed, slashed, file_size(self.path(slashed)))

    def is_there(self, cell: str, *, stems: bool = False) -> str | None:
        """The path that a cell names, if something is there; with `stems` also the one file of that stem."""
        if not cell.strip():
            return None
        try:
            return self.path((self.find if stems else self.find_exactly)(cell).name)
        except Refusal as refusal:
            return self.path(cell) if refusal.reason == EMPTY_FILE[0] else None


def file_size(path: str) -> int:
    """The bytes of a file.

    Raises:
      Refusal: there is none, or it can't be taken.
    """
    if "://" in path and is_url(path):
        return _object_bytes(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise Refusal(*stat_problem(error)) from error
    if problem := file_problem(status):
        raise Refusal(*problem)
    return status.st_size


def _object_bytes(url: str) -> int:
    try:
        size = file_bytes(url)
    except FileNotFoundError as error:
        raise Refusal(*stat_problem(error)) from error
    if not size:
        raise Refusal(*EMPTY_FILE)
    return size


def image_root(options: SourceOptions) -> str | None:
    """The folder that --image_root names; None where it is not given.

    Raises:
      UsageError: there is no such folder.
    """
    if options.image_root is None:
        return None
    if not is_folder(local_path(check_url(options.image_root))):
        raise UsageError(f"--image_root {options.image_root!r}: there is no such folder.")
    return absolute(options.image_root)


@lru_cache(1)
def _stems(folder: str) -> dict[str, tuple[str, ...]]:
    """The image files below a folder by their names without the ending, and by their paths without it."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(_images_below(folder)):
        stem = os.path.splitext(name)[0]
        for known in {stem, os.path.basename(stem)}:
            found[known] = (*found.get(known, ()), name)
    return found


def _images_below(folder: str) -> list[str]:
    if is_url(folder):
        names = [name for name, _ in objects_below(folder)]
    else:
        names = []
        for path, folders, files in os.walk(folder):
            folders[:] = [one for one in folders if not one.startswith(".")]
            names += [os.path.relpath(os.path.join(path, file), folder) for file in files if not file.startswith(".")]
    return [name for name in names if _ending(name) in IMAGE_ENDINGS]


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()[1:]
