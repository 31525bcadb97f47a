"""Three kinds of failure, each with its exit code on the command line.

Wrong arguments of library functions raise plain `ValueError`, `TypeError` and `FileNotFoundError`; these classes
refine them for the command line, which has to distinguish the cases.
"""

from __future__ import annotations


class DataError(ValueError):
    """The data has problems: a damaged shard, more rejected inputs than allowed. Exit code 1."""

    exit_code = 1


class UsageError(ValueError):
    """The request contradicts itself or the existing files. Exit code 2."""

    exit_code = 2


class SetupError(RuntimeError):
    """The machine lacks something: an extra, a model, disk space, a lock. Exit code 3."""

    exit_code = 3
