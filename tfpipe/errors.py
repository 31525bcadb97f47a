"""The kinds of failure, each with its exit code on the command line.

Every ValueError and FileNotFoundError that tfpipe raises itself, where the command line can reach it, is one of these:
what else comes to the command line was expected by nobody, and has another exit code.
"""

from __future__ import annotations

import importlib

# The modules that are no part of a plain installation, and the extra that brings each.
EXTRAS = {
    **dict.fromkeys(("apache_beam", "pyarrow"), "beam"),
    "tensorflow_hub": "hub",
    **dict.fromkeys(("optuna", "scipy"), "search"),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib", "PIL"), "report"),
    "ray": "ray",
    **dict.fromkeys(("dask", "distributed"), "dask"),
    **dict.fromkeys(("fsspec", "gcsfs"), "gcp"),
    "s3fs": "aws",
    **dict.fromkeys(("mlxtend", "skimage"), "demo"),
    "pynvml": "gpu",
}
# Packages that no extra brings, by their modules.
_PACKAGES = {"sklearn": "scikit-learn"}


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


class MissingExtra(SetupError, ImportError):
    """A package is missing that a plain installation has not; the sentence has the command. Exit code 3."""


def require_extra(purpose: str, *modules: str) -> None:
    """Raises MissingExtra where one of the modules can't be imported.

    Args:
      purpose: what takes them, as the beginning of a sentence.
      modules: their names.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingExtra(f"{purpose} takes {module} ({error}); {how_to_install(module)}") from error


def how_to_install(module: str) -> str:
    """The command that installs a module's package; "" for one that no part of tfpipe takes."""
    name = module.partition(".")[0]
    if name in EXTRAS:
        return f"pip install 'tfpipe[{EXTRAS[name]}]'"
    return f"pip install {_PACKAGES[name]}" if name in _PACKAGES else ""
