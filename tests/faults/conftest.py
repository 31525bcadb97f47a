"""The fixtures of the long fault tests. `make faults` runs them, and each prints a line with its figure."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from processes import Scene, digests_of, fill_with_links, run

# 36,000 files of 0.9 kB: a conversion works for some 3 s after its start-up, into some 30 shards.
_DISTINCT, _COPIES = 400, 30


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest's capture."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", flush=True)

    return show


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Some 30 shards' worth of files."""
    root = tmp_path_factory.mktemp("scene")
    source = fill_with_links(root, _DISTINCT, _COPIES)
    started = time.monotonic()
    run(source, root / "undisturbed")
    return Scene(source, digests_of(root / "undisturbed"), time.monotonic() - started)
