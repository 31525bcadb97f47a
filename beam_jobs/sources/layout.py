"""Which folders of an input are splits and which are classes, and which files name their split.

    layout = find_layout(folders_in, "auto", "photos.zip")       # flowers/Training/rose/1.jpg
    layout.top, layout.splits                                     # "flowers/", {"Training": "train", "Testing": "test"}
    layout.place("flowers/Training/rose/1.jpg")                   # ("rose", "train")

What can be read in two ways is refused, with the option that decides: --split_folders yes or no.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tfpipe.errors import UsageError
from tfpipe.format.splits import SPLIT_WORDS, conflicting_words, plain_word, split_of_word, split_words_in

# Folders that hold nothing but one folder are gone down to this depth: a link may lead in a circle.
_DEEPEST = 16
_MOST_NAMED = 8


@dataclass(frozen=True)
class Layout:
    """Where the classes of an input are.

    Attributes:
      top: the folders above splits and classes, such as "flowers/"; "" where there are none.
      splits: the split of each folder in `top` that holds classes; empty where these folders are the classes.
      others: the folders that are named by split words too, and hold no classes.
    """

    top: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def place(self, path: str) -> tuple[str, str] | None:
        """The class and the split of a file, "" where the hash decides; None where it is in no class folder."""
        parts = path.removeprefix(self.top).split("/")
        depth = 2 if self.splits else 1
        if len(parts) <= depth or not path.startswith(self.top) or (self.splits and parts[0] not in self.splits):
            return None
        return parts[depth - 1], self.splits[parts[0]] if self.splits else ""


def find_layout(folders_in: Callable[[str], Sequence[str]], mode: str, where: str) -> Layout:
    """The layout of an input.

    Args:
      folders_in: gives the names of the folders directly in a folder: in "", or in one such as "flowers/".
      mode: "auto" takes folders as splits where all are named by split words; "yes" wherever a split word is in each
        name; "no" never.
      where: the input, for messages.

    Raises:
      UsageError: the folders can be read in two ways, or are no splits where they should be.
    """
    if mode == "no":
        return Layout()
    levels = _levels(folders_in)
    if mode == "yes":
        return _forced(levels, folders_in, where)
    # From the innermost outwards: a folder of the name "training_data" may hold train/ and test/.
    for top, names in reversed(levels):
        if all(map(split_of_word, names)):
            _check_classes(top, names, folders_in, where)
            return _layout(top, {name: split_of_word(name) or "" for name in names}, folders_in)
        _refuse_lookalikes(top, names, where)
    _refuse_splits_within(levels[0][1], folders_in, where)
    return Layout()


def _levels(folders_in: Callable[[str], Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """The top folder, and those below as long as each holds one folder only, which isn't named by a split word."""
    levels = [("", folders_in(""))]
    while len(levels) < _DEEPEST:
        top, names = levels[-1]
        if len(names) != 1 or split_of_word(names[0]) or not (inside := folders_in(f"{top}{names[0]}/")):
            break
        levels.append((f"{top}{names[0]}/", inside))
    return levels


def _layout(top: str, splits: Mapping[str, str], folders_in: Callable[[str], Sequence[str]]) -> Layout:
    held = {name: split for name, split in splits.items() if folders_in(f"{top}{name}/")}
    return Layout(top, held, tuple(sorted(splits.keys() - held)))


def _check_classes(top: str, names: Sequence[str], folders_in: Callable[[str], Sequence[str]], where: str) -> None:
    """Refuses folders that are all named by split words but may be classes."""
    place = f"{where}/{top}".rstrip("/")
    _refuse_conflict(names, place)
    classes = {label for name in names for label in folders_in(f"{top}{name}/")}
    if not classes:
        raise UsageError(
            f"The folders {_shown(names)} of {place!r} are named like splits but hold no class folders; "
            f"{_as_classes(top, 'them')}; as splits they hold {names[0]}/CLASS/image.jpg."
        )
    if all(map(split_of_word, classes)):
        raise UsageError(
            f"The folders {_shown(names)} of {place!r} hold {_shown(classes)}, and all are named like splits; "
            f"--split_folders yes takes the outer ones as splits, {_as_classes(top, 'them')}."
        )


def _forced(
    levels: Sequence[tuple[str, Sequence[str]]], folders_in: Callable[[str], Sequence[str]], where: str
) -> Layout:
    """The innermost level of which each folder's name holds the word of one split."""
    for top, names in reversed(levels):
        words = {name: _words_of(name) for name in names}
        splits = {name: SPLIT_WORDS[found[0]] for name, found in words.items() if len(found) == 1}
        if len(splits) == len(names):
            place = f"{where}/{top}".rstrip("/")
            _refuse_conflict([found[0] for found in words.values()], place)
            if not any(folders_in(f"{top}{name}/") for name in names):
                raise UsageError(
                    f"--split_folders yes: the folders {_shown(names)} of {place!r} hold no class folders; "
                    f"as splits they hold {names[0]}/CLASS/image.jpg."
                )
            return _layout(top, splits, folders_in)
    top, names = next((level for level in reversed(levels) if any(map(split_words_in, level[1]))), levels[0])
    strange = [name for name in names if len(_words_of(name)) != 1]
    raise UsageError(
        f"--split_folders yes: the folders {_shown(strange)} of {f'{where}/{top}'.rstrip('/')!r} name no split, or "
        "several; a split folder's name holds one word such as train, validation or test."
    )


def split_folders_only(folders: Collection[str], mode: str, where: str) -> Layout:
    """The layout of files whose folders say nothing but the split; without splits where not all files are in one.

    Args:
      folders: the folders that hold files, such as "train"; "" for the top.
      mode: as in find_layout.
      where: the input, for messages.

    Raises:
      UsageError: the folders only look like splits, or name none where they should.
    """
    if mode == "no":
        return Layout()
    for top, names in reversed(_levels(folders_of_paths(folders))):
        if not all(folder and f"{folder}/" != top and f"{folder}/".startswith(top) for folder in folders):
            continue  # Some files are beside the folders.
        words = {name: _words_of(name) for name in names}
        if names and all(split_of_word(name) or (mode == "yes" and len(words[name]) == 1) for name in names):
            _refuse_conflict([found[0] for found in words.values()], where)
            return Layout(top, {name: SPLIT_WORDS[found[0]] for name, found in words.items()})
        alike = {name for name, found in words.items() if found}
        if mode == "auto" and len({SPLIT_WORDS[word] for name in alike for word in words[name]}) > 1:
            raise UsageError(
                f"The folders {_shown(alike)} around the samples of {where!r} may be splits; --split_folders yes takes "
                "them as splits if all are, --split_folders no splits anew."
            )
    if mode == "yes":
        raise UsageError(f"--split_folders yes: neither the name of {where!r} nor all folders in it say a split.")
    return Layout()


def _words_of(name: str) -> list[str]:
    """One word for each split that a name holds a word of."""
    words = [plain_word(name)] if split_of_word(name) else split_words_in(name)
    return list({SPLIT_WORDS[word]: word for word in words}.values())


def _refuse_conflict(words: Iterable[str], place: str) -> None:
    if pair := conflicting_words(words):
        raise UsageError(
            f"{pair[0]!r} and {pair[1]!r} of {place!r} both name the split {split_of_word(pair[0])!r}; "
            "rename one, or take --split_folders no."
        )


def _as_classes(top: str, names: str) -> str:
    """What --split_folders no does with folders in `top`."""
    return f"--split_folders no takes {repr(top.split('/')[0]) + ' as the class' if top else names + ' as classes'}"


def _refuse_lookalikes(top: str, names: Sequence[str], where: str) -> None:
    """Refuses folders of which some are named by split words and some are not, or that are named much like splits."""
    exact = [name for name in names if split_of_word(name)]
    alike = [name for name in names if split_of_word(name) or split_words_in(name)]
    splits = {SPLIT_WORDS[word] for name in alike for word in split_words_in(name)}
    others = [name for name in names if name not in alike]
    # One "train_station" among other classes is a class.
    if not exact and (not alike or (others and len(splits) < 2)):
        return
    beside = f" beside {_shown(others)}" if others else ""
    remedy = f" once {_shown(others)} are elsewhere" if others else ""
    raise UsageError(
        f"The folders {_shown(alike)}{beside} of {f'{where}/{top}'.rstrip('/')!r} may be splits or classes; "
        f"{_as_classes(top, 'all')}, --split_folders yes takes all as splits{remedy}."
    )


def _refuse_splits_within(names: Sequence[str], folders_in: Callable[[str], Sequence[str]], where: str) -> None:
    """Refuses CLASS/SPLIT/image.jpg: every folder holds split folders and no others."""
    inside: set[str] = set()
    for name in names:
        folders = folders_in(f"{name}/")
        if not folders or not all(map(split_of_word, folders)):
            return
        inside |= set(folders)
    if inside:
        raise UsageError(
            f"The class folders of {where!r} hold split folders, {_shown(inside)}; splits are read from "
            "SPLIT/CLASS/image.jpg; --split_folders no takes the outer folders as classes and splits anew."
        )


def _shown(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(map(repr, listed[:_MOST_NAMED])) + more


def folders_of_paths(paths: Iterable[str]) -> Callable[[str], Sequence[str]]:
    """The function folders_in of find_layout for the files of an archive.

    Args:
      paths: the folders that hold files, such as "train/cat"; "" for the top.
    """
    inside: dict[str, set[str]] = {}
    for path in set(paths):
        top = ""
        for part in path.split("/") if path else ():
            inside.setdefault(top, set()).add(part)
            top += f"{part}/"
    return lambda top: sorted(inside.get(top, ()))


def file_splits(names: Sequence[str], mode: str) -> tuple[str, ...]:
    """The split of each of several files by its name, or by the folder that it is in; "" where the hash decides.

    Args:
      names: of the files, such as "train-00000-of-00004.tar" or "train/0000.parquet".
      mode: "auto" takes the splits where the names hold several, "yes" in any case, "no" never.

    Raises:
      UsageError: some names hold a split and others none, or "dev" and "eval" stand side by side.
    """
    words = [_word_of_file(name) for name in names]
    found = tuple(SPLIT_WORDS[word] if word else "" for word in words)
    none = [name for name, split in zip(names, found, strict=True) if not split]
    if mode == "no" or (mode == "auto" and len(none) == len(names)):
        return ("",) * len(names)
    _refuse_conflict([word for word in words if word], names[0])
    if mode == "auto" and len(set(found) - {""}) < 2:
        return ("",) * len(names)
    if none:
        raise UsageError(
            f"{none[0]!r} names no split, or several, where other files name one; name all so, as train-0.tar, or take "
            "--split_folders no, which splits anew."
        )
    return found


def _word_of_file(name: str) -> str | None:
    """The word of the one split that a file's name holds, else that of the nearest folder."""
    for part in reversed(name.split("/")):
        if words := split_words_in(part):
            return words[0] if len({SPLIT_WORDS[word] for word in words}) == 1 else None
    return None
