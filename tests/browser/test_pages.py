"""Every page in a real browser: nothing runs but its own script, nothing is fetched, nothing overflows.

Takes playwright and a Chromium: `make browser`. TFPIPE_CHROMIUM names the browser, TFPIPE_SCREENSHOTS a folder that
gets the screenshots.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("name", ["report", "gallery", "search"])]
PageFile = Callable[[str], Path]
TITLES = {"report": "out", "gallery": "Gallery of operations and policies", "search": "Search of an augmentation"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_runs_nothing_else_fetches_nothing_and_fits(
    browser, page_file: PageFile, name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, fetched, dialogs = [], [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    address = page_file(name).as_uri()
    page.goto(address)
    assert [url for url in fetched if not url.startswith("data:")] == [address]
    assert (said, dialogs) == ([], [])
    assert page.title() == TITLES[name]
    assert page.evaluate("document.querySelectorAll('b').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    broken = page.evaluate("[...document.images].filter((image) => !image.complete || !image.naturalWidth).length")
    assert broken == 0
    folder = os.environ.get("TFPIPE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)
    page.close()


def test_every_control_is_reached_by_the_keyboard_and_visible_there(browser, page_file: PageFile, name: str) -> None:
    page = browser.new_page()
    page.goto(page_file(name).as_uri())
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
def test_text_has_contrast_enough(browser, page_file: PageFile, name: str, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG AA asks for."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_file(name).as_uri())
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
