"""The report in a real browser: nothing runs but its own script, nothing is fetched, tables sort, nothing overflows.

Takes playwright and a Chromium: `make browser`. TFPIPE_CHROMIUM names the browser, TFPIPE_SCREENSHOTS a folder that
gets the screenshots.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from photographs import plant_faults
from pictures import write_listing

from tfpipe.maintenance.health.findings import find_problems
from tfpipe.maintenance.health.survey import survey_dataset
from tfpipe.report.dataset import dataset_page

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("TFPIPE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = (
    "</script><script>document.title='hit'</script>",
    "\"><img src=x onerror=document.title='hit'>",
    "<b>bold</b>",
)
SIZES = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of planted faults under hostile names."""
    from conversions import run

    folder = tmp_path_factory.mktemp("browser")
    planted = plant_faults(folder / "in")
    names = sorted({key.partition("/")[0] for key in planted.keys})
    rows = []
    for number, key in enumerate(sorted(planted.keys)):
        hostile = f"{HOSTILE[number % 3].replace('/', '')}{number}.jpg"
        (planted.root / key).rename(planted.root / hostile)
        label = names.index(key.partition("/")[0])
        rows.append([hostile, HOSTILE[label] if label < 3 else names[label]])
    rows.append([f"{HOSTILE[1]}.jpg", "missing"])
    manifest = run(write_listing(planted.root / "list.csv", [["file", "label"], *rows]), folder / "out").manifest
    survey = survey_dataset(manifest)
    path = folder / "report.html"
    path.write_text(dataset_page(survey, find_problems(survey)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_runs_nothing_else_fetches_nothing_and_fits(browser, page_file: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, fetched, dialogs = [], [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(page_file.as_uri())
    assert [url for url in fetched if not url.startswith("data:")] == [page_file.as_uri()]
    assert (said, dialogs) == ([], [])
    assert page.title() == "out"
    assert page.evaluate("document.querySelectorAll('b').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    broken = page.evaluate("[...document.images].filter((image) => !image.complete || !image.naturalWidth).length")
    assert broken == 0
    folder = os.environ.get("TFPIPE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"report-{width}-{scheme}.png", full_page=True)
    page.close()


def test_tables_sort_by_pointer_and_by_keyboard(browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    table = page.locator("#classes table")
    column = "[...document.querySelectorAll('#classes tbody tr')].map((row) => row.cells[1].dataset.value)"
    before = [int(value) for value in page.evaluate(column)]
    table.locator("th button").nth(1).click()
    assert [int(value) for value in page.evaluate(column)] == sorted(before)
    table.locator("th button").nth(1).focus()
    page.keyboard.press("Enter")
    assert [int(value) for value in page.evaluate(column)] == sorted(before, reverse=True)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    page.close()


def test_every_control_is_reached_by_the_keyboard_and_visible_there(browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    controls = page.evaluate(
        "[...document.querySelectorAll('a, button, summary, [tabindex]')].filter((one) => one.checkVisibility()).length"
    )
    reached = set()
    for _ in range(controls + 5):
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        page.keyboard.press("Tab")
    assert len(reached) >= controls
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_enough(browser, page_file: Path, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG AA asks for."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_file.as_uri())
    least = page.evaluate(
        """() => {
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => {
            const linear = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
            const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
            return .2126 * x + .7152 * y + .0722 * z;
          };
          const back = (element) => {
            for (let e = element; e; e = e.parentElement) {
              const color = parse(getComputedStyle(e).backgroundColor);
              if (color.length < 4 || color[3] > 0) return color;
            }
            return [255, 255, 255];
          };
          let least = 99;
          const texts = 'h1, h2, h3, p, td, th, a, figcaption, dt, dd, .mark, summary';
          for (const element of document.querySelectorAll(texts)) {
            const [a, b] = [light(parse(getComputedStyle(element).color)), light(back(element))].sort((x, y) => y - x);
            least = Math.min(least, (a + .05) / (b + .05));
          }
          return least;
        }"""
    )
    assert least >= 4.5
    page.close()
