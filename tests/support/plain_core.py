"""Runs command lines as an installation without extras does: `python plain_core.py FILE`, a JSON list of lists.

What setup.cfg's install_requires does not bring, by itself or through what it requires, can't be imported. Prints a
JSON list of exit code, stdout and stderr of each.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.metadata
import io
import json
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any


def core_distributions() -> set[str]:
    """The distributions of a plain installation, by their normalised names."""
    found, waiting = set(), ["tfpipe"]
    while waiting:
        name = _normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for line in importlib.metadata.requires(name) or ():
                if "extra ==" not in line:
                    waiting.append(re.split(r"[\[<>=!~ (;]", line.strip(), maxsplit=1)[0])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Blocker(importlib.abc.MetaPathFinder):
    """Finds no module of another distribution."""

    def __init__(self) -> None:
        core = core_distributions()
        owners = importlib.metadata.packages_distributions()
        self.blocked = {top for top, names in owners.items() if not core & set(map(_normal, names))}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def run(command: list[str]) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command line."""
    from tfpipe import cli

    sys.argv = ["tfpipe", *command]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())
    with open(sys.argv[1], encoding="utf-8") as file:
        commands = json.load(file)
    print(json.dumps([run(command) for command in commands]))
