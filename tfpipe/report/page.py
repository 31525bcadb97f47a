"""One HTML file that needs nothing else: templates, styles and script inside it, images as data.

All values are escaped by jinja2, and the page's policy (CSP) lets no script run but page.js, known by its digest, and
nothing be loaded: a class name or a file name is text, whatever it holds.

    render_page("report.html", {"title": "photos", "rows": rows})
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """The HTML of a page.

    Args:
      template: the name of a file in tfpipe/report/templates that extends page.html.
      values: what its template shows; `title` is the page's.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            style_digest=_digest("page.css"),
            script_digest=_digest("page.js"),
            **values,
        )
    )


def image_url(data: bytes, *, kind: str = "jpeg") -> str:
    """The bytes of an image file as a URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


@cache
def _asset(name: str) -> str:
    return files("tfpipe.report").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}"
