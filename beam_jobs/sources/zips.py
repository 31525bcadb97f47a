"""Images in a zip archive, CLASS/**/file as in a folder, read in place: nothing is ever extracted.

Members are stored or deflated. One that would unpack to far more than it takes is refused before it is read, and one
whose stated size is wrong while it is read.
"""

from __future__ import annotations

import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from beam_jobs.sources.files import absolute, file_bytes, is_ignored, open_binary
from beam_jobs.sources.layout import Layout, find_layout, folders_of_paths
from beam_jobs.sources.listing import (
    OUTSIDE,
    Entry,
    LeftOut,
    Listed,
    Problem,
    Ref,
    Refusal,
    Refused,
    first_inputs,
    looks_like_image,
    member_problem,
    ordered_splits,
    printable,
    round_robin,
)
from beam_jobs.sources.slices import Slices
from tfpipe.errors import UsageError

# The most bytes that a member may state, and the most for each compressed byte. Photographs hardly shrink at all; the
# limit of deflate is 1032 times.
MOST_BYTES = 1 << 28
MOST_RATIO = 200

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


@dataclass(frozen=True)
class ZipSource:
    """CLASS/**/file, or SPLIT/CLASS/**/file, as in a folder; see FolderSource."""

    slices: Slices
    layout: Layout
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class",)

    # See Source for the members that have no docstring.
    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(self.layout.splits.values())

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        infos = list(_files(self.slices.paths[0]))
        outside = sum(not self._is_listed(info) and looks_like_image(info.filename) for info in infos)
        if outside:
            yield LeftOut(OUTSIDE, outside)
        entries = (self._entry(info) for info in infos if self._is_listed(info))
        if piece is None:
            yield from entries
            return
        classes: dict[str, list[Listed | Refused]] = {}
        for entry in entries:
            label = entry.label if isinstance(entry, Listed) else entry.key.partition("/")[0]
            classes.setdefault(label, []).append(entry)
        yield from first_inputs(round_robin(iter(part) for part in classes.values()), piece)

    def read(self, ref: Ref) -> bytes:
        offset, size, method, checksum = map(int, ref.locator.split(":"))
        header = self.slices.read(0, offset, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise Refusal("damaged_member", "The archive has no member where its directory says.")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        data = self.slices.read(0, offset + _LOCAL_HEADER.size + name_bytes + extra_bytes, size)
        if method == zipfile.ZIP_DEFLATED:
            data = _inflate(data, ref.size)
        if len(data) != ref.size or zlib.crc32(data) != checksum:
            raise Refusal("damaged_member", "The member's bytes do not match their CRC.")
        return data

    def _entry(self, info: zipfile.ZipInfo) -> Listed | Refused:
        problem = _problem(info)
        if problem:
            name = printable(info.orig_filename)
            return Refused(name, name, *problem)
        key = _name(info)
        locator = f"{info.header_offset}:{info.compress_size}:{info.compress_type}:{info.CRC}"
        label, split = self.layout.place(key) or ("", "")
        return Listed(key, label, split, info.file_size, (), locator)

    def _is_listed(self, info: zipfile.ZipInfo) -> bool:
        return bool(member_problem(info.orig_filename) or self.layout.place(_name(info)))


def open_zip(path: str, split_folders: str) -> ZipSource:
    """The source of a zip archive.

    Args:
      path: the archive.
      split_folders: which folders are splits: "auto", "yes" or "no"; see layout.find_layout.

    Raises:
      UsageError: it is no zip, has no folders, or some that may be splits or classes.
    """
    path = absolute(path)
    folders_in = folders_of_paths(_name(info).rpartition("/")[0] for info in _files(path) if not _problem(info))
    if not folders_in(""):
        raise UsageError(f"{path!r} holds no folders; a zip archive holds CLASS/image.jpg.")
    return ZipSource(Slices((path,)), find_layout(folders_in, split_folders, path))


def _files(path: str) -> Iterator[zipfile.ZipInfo]:
    """Yields the members that are files and not ignored."""
    try:
        with open_binary(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UsageError(f"{path!r} is not a valid zip archive: {error}.") from error
    if sum(info.compress_size for info in infos) > file_bytes(path):
        raise UsageError(f"The members of {path!r} overlap: together they are larger than the archive.")
    for info in infos:
        if info.is_dir() or any(map(is_ignored, _name(info).split("/"))):
            continue
        yield info


def _name(info: zipfile.ZipInfo) -> str:
    return posixpath.normpath(info.filename)


def _problem(info: zipfile.ZipInfo) -> Problem | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    problem = member_problem(info.orig_filename)
    if problem:
        return problem
    if kind not in (0, stat.S_IFREG):
        return "not_a_file", "The member is a link or a device."
    if info.flag_bits & _ENCRYPTED:
        return "encrypted", "The member is encrypted."
    if info.compress_type not in _METHODS:
        return "unsupported_format", f"The member is compressed by method {info.compress_type}, not stored or deflated."
    if not info.file_size:
        return "empty", "The member has no bytes."
    if info.file_size > MOST_BYTES or info.file_size > MOST_RATIO * info.compress_size:
        sizes = f"{info.compress_size} bytes would unpack to {info.file_size}"
        return "bomb", f"The member's {sizes}; {MOST_BYTES} bytes and {MOST_RATIO} times are allowed."
    return None


def _inflate(data: bytes, size: int) -> bytes:
    """The unpacked bytes; never more than one beyond the size that the directory states."""
    try:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise Refusal("damaged_member", f"The member can't be unpacked: {error}.") from error
    if len(unpacked) > size:
        raise Refusal("bomb", f"The member unpacks to more than the {size} bytes that it states.")
    return unpacked
