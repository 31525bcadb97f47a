"""Access to the files of a source: the same functions for paths of this machine and for URLs of stores.

A path stays a text, since a million of them are joined and read. Only a URL costs more than the system calls: a store
answers in some 20 to 100 ms, so requests for many objects are sent 32 at once.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import IO, Any, NamedTuple, TypeVar

from beam_jobs.engines.threads import map_ordered
from tfpipe.storage import STORES, StorePath, is_url, local_path, naming, open_store, scheme_of

# Requests to a store that are under way at once.
_REQUESTS = 32
# Bytes that one request fetches of an object that is read in order.
_READ_AHEAD = 4 << 20

_In = TypeVar("_In")
_Out = TypeVar("_Out")


# What file managers, archivers and storage systems leave beside images, in lower case.
_LEFTOVERS = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r", "__macosx"),
        *("@eadir", "#recycle", "@recycle", "@__thumb", "$recycle.bin", "system volume information", "lost+found"),
    )
)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of that name is not listed: a dot file, or what a system left behind."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in _LEFTOVERS


class Child(NamedTuple):
    """A file or folder directly in a folder."""

    name: str
    is_folder: bool


def absolute(path: str) -> str:
    """The path from the root; a URL as it is."""
    return path.rstrip("/") if is_url(path) else os.path.abspath(local_path(path))


def folder_of(path: str) -> str:
    """The folder of a file."""
    return str(StorePath(path).parent) if is_url(path) else os.path.dirname(path)


def resolve(folder: str, name: str) -> str:
    """The file that a listing in a folder names: below the folder, absolute, or a URL."""
    if "://" in name and scheme_of(name) in (*STORES, "file"):
        return local_path(name)
    return os.path.join(folder, name)


def is_file(path: str) -> bool:
    """Whether a file is there."""
    return StorePath(path).is_file() if is_url(path) else os.path.isfile(path)


def is_folder(path: str) -> bool:
    """Whether a folder is there; in a store, whether there are objects below."""
    return StorePath(path).is_dir() if is_url(path) else os.path.isdir(path)


def file_bytes(path: str) -> int:
    """The size of a file.

    Raises:
      OSError: the size can't be read; FileNotFoundError where there is no file.
    """
    return StorePath(path).stat().st_size if is_url(path) else os.path.getsize(path)


def read_file(path: str) -> bytes:
    """The bytes of a file whose size is not known."""
    if is_url(path):
        return StorePath(path).read_bytes()
    with open(path, "rb") as file:
        return file.read()


def open_binary(path: str) -> IO[bytes]:
    """The file, to be read from anywhere in it."""
    return open(path, "rb") if not is_url(path) else io.BufferedReader(_Stream(path), _READ_AHEAD)


def open_text(path: str, *, newline: str | None = None) -> Any:
    """The file as text, UTF-8 or UTF-16, without a byte order mark; a URL is read whole.

    Bytes that are not UTF-8 become surrogates, so that a bad cell can be refused individually.
    """
    if is_url(path):
        data = read_file(path)
        encoding, errors = _encoding(data[:4])
        return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline)
    with open(path, "rb") as file:
        start = file.read(4)
    encoding, errors = _encoding(start)
    return open(path, encoding=encoding, errors=errors, newline=newline)


def _encoding(start: bytes) -> tuple[str, str]:
    """The encoding of a text and what becomes of other bytes, by its first four bytes."""
    # Spreadsheets write UTF-16, some without its mark: then every other byte of a listing's first letters is 0.
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", "backslashreplace"
    zeros = [byte == 0 for byte in start]
    if len(start) == 4 and zeros in ([False, True] * 2, [True, False] * 2):
        return "utf-16-be" if zeros[0] else "utf-16-le", "backslashreplace"
    return "utf-8-sig", "surrogateescape"


def children(folder: str) -> list[Child]:
    """The files and folders directly in a folder, by name, without those that are ignored."""
    if not is_url(folder):
        with os.scandir(folder) as found:
            listed = [Child(child.name, child.is_dir()) for child in found]
    else:
        fs, path = open_store(folder)
        with naming(folder):
            rows = fs.ls(path, detail=True)
        listed = [Child(_last(row["name"]), row["type"] == "directory") for row in rows]
    return sorted(child for child in listed if child.name and not is_ignored(child.name))


def matches(pattern: str) -> list[str]:
    """The files that a pattern such as shards/*.tar names, sorted; what is ignored only where it is written out."""
    if not is_url(pattern):
        paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    else:
        fs, path = open_store(pattern)
        with naming(pattern):
            found = fs.glob(path, detail=True)
        paths = [_url(pattern, name) for name, row in found.items() if row["type"] == "file"]
    written = set(pattern.split("/"))
    return sorted(path for path in paths if not any(map(is_ignored, set(path.split("/")) - written)))


def folders_with_files(root: str) -> set[str]:
    """The folders below a folder that hold files, such as "train/cat"; "" for itself."""
    if is_url(root):
        return {name.rpartition("/")[0] for name, _ in objects_below(root)}
    found = set()
    for path, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_ignored(name)]
        if any(not is_ignored(name) for name in files):
            found.add(os.path.relpath(path, root).removeprefix("."))
    return found


def objects_below(folder: str) -> list[tuple[str, int]]:
    """The path below a folder of a store and the size of every object there that is not ignored, sorted."""
    fs, path = open_store(folder)
    with naming(folder):
        found = fs.find(path, detail=True)
    begin = len(path.rstrip("/")) + 1
    pairs = [(name[begin:], int(row["size"])) for name, row in found.items()]
    # Some programs leave an empty object FOLDER/ that marks a folder.
    return sorted((n, size) for n, size in pairs if n and n[-1] != "/" and not any(map(is_ignored, n.split("/"))))


def _last(name: str) -> str:
    return str(name).rstrip("/").rpartition("/")[2]


def _url(like: str, name: str) -> str:
    """The URL of a name that a driver returned without the scheme."""
    scheme = scheme_of(like)
    return f"{scheme}://{name if scheme == 'local' else name.lstrip('/')}"


def map_files(function: Callable[[_In], _Out], items: Iterable[_In], *, concurrent: bool) -> Iterator[_Out]:
    """The function of each item in order; 32 calls at once where each sends a request to a store."""
    return map_ordered(function, items, threads=_REQUESTS if concurrent else 1, ahead=4 * _REQUESTS)


def peek(items: Iterator[_In]) -> tuple[_In | None, Iterator[_In]]:
    """The first item, or None where there is none; and all of them."""
    for first in items:
        return first, chain((first,), items)
    return None, iter(())


class _Stream(io.RawIOBase):
    """An object of a store as a file: each read is a request for its range; its errors are SetupErrors."""

    def __init__(self, url: str) -> None:
        self._object = StorePath(url)
        self._size, self._at = self._object.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte, as any file does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as the object goes."""
        end = min(self._at + len(buffer), self._size)
        data = self._object.read_bytes(self._at, end) if end > self._at else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
