"""What `mkdocs build` does beside mkdocs: the repository's own pages, the reference's names and options, llms.txt.

- Markdown files of the repository outside of docs/ become pages under project/, and links to them lead there. A link to
  any other file of the repository becomes the file's name.
- In reference/*.md a line `@names MODULE` becomes an entry for each name of its `__all__`, `@help` the --help of each
  verb: what is new in the code cannot be missing there.
- llms.txt is llms_head.md, and a line for every page of the navigation.
"""

from __future__ import annotations

import importlib
import os
import re
import types
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PROJECT = (
    "ARCHITECTURE.md",
    "BUILD_NOTES.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "tests/README.md",
)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
_lines: dict[str, str] = {}


def on_files(files: Files, config: Any) -> Files:
    """Adds the repository's own pages."""
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with its generated parts, and with links that lead somewhere."""
    if page.file.src_uri.startswith("reference/"):
        markdown = re.sub(r"^@names (\S+)$", lambda match: "\n\n".join(_entries(match[1])), markdown, flags=re.M)
        markdown = re.sub(r"^@help$", lambda _: "\n\n".join(_helps()), markdown, flags=re.M)
    _lines[page.file.src_uri] = _first_sentence(markdown)
    parts = _FENCED.split(markdown)
    return "".join(part if i % 2 else _relink(part, page.file.src_uri) for i, part in enumerate(parts))


def on_post_build(config: Any) -> None:
    """Writes llms.txt."""
    head = (ROOT / "docs" / "llms_head.md").read_text(encoding="utf-8")
    lines = [f"- [{path}]({path.removesuffix('.md')}.html): {_lines[path]}" for path in _paths(config.nav)]
    Path(config.site_dir, "llms.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def _paths(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _paths(entry)


def _first_sentence(markdown: str) -> str:
    shown = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    text = re.sub(r"^(#|!\[).*$", "", shown, flags=re.MULTILINE).strip()
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return _LINK.sub(r"\1", paragraph)


# ---- links


def _relink(text: str, page: str) -> str:
    def leading(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if ":" in target or target.startswith("/"):
            return match[0]
        # Where the file of the page lies in the repository, and what it names from there.
        home = PurePosixPath(page.removeprefix("project/") if page.startswith("project/") else f"docs/{page}").parent
        named = os.path.normpath(home / target)
        if named in PROJECT:
            named = f"docs/project/{named}"
        elif not named.startswith("docs/"):
            return label if label.startswith("`") else f"{label} (`{named}`)"
        return f"[{label}]({os.path.relpath(named, PurePosixPath('docs', page).parent)}{anchor})"

    return _LINK.sub(leading, text)


# ---- the reference


def _entries(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    names = getattr(module, "__all__", None) or _defined(module)
    for name in names:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType) or not callable(value):
            continue
        home = f"{value.__module__}.{value.__qualname__}"
        heading = f"{module_name}.{name}"
        yield f"::: {home}\n    options:\n      heading: {heading}\n      toc_label: {name}"


def _defined(module: types.ModuleType) -> list[str]:
    """The public functions and classes that a module without __all__ defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return [name for name in own if not name.startswith("_")]


def _helps() -> Iterator[str]:
    from tfpipe.cli import VERBS, _build_parser

    os.environ["COLUMNS"] = "100"
    for verb, (_, line) in VERBS.items():
        parser: Any = _build_parser([verb])._subparsers
        text = parser._group_actions[0].choices[verb].format_help()
        yield f"## tfpipe {verb}\n\n{line[0].upper()}{line[1:]}.\n\n```text\n{text}\n```"
