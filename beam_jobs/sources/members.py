"""The members of a tar archive, read header by header: nothing is unpacked, and nothing kept."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from beam_jobs.sources.files import is_ignored, open_binary
from beam_jobs.sources.listing import Refused, member_problem, printable
from beam_jobs.sources.slices import Slices
from tfpipe.errors import UsageError
from tfpipe.storage import is_url

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}


class Member(NamedTuple):
    """A file in an archive: its name, and where its bytes are."""

    name: str
    offset: int
    size: int

    @property
    def sample(self) -> str:
        """The name up to the first dot of its last part."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]

    @property
    def ending(self) -> str:
        """What follows that dot, in lower case, such as "seg.png"."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


def check_tar(path: str) -> None:
    """Raises a UsageError where a file is compressed, or no tar archive."""
    with open_binary(path) as file:
        start = file.read(2)
    if start in _COMPRESSED:
        raise UsageError(
            f"{path!r} is compressed; tar archives are read in place, which takes an uncompressed one: "
            f"{_COMPRESSED[start]} it first."
        )
    try:
        _open_tar(path).close()
    except tarfile.TarError as error:
        raise UsageError(f"{path!r} is not a tar archive: {error}.") from error


def read_members(path: str) -> Iterator[Member | Refused]:
    """Yields the files of a tar in order, without what is ignored; refuses what is no file or leads elsewhere."""
    archive = os.path.basename(path)
    with _open_tar(path) as tar:
        try:
            info: tarfile.TarInfo | Member | None = tar.next()
            while info is not None:
                member = _member(info)
                if member is not None:
                    yield member
                info = _next(tar)
        except (tarfile.TarError, OSError, ValueError) as error:
            yield Refused("", archive, "bad_archive", f"The archive is damaged at byte {tar.offset}: {error}.")
            return
        end = tar.offset
    # tarfile takes a damaged header for the end, silently.
    if any(Slices((path,)).read(0, end, tarfile.BLOCKSIZE)):
        yield Refused("", archive, "bad_archive", f"The archive is damaged at byte {end}; what follows is lost.")


def _open_tar(path: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=open_binary(path), mode="r:") if is_url(path) else tarfile.open(path, "r:")


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | Member | None:
    """The next header: a plain one by its fields alone, several times as fast; all others by tarfile."""
    tar.members = []  # type: ignore[attr-defined] # tarfile keeps them all: 1 kB each.
    file = tar.fileobj
    if file is None or tar.pax_headers:  # These change what follows.
        return tar.next()
    file.seek(tar.offset)
    member = _plain(file.read(tarfile.BLOCKSIZE), tar.offset)
    if member is None:
        file.seek(0)  # tarfile looks for a cut only where it isn't at its place already.
        return tar.next()
    blocks = -(-member.size // tarfile.BLOCKSIZE)
    tar.offset = member.offset + blocks * tarfile.BLOCKSIZE
    return member


def _plain(block: bytes, offset: int) -> Member | None:
    """The member of a sound POSIX or GNU header of a regular file with a short name; None for anything else."""
    if len(block) < tarfile.BLOCKSIZE or block[257:262] != b"ustar" or block[156] != 0x30 or block[345]:
        return None
    size, stated = block[124:136], block[148:156]
    try:
        if int(stated.strip(b" \0"), 8) != sum(block) - sum(stated) + len(stated) * 0x20:
            return None
        num_bytes = int(size.strip(b" \0"), 8)
    except ValueError:
        return None
    name = block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return Member(name, offset + tarfile.BLOCKSIZE, num_bytes) if name and num_bytes >= 0 else None


def _member(info: tarfile.TarInfo | Member) -> Member | Refused | None:
    name = info.name.removeprefix("./")
    is_file = isinstance(info, Member) or (info.isreg() and not info.issparse())
    if (not is_file and isinstance(info, tarfile.TarInfo) and info.isdir()) or any(map(is_ignored, name.split("/"))):
        return None
    shown = printable(name)
    problem = member_problem(name)
    if problem is None and not is_file:
        problem = "not_a_file", "The member is a link, a device or a sparse file."
    if problem:
        return Refused(shown, shown, *problem)
    offset = info.offset if isinstance(info, Member) else info.offset_data
    return Member(posixpath.normpath(name), offset, info.size)
