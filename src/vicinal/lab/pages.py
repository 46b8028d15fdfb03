"""HTML pages: the style and the templates that all of them share."""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup


@cache
def template(package: str, name: str) -> jinja2.Template:
    """Return a template from a package; every value that is rendered is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read(package, name))


@cache
def style() -> Markup:
    """Return the style sheet of all pages."""
    return Markup(_read(__package__ or "vicinal.lab", "style.css"))


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")
