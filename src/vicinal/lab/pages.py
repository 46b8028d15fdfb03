"""HTML pages: the style and the templates that all of them share."""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from vicinal.lab import terminal


@cache
def template(package: str, name: str) -> jinja2.Template:
    """Return a template from a package; every value that is rendered is escaped.

    Control characters, and those that turn the direction of what stands around them, are shown as Python writes them.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    return environment.from_string(_read(package, name))


@cache
def style() -> Markup:
    """Return the style sheet of all pages."""
    return Markup(_read(__package__ or "vicinal.lab", "style.css"))


def _shown(value: object) -> object:
    return terminal.printable(value) if type(value) is str else value  # Markup is of this project


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")
