"""Images that are parts of larger files: tar and zip archives, TFRecords, a spool."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence

from beam_jobs.sources.files import file_bytes
from beam_jobs.sources.listing import Entry, chunked, first_inputs
from tfpipe.storage import StorePath, is_url

# Files held open at once, per process; a job of more opens them again, as it does with plain files.
_MOST_OPEN = 256

# The numbers of the files to read sequentially, and how many entries to take of them.
FilePiece = tuple[Sequence[int], int | None]


def file_pieces(count: int, limit: int | None) -> list[FilePiece]:
    """The pieces of a listing of `count` files; one piece where a limit counts over all of them."""
    numbers = range(count)
    return [(numbers, limit)] if limit is not None else [(group, None) for group in chunked(numbers)]


def entries_of_files(piece: FilePiece, entries_of: Callable[[int], Iterator[Entry]]) -> Iterator[Entry]:
    """Yields the entries of a piece; `entries_of` gives those of the file of a number."""
    numbers, limit = piece
    yield from first_inputs((entry for number in numbers for entry in entries_of(number)), limit)


class Slices:
    """Reads parts of several files by offset and size; files are opened when they are first read, in each process.

    A part is one pread: threads share a handle, and none depends on the position of another.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths = paths
        self._opened = functools.lru_cache(_MOST_OPEN)(_Handle)
        self._sized = functools.lru_cache(None)(file_bytes)

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        return Slices, (self.paths,)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a file; fewer where the file ends.

        Raises:
          OSError: the file can't be read.
        """
        path = self.paths[number]
        if is_url(path):
            end = min(offset + size, self._sized(path))
            return StorePath(path).read_bytes(offset, end) if end > offset else b""
        handle = self._opened(path)
        data = os.pread(handle.number, size, offset)
        while len(data) < size:  # A read may come short, as across a network.
            more = os.pread(handle.number, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_at(self, locator: str, size: int) -> bytes:
        """The bytes at FILE:OFFSET."""
        number, _, offset = locator.partition(":")
        return self.read(int(number), int(offset), size)


class _Handle:
    """A file, open until nobody refers to it: one that a thread is reading outlives its entry in the cache."""

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)
