"""Shows the versions of tfpipe and of its dependencies."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from tfpipe import __version__
from tfpipe.cli.tables import print_table

PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "apache-beam",
    "tensorflow-hub",
    "google-crc32c",
    "xxhash",
    "absl-py",
    "rich",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints a line for each package."""
    found = {"tfpipe": __version__, "python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    if arguments.json:
        print(json.dumps(found))
    else:
        print_table(["package", "version"], [[name, number or "not installed"] for name, number in found.items()])
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
