"""Images in tar archives, read in place: nothing is ever extracted.

A WebDataset tar holds samples: neighbouring members whose names agree up to the first dot of the last part. One of them
is the image; the label is in NAME.cls, or under "label" or "cls" in NAME.json; NAME.txt and the other values of the
JSON are additional columns. A tar without any .cls or .json holds CLASS/**/file, as a folder would.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from beam_jobs.sources.files import absolute, open_binary
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import (
    Entry,
    Listed,
    Ref,
    Refusal,
    Refused,
    check_columns,
    check_names,
    member_problem,
    ordered_splits,
    printable,
    splits_from_names,
    to_cell,
)
from beam_jobs.sources.slices import FilePiece, Slices, entries_of_files, file_pieces
from tfpipe.errors import UsageError
from tfpipe.format.schema import RESERVED
from tfpipe.storage import is_url

IMAGE_ENDINGS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp"})
_LABELS = ("cls", "label")
# A larger .cls, .txt or .json member is no label and no caption.
_MOST_TEXT = 1 << 20
# This many members of the first tar are read to distinguish a WebDataset from folders in a tar.
_PEEKED = 256
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}


class _Member(NamedTuple):
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
        return self.name.rpartition("/")[2].partition(".")[2].lower()


@dataclass(frozen=True)
class TarSource:
    """One tar or several. The key is the image's name in the archive, after the archive's where there are several."""

    slices: Slices
    prefixes: tuple[str, ...]
    file_splits: tuple[str, ...]
    has_samples: bool
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None

    # See Source for the members that have no docstring.
    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(self.file_splits)

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return ("class", "multi", "number") if self.has_samples else ("class",)

    def pieces(self, limit: int | None) -> list[Any]:
        return file_pieces(len(self.slices.paths), limit)

    def entries(self, piece: FilePiece) -> Iterator[Entry]:
        return entries_of_files(piece, self._entries_of)

    def read(self, ref: Ref) -> bytes:
        return self.slices.read_at(ref.locator, ref.size)

    def _entries_of(self, number: int) -> Iterator[Entry]:
        sample: list[_Member] = []
        for member in _members(self.slices.paths[number]):
            if isinstance(member, Refused):
                key = self.prefixes[number] + member.key if member.key else ""
                yield member._replace(key=key)
            elif not self.has_samples:
                yield from self._in_folder(number, member)
            else:
                if sample and member.sample != sample[0].sample:
                    yield from self._sample(number, sample)
                    sample = []
                sample.append(member)
        if sample:
            yield from self._sample(number, sample)

    def _in_folder(self, number: int, member: _Member) -> Iterator[Entry]:
        label, slash, _ = member.name.partition("/")
        if slash:
            yield self._list_member(number, member, label, ())

    def _list_member(self, number: int, member: _Member, label: str, extras: tuple[str, ...]) -> Entry:
        key = self.prefixes[number] + member.name
        if not member.size:
            return Refused(key, key, "empty", "The member has no bytes.")
        return Listed(key, label, self.file_splits[number], member.size, extras, f"{number}:{member.offset}")

    def _sample(self, number: int, members: Sequence[_Member]) -> Iterator[Entry]:
        images = [member for member in members if member.ending in IMAGE_ENDINGS]
        if len(images) != 1 or len({member.name for member in members}) < len(members):
            yield from _no_single_image(self.prefixes[number], members, images)
            return
        try:
            values = _values(self.slices, number, members)
            if strange := sorted(set(values) - {"label", *self.columns}):
                raise Refusal("bad_row", f"It has {strange[0]!r}, which the first sample lacks.")
            label = label_text(values.get("label"))
            extras = tuple(to_cell(values.get(name)) for name in self.columns)
            check_names(label, *extras)
            entry = self._list_member(number, images[0], label, extras)
        except Refusal as refusal:
            entry = refusal.of(self.prefixes[number] + images[0].name)
        yield entry


def open_tars(paths: Sequence[str], names: Sequence[str]) -> TarSource:
    """The source of one or several tar archives.

    Args:
      paths: the archives.
      names: the name of each in its records' keys, where there are several.

    Raises:
      UsageError: one is compressed or no tar, or a column can't be a feature.
    """
    paths = [absolute(path) for path in paths]
    for path in paths:
        _check_tar(path)
    prefixes = tuple(f"{name}/" if len(paths) > 1 else "" for name in names)
    splits = tuple(splits_from_names(paths) or [""] * len(paths))
    peeked = [member for member in islice(_members(paths[0]), _PEEKED) if isinstance(member, _Member)]
    texts = any(member.ending in ("cls", "json") for member in peeked)
    has_samples = texts or not any("/" in member.name for member in peeked)
    columns = _columns(Slices((paths[0],)), peeked) if has_samples else ()
    check_columns(columns, paths[0])
    return TarSource(Slices(tuple(paths)), prefixes, splits, has_samples, columns)


def _check_tar(path: str) -> None:
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


def _columns(slices: Slices, members: Sequence[_Member]) -> tuple[str, ...]:
    """The columns of the first sample with an image, besides its label."""
    first = next((member.sample for member in members if member.ending in IMAGE_ENDINGS), None)
    try:
        values = _values(slices, 0, [member for member in members if member.sample == first])
    except Refusal:
        return ()
    return tuple(sorted(set(values) - {"label"}))


def _no_single_image(prefix: str, members: Sequence[_Member], images: Sequence[_Member]) -> Iterator[Refused]:
    copies = Counter(member.name for member in members)
    for member in members:
        if copies[member.name] > 1:
            name = prefix + member.name
            yield Refused(name, name, "duplicate_key", f"The member occurs {copies[member.name]} times.")
    if len(copies) < len(members):
        return
    key, endings = prefix + members[0].sample, sorted({member.ending for member in members})
    reason = "several_images" if images else "no_image"
    yield Refused(
        key, key, reason, f"A sample has one image; this one has {len(images)}: its members end in {endings}."
    )


def _values(slices: Slices, number: int, members: Sequence[_Member]) -> dict[str, Any]:
    """The label and the additional columns of a sample; raises a Refusal where they can't be read."""
    texts = {member.ending: member for member in members if member.ending in ("cls", "txt", "json")}
    if any(member.size > _MOST_TEXT for member in texts.values()):
        raise Refusal("bad_row", f"A text member is larger than {_MOST_TEXT} bytes.")
    read = {ending: slices.read(number, member.offset, member.size) for ending, member in texts.items()}
    decoded = {ending: data.decode("utf-8", "surrogateescape") for ending, data in read.items()}
    values: dict[str, Any] = {}
    if "json" in decoded:
        try:
            values = json.loads(decoded["json"])
        except (ValueError, RecursionError) as error:
            raise Refusal("bad_row", f"The .json member is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise Refusal("bad_row", "The .json member is not a JSON object.")
    label = decoded["cls"] if "cls" in decoded else next((values[name] for name in _LABELS if name in values), None)
    # Names that records use themselves, such as img2dataset's "key", say nothing new.
    kept = {name: value for name, value in values.items() if name not in (*_LABELS, *RESERVED)}
    return kept | {"label": label} | ({"txt": decoded["txt"]} if "txt" in decoded else {})


def _members(path: str) -> Iterator[_Member | Refused]:
    """Yields the files of a tar in order, without dot files; refuses what is no file or leads elsewhere."""
    archive = os.path.basename(path)
    with _open_tar(path) as tar:
        while True:
            try:
                info = tar.next()
            except (tarfile.TarError, OSError, ValueError) as error:
                yield Refused("", archive, "bad_archive", f"The archive is damaged at byte {tar.offset}: {error}.")
                return
            if info is None:
                break
            tar.members = []  # type: ignore[attr-defined] # tarfile keeps them all: 1 kB each.
            member = _member(info)
            if member is not None:
                yield member
        end = tar.offset
    # tarfile takes a damaged header for the end, silently.
    if any(Slices((path,)).read(0, end, tarfile.BLOCKSIZE)):
        yield Refused("", archive, "bad_archive", f"The archive is damaged at byte {end}; what follows is lost.")


def _open_tar(path: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=open_binary(path), mode="r:") if is_url(path) else tarfile.open(path, "r:")


def _member(info: tarfile.TarInfo) -> _Member | Refused | None:
    name = info.name.removeprefix("./")
    last = name.rpartition("/")[2]
    if info.isdir() or (last.startswith(".") and last != ".."):
        return None
    shown = printable(name)
    problem = member_problem(name)
    if problem is None and (not info.isreg() or info.issparse()):
        problem = "not_a_file", "The member is a link, a device or a sparse file."
    if problem:
        return Refused(shown, shown, *problem)
    return _Member(posixpath.normpath(name), info.offset_data, info.size)
