"""Where files are stored: on this machine, or in a store behind a URL such as gs://bucket/photos.

A path on this machine is a pathlib.Path. A path in a store is a `StorePath`, which has the same methods and uses
fsspec with the driver that an extra of tfpipe installs. A store cannot rename: it holds single objects, and each is
written whole or not at all.

    path = to_path("gs://bucket/photos_tfrecord") / "dataset.json"
    path.exists(), path.read_bytes()

What fails in a store raises a SetupError of one line; only a missing file raises FileNotFoundError, as it does on
disk. Retries are the driver's task: gcsfs and s3fs repeat requests that fail for a moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tfpipe.errors import SetupError, UsageError

# A scheme: the package of its driver, and the extra of tfpipe that installs it. `memory` is held by one process, for
# experiments.
STORES = {
    "gs": ("gcsfs", "gcp"),
    "gcs": ("gcsfs", "gcp"),
    "s3": ("s3fs", "aws"),
    "s3a": ("s3fs", "aws"),
    "memory": ("fsspec", "gcp"),
    "local": ("fsspec", "gcp"),
}
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_FILE = "file://"
_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}\.draft")
# What syncing a folder fails with where that is not possible.
_NO_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EACCES)
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_BEGIN_WRITING = 2
_SYNCS = 8
# A draft this old has no writer, where files are small and written as a whole.
STALE_SECONDS = 3600


# ---- URLs


def is_url(path: object) -> bool:
    """Whether a path is in one of the STORES."""
    return isinstance(path, StorePath) or (isinstance(path, str) and "://" in path and scheme_of(path) in STORES)


def scheme_of(path: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path without one."""
    match = _URL.match(path)
    return match[1].lower() if match else None


def to_path(path: str | os.PathLike[str] | StorePath) -> AnyPath:
    """The path object of a path or a URL; file:// is a path on this machine.

    Raises:
      UsageError: a URL has a scheme that tfpipe does not know.
    """
    if isinstance(path, StorePath):
        return path
    if not isinstance(path, str) or "://" not in path:
        return Path(path)
    return Path(path[len(_FILE) :]) if path.startswith(_FILE) else StorePath(check_url(path).rstrip("/"))


def check_url(url: str) -> str:
    """The URL, unchanged, if its scheme is known; a path without a scheme passes too.

    Raises:
      UsageError: the scheme is unknown.
    """
    scheme = scheme_of(url)
    if scheme not in (None, "file", *STORES):
        raise UsageError(f"{url!r}: tfpipe knows no store {scheme!r}; it knows {[*STORES, 'file']}.")
    return url


def local_path(path: str) -> str:
    """A path without the file:// at its beginning."""
    return path[len(_FILE) :] if path.startswith(_FILE) else path


# ---- stores


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL's path in it.

    Raises:
      SetupError: the driver is missing, or can't be set up.
    """
    package, extra = STORES[scheme_of(url) or ""]
    try:
        from fsspec.core import url_to_fs

        # Listings are never cached: other processes write too.
        options: dict[str, Any] = {"use_listings_cache": False}
        if scheme_of(url) == "local":
            options["auto_mkdir"] = True
        with naming(url):
            return url_to_fs(url, **options)
    except ImportError as error:
        raise SetupError(f"{url!r} takes {package}; pip install 'tfpipe[{extra}]' ({error}).") from error


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Turns errors of a store into a SetupError that names the URL, except those that say whether a file exists."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, ImportError, SetupError, UsageError):
        raise
    except Exception as error:  # The errors of botocore, aiohttp, google.auth and the drivers share no class.
        raise SetupError(f"{url}: {type(error).__name__}: {_first_line(error)}.") from error


@contextlib.contextmanager
def _naming_writes(url: str) -> Iterator[None]:
    """As `naming`, for writing: there, the only thing that can be missing is the bucket."""
    try:
        with naming(url):
            yield
    except FileNotFoundError as error:
        raise SetupError(f"{url} can't be written: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")


class StoreStatus(NamedTuple):
    """The part of os.stat_result that a store knows: an object's size in bytes."""

    st_size: int


@dataclass(frozen=True, order=True)
class StorePath:
    """A path in a store, used like a pathlib.Path.

    Attributes:
      url: without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> StorePath:
        """The path up to the last slash."""
        return StorePath(self.url.rpartition("/")[0])

    @contextlib.contextmanager
    def _opened(
        self, errors: Callable[[str], contextlib.AbstractContextManager[None]] = naming
    ) -> Iterator[tuple[Any, str]]:
        """The fsspec file system and the path in it; what fails in the block is reported by `errors`."""
        fs, path = open_store(self.url)
        with errors(self.url):
            yield fs, path

    def exists(self) -> bool:
        """Whether there is an object here, or objects below."""
        with self._opened() as (fs, path):
            return fs.exists(path)

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        with self._opened() as (fs, path):
            return fs.isdir(path)

    def is_file(self) -> bool:
        """Whether there is an object here."""
        with self._opened() as (fs, path):
            return fs.isfile(path)

    def stat(self) -> StoreStatus:
        """The object's size.

        Raises:
          FileNotFoundError: there is none.
        """
        with self._opened() as (fs, path):
            return StoreStatus(int(fs.info(path)["size"]))

    def read_bytes(self, begin: int | None = None, end: int | None = None) -> bytes:
        """The object's bytes, or those from `begin` up to `end`."""
        with self._opened() as (fs, path):
            return fs.cat_file(path, start=begin, end=end)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object as a binary file with random access."""
        with self._opened() as (fs, path):
            return fs.open(path, mode)

    def write_bytes(self, data: bytes) -> None:
        """Writes the object, in place of an earlier one, whole or not at all."""
        with self._opened(_naming_writes) as (fs, path):
            fs.pipe_file(path, data)

    def create_bytes(self, data: bytes) -> None:
        """Writes the object if there is none yet.

        Raises:
          FileExistsError: there is one.
        """
        with self._opened(_naming_writes) as (fs, path):
            fs.pipe_file(path, data, mode="create")

    def upload(self, file: Path) -> None:
        """Writes the bytes of a local file, in parts if it is large, whole or not at all."""
        with self._opened(_naming_writes) as (fs, path):
            fs.put_file(str(file), path)

    def copy_to(self, target: StorePath) -> None:
        """Copies the object to another path of the store, inside the store."""
        with self._opened() as (fs, path):
            fs.cp_file(path, fs._strip_protocol(target.url))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            with self._opened() as (fs, path):
                fs.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Iterator[StorePath]:
        """Yields the paths directly below, by name; none if nothing is there."""
        try:
            with self._opened() as (fs, path):
                names = [str(found).rstrip("/").rpartition("/")[2] for found in fs.ls(path, detail=False)]
        except FileNotFoundError:
            return
        yield from (self / name for name in sorted(set(names)) if name)

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Yields the paths directly below whose names match a pattern of the form *ENDING, by name."""
        yield from (path for path in self.iterdir() if path.name.endswith(pattern.removeprefix("*")))

    def remove_tree(self) -> None:
        """Removes everything below."""
        with contextlib.suppress(FileNotFoundError), self._opened() as (fs, path):
            fs.rm(path, recursive=True)


AnyPath = Path | StorePath


# ---- files on either


@contextlib.contextmanager
def local_copy(path: AnyPath) -> Iterator[Path]:
    """A local file with the bytes of a path: the file itself, or a copy that is removed at the end of the block."""
    if isinstance(path, Path):
        yield path
        return
    fs, stored = open_store(path.url)
    with tempfile.TemporaryDirectory() as folder:
        with naming(path.url):
            fs.get_file(stored, f"{folder}/{path.name}")
        yield Path(folder, path.name)


def replace_file(path: AnyPath, data: bytes, *, fsync: bool = True) -> None:
    """Writes a file, in place of an earlier one, whole or not at all; several writers do not disturb each other.

    Args:
      path: of the file.
      data: its bytes.
      fsync: wait until the bytes and the name are on the disk, so that the file survives a power cut.
    """
    if isinstance(path, StorePath):
        path.write_bytes(data)
        return
    draft = draft_path(path)
    try:
        write_file(draft, data)
        rename_drafts({draft: path}, fsync=fsync)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_file(path: AnyPath, data: bytes) -> None:
    """Writes a file, in place of an earlier one; the error of a full disk names it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def draft_path(path: Path) -> Path:
    """A new name beside a file, under which its bytes are written before they get its own.

    No two writers get the same. Process ids would not do: containers that share a folder have equal ones.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")


def rename_drafts(drafts: Mapping[Path, Path], *, fsync: bool = True) -> None:
    """Gives finished files their final names, one after the other, in place of earlier files.

    Args:
      drafts: for each draft, the final path.
      fsync: rename once all bytes are on the disk, and wait until the names are there too.
    """
    if fsync and drafts:
        # Together: a journal is then written once for several of them.
        with ThreadPoolExecutor(min(len(drafts), _SYNCS)) as pool:
            list(pool.map(sync_path, drafts))
    for draft, path in drafts.items():
        try:
            os.replace(draft, path)
        except OSError as error:
            error.filename = str(path)  # not the draft, a name that nobody knows
            raise
    if fsync:
        for folder in {path.parent for path in drafts.values()}:
            sync_path(folder)


def remove_drafts(folder: Path, *, older_than: float = 0) -> None:
    """Removes the drafts that killed writers left in a folder.

    Args:
      folder: it may be missing.
      older_than: leave drafts that were written to in so many seconds: where no lock says that nobody is writing.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if _DRAFT.fullmatch(path.name) and time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def make_folder(path: Path, *, fsync: bool = True) -> None:
    """Makes a folder and those above it, where they are missing; with `fsync`, their names survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if fsync:
        for folder in missing:
            sync_path(folder.parent)


def sync_path(path: Path) -> None:
    """Waits until the bytes of a file, or the names in a folder, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # Some network and FUSE file systems can't sync a folder, and one that may not be read can't be opened.
        if error.errno not in _NO_FOLDERS or not path.is_dir():
            error.filename = str(path)
            raise


def begin_sync(handle: int, begin: int, end: int) -> None:
    """Has the kernel begin to write a part of a file, so that fsync waits for little; only a hint, on Linux."""
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(handle, ctypes.c_int64(begin), ctypes.c_int64(end - begin), _BEGIN_WRITING)
