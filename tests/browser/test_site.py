"""The documentation's site in a real browser: the console stays empty, nothing is fetched from elsewhere, it fits.

Takes tfpipe[docs], playwright and a Chromium: `make browser`. TFPIPE_CHROMIUM names the browser, TFPIPE_SCREENSHOTS a
folder that gets the screenshots, TFPIPE_SITE a folder with the built site, which is otherwise built first.
"""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
SIZES = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
SHOWN = ("index", "tutorial", "explanation/shuffle", "benchmarks", "reference/augment", "guides/segmentation")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The site's folder, and its address."""
    folder = Path(os.environ.get("TFPIPE_SITE") or build(tmp_path_factory.mktemp("site")))
    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://localhost:{server.server_port}/"
    server.shutdown()


def watched(browser, width: int, scheme: str):
    """A page, and what it says and fetches."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, fetched = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    return page, said, fetched


def check_page(page, address: str, name: str, width: int) -> None:
    page.goto(f"{address}{name}.html")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") == width, name
    broken = page.evaluate("[...document.images].filter((one) => !one.complete || !one.naturalWidth).length")
    assert broken == 0, name


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_pages_say_nothing_fetch_nothing_from_elsewhere_and_fit(browser, site, width: int, scheme: str) -> None:
    page, said, fetched = watched(browser, width, scheme)
    for name in SHOWN:
        check_page(page, site[1], name, width)
        folder = os.environ.get("TFPIPE_SCREENSHOTS")
        if folder:
            page.screenshot(path=Path(folder) / f"site-{name.replace('/', '-')}-{width}-{scheme}.png")
    assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    assert said == []
    assert [url for url in fetched if not url.startswith((site[1], "data:", "blob:"))] == []
    page.close()


def test_every_page_fits_a_telephone(browser, site) -> None:
    folder, address = site
    page, said, fetched = watched(browser, 390, "light")
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.html"))]
    for name in names:
        if name != "404":
            check_page(page, address, name, 390)
    assert len(names) > 60
    assert said == []
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def test_the_search_finds_a_page(browser, site) -> None:
    page, said, _ = watched(browser, 1280, "light")
    page.goto(f"{site[1]}index.html")
    page.locator(".md-search__input").press_sequentially("mask_fill")
    page.locator(".md-search-result__item a").first.wait_for()
    assert page.locator(".md-search-result__item").count() > 1
    assert said == []
    page.close()
