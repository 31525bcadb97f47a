"""Where files lie: on this machine, or in a store behind a URL such as gs://bucket/photos.

A place on this machine is a pathlib.Path, and nothing here stands between it and the disk. One in a store is a
`RemotePath`, which does the same through fsspec, with the driver that an extra of tfpipe brings. A store knows no
renames: it has single objects, each put whole or not at all.

    place = as_place("gs://bucket/photos_tfrecord") / "dataset.json"
    place.exists(), place.read_bytes()

What goes wrong in a store is a SetupError of one line, but for a file that is not there: that is a FileNotFoundError as
anywhere. Trying again is the driver's task: gcsfs and s3fs repeat what fails for a moment.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tfpipe.errors import SetupError, UsageError

# A scheme, the driver's package and tfpipe's extra that brings it; memory is one process's own, for trying things out.
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


def is_url(path: object) -> bool:
    """Whether a path names a place in one of STORES."""
    return isinstance(path, RemotePath) or (isinstance(path, str) and "://" in path and scheme_of(path) in STORES)


def scheme_of(path: str) -> str | None:
    """The scheme of a URL, in lower case; None of what is no URL."""
    match = _URL.match(path)
    return match[1].lower() if match else None


def as_place(path: str | os.PathLike[str] | RemotePath) -> Place:
    """The place that a path or a URL names; file:// names one on this machine.

    Raises:
      UsageError: a URL has a scheme that tfpipe does not know.
    """
    if isinstance(path, RemotePath):
        return path
    if not isinstance(path, str) or "://" not in path:
        return Path(path)
    return Path(path[len(_FILE) :]) if path.startswith(_FILE) else RemotePath(checked_url(path).rstrip("/"))


def checked_url(url: str) -> str:
    """The URL, if its scheme is known; a path without a scheme as it is.

    Raises:
      UsageError: it is not.
    """
    scheme = scheme_of(url)
    if scheme not in (None, "file", *STORES):
        raise UsageError(f"{url!r}: tfpipe knows no store {scheme!r}; it knows {[*STORES, 'file']}.")
    return url


def local_path(path: str) -> str:
    """A path without the file:// that it may begin with."""
    return path[len(_FILE) :] if path.startswith(_FILE) else path


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL's path in it.

    Raises:
      SetupError: the driver is missing, or can't be set up.
    """
    package, extra = STORES[scheme_of(url) or ""]
    try:
        from fsspec.core import url_to_fs

        # Each listing is to show what is there now: other processes write too.
        options: dict[str, Any] = {"use_listings_cache": False}
        if scheme_of(url) == "local":
            options["auto_mkdir"] = True
        with naming(url):
            return url_to_fs(url, **options)
    except ImportError as error:
        raise SetupError(f"{url!r} takes {package}; pip install 'tfpipe[{extra}]' ({error}).") from error


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Turns what a store raises into a SetupError that names the URL; whether something is there stays apart."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, ImportError, SetupError, UsageError):
        raise
    except Exception as error:  # Of botocore, aiohttp, google.auth and the drivers' own: they share no class.
        said = (str(error).splitlines() or [""])[0].rstrip(".")
        raise SetupError(f"{url}: {type(error).__name__}: {said}.") from error


@contextlib.contextmanager
def _putting(url: str) -> Iterator[None]:
    """As `naming`, for what is put: that something is not there can only be the bucket."""
    try:
        with naming(url):
            yield
    except FileNotFoundError as error:
        said = (str(error).splitlines() or [""])[0].rstrip(".")
        raise SetupError(f"{url} can't be written: {said}.") from error


class RemoteStatus(NamedTuple):
    """What `stat` tells of an object: its size in bytes."""

    st_size: int


@dataclass(frozen=True, order=True)
class RemotePath:
    """A place in a store, used like a pathlib.Path.

    Attributes:
      url: without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The place that holds this one."""
        return RemotePath(self.url.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether an object is here, or objects below."""
        fs, path = open_store(self.url)
        with naming(self.url):
            return fs.exists(path)

    def is_dir(self) -> bool:
        """Whether objects lie below."""
        fs, path = open_store(self.url)
        with naming(self.url):
            return fs.isdir(path)

    def is_file(self) -> bool:
        """Whether an object is here."""
        fs, path = open_store(self.url)
        with naming(self.url):
            return fs.isfile(path)

    def stat(self) -> RemoteStatus:
        """The object's size.

        Raises:
          FileNotFoundError: there is none.
        """
        fs, path = open_store(self.url)
        with naming(self.url):
            return RemoteStatus(int(fs.info(path)["size"]))

    def read_bytes(self, begin: int | None = None, end: int | None = None) -> bytes:
        """The object's bytes, or those from `begin` up to `end`."""
        fs, path = open_store(self.url)
        with naming(self.url):
            return fs.cat_file(path, start=begin, end=end)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object as a file of bytes that can be sought."""
        fs, path = open_store(self.url)
        with naming(self.url):
            return fs.open(path, mode)

    def write_bytes(self, data: bytes) -> None:
        """Puts an object in place of what was there, whole or not at all."""
        fs, path = open_store(self.url)
        with _putting(self.url):
            fs.pipe_file(path, data)

    def create_bytes(self, data: bytes) -> None:
        """Puts an object where there is none.

        Raises:
          FileExistsError: there is one.
        """
        fs, path = open_store(self.url)
        with _putting(self.url):
            fs.pipe_file(path, data, mode="create")

    def upload(self, file: Path) -> None:
        """Puts a file of this machine here, in parts where it is large, whole or not at all."""
        fs, path = open_store(self.url)
        with _putting(self.url):
            fs.put_file(str(file), path)

    def copy_to(self, target: RemotePath) -> None:
        """Copies the object to another place of the store; the store does it by itself."""
        fs, path = open_store(self.url)
        with naming(self.url):
            fs.cp_file(path, fs._strip_protocol(target.url))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        fs, path = open_store(self.url)
        try:
            with naming(self.url):
                fs.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Iterator[RemotePath]:
        """Yields the places directly below, by name; none where there is nothing."""
        fs, path = open_store(self.url)
        try:
            with naming(self.url):
                names = [str(found).rstrip("/").rpartition("/")[2] for found in fs.ls(path, detail=False)]
        except FileNotFoundError:
            return
        yield from (self / name for name in sorted(set(names)) if name)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yields the places directly below whose names end as a pattern of the form *ENDING says, by name."""
        yield from (place for place in self.iterdir() if place.name.endswith(pattern.removeprefix("*")))

    def remove_tree(self) -> None:
        """Removes everything below."""
        fs, path = open_store(self.url)
        with contextlib.suppress(FileNotFoundError), naming(self.url):
            fs.rm(path, recursive=True)


Place = Path | RemotePath


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """A file of this machine with what lies at a place: the file itself, or a copy that is gone afterwards."""
    if isinstance(place, Path):
        yield place
        return
    fs, path = open_store(place.url)
    with tempfile.TemporaryDirectory() as folder:
        with naming(place.url):
            fs.get_file(path, f"{folder}/{place.name}")
        yield Path(folder, place.name)
