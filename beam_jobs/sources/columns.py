"""The columns of a listing by their meaning: which names the file, which the label, the split, the mask, the boxes.

A column goes by its name, in any case and with any of " ", "_" and "-" between its words, so that `Image Path`,
image_path and ImagePath are one; else by --file_column and its like. Where two columns could be meant, the error names
both and the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_jobs.sources.column_names import (
    BOX_FEATURES,
    BOX_LABEL_NAMES,
    FILE_ID_NAMES,
    FILE_NAMES,
    FOUR_CORNERS,
    HALF_SPLIT_NAMES,
    KEY_NAMES,
    LABEL_NAMES,
    MASK_NAMES,
    NO_LABELS,
    SIZE_NAMES,
    SPLIT_NAMES,
    WEAK_SPLIT_NAMES,
    WHOLE_BOXES,
    plain_name,
)
from beam_jobs.sources.listing import GROUP_COLUMN, MASK_COLUMN, check_columns, to_cell
from beam_jobs.sources.lookup import Lookup
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import UsageError
from tfpipe.format.schema import RESERVED
from tfpipe.format.splits import conflicting_words, split_of_word


@dataclass(frozen=True)
class BoxColumns:
    """The columns of boxes.

    Attributes:
      names: the four columns of one box's numbers, or the one of a whole box or a list of them.
      order: "xyxy", two corners, or "xywh", a corner and the sides.
      label: the column with the boxes' classes; None takes the row's label.
      size: the columns of the image's width and height; None where there are none.
    """

    names: tuple[str, ...]
    order: str
    label: str | None = None
    size: tuple[str, str] | None = None


@dataclass(frozen=True)
class RowColumns:
    """The columns of a row by their meaning.

    Attributes:
      file: the column that names the file.
      label: the column with the label; None where class_columns or no column has it.
      class_columns: columns of 0 and 1, each a class of --label_kind multi.
      split, key, mask, group: the columns of these; None where there is none.
      boxes: those of boxes; None where there are none.
      extras: all other columns, which ride along.
    """

    file: str
    label: str | None = None
    class_columns: tuple[str, ...] = ()
    split: str | None = None
    key: str | None = None
    mask: str | None = None
    group: str | None = None
    boxes: BoxColumns | None = None
    extras: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the additional columns in records, in the order of their cells."""
        marks = [MASK_COLUMN] * (self.mask is not None) + [GROUP_COLUMN] * (self.group is not None)
        return (*map(self.feature, self.extras), *marks)

    @property
    def used(self) -> tuple[str, ...]:
        """All columns besides the file's that a row is read for."""
        named = (self.label, *self.class_columns, self.split, self.key, self.group, *self.extras)
        return tuple(name for name in named if name is not None)

    def feature(self, column: str) -> str:
        """The name of an additional column in records: its own, unless they use that name for something else."""
        taken = [*RESERVED, *([GROUP_COLUMN] if self.group else []), *(BOX_FEATURES if self.boxes else [])]
        return f"column_{column}" if column in taken else column


class ColumnFinder:
    """Finds the columns of one listing.

    Args:
      names: all columns.
      listing: the file, for messages.
      options: of the source.
      sample: some of the first rows.
      values: all values of a column as cells; the listing is read through for it.
      lookup: finds the files that cells name; None where the rows hold the images, and neither masks nor boxes.
    """

    def __init__(
        self,
        names: Sequence[str],
        listing: str,
        options: SourceOptions,
        *,
        sample: Sequence[Mapping[str, Any]],
        values: Callable[[str], Iterable[str]],
        lookup: Lookup | None,
    ) -> None:
        self._names, self._listing, self._options = list(names), listing, options
        self._sample, self._values, self._lookup = sample, values, lookup
        self._taken: set[str] = set()

    def columns(self) -> RowColumns:
        """The columns by their meaning.

        Raises:
          UsageError: a column is missing or could be one of several, or an additional column can't be a feature.
        """
        self._check_once()
        given = self._options
        labels = given.label_column if given.label_kind != "none" else None
        label, class_columns = self._given_labels(labels)
        file = self._take(self._given(given.file_column, "file") or self._file())
        group = self._take(self._given(given.group_column, "group"))
        split = self._take(self._split())
        key = self._take(self._one(KEY_NAMES, "key"))
        mask = self._take(self._one(MASK_NAMES, "mask")) if self._lookup is not None else None
        boxes = self._boxes() if self._lookup is not None else None
        if label is None and not class_columns and given.label_kind != "none":
            label, class_columns = self._labels()
        extras = tuple(name for name in self._names if name not in self._taken)
        if split is None and given.split_column is None and group is None:
            self._check_no_split(extras)
        columns = RowColumns(str(file), label, class_columns, split, key, mask, group, boxes, extras)
        check_columns([columns.feature(name) for name in extras], self._listing)
        return columns

    # ---- by the options

    def _given(self, name: str | None, option: str) -> str | None:
        """The column that an option names, in its own or any case."""
        if name is None or name in self._names:
            return name
        alike = [column for column in self._names if plain_name(column) == plain_name(name)]
        if len(alike) != 1:
            raise UsageError(f"--{option}_column {name!r}: {self._listing!r} has the columns {self._names}.")
        return alike[0]

    def _given_labels(self, text: str | None) -> tuple[str | None, tuple[str, ...]]:
        """The label's column that --label_column names, or the 0/1 columns, with commas between them."""
        if text is None or text in self._names or "," not in text:
            return self._take(self._given(text, "label")), ()
        columns = tuple(str(self._given(name.strip(), "label")) for name in text.split(","))
        if self._options.label_kind != "multi":
            raise UsageError(f"--label_column {text!r} names several columns, which takes --label_kind multi.")
        for name in columns:
            self._take(name)
            if not _is_indicator(self._values(name)):
                raise UsageError(f"The column {name!r} of {self._listing!r} is no class: its cells are not 0 or 1.")
        return None, columns

    # ---- by names

    def _check_once(self) -> None:
        twice = [name for name in self._names if self._names.count(name) > 1]
        if twice:
            raise UsageError(f"The header of {self._listing!r} names the column {twice[0]!r} twice.")

    def _take(self, name: str | None) -> str | None:
        if name is not None:
            self._taken.add(name)
        return name

    def _named(self, names: Collection[str]) -> list[str]:
        """The free columns of these names, in the order of the names."""
        order = {name: i for i, name in enumerate(names)}
        free = [name for name in self._names if name not in self._taken and plain_name(name) in order]
        return sorted(free, key=lambda name: order[plain_name(name)])

    def _one(self, names: Collection[str], word: str) -> str | None:
        found = self._named(names)
        if len(found) > 1:
            raise UsageError(f"{self._listing!r} has the columns {found}, which can both be the {word}; rename one.")
        return found[0] if found else None

    def _file(self) -> str:
        named = [self._named(names) for names in (FILE_NAMES, FILE_ID_NAMES)]
        if len(named[0]) == 1:
            return named[0][0]
        for stems in (False, True):
            for candidates in named:
                if found := self._of_files(candidates, stems):
                    return found
            if found := self._of_files([name for name in self._names if name not in self._taken], stems):
                return found
        if named[0] or named[1]:
            return (named[0] or named[1])[0]
        raise UsageError(
            f"No column of {self._listing!r} is known as the file; it has {self._names}. --file_column says which "
            "it is, --image_root where the files are."
        )

    def _of_files(self, candidates: Sequence[str], stems: bool) -> str | None:
        """The column of which cells in the sample name files that are there; of several, all must name the same."""
        there = {name: self._paths(name, stems) for name in candidates}
        found = [name for name in candidates if any(there[name])]
        if found and any(there[name] != there[found[0]] for name in found):
            raise UsageError(
                f"Files are there for the columns {found} of {self._listing!r}; --file_column says which to take."
            )
        return found[0] if found else None

    def _paths(self, column: str, stems: bool) -> list[str | None]:
        cells = (to_cell(row.get(column)) for row in self._sample)
        return [self._lookup.is_there(cell, stems=stems) if self._lookup else None for cell in cells]

    def _split(self) -> str | None:
        given = self._options.split_column
        if given is not None and (given != "none" or "none" in self._names):
            return self._given(given, "split")
        if given == "none":
            return None
        strong = self._named(SPLIT_NAMES)
        weak = [name for name in self._named(WEAK_SPLIT_NAMES) if self._says_splits(name)]
        found = strong or weak
        if len(found) > 1:
            raise UsageError(
                f"The columns {found} of {self._listing!r} can both be the split; --split_column says which it is."
            )
        if found and self._options.group_column is not None:
            raise UsageError(
                f"--group_column {self._options.group_column!r} splits by groups, and the column {found[0]!r} of "
                f"{self._listing!r} assigns splits; --split_column none leaves those out."
            )
        return found[0] if found else None

    def _says_splits(self, name: str) -> bool:
        """Whether the cells of a column are split words: all, or none."""
        words = {cell.strip() for cell in self._values(name)}
        splits = {word for word in words if split_of_word(word)}
        if splits and splits != words:
            raise UsageError(
                f"The column {name!r} of {self._listing!r} holds {min(splits)!r} and {min(words - splits)!r}: it may "
                f"be the split. --split_column {name} takes it, with these names; --split_column none does not."
            )
        return bool(splits)

    def _check_no_split(self, extras: Sequence[str]) -> None:
        """Refuses columns of other names that may say the split."""
        for name in extras:
            cells = {to_cell(row.get(name)).strip() for row in self._sample}
            if cells and all(map(split_of_word, cells)):
                raise UsageError(
                    f"The column {name!r} of {self._listing!r} holds {min(cells)!r}: it may be the split. "
                    f"--split_column {name} takes it, --split_column none does not."
                )
            if plain_name(name) in HALF_SPLIT_NAMES and _is_indicator(cells):
                raise UsageError(
                    f"The column {name!r} of {self._listing!r} may say which records are for training, but not what "
                    "the others are: write train, validation and test into a column `split`, or take --split_column "
                    "none."
                )

    def _labels(self) -> tuple[str | None, tuple[str, ...]]:
        found = self._named(LABEL_NAMES)
        if len(found) == 1:
            return self._take(found[0]), ()
        if found:
            raise UsageError(
                f"The columns {found} of {self._listing!r} can both be the label; --label_column says which it is."
            )
        free = [name for name in self._names if name not in self._taken and plain_name(name) not in NO_LABELS]
        indicators = [name for name in free if _is_indicator(self._values(name))]
        if self._options.label_kind == "multi" and indicators:
            self._taken.update(indicators)
            return None, tuple(indicators)
        if len(free) == 1 and self._looks_like_a_label(free[0]):
            return self._take(free[0]), ()
        hint = f" The columns {indicators} hold 0 and 1: --label_kind multi takes each as a class."
        raise UsageError(
            f"No column of {self._listing!r} is known as the label; it has {self._names}. --label_column says which "
            f"it is; --label_kind none takes images without labels.{hint if len(indicators) > 1 else ''}"
        )

    def _looks_like_a_label(self, name: str) -> bool:
        """Whether the cells of the only column left are classes or numbers, and no sentences or names of records."""
        cells = [to_cell(row.get(name)).strip() for row in self._sample]
        if self._options.label_kind == "number":
            return True
        return all(len(cell.split()) <= 4 for cell in cells) and (len(set(cells)) < len(cells) or len(cells) < 20)

    # ---- boxes

    def _boxes(self) -> BoxColumns | None:
        by_name = {plain_name(name): name for name in self._names if name not in self._taken}
        fours = [(tuple(by_name[n] for n in names), order) for names, order in FOUR_CORNERS if set(names) <= {*by_name}]
        whole = [((by_name[name],), order) for name, order in WHOLE_BOXES.items() if name in by_name]
        if not fours and not whole:
            return None
        if len(whole) > 1 or (fours and whole):
            both = [name for names, _ in (*fours[:1], *whole) for name in names]
            raise UsageError(
                f"The columns {both} of {self._listing!r} can all be the boxes; rename those that are not."
            )
        names, order = (fours or whole)[0]
        if whole and not self._hold_boxes(names[0]):
            return None
        size = tuple(next((by_name[n] for n in known if n in by_name), None) for known in SIZE_NAMES)
        label = self._one(BOX_LABEL_NAMES, "boxes' labels")
        for name in (*names, *([label] if label else [])):
            self._take(name)
        sides = (str(size[0]), str(size[1])) if None not in size else None
        return BoxColumns(names, self._options.box_order or order, label, sides)

    def _hold_boxes(self, column: str) -> bool:
        """Whether a column that is called after boxes holds some: lists, or texts with four numbers."""
        cells = [row[column] for row in self._sample if row.get(column) not in (None, "")]
        return bool(cells) and all(isinstance(c, list) or len(re.findall(r"[\d.]+", to_cell(c))) >= 4 for c in cells)


def _is_indicator(cells: Iterable[str]) -> bool:
    """Whether all cells say yes or no: 0 and 1, -1 and 1, or true and false; an empty one says neither."""
    found: set[str] = set()
    for cell in cells:
        found.add(cell.strip().lower())
        if len(found) > 2:
            return False
    return any(found <= {no, yes} for no, yes in (("0", "1"), ("0.0", "1.0"), ("-1", "1"), ("false", "true")))


def says_yes(cell: str) -> bool:
    """Whether a cell of a 0/1 column says yes."""
    return cell.strip().lower() in ("1", "1.0", "true")


def split_names(words: Iterable[str], column: str, listing: str) -> dict[str, str]:
    """The split of each word of a column: by the table of split words, or else the word itself.

    Raises:
      UsageError: a word is a number, or two words name one split and mean different things.
    """
    words = sorted({word.strip() for word in words} - {""})
    option = "--split_column names another column, --split_column none takes none"
    both = conflicting_words(words)
    if both:
        split = split_of_word(both[0])
        raise UsageError(
            f"The column {column!r} of {listing!r} holds {both[0]!r} and {both[1]!r}, which can both be the "
            f"split {split!r}; {option}."
        )
    strange = next((word for word in words if not split_of_word(word) and not re.fullmatch(r"[A-Za-z]\w*", word)), None)
    if strange is not None:
        raise UsageError(f"The column {column!r} of {listing!r} holds {strange!r}, which names no split; {option}.")
    return {word: split_of_word(word) or word for word in words}
