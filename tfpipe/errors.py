"""The three ways in which a job can fail, each with the exit code of the command line.

Values passed to library functions raise plain `ValueError`, `TypeError` and `FileNotFoundError`; these classes refine
them where the command line has to tell the cases apart.
"""

from __future__ import annotations


class DataError(ValueError):
    """The data has problems: a damaged shard, more rejected inputs than allowed. Exit code 1."""

    exit_code = 1


class UsageError(ValueError):
    """What was asked for contradicts itself or the files that are there. Exit code 2."""

    exit_code = 2


class SetupError(RuntimeError):
    """The machine lacks something: an extra, a model, disk space, a lock. Exit code 3."""

    exit_code = 3
