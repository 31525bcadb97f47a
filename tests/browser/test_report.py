"""The tables of the report in a real browser: they sort."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def test_tables_sort_by_pointer_and_by_keyboard(browser, page_file: Callable[[str], Path]) -> None:
    page = browser.new_page()
    page.goto(page_file("report").as_uri())
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
