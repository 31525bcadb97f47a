"""The kinds of failure, each with its exit code on the command line.

Every ValueError and FileNotFoundError that tfpipe raises itself, where the command line can reach it, is one of these:
what else comes to the command line was expected by nobody, and has another exit code.
"""

from __future__ import annotations


class DataError(ValueError):
    """The data has problems: a damaged shard, more rejected inputs than allowed. Exit code 1."""

    exit_code = 1


class ShardNotFound(DataError, FileNotFoundError):
    """A shard that the manifest lists is missing. Exit code 1."""


class UsageError(ValueError):
    """The request contradicts itself or the existing files, or an argument is out of range. Exit code 2."""

    exit_code = 2


class InputNotFound(UsageError, FileNotFoundError):
    """There is nothing at a path that was asked for. Exit code 2."""


class SetupError(RuntimeError):
    """The machine lacks something: an extra, a model, disk space, a lock. Exit code 3."""

    exit_code = 3
