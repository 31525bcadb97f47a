"""Images in tar archives, read in place: nothing is ever extracted.

A WebDataset tar holds samples: neighbouring members whose names agree up to the first dot of the last part. One of them
is the image; the label is in NAME.cls, or under "label" or "cls" in NAME.json; NAME.txt and the other values of the
JSON are additional columns, empty where a sample lacks them. NAME.seg.png is the mask, where every sample has one.
Other members are left out and counted. A tar whose images have no .cls or .json beside them holds CLASS/**/file, as a
folder would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from beam_jobs.sources.files import absolute, map_files
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.layout import Layout, file_splits, find_layout, folders_of_paths, split_folders_only
from beam_jobs.sources.listing import (
    IMAGE_ENDINGS,
    MASK_COLUMN,
    MOST_COLUMNS,
    OUTSIDE,
    Entry,
    LeftOut,
    Listed,
    Ref,
    Refusal,
    Refused,
    check_columns,
    check_names,
    looks_like_image,
    mask_dtypes,
    ordered_splits,
    to_cell,
)
from beam_jobs.sources.members import Member, check_tar, read_members
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.slices import FilePiece, Slices, entries_of_files, file_pieces
from tfpipe.errors import UsageError
from tfpipe.format.schema import RESERVED
from tfpipe.format.splits import split_of_file
from tfpipe.storage import is_url

_LABELS = ("label", "cls")
_TEXTS = ("cls", "txt", "json")
_MASK = "seg.png"
# A larger .cls, .txt or .json member is no label and no caption.
_MOST_TEXT = 1 << 20


@dataclass(frozen=True)
class TarSource:
    """One tar or several. The key is the image's name in the archive, after the archive's where there are several.

    Attributes:
      slices: the archives.
      prefixes: what comes before the names of each in keys.
      file_splits: the split that each archive's name says; "" where none does.
      layout: where classes and splits are, by the folders of the members.
      has_samples: whether the archives hold WebDataset samples; else the members are CLASS/**/file.
      columns: of the samples, the mask last where there is one.
    """

    slices: Slices
    prefixes: tuple[str, ...]
    file_splits: tuple[str, ...]
    layout: Layout
    has_samples: bool
    columns: tuple[str, ...] = ()
    is_unlabelled: bool = False
    class_names: tuple[str, ...] | None = None

    # See Source for the members that have no docstring.
    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return mask_dtypes(self.columns)

    @property
    def splits(self) -> tuple[str, ...]:
        return ordered_splits(self.layout.splits.values() or self.file_splits)

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return ("class", "multi", "number", "none") if self.has_samples else ("class",)

    def pieces(self, limit: int | None) -> list[Any]:
        return file_pieces(len(self.slices.paths), limit)

    def entries(self, piece: FilePiece) -> Iterator[Entry]:
        return entries_of_files(piece, self._entries_of)

    def read(self, ref: Ref) -> bytes:
        return self.slices.read_at(ref.locator.partition("@")[0], ref.size)

    def read_mask(self, ref: Ref) -> bytes:
        number, offset, size = map(int, ref.locator.partition("@")[2].split(":"))
        return self.slices.read(number, offset, size)

    def _entries_of(self, number: int) -> Iterator[Entry]:
        for sample in _samples(self.slices.paths[number]):
            if isinstance(sample, Refused):
                yield sample._replace(key=self.prefixes[number] + sample.key if sample.key else "")
            elif self.has_samples:
                yield from self._sample(number, sample)
            else:
                for member in sample:
                    yield from self._in_folder(number, member)

    def _in_folder(self, number: int, member: Member) -> Iterator[Entry]:
        place = self.layout.place(member.name)
        if place is not None:
            yield self._list_member(number, member, *place, ())
        elif looks_like_image(member.name):
            yield LeftOut(OUTSIDE)

    def _list_member(self, number: int, member: Member, label: str, split: str, extras: tuple[str, ...]) -> Entry:
        key = self.prefixes[number] + member.name
        if not member.size:
            return Refused(key, key, "empty", "The member has no bytes.")
        split = split or self.file_splits[number]
        return Listed(key, label, split, member.size, extras, f"{number}:{member.offset}")

    def _sample(self, number: int, members: Sequence[Member]) -> Iterator[Entry]:
        images = [member for member in members if member.ending in IMAGE_ENDINGS]
        if len(images) != 1 or len({member.name for member in members}) < len(members):
            yield from _no_single_image(self.prefixes[number], members, images)
            return
        masked = MASK_COLUMN in self.columns
        try:
            values, left_out = _values(self.slices, number, members)
            label = "" if self.is_unlabelled else label_text(values.get("label"))
            extras = tuple("" if name == MASK_COLUMN else to_cell(values.get(name)) for name in self.columns)
            check_names(label, *extras)
            split = self.layout.splits.get(members[0].name.removeprefix(self.layout.top).partition("/")[0], "")
            entry = self._list_member(number, images[0], label, split, extras)
            mask = next((member for member in members if member.ending == _MASK), None)
            if masked and mask is not None and isinstance(entry, Listed):
                entry = entry._replace(locator=f"{entry.locator}@{number}:{mask.offset}:{mask.size}")
        except Refusal as refusal:
            yield refusal.of(self.prefixes[number] + images[0].name)
            return
        known = (*_TEXTS, images[0].ending, *([_MASK] if masked else []))
        left_out += [f"{member.ending or 'unnamed'}_members" for member in members if member.ending not in known]
        yield from map(LeftOut, left_out)
        yield entry


def open_tars(paths: Sequence[str], names: Sequence[str], options: SourceOptions) -> TarSource:
    """The source of one or several tar archives.

    Args:
      paths: the archives.
      names: the name of each in its records' keys, where there are several.
      options: of the source; see beam_jobs.sources.layout for split_folders.

    Raises:
      UsageError: one is compressed or no tar, a column can't be a feature, or folders may be splits or classes.
    """
    paths = [absolute(path) for path in paths]
    for path in paths:
        check_tar(path)
    slices = Slices(tuple(paths))
    prefixes = tuple(f"{name}/" if len(paths) > 1 else "" for name in names)
    found = _Found()
    for number in range(len(paths)):
        found.add_archive(slices, number)
    is_unlabelled = options.label_kind == "none"
    has_samples = is_unlabelled or found.is_labelled or not found.has_folders
    columns = found.columns() if has_samples else ()
    check_columns([name for name in columns if name != MASK_COLUMN], paths[0])
    splits, layout = _splits_of(found, names, has_samples, options.split_folders, paths[0])
    return TarSource(slices, prefixes, splits, layout, has_samples, columns, is_unlabelled=is_unlabelled)


@dataclass
class _Found:
    """What a first pass through all archives finds: headers, and the names in each .json.

    Attributes:
      folders: of each archive, those that hold members; "" for its top.
      fields: the names in the samples' .json members.
      is_labelled: whether an image has a .cls or .json beside it.
      has_texts: whether one has a .txt.
      samples: how many samples with one image there are.
      masks: how many of them have a mask.
    """

    folders: list[set[str]] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)
    is_labelled: bool = False
    has_texts: bool = False
    samples: int = 0
    masks: int = 0

    @property
    def has_folders(self) -> bool:
        """Whether any member is in a folder."""
        return any(folders - {""} for folders in self.folders)

    def columns(self) -> tuple[str, ...]:
        """The columns of samples, sorted, the mask last."""
        names = self.fields | ({"txt"} if self.has_texts else set())
        return (*sorted(names), *([MASK_COLUMN] if self.samples and self.masks == self.samples else []))

    def add_archive(self, slices: Slices, number: int) -> None:
        """Goes through one more archive."""
        self.folders.append(set())
        texts = self._texts_of(slices.paths[number])
        read = partial(_json_of, slices, number)
        for values in map_files(read, texts, concurrent=is_url(slices.paths[number])):
            self.fields |= _fields_of(values).keys()
            if len(self.fields) > MOST_COLUMNS:
                raise UsageError(f"The .json members of {slices.paths[number]!r} have more than {MOST_COLUMNS} fields.")

    def _texts_of(self, path: str) -> Iterator[Member]:
        for sample in _samples(path):
            if isinstance(sample, Refused):
                continue
            self.folders[-1] |= {member.name.rpartition("/")[0] for member in sample}
            endings = {member.ending: member for member in sample}
            if len([ending for ending in endings if ending in IMAGE_ENDINGS]) != 1:
                continue
            self.samples += 1
            self.masks += _MASK in endings
            self.is_labelled |= "cls" in endings or "json" in endings
            self.has_texts |= "txt" in endings
            if "json" in endings:
                yield endings["json"]


def _splits_of(
    found: _Found, names: Sequence[str], has_samples: bool, mode: str, where: str
) -> tuple[tuple[str, ...], Layout]:
    """The split of each archive by its name, and the layout of the folders inside."""
    folders_in = folders_of_paths(folder for folders in found.folders for folder in folders)
    if mode == "yes" and all(map(split_of_file, names)):
        return file_splits(names, "yes"), Layout() if has_samples else find_layout(folders_in, "auto", where)
    splits = file_splits(names, "no" if mode == "no" else "auto")
    if has_samples:
        # Their label is in a text: folders say nothing but a split.
        return splits, split_folders_only({folder for folders in found.folders for folder in folders}, mode, where)
    layout = find_layout(folders_in, mode, where)
    for name, split, folders in zip(names, splits, found.folders, strict=True):
        inside = {place[1] for folder in folders if (place := layout.place(f"{folder}/"))} - {""}
        if split and inside - {split}:
            raise UsageError(
                f"{name!r} is named like the split {split!r} and holds folders of {sorted(inside)}; rename it."
            )
    return splits, layout


def _samples(path: str) -> Iterator[Refused | list[Member]]:
    """Yields the samples of an archive: neighbouring members of one name; and what is refused."""
    sample: list[Member] = []
    for member in read_members(path):
        if isinstance(member, Refused):
            yield member
            continue
        if sample and member.sample != sample[0].sample:
            yield sample
            sample = []
        sample.append(member)
    if sample:
        yield sample


def _no_single_image(prefix: str, members: Sequence[Member], images: Sequence[Member]) -> Iterator[Refused]:
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


def _values(slices: Slices, number: int, members: Sequence[Member]) -> tuple[dict[str, Any], list[str]]:
    """The label and the columns of a sample, and what of its .json is left out.

    Raises:
      Refusal: they can't be read, or say two things.
    """
    texts = {member.ending: member for member in members if member.ending in _TEXTS}
    if any(member.size > _MOST_TEXT for member in texts.values()):
        raise Refusal("bad_row", f"A text member is larger than {_MOST_TEXT} bytes.")
    described = _json_of(slices, number, texts["json"]) if "json" in texts else {}
    if isinstance(described, Refusal):
        raise described
    plain = {
        ending: slices.read(number, member.offset, member.size).decode("utf-8", "surrogateescape")
        for ending, member in texts.items()
        if ending != "json"
    }
    stated = next((described[name] for name in _LABELS if described.get(name) is not None), None)
    label = plain.get("cls", stated)
    if "cls" in plain and stated is not None and label_text(plain["cls"]) != label_text(stated):
        detail = f"The .cls member says {plain['cls'].strip()[:80]!r} and the .json member {str(stated)[:80]!r}."
        raise Refusal("bad_label", detail)
    values = _fields_of(described)
    if "txt" in plain and "txt" in values and to_cell(values["txt"]) != plain["txt"]:
        raise Refusal("bad_row", "The .txt member and the field 'txt' of the .json member say two things.")
    values |= {"label": label} | ({"txt": plain["txt"]} if "txt" in plain else {})
    return values, [f"{name}_fields" for name in described if name in RESERVED and name not in _LABELS]


def _fields_of(values: Any) -> dict[str, Any]:
    """The fields of a .json member that become columns: not the label, nor names that records use themselves."""
    if not isinstance(values, dict):
        return {}
    label = next((name for name in _LABELS if values.get(name) is not None), None)
    return {name: value for name, value in values.items() if name != label and name not in RESERVED}


def _json_of(slices: Slices, number: int, member: Member) -> Any:
    """The object in a .json member, or the Refusal of one that holds none."""
    try:
        values = json.loads(slices.read(number, member.offset, member.size if member.size <= _MOST_TEXT else 0))
    except (ValueError, RecursionError) as error:
        return Refusal("bad_row", f"The .json member is not JSON: {error}.")
    return values if isinstance(values, dict) else Refusal("bad_row", "The .json member is not a JSON object.")
