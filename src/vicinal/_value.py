"""What vicinities, pairings and weightings are: frozen values."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Self


class Value:
    """A frozen dataclass, of which copies may have their fields set to what they are.

    Tools that walk over a checkpoint copy each dataclass in it and set the fields of the copy again (Lightning Fabric's
    `save`), which `dataclass(frozen=True)` refuses. Nothing can be changed here either.
    """

    __slots__ = ("_is_copy",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an instance of a class whose own `__setattr__`, that of `dataclass(frozen=True)`, is replaced."""
        cls.__setattr__ = Value.__setattr__  # type: ignore[method-assign]
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change anything."""
        known = {f.name for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        if not (hasattr(self, "_is_copy") and name in known and getattr(self, name) == value):
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, for pickles and copies."""
        return dict(vars(self))

    def __setstate__(self, values: dict[str, Any]) -> None:
        """Take over what `__getstate__` returned."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__({name: copy.deepcopy(value, memo) for name, value in self.__getstate__().items()})
        object.__setattr__(twin, "_is_copy", True)
        return twin
