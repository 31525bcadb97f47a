"""The blocks of README run as they are printed."""

from pathlib import Path

import pytest
from given import Given
from pages import blocks, given, indented_code, run_page

README = Path(__file__).parents[2] / "README.md"


def test_the_blocks_of_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text(encoding="utf-8")
    assert [block.language for block in blocks(text) if not block.reason] == ["bash", "python"]
    assert indented_code(text) == []
    page = tmp_path / "page"
    page.mkdir()
    Given(tmp_path).put(given(text), page)
    monkeypatch.chdir(page)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(README.parent))
    run_page(README)
    assert (page / "photos_tfrecord" / "dataset.json").exists()
