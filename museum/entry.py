"""One pipeline to check: whose it is, how it is made, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, StackDataset

from vicinal.checking.codes import CODES

Build = Callable[[], dict[str, Any]]

CLASSES = 10
ROWS = 16


@dataclass(frozen=True)
class Entry:
    """A pipeline, built as its package's own documentation shows it.

    Args:
        package: the name under which it is installed.
        name: what is checked, in a few words.
        build: returns the arguments of `vicinal.check`, "target" among them.
        expects: codes that reading the package, or running it by hand, says should be found; "VIC005|VIC020": one of the
            two is.
        confirmed: codes that the check found first, and that were then measured by hand.

    """

    package: str
    name: str
    build: Build
    expects: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name it on the command line."""
        return f"{self.package}: {self.name}"

    def missed(self, codes: list[str]) -> list[str]:
        """Return what was expected and is not among the codes found."""
        return [expected for expected in self.expects if not set(expected.split("|")) & set(codes)]

    def surprises(self, codes: list[str]) -> list[str]:
        """Return the codes found, of errors and warnings, that were neither expected nor confirmed."""
        known = {*self.confirmed, *(code for expected in self.expects for code in expected.split("|"))}
        return [code for code in codes if code not in known and CODES[code].severity != "note"]


class Entries(list[Entry]):
    """A table of entries, filled by a decorator."""

    def of(self, package: str, name: str, *expects: str, confirmed: tuple[str, ...] = ()) -> Callable[[Build], Build]:
        """Add an entry: `@entries.of("timm", "Mixup", "VIC012")` above the function that builds it."""

        def add(build: Build) -> Build:
            self.append(Entry(package, name, build, expects, confirmed))
            return build

        return add


# -- examples and models: their shapes, dtypes and classes are what counts ------------------------------------------------


def values(*shape: int) -> Tensor:
    """Return numbers in [0, 1], all different."""
    return torch.linspace(0, 1, torch.Size(shape).numel()).view(shape)


def classes(rows: int = ROWS) -> Tensor:
    """Return class indices."""
    return torch.arange(rows) % CLASSES


def one_hot(rows: int = ROWS) -> Tensor:
    """Return class indices as rows of zeros and a one, floating point."""
    return nn.functional.one_hot(classes(rows), CLASSES).float()


def images(rows: int = ROWS, side: int = 32) -> Tensor:
    """Return a batch of images, channels first."""
    return values(rows, 3, side, side)


def levels(rows: int = ROWS, side: int = 32) -> Tensor:
    """Return a batch of images as they are decoded, uint8."""
    return (images(rows, side) * 255).to(torch.uint8)


def labeled(x: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return a batch of images and class indices."""
    x = images() if x is None else x
    return x, classes(len(x))


def maps(rows: int = ROWS, side: int = 16, values: int = 4) -> Tensor:
    """Return a segmentation mask for each row, class indices [n, side, side]."""
    return (torch.arange(rows * side * side) % values).view(rows, side, side)


def named(**parts: Tensor) -> StackDataset[Any]:
    """Return a dataset whose rows are mappings."""
    return StackDataset(**parts)


def dataset(rows: int = 64) -> StackDataset[Any]:
    """Return a dataset of images and class indices."""
    return StackDataset(images(rows), classes(rows))


def loader(data: Any, collate: Callable[[list[Any]], Any], **options: Any) -> DataLoader[Any]:
    """Return a training loader with two workers."""
    settings = {"batch_size": ROWS, "shuffle": True, "num_workers": 2, "collate_fn": collate, **options}
    return DataLoader(data, **settings)


def classifier(side: int = 32) -> nn.Module:
    """Return a small network for images."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, CLASSES))
