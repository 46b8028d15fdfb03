"""The commands that are killed, each with its data and with what it leaves."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from torture.kills import server
from torture.part import ROOT
from vicinal.keyed import Key

PYTHON = sys.executable
VICINAL = (PYTHON, "-m", "vicinal.lab.cli")
TORCHRUN = (PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vicinal.lab.cli")
OUT = "out"  # the folder that each command writes into
_IMAGES = ("--size", "16", "--seeds", "2", "--epochs", "1", "--alpha", "0.4")
_TRAIN = ("train", "cifar10-small-mixup", "dataset=photos", "batch_size=4", "precision=float32", "--save-every", "0.1")
_TRAIN = (*_TRAIN, "--timeout", "20", "--out", OUT)

PROGRAM = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from vicinal import Mixup

mixup = Mixup(alpha=1.0, seed=0)

def collate(rows):
    x, y = (torch.stack(column) for column in zip(*rows))
    return mixup(x, y)

def make_loader():
    data = TensorDataset(torch.arange(640.0).reshape(64, 10), torch.arange(64) % 4)
    return DataLoader(data, batch_size=16, collate_fn=collate)
"""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Args:
        name: in records.
        argv: the program and its arguments; `{port}` and `{sha256}` are those of the server.
        prepare: makes what it needs in the folder where it runs.
        ranks: whether torchrun starts its processes.
        server: whether it downloads.

    """

    name: str
    argv: tuple[str, ...]
    prepare: Callable[[Path], None]
    ranks: bool = False
    server: bool = False

    @contextmanager
    def served(self) -> Iterator[tuple[str, ...]]:
        """Yield the arguments, with a server to download from while the `with` lasts, if it needs one."""
        if not self.server:
            yield self.argv
            return
        content = archive()
        with server.serving(content) as port:
            known = {"port": port, "sha256": server.digest(content)}
            yield tuple(word.format(**known) for word in self.argv)


def nothing(folder: Path) -> None:
    """Make nothing: the data are in the package."""


def photos(folder: Path) -> None:
    """Make two classes of 30 images."""
    generator = Key(5, 0, 0, 0).generator()
    for c, name in enumerate(("blue", "red")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(30):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, 2 - 2 * c] += 80
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")


def scores(folder: Path) -> None:
    """Make the losses of two methods on 20 seeds of 500 rows each."""
    (folder / OUT).mkdir()
    values = Key(6, 0, 0, 0).generator().normal(size=(2, 20, 500))
    lines = ["method,seed,row,score"]
    for m, method in enumerate(("ERM", "mixup")):
        lines += [f"{method},{s},{r},{values[m, s, r] - 0.1 * m:.6f}" for s in range(20) for r in range(500)]
    (folder / "losses.csv").write_text("\n".join(lines) + "\n")


def program(folder: Path) -> None:
    """Make a training program."""
    (folder / OUT).mkdir()
    (folder / "program.py").write_text(PROGRAM)


def table_model(folder: Path) -> None:
    """Make the model of a small table, and new rows."""
    (folder / OUT).mkdir()
    numbers = Key(7, 0, 0, 0).generator().normal(size=(60, 2))
    rows = [f"{a:.4f},{b:.4f},{'yes' if a + b > 0 else 'no'}" for a, b in numbers]
    (folder / "rows.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    _compare(folder, "rows.csv", "--target", "y", "--seeds", "2", "--epochs", "2", "--alpha", "0.2")


def image_model(folder: Path) -> None:
    """Make the model of a folder of images, and the images."""
    photos(folder)
    (folder / OUT).mkdir()
    _compare(folder, "photos", *_IMAGES)


def _compare(folder: Path, *argv: str) -> None:
    from torture.kills import processes

    processes.run((*VICINAL, "compare", *argv, "--jobs", "1", "--out", "model"), folder)


@cache
def archive() -> bytes:
    """Return an archive of 3 MB, in 40 files; gzip writes the time into it."""
    generator = Key(8, 0, 0, 0).generator()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for i in range(40):
            content = generator.bytes(75_000)
            info = tarfile.TarInfo(f"toy/{i}.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def download(folder: Path) -> None:
    """Make the folder of datasets."""
    (folder / OUT).mkdir()


COMMANDS = (
    Command(
        "compare, table, 1 job",
        (*VICINAL, "compare", "iris", "--seeds", "3", "--epochs", "10", "--jobs", "1", "--out", OUT),
        nothing,
    ),
    Command(
        "compare, table, 2 jobs",
        (*VICINAL, "compare", "digits", "--seeds", "2", "--epochs", "4", "--alpha", "0.4", "--jobs", "2", "--out", OUT),
        nothing,
    ),
    Command("compare, images, 1 job", (*VICINAL, "compare", "photos", *_IMAGES, "--jobs", "1", "--out", OUT), photos),
    Command("compare, images, 2 jobs", (*VICINAL, "compare", "photos", *_IMAGES, "--jobs", "2", "--out", OUT), photos),
    Command("train, 1 process", (*VICINAL, *_TRAIN, "epochs=4", "milestones=3"), photos),
    Command("train, 2 processes", (*TORCHRUN, *_TRAIN, "epochs=3", "milestones=2"), photos, ranks=True),
    Command(
        "train, a grid",
        (*VICINAL, *_TRAIN, "epochs=2", "milestones=1", "max_train_examples=24", "--grid", "seed=0,1"),
        photos,
    ),
    Command(
        "reproduce, 2 jobs", (*VICINAL, "reproduce", "toy", "--scale", "smoke", "--jobs", "2", "--out", OUT), nothing
    ),
    Command(
        "reproduce, training runs",
        (*VICINAL, "reproduce", "corrupted-labels", "--scale", "smoke", "--jobs", "1", "--out", OUT),
        nothing,
    ),
    Command(
        "reproduce, a local cluster",
        (*VICINAL, "reproduce", "toy", "--scale", "smoke", "--cluster", "local", "--out", OUT),
        nothing,
    ),
    Command(
        "data fetch",
        (PYTHON, "-P", str(ROOT / "torture/kills/fetch.py"), "{port}", "{sha256}", OUT),
        download,
        server=True,
    ),
    Command("predict, table", (*VICINAL, "predict", "model", "rows.csv", "--out", f"{OUT}/rows.csv"), table_model),
    Command("predict, images", (*VICINAL, "predict", "model", "photos", "--out", f"{OUT}/photos.parquet"), image_model),
    Command("check", (*VICINAL, "check", "program.py:make_loader", "--sarif", f"{OUT}/check.sarif"), program),
    Command("judge", (*VICINAL, "judge", "losses.csv", "--out", f"{OUT}/judgment.json"), scores),
)
