"""The code blocks of a page of documentation, and a run of them, one after the other, in one folder.

A page is Markdown with fenced blocks. ```python and ```bash blocks run; a block of any language with title="NAME" is
that file, and is written. What does not run says why: a block in its first line, `# not run: REASON`, or in an HTML
comment before it; a line of bash at its end. A comment `<!-- given: photos, masks -->` names what lies in the folder
before the first block.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

RUN, WRITTEN = ("python", "bash"), ("csv", "json", "jsonl", "text", "python", "yaml")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)(?P<rest>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)
_NOT_RUN = re.compile(r"#+ not run: (?P<reason>\S.{9,})$")
_COMMENT = re.compile(r"<!-- not run: (?P<reason>\S.{9,}) -->\n\Z")


class Block(NamedTuple):
    """A fenced block: language, code, number of its first line, the file that it is, why it does not run."""

    language: str
    code: str
    line: int
    title: str = ""
    reason: str = ""


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = []
    for match in _FENCE.finditer(text):
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        title = re.search(r'title="([^"]+)"', match["rest"])
        reason = _NOT_RUN.match(code.partition("\n")[0]) or _COMMENT.search(text, 0, match.start())
        number = text.count("\n", 0, match.start("code")) + 1
        found.append(
            Block(match["language"], code, number, title[1] if title else "", reason["reason"] if reason else "")
        )
    return found


def given(text: str) -> list[str]:
    """What the page's folder holds before its first block."""
    named = re.search(r"<!-- given: (.*?) -->", text)
    return named[1].split(", ") if named else []


def indented_code(text: str) -> list[str]:
    """Lines that Markdown takes for code because they are indented: they would escape the run."""
    outside = _FENCE.sub("", text)
    lines = outside.splitlines()
    found = []
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r" {4}\S", line) and (not before.strip() or before in found):
            found.append(line)
    return found


def run_page(path: Path) -> None:
    """Runs the blocks of a page in the current folder: one namespace for python, a shell for each block of bash."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    put_tfpipe_on_path()
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.reason or block.language not in RUN:
            continue
        elif block.language == "python":
            # Empty lines before it: a traceback then names the page's own line.
            exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), namespace)
        else:
            _run_bash(block, path)


def _run_bash(block: Block, path: Path) -> None:
    kept = [line for line in block.code.splitlines() if not _NOT_RUN.search(line)]
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(kept)], check=False)
    if done.returncode:
        raise SystemExit(f"{path}:{block.line}: bash ended with {done.returncode}:\n{block.code}")


def put_tfpipe_on_path() -> None:
    """`tfpipe` and `python` are those of this interpreter, also where its scripts are not on the path."""
    folder = Path(".bin")
    folder.mkdir(exist_ok=True)
    for name, words in (("tfpipe", "-m tfpipe"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder.resolve()}{os.pathsep}{os.environ['PATH']}"


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
