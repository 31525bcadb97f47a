"""Every cell of the notebook runs, and every example is named, and run, by the page of examples. `make docs`."""

from pathlib import Path

import pytest
from pages import blocks, put_tfpipe_on_path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.docs


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_page_runs_every_script(name: str) -> None:
    run = "".join(block.code for block in blocks(PAGE) if block.language == "bash" and not block.reason)
    assert f"python examples/{name} " in run
    assert f"`{name}`" in PAGE


def test_the_cells_of_the_notebook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    put_tfpipe_on_path()
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "outputs are cleared before a commit"
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.get("text", "") for output in outputs)
    assert "val_accuracy" in said
    assert "notebook_dataset" in said
