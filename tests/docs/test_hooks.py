"""What docs/hooks.py makes of pages: links that lead somewhere, entries of the reference, llms.txt. `make docs`."""

import importlib.util
from pathlib import Path

import pytest

import tfpipe
from tfpipe.cli import VERBS

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", Path(__file__).parents[2] / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "page", "expected"),
    [
        ("[a](sources.md#masks)", "index.md", "[a](sources.md#masks)"),
        ("[a](../sources.md)", "guides/csv.md", "[a](../sources.md)"),
        ("[a](../../CONTRIBUTING.md#add-an-op)", "guides/csv.md", "[a](../project/CONTRIBUTING.md#add-an-op)"),
        ("[a](docs/format.md)", "project/README.md", "[a](../format.md)"),
        ("![a](docs/figures/flow.svg)", "project/README.md", "![a](../figures/flow.svg)"),
        ("[a](../benchmarks/rounds.py)", "index.md", "a (`benchmarks/rounds.py`)"),
        ("[`rounds.py`](rounds.py)", "project/benchmarks/README.md", "`rounds.py`"),
        ("[a](https://x.org/b.md)", "index.md", "[a](https://x.org/b.md)"),
        ("[a](#below)", "index.md", "[a](#below)"),
    ],
)
def test_links_lead_to_pages_and_files_outside_are_named(hooks, text: str, page: str, expected: str) -> None:
    assert hooks._relink(text, page) == expected


def test_a_page_is_told_by_its_first_paragraph(hooks) -> None:
    page = "# A\n\n<!-- given: photos -->\n\n![b](c.svg)\n\nWhat [it](d.md) is,\nin short.\n\nMore.\n"
    assert hooks._first_sentence(page) == "What it is, in short."


def test_the_reference_has_every_public_name_and_verb(hooks) -> None:
    entries = "".join(hooks._entries("tfpipe"))
    for name in tfpipe.__all__:
        assert not callable(getattr(tfpipe, name)) or f"heading: tfpipe.{name}\n" in entries
    helps = list(hooks._helps())
    assert [text.splitlines()[0] for text in helps] == [f"## tfpipe {verb}" for verb in VERBS]
    assert all("\nexamples:\n" in text or "version" in text for text in helps)
