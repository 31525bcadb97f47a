"""Files of TFRecords as sources take them: what they are, their records, and the splits that their names tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from beam_jobs.sources.files import open_binary, read_file
from tfpipe.errors import UsageError
from tfpipe.format.compressed import compression_of, scan_shard
from tfpipe.format.framing import Record, scan_bytes
from tfpipe.format.record_files import HEAD_BYTES, describe
from tfpipe.format.splits import conflicting_words, split_of_file, split_of_word, words_of_file
from tfpipe.storage import is_url


def scan_records(path: str) -> Iterator[Record]:
    """Yields the records of a file, GZIP or not; one in a store is read whole.

    Raises:
      DamagedRecord: at the first record that is not valid.
    """
    if is_url(path):
        return scan_bytes(read_file(path), path=path)
    return scan_shard(path, compression_of(path))


def check_file(path: str) -> bool:
    """Whether a file of records is compressed.

    Raises:
      UsageError: it can't be read, or is no file of records; the sentence says what it is.
    """
    try:
        with open_binary(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path!r} can't be read: {error.strerror}.") from error
    what = describe(head) if head else None  # An empty file is a valid one without records.
    if what is not None:
        raise UsageError(f"{path!r} is no TFRecord file; it is {what}.")
    if is_url(path):
        if head.startswith(b"\x1f\x8b\x08"):
            raise UsageError(f"{path!r} is compressed, and in a store; gunzip it, or copy it to this machine.")
        return False
    return compression_of(path) is not None


def file_splits(paths: Sequence[str], mode: str) -> tuple[str, ...]:
    """The split of each file by its name; "" for all where the names tell none, or one, and the hash decides.

    Raises:
      UsageError: the names can be read in two ways.
    """
    found = [split_of_file(os.path.basename(path)) or "" for path in paths]
    names = {split for split in found if split}
    if mode == "no" or not names or (len(names) == 1 and mode != "yes"):
        if names - {"train"} and "" in found and mode != "no":
            raise UsageError(_unclear(paths, found))
        return ("",) * len(paths)
    if "" in found:
        raise UsageError(_unclear(paths, found))
    clash = conflicting_words(word for path in paths for word in words_of_file(os.path.basename(path)))
    if clash is not None:
        raise UsageError(
            f"Some files have {clash[0]!r} in their names, others {clash[1]!r}: both mean the split "
            f"{split_of_word(clash[0])}; convert each kind on its own, rename one, or take --split_folders no."
        )
    return tuple(found)


def _unclear(paths: Sequence[str], found: Sequence[str]) -> str:
    named = os.path.basename(next(path for path, split in zip(paths, found, strict=True) if split))
    other = os.path.basename(next(path for path, split in zip(paths, found, strict=True) if not split))
    return (
        f"The name of {named!r} tells its split, that of {other!r} does not; rename one, or "
        "take --split_folders no, which assigns all records by their hash."
    )
