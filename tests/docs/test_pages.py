"""Every code block of the documentation runs, or says why it does not; every page is reached. `make docs`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from given import MAKERS, Given
from pages import RUN, WRITTEN, blocks, given, indented_code

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# A decision's commands are of measurements that take from minutes to hours; each page has them under "Command".
PAGES = sorted(path for path in DOCS.rglob("*.md") if "decisions" not in path.parts)
NAMES = [path.relative_to(DOCS).as_posix() for path in PAGES]
RUNNING = [name for name in NAMES if any(b.language in RUN for b in blocks((DOCS / name).read_text(encoding="utf-8")))]


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(tmp_path_factory.mktemp("given"))


@pytest.mark.docs
@pytest.mark.parametrize("name", RUNNING)
def test_the_blocks_of_a_page_run_in_their_order(name: str, things: Given, tmp_path: Path) -> None:
    things.put(given((DOCS / name).read_text(encoding="utf-8")), tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "pages.py", DOCS / name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,  # a loaded machine takes ten times as long as a free one
    )
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.docs
@pytest.mark.parametrize("name", NAMES)
def test_no_code_escapes_the_run(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert indented_code(text) == []
    for block in blocks(text):
        assert block.language, f"{name}:{block.line}: a block without a language"
        assert block.language in {*RUN, *WRITTEN, "toml", "diff"}, f"{name}:{block.line}: {block.language}"
    assert set(given(text)) <= set(MAKERS)
