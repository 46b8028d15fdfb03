"""ARFF files as Weka reads them, brought into the one form that SciPy's reader takes.

Weka takes spaces around values, spaces instead of commas, a comma at the end, quotation marks around any value, and sparse
lines, in which a value that is left out is 0, or the first one of a nominal attribute (Weka manual, section 9.3). Nominal
values and texts are handed to SciPy as numbered words, so that they may hold any character.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.errors import UserError, of_all
from vicinal.lab.format import counted, quoted, there_are

_SAVE_AS_CSV = "save the table as CSV instead"
_DATA = re.compile(r"^([ \t]*@data\b[^\n]*\n?)", re.IGNORECASE | re.MULTILINE)
_QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_DECLARED = re.compile(rf"\s*@attribute\s+({_QUOTED}|\S+)\s*(.*)", re.IGNORECASE)
_NOMINAL = re.compile(r"\{(.*)\}\s*(?:%.*)?")
_TOKEN = re.compile(rf"({_QUOTED}|[^\s,]*)(\s*,\s*|\s+|$)")
_PLAIN_TOKENS = re.compile(r"\s*,\s*|\s+")
_SHOWN = 5


@dataclass
class _Attribute:
    """An attribute of the header, and the words that stand for its values in what SciPy reads."""

    name: str
    declaration: str  # as it stands in the file, up to the type
    kind: str
    words: dict[str, str] = field(default_factory=dict)

    @property
    def absent(self) -> str | None:
        """What a sparse line that leaves it out means; None if nothing."""
        if self.kind == "nominal":
            return next(iter(self.words.values()), None)
        return "0" if self.kind == "number" else None

    def line(self) -> str:
        """Return the declaration for SciPy."""
        return f"{self.declaration}{{{','.join(self.words.values()) or 'v0'}}}"


def read_arff(text: str, label: str) -> pl.DataFrame:
    """Read the text of an ARFF file by SciPy; a nominal attribute becomes an Enum of its declared categories.

    Raises:
        UserError: for malformed lines, all at once, and for what SciPy does not read, as relational attributes.

    """
    from scipy.io import arff

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    head, *rest = _DATA.split(text, maxsplit=1)
    if not rest:
        raise UserError(f"{label!r} is not an ARFF file (it has no @data line): {_SAVE_AS_CSV}")
    mark, body = rest
    attributes = _attributes(head, label)
    lines = _data_lines(body, (head + mark).count("\n") + 1, attributes, label)
    declared = iter(attributes)
    kept = []
    for line in head.splitlines():
        attribute = next(declared) if _DECLARED.match(line) else None
        kept.append(attribute.line() if attribute and attribute.kind in ("nominal", "text") else line)
    try:
        data, meta = arff.loadarff(io.StringIO("\n".join([*kept, mark.rstrip("\n"), *lines])))
    except (NotImplementedError, ValueError, IndexError, re.error, arff.ArffError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{label!r} cannot be read by SciPy's ARFF reader ({reason}): {_SAVE_AS_CSV}") from e
    names = meta.names()
    if len(names) != len(attributes):
        raise UserError(f"{label!r} has attributes that SciPy's ARFF reader does not find: {_SAVE_AS_CSV}")
    return pl.DataFrame(
        [_series(name, data[name], meta[name][0], of) for name, of in zip(names, attributes, strict=True)]
    )


def _attributes(head: str, label: str) -> list[_Attribute]:
    found = []
    for line in head.splitlines():
        if not (match := _DECLARED.match(line)):
            continue
        name, kind = _bare(match[1]), match[2].strip()
        declaration = line[: match.start(2)]
        declaration += "" if declaration[-1:].isspace() else " "
        if kind.lower().startswith("relational"):
            raise UserError(
                f"{label!r} has a relational attribute, which SciPy's ARFF reader cannot flatten: {_SAVE_AS_CSV}"
            )
        if nominal := _NOMINAL.fullmatch(kind):
            values = dict.fromkeys(_bare(token) for token in _tokens(nominal[1]) if token)
            words = {value: f"v{i}" for i, value in enumerate(values)}
            found.append(_Attribute(name, declaration, "nominal", words))
        elif kind.lower().startswith("string"):
            found.append(_Attribute(name, declaration, "text"))
        elif re.match(r"date\b|numeric|real|int", kind, re.IGNORECASE):  # "real [0, 1]" too
            found.append(_Attribute(name, declaration, "date" if kind.lower().startswith("date") else "number"))
        else:
            raise UserError(f"attribute {name!r} of {label!r} is of the unknown type {kind!r}: {_SAVE_AS_CSV}")
    return found


def _series(name: str, values: NDArray[Any], kind: str, attribute: _Attribute) -> pl.Series:
    if kind == "date":
        return pl.Series(name, values.astype("datetime64[us]"))
    if kind != "nominal":
        return pl.Series(name, values.astype(np.float64))
    meant = {word: value for value, word in attribute.words.items()}
    words = [meant.get(word) for word in cast("list[str]", np.char.decode(values, "ascii").tolist())]
    if attribute.kind == "text":
        return pl.Series(name, words, dtype=pl.String)
    return pl.Series(name, words, dtype=pl.Enum([*attribute.words]))


# ---- data lines


def _data_lines(body: str, first: int, attributes: Sequence[_Attribute], label: str) -> list[str]:
    """Return the data lines for SciPy: values with one comma between them, nominal ones and texts as words.

    Raises:
        UserError: naming the lines that cannot be read.

    """
    lines, bad = [], []
    for number, line in enumerate(body.split("\n"), start=first):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        try:
            lines.append(",".join(_sparse(line, attributes) if line.startswith("{") else _dense(line, attributes)))
        except ValueError as error:
            bad.append(f"line {number} of {label!r} {error}: correct that line")
    if len(bad) > _SHOWN:
        bad = [*bad[:_SHOWN], f"and {len(bad) - _SHOWN} more lines like these"]
    if bad:
        raise of_all(label, bad)
    return lines


def _dense(line: str, attributes: Sequence[_Attribute]) -> list[str]:
    tokens = _tokens(line)
    if len(tokens) == len(attributes) + 1 and not tokens[-1]:  # a comma at the end
        tokens.pop()
    if len(tokens) != len(attributes):
        raise ValueError(f"has {counted(len(tokens), 'value')}, but {there_are(len(attributes), 'attribute')}")
    return [_value(token, attribute) for token, attribute in zip(tokens, attributes, strict=True)]


def _sparse(line: str, attributes: Sequence[_Attribute]) -> list[str]:
    if not line.endswith("}"):
        raise ValueError("is sparse data without a closing brace, or with a weight")
    tokens = [token for token in _tokens(line[1:-1].strip()) if token]
    if len(tokens) % 2:
        raise ValueError("is sparse data that is not pairs of a place and a value")
    given: dict[int, str] = {}
    for place, token in zip(tokens[::2], tokens[1::2], strict=True):
        if not place.isdecimal() or len(place) > 9 or int(place) >= len(attributes):
            raise ValueError(f"has a value in place {place!r}, but places are 0 to {len(attributes) - 1}")
        if int(place) in given:
            raise ValueError(f"has two values in place {place}")
        given[int(place)] = token
    values = []
    for place, attribute in enumerate(attributes):
        if place in given:
            values.append(_value(given[place], attribute))
        elif attribute.absent is None:
            raise ValueError(f"leaves out {attribute.name!r}, which is {attribute.kind} and has no zero")
        else:
            values.append(attribute.absent)
    return values


def _value(token: str, attribute: _Attribute) -> str:
    """Return a value as SciPy reads it."""
    if token == "?":
        return token
    value = _bare(token)
    if attribute.kind == "nominal":
        if value not in attribute.words:
            raise ValueError(f"has {value!r}, none of the values of {attribute.name!r} ({quoted([*attribute.words])})")
        return attribute.words[value]
    if attribute.kind == "text":
        return attribute.words.setdefault(value, f"v{len(attribute.words)}")
    if attribute.kind == "number":
        try:
            float(value)
        except ValueError:
            raise ValueError(f"has {value!r}, which is not a number, in {attribute.name!r}") from None
        return value
    return repr(value) if "," in value else value


def _tokens(line: str) -> list[str]:
    """Split a line at commas and spaces outside quotation marks; no value between two commas is an empty one."""
    if "'" not in line and '"' not in line:
        return _PLAIN_TOKENS.split(line.strip())
    tokens = []
    for match in _TOKEN.finditer(line.strip()):
        tokens.append(match[1])
        if not match[2]:
            break
    return tokens


def _bare(token: str) -> str:
    """Return a token without quotation marks around it and backslashes in it, and without spaces at its ends."""
    if len(token) > 1 and token[0] in "'\"" and token[-1] == token[0]:
        token = re.sub(r"\\(.)", r"\1", token[1:-1])
    return token.strip()
