"""The table of published systems in docs/augmentation.md is what benchmarks/systems.py makes of today's code."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_in_the_docs_is_what_the_script_makes():
    spec = importlib.util.spec_from_file_location("systems", ROOT / "benchmarks/systems.py")
    systems = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(systems)
    lines = systems.table()
    assert not [line for line in lines if systems.NOT_EQUAL in line]
    assert "\n".join(lines) in (ROOT / "docs/augmentation.md").read_text()
