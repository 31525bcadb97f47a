"""A real browser, and the pages that tfpipe writes, under hostile names where names are a user's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from photographs import plant_faults
from pictures import write_listing

CHROMIUM = os.environ.get("TFPIPE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = (
    "</script><script>document.title='hit'</script>",
    "\"><img src=x onerror=document.title='hit'>",
    "<b>bold</b>",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a page by its name in PAGES, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("pages")

    def written(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            PAGES[name](path)
        return path

    return written


def _report(path: Path) -> None:
    """Of planted faults, with the augmentation of some images and what bench measured."""
    from conversions import run

    planted = plant_faults(path.parent / "in")
    names = sorted({key.partition("/")[0] for key in planted.keys})
    rows = []
    for number, key in enumerate(sorted(planted.keys)):
        hostile = f"{HOSTILE[number % 3].replace('/', '')}{number}.jpg"
        (planted.root / key).rename(planted.root / hostile)
        label = names.index(key.partition("/")[0])
        rows.append([hostile, HOSTILE[label] if label < 3 else names[label]])
    rows.append([f"{HOSTILE[1]}.jpg", "missing"])
    run(write_listing(planted.root / "list.csv", [["file", "label"], *rows]), path.parent / "out")
    bench = {"batch_size": 32, "mode": "train", "cores": 2, "page_cache": "warm", "rows": [
        {"variant": HOSTILE[0], "images_per_second": 1234.5, "utilisation": 0.91},
        {"variant": "plain", "images_per_second": 99.25, "utilisation": 0.5}]}  # fmt: skip
    bench_file = path.parent / "bench.json"
    bench_file.write_text(json.dumps(bench))
    _tfpipe("report", path.parent / "out", "-o", path, "--bench", bench_file, "--policy", "svhn")


def _gallery(path: Path) -> None:
    """An op of each number of values, and a policy."""
    _tfpipe("gallery", "-o", path, "--only", "rotate,invert,cutout,solarize,svhn")


def _search(path: Path) -> None:
    """A search with its schedule and comparison, in which a user named a policy."""
    import searched

    from tfpipe.search.comparison import ComparedRow, Comparison

    result = searched.population()
    accuracies = {"none": (0.71, 0.72), "rand_augment": (0.74, 0.75), HOSTILE[0]: (0.72, 0.7)}
    rows = tuple(ComparedRow(name, values, 8) for name, values in accuracies.items())
    comparison = Comparison(rows, 0.95, result.costs, {"child": HOSTILE[1]}, {"machine": HOSTILE[2]})
    result.report(path, comparison=comparison)


def _tfpipe(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "tfpipe", *map(str, arguments)], check=True)


PAGES = {"report": _report, "gallery": _gallery, "search": _search}
