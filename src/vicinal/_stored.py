"""Dicts that are read back, of plans and of states: a format number, a checksum, and checks that name the field

A checksum tells damage, and edits that nobody meant; it is not a signature, since who means to deceive can write it anew.
What is read must therefore do no harm whatever it holds: each field is checked for type, shape and range, in time and
memory that grow with what was given. Dicts of earlier versions, which have neither format nor checksum, are checked alike.

From format 2 on a dict also names the draws that its keys stand for (`keyed.DRAWS`); before, there was one version of them.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from vicinal._checks import shown
from vicinal.keyed import DRAWS, Key

FORMAT, DRAWN, CHECKSUM = "format", "draws", "sha256"
_FIRST_DRAWN = 2  # the format that first names the draws
_LARGE = 1 << 22  # elements; a tensor of more must have memory for them: one number can be shown as any number of rows


def sealed(values: dict[str, Any], form: int) -> dict[str, Any]:
    """Return a dict with its format, the version of its draws, and its checksum, over tensors' values wherever they lie."""
    whole = {FORMAT: form, DRAWN: DRAWS, **values}
    return {**whole, CHECKSUM: digest(whole)}


def digest(value: Any) -> str:
    """Return the SHA-256 of a nest of dicts, lists, plain values and tensors of real numbers.

    It is that of the values: tensors on another device or of other strides, tuples for lists, and numpy's numbers for
    Python's give the same.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    """Add a value, written so that no two values are written alike."""
    if value is None or isinstance(value, bool):
        sha.update(b"n" if value is None else b"t" if value else b"f")
    elif isinstance(value, numbers.Integral):
        sha.update(b"i%x;" % int(value))
    elif isinstance(value, numbers.Real):
        sha.update(b"d" + struct.pack("<d", float(value)))
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        sha.update(b"s%d;" % len(text) + text)
    elif isinstance(value, Tensor):
        if value.is_meta:
            raise ValueError(
                "a plan on the device 'meta' has no numbers that could be kept: make the dict before .to('meta')"
            )
        array = np.ascontiguousarray(value.detach().resolve_neg().cpu().numpy())
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        sha.update(f"a{array.dtype.str}{list(value.shape)};".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    elif isinstance(value, Mapping):
        sha.update(b"m%d;" % len(value))
        for key in sorted(value):
            _feed(sha, key)
            _feed(sha, value[key])
    else:
        sha.update(b"l%d;" % len(value))
        for part in value:
            _feed(sha, part)


@dataclass(frozen=True)
class Fields:
    """The fields of one dict that is read back; each is refused by its name.

    Args:
        values: the dict.
        what: begins each refusal: "this is not what to_dict of a plan gave".
        remedy: ends it: what to do.
        place: the names of its fields begin with: "plans[2].".

    """

    values: Mapping[str, Any]
    what: str
    remedy: str
    place: str = ""

    def refuse(self, problem: str) -> NoReturn:
        """Raise the error that tells a problem."""
        raise ValueError(f"{self.what}: {self.place}{problem}: {self.remedy}")

    def check_names(self, form: int, required: Collection[str], optional: Collection[str] = ()) -> bool:
        """Check format and names of the fields, and return whether there is a checksum to check.

        Args:
            form: the format that this version writes.
            required: names that every dict has.
            optional: names that dicts of earlier versions may lack.

        """
        if FORMAT in self.values:
            found = self.integer(FORMAT, 1, 1 << 63)
            if found > form:
                raise ValueError(
                    f"{self.what} that this version reads: {self.place}format is {found}, written by a later version of "
                    f"vicinal, and this one reads up to {form}: update vicinal"
                )
            required = (*required, *optional, CHECKSUM)
            if found >= _FIRST_DRAWN:
                required = (*required, DRAWN)
        if missing := sorted(name for name in required if name not in self.values):
            self.refuse(f"{missing} missing")
        known = {FORMAT, *required, *optional}
        if unknown := [shown(name) for name in self.values if name not in known]:
            more = ", ..." if len(unknown) > 3 else ""
            self.refuse(f"it holds {', '.join(unknown[:3])}{more}, which none has")
        if DRAWN in known and (drawn := self.integer(DRAWN, 1, 1 << 63)) > DRAWS:
            raise ValueError(
                f"{self.what} that this version reads: {self.place}draws is {drawn}, and the draws that this version of "
                f"vicinal knows are those up to {DRAWS}: update vicinal"
            )
        return FORMAT in self.values

    def check_sum(self) -> None:
        """Check that the fields, each of them checked, are together what was written."""
        written = self.values[CHECKSUM]
        if not isinstance(written, str) or len(written) != 64:
            self.refuse(f"{CHECKSUM} must be 64 hexadecimal digits, got {shown(written)}")
        if digest({name: value for name, value in self.values.items() if name != CHECKSUM}) != written:
            self.refuse(f"{CHECKSUM} does not fit the other fields, so one of them is damaged or was changed")

    def flag(self, name: str) -> bool:
        """Return True or False."""
        value = self.values[name]
        if not isinstance(value, bool):
            self.refuse(f"{name} must be True or False, got {shown(value)}")
        return value

    def integer(self, name: str, low: int, stop: int) -> int:
        """Return an integer in [low, stop)."""
        return self.as_integer(name, self.values[name], low, stop)

    def as_integer(self, name: str, value: Any, low: int, stop: int) -> int:
        """Return a value that is an integer in [low, stop)."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) < stop:
            end = f"2**{stop.bit_length() - 1}" if stop > 1 << 16 and stop & (stop - 1) == 0 else str(stop)
            self.refuse(f"{name} must be an integer in [{low}, {end}), got {shown(value)}")
        return int(value)

    def number(self, name: str, low: float, high: float) -> float:
        """Return a finite number in [low, high]."""
        value = self.values[name]
        is_real = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
        if not is_real or not low <= value <= high or value in (math.inf, -math.inf):
            of = f"a finite number >= {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g}]"
            self.refuse(f"{name} must be {of}, got {shown(value)}")
        try:
            return float(value)
        except OverflowError:
            self.refuse(f"{name} must be a finite number, got {shown(value)}")

    def sequence(self, name: str, least: int, most: int, of: str) -> Sequence[Any]:
        """Return a list or tuple of least to most values."""
        value = self.values[name]
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            self.refuse(f"{name} must be {of}, got {shown(value)}")
        return value

    def key(self, name: str) -> Key | None:
        """Return the key of a draw, or None."""
        if self.values[name] is None:
            return None
        held = self.sequence(name, 4, 5, "None or the five integers of a Key")
        parts = zip(held, Key._fields, (64, 32, 32, 64, 64), strict=False)
        return Key(*(self.as_integer(f"{name}.{part}", value, 0, 1 << bits) for value, part, bits in parts))

    def tensor(self, name: str, dtypes: Collection[torch.dtype]) -> Tensor:
        """Return a plain tensor of one of some dtypes, whose elements are there to be read."""
        value = self.values[name]
        listed = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        if not isinstance(value, Tensor):
            self.refuse(f"{name} must be a tensor, {listed}, got {shown(value)}")
        if value.layout is not torch.strided or value.is_nested or value.is_meta or value.dtype not in dtypes:
            self.refuse(f"{name} must be {listed} with numbers in it, got {shown(value)}")
        size = value.numel()
        if size > _LARGE and size * value.element_size() > value.untyped_storage().nbytes():
            self.refuse(f"{name} shows fewer numbers as {list(value.shape)}")
        return value
