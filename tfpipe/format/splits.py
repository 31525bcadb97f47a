"""The words that name a split: of folders, files and columns, as people and programs write them.

split_of_word("Training")                               # "train"
split_of_file("eval-00000-of-00004.tfrecord")           # "validation"
split_words_in("my_train_images")                       # ["train"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# The words of a family are interchangeable; two families of one split are not: where "dev" and "eval" stand side by
# side, either may be the author's test set.
_FAMILIES = (
    ("train", ("train", "training")),
    ("validation", ("validation", "valid", "val")),
    ("validation", ("dev", "devel", "development")),
    ("validation", ("eval", "evaluation")),
    ("test", ("test", "testing")),
    ("test", ("holdout", "heldout")),
)
SPLIT_WORDS = {word: split for split, words in _FAMILIES for word in words}
_FAMILY_OF = {word: words[0] for _, words in _FAMILIES for word in words}
# What is written onto a split word without anything between: trainset, testdata, valimgs.
_GLUED = re.compile(r"(?:sets?|data|images?|imgs?|pics|photos|split|folder|dir)$")


def split_of_word(word: str) -> str | None:
    """The split that a word names, in any case, also written as "hold-out" or "hold_out"; None where it names none."""
    return SPLIT_WORDS.get(plain_word(word))


def split_words_in(name: str) -> list[str]:
    """The split words within a name: of "training_set", "TestImages", "trainset", "train2"; none of "testament"."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[a-z]+", re.sub(r"(held|hold)[-_ ]out", r"\1out", apart.lower()))
    stems = [word if word in SPLIT_WORDS else _GLUED.sub("", word) for word in words]
    return [stem for stem in stems if stem in SPLIT_WORDS]


def split_of_file(name: str) -> str | None:
    """The split that a file's name holds as a word, such as mnist-train.tfrecord-00000-of-00001 or test07-310.tfrec.

    None where it holds none, or words of several splits.
    """
    found = {SPLIT_WORDS[word] for word in split_words_in(name)}
    return found.pop() if len(found) == 1 else None


def words_of_file(name: str) -> list[str]:
    """The words of a file's name that mean a split."""
    words = re.findall(r"[a-z]+", re.sub(r"(held|hold)[-_ ]out", r"\1out", name.lower()))
    return [word for word in words if word in SPLIT_WORDS]


def conflicting_words(words: Iterable[str]) -> tuple[str, str] | None:
    """Two of the words that name one split and are no spellings of each other, such as "dev" and "eval"."""
    first: dict[str, str] = {}
    for word in sorted(set(words)):
        split = split_of_word(word)
        if split is not None:
            other = first.setdefault(split, word)
            if _FAMILY_OF[plain_word(other)] != _FAMILY_OF[plain_word(word)]:
                return other, word
    return None


def plain_word(word: str) -> str:
    """A word in lower case, without blanks, dashes and underscores."""
    return re.sub(r"[\s_-]", "", word.strip().lower())
