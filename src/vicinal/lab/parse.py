"""Vicinities as text: `Mixup(alpha=0.4, pairing=SameClass())`, read without evaluating any code."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import vicinal
from vicinal import methods
from vicinal.lab.errors import UserError
from vicinal.lab.format import closest

_LONGEST = 1000  # characters: enough for any composition, too few to exhaust the parser
_SHOWN = 60  # characters of it, in an error
_KINDS = (vicinal.Vicinity, vicinal.Pairing, vicinal.Weighting)
_NAMES: dict[str, type] = {
    name: kind
    for home in (vicinal, methods)
    for name in dir(home)
    if inspect.isclass(kind := getattr(home, name)) and issubclass(kind, _KINDS) and not inspect.isabstract(kind)
}


def parse(text: str) -> vicinal.Vicinity:
    """Parse one vicinity; numbers, strings, booleans, None, lists, and nested vicinities, pairings and weightings.

    Raises:
        UserError: the text is not of that form, names nothing known, or its values are refused.

    """
    if len(text) > _LONGEST:
        raise UserError(f"a vicinity of {len(text):,} characters is not read; write it in {_LONGEST:,} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about odd spellings such as '\d'
            tree = ast.parse(text.strip(), mode="eval").body
        value = _value(tree, vicinal.Vicinity)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # a null byte; nested too deeply
        raise UserError(f"{_quoted(text)} is not a vicinity; write it as Mixup(alpha=0.4)") from error
    if isinstance(value, (vicinal.Pairing, vicinal.Weighting)):
        written = ast.unparse(tree)
        raise UserError(f"{_quoted(text)} is a part of a vicinity; did you mean {_within(type(value), written)}?")
    if not isinstance(value, vicinal.Vicinity):
        raise UserError(f"{_quoted(text)} is not a vicinity; the vicinities are {', '.join(vicinities())}")
    return value


def scheduled(text: str, scaled: Callable[[int], int]) -> str:
    """Return a vicinity's text with the epochs of each `Scheduled` replaced by what `scaled` makes of them.

    Raises:
        UserError: as of `parse`.

    """
    parse(text)
    tree = ast.parse(text.strip(), mode="eval")
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Scheduled":
            for epoch in (*call.args[1:3], *(named.value for named in call.keywords if named.arg in ("start", "stop"))):
                if isinstance(epoch, ast.Constant) and isinstance(epoch.value, int):
                    epoch.value = scaled(epoch.value)
    return ast.unparse(tree)


def qualified(text: str) -> str:
    """Return a vicinity's text as Python reads it after `import vicinal`.

    Example:
        >>> qualified("Chain([Mixup(0.4), ERM()])")
        'vicinal.Chain([vicinal.Mixup(0.4), vicinal.ERM()])'

    """
    return re.sub(
        rf"\b({'|'.join(_NAMES)})\b",
        lambda name: f"vicinal.{name[0]}" if hasattr(vicinal, name[0]) else f"vicinal.methods.{name[0]}",
        text,
    )


def vicinities() -> list[str]:
    """Return the names of all vicinities."""
    return sorted(name for name, kind in _NAMES.items() if issubclass(kind, vicinal.Vicinity))


def _value(node: ast.expr, wanted: type) -> Any:
    """Return the value that is written; a name in it is best one of the kind that is wanted."""
    if isinstance(node, ast.Name):
        return _call(node.id, [], [], wanted)  # SameClass for SameClass()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node.args, node.keywords, wanted)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element, wanted) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{_quoted(ast.unparse(node))} is neither a value nor a vicinity; only those are read"
        ) from error


def _call(name: str, args: list[ast.expr], keywords: list[ast.keyword], wanted: type) -> Any:
    if name not in _NAMES:
        raise UserError(f"there is no {wanted.__name__.lower()} {_quoted(name)}; {_hint(name, wanted)}")
    signature = inspect.signature(_NAMES[name])
    signature = signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "_state"])
    kinds = {parameter.name: _kind_in(str(parameter.annotation)) for parameter in signature.parameters.values()}
    places = [*kinds.values(), *[vicinal.Vicinity] * len(args)]
    values = [_value(arg, place) for arg, place in zip(args, places, strict=False)]
    names = [keyword.arg for keyword in keywords]
    if None in names or len(set(names)) < len(names):
        raise UserError(f"{name} is given '**' or an argument twice; write each argument out, once")
    named = {str(one.arg): _value(one.value, kinds.get(str(one.arg), vicinal.Vicinity)) for one in keywords}
    try:
        signature.bind(*values, **named)
    except TypeError as error:
        takes = ", ".join(parameter for parameter in signature.parameters if parameter != "seed")
        raise UserError(f"{name} takes {takes or 'nothing'} ({error})") from error
    try:
        return _NAMES[name](*values, **named)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: {error}") from error


def _kind_in(annotation: str) -> type:
    """Return the kind that a parameter's annotation names."""
    return next((kind for kind in _KINDS if kind.__name__ in annotation), vicinal.Vicinity)


def _hint(name: str, wanted: type) -> str:
    """Propose what would be read in the place of an unknown name."""
    fitting = sorted(of for of, kind in _NAMES.items() if issubclass(kind, wanted))
    close = closest(name, _NAMES)
    if close and close not in fitting and wanted is vicinal.Vicinity:
        kind = _NAMES[close]
        return f"did you mean {_within(kind, _example(kind))}?"
    if close := closest(name, fitting):
        return f"did you mean {close}?"
    plural = {vicinal.Vicinity: "vicinities"}.get(wanted, f"{wanted.__name__.lower()}s")
    return f"the {plural} are {', '.join(fitting)}"


def _example(kind: type) -> str:
    """Return the shortest text that is read as one of a kind."""
    for args in ((), (0.5,), (0.5, 3)):
        with contextlib.suppress(TypeError, ValueError):
            kind(*args)
            return f"{kind.__name__}({', '.join(map(str, args))})"
    return kind.__name__


def _within(kind: type, written: str) -> str:
    """Return the text of a vicinity that takes a pairing or a weighting."""
    return f"Mixup(pairing={written})" if issubclass(kind, vicinal.Pairing) else f"Mixup(alpha={written})"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
