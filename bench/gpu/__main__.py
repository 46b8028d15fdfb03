"""python -m bench.gpu: the queue of measurements for one GPU.

python -m bench.gpu --list                          the jobs, in order
python -m bench.gpu --smoke                         a dry run of each, in seconds, on any machine
python -m bench.gpu next                            on a machine of one's own: all that is not yet done
python -m bench.gpu pack cifar10 PARCEL             cut a dataset into parts of at most 60 MiB
python -m bench.gpu unpack PART...                  on arrival: checks, keeps, and unpacks when all parts are there
python -m bench.gpu next --minutes 9 --out OUT --state IN
                                                    a slot of 9 minutes; results and state leave through OUT
python -m bench.gpu part 1 --out OUT                a further part of what left
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.gpu import parcel, queue
from bench.gpu.jobs import JOBS
from vicinal.lab.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Give the options."""
    p = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("action", nargs="?", choices=("next", "pack", "unpack", "part"), help="see above")
    p.add_argument("what", nargs="*", help="pack: NAME FOLDER; unpack: folders; part: its number")
    p.add_argument("--list", action="store_true", help="show the jobs")
    p.add_argument("--smoke", action="store_true", help="run each job at the size of a dry run")
    p.add_argument("--minutes", type=float, default=None, help="stop after so many (default: when all is done)")
    p.add_argument("--out", type=Path, default=None, help="folder through which results and state leave")
    p.add_argument("--state", type=Path, default=None, help="folder through which a state came in")
    p.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vicinal-gpu", help="work folder")
    p.add_argument("--jobs", default=None, help="only these, by name, with commas between")
    p.add_argument("--retry", action="store_true", help="try again what failed")
    p.add_argument("--device", default=None, help="default: cuda if there is one, else cpu")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; 0: fine, 1: a job failed or was refused."""
    args = parser().parse_args(argv)
    try:
        return _main(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _main(args: argparse.Namespace) -> int:
    if args.list:
        for job in JOBS:
            print(f"{job.name:28s}{job.minutes:6.1f} min  {', '.join(job.data) or '-':9s} {job.estimate}")
        print(f"{'':28s}{sum(job.minutes for job in JOBS):6.1f} min in all; none of them measured, all estimated")
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    if args.action == "pack":
        name, folder = _two(args.what)
        for made in parcel.cifar(name, queue.data_root(args.work), Path(folder)):
            size = sum(file.stat().st_size for file in made.iterdir())
            print(f"{made}: {size / 2**20:.1f} MiB")
        return 0
    if args.action == "unpack":
        print(queue.take([Path(folder) for folder in args.what], args.work))
        return 0
    if args.action == "part":
        _copy_part(args.work, int(_one(args.what)), _out(args))
        return 0
    if args.action != "next" and not args.smoke:
        raise UserError("nothing was asked for: --list, --smoke, next, pack, unpack or part (see --help)")
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    if args.state is not None and any(args.state.rglob("manifest.json")):
        print(queue.take([args.state], args.work))
    names = None if args.jobs is None else args.jobs.split(",")
    unknown = [name for name in names or [] if name not in {job.name for job in JOBS}]
    if unknown:
        raise UserError(f"there is no job {', '.join(unknown)}: see --list")
    jobs = [job for job in JOBS if names is None or job.name in names]
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu" and not args.smoke:
        raise UserError("there is no CUDA device here: --smoke runs each job at the size of a dry run")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    os.environ.setdefault("VICINAL_DATA", str(queue.data_root(args.work)))  # where the readers look
    outcome = queue.run(jobs, args.work, device, args.minutes, args.smoke, args.retry)
    parts = queue.pack_state(args.work)
    if args.out is not None:
        _copy_part(args.work, 0, args.out)
        for number in range(1, len(parts)):
            print(f"more has to leave: python -m bench.gpu part {number} --out OUT")
    return int(any(said.startswith("failed") for said in outcome.values()))


def _copy_part(work: Path, number: int, out: Path) -> None:
    parts = parcel.parts(work / "parcel")
    if not 0 <= number < len(parts):
        raise UserError(f"there is no part {number}: '{work}' has {len(parts)}, from 0")
    shutil.copytree(parts[number], out / parts[number].name, dirs_exist_ok=True)


def _one(what: list[str]) -> str:
    if len(what) != 1 or not what[0].isdigit():
        raise UserError("give the number of the part, as in: part 1 --out OUT")
    return what[0]


def _two(what: list[str]) -> tuple[str, str]:
    if len(what) != 2:
        raise UserError("give the dataset and a folder, as in: pack cifar10 PARCEL")
    return what[0], what[1]


def _out(args: argparse.Namespace) -> Path:
    if args.out is None:
        raise UserError("give the folder that it leaves through: --out OUT")
    return args.out


if __name__ == "__main__":
    sys.exit(main())
