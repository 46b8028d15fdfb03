"""Lock what the environments are made of: each package with its version and the SHA-256 of its files.

    make lock                        # what pyproject.toml and constraints.txt ask for; versions that still fit are kept
    make lock UPGRADE=--upgrade      # the newest that fit

The resolver is uv, in an environment of its own. A lock has the files of every system that a package is published for:

    lab.lock          what the command `vicinal` needs but PyTorch, and what builds the package
    torch-cpu.lock    PyTorch's own builds for a CPU, which no index but its own offers
    torch.lock        PyPI's builds, where those are not to be had
    cuda.lock         what PyPI's build for Linux needs beside, several GB
    dev.lock          the tools of the checks, beside all that
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
LOCKS = ("lab", "torch", "cuda", "dev")

# As uv does not ask PyTorch's index. None is needed for macOS, whose build is PyPI's.
CPU_BUILDS = {
    "2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # Linux, x86_64, Python 3.11
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",  # Linux, aarch64, Python 3.11
        "10717d8b3b67c45a4788bf7ffc0bab1ea1e5ebbedd24466be6100102d141fac1",  # Windows, Python 3.11
    )
}
_CUDA = re.compile(r"(nvidia|cuda)-|triton$")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_HEAD = "# Written by `make lock`, which says how: requirements/lock.py.\n"


def read(name: str) -> dict[str, str]:
    """Return the entries of a lock by the names of their packages."""
    path = HERE / f"{name}.lock"
    return entries(path.read_text()) if path.exists() else {}


def entries(text: str) -> dict[str, str]:
    """Return the entries of a requirements file with hashes, by the names of their packages."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\w)", text):
        if match := _NAME.match(block):
            found[match[0]] = found.get(match[0], "") + block.strip() + "\n"  # one for each Python, where these differ
    return found


def resolved(uv: Path, options: Iterable[str]) -> dict[str, str]:
    """Return the entries that uv resolves from pyproject.toml; locked versions that still fit are kept."""
    with tempfile.TemporaryDirectory() as folder:
        project, out = Path(folder, "project.txt"), Path(folder, "lock.txt")
        project.write_text(f"vicinal[lab] @ {ROOT.as_uri()}\n")  # which the group dev asks for by name
        out.write_text("".join(text for name in LOCKS for text in read(name).values()))
        command = [str(uv), "pip", "compile", "--project", str(ROOT), "-q", "--no-header", "--no-annotate"]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes", "-c", str(ROOT / "constraints.txt")]
        command += ["--no-emit-package", "vicinal", "-o", str(out), str(project)]
        subprocess.run([*command, *options], cwd=ROOT, check=True)
        return entries(out.read_text())


def write(name: str, found: dict[str, str]) -> None:
    """Write a lock."""
    (HERE / f"{name}.lock").write_text(_HEAD + "".join(found[package] for package in sorted(found)))


def main() -> None:
    """Write all locks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    uv = Path(sys.executable).with_name("uv")
    everything = resolved(uv, ["--group", "build", "--group", "dev", *upgrade])
    names = resolved(uv, ["--group", "build"]).keys()
    version = everything["torch"].split("==")[1].split()[0]
    if version not in CPU_BUILDS:
        raise SystemExit(f"requirements/lock.py has no hashes of PyTorch's CPU builds of {version}: add them")
    hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS[version])
    write("torch-cpu", {"torch": f"torch=={version}+cpu{hashes}\n"})
    cuda = {name for name in everything if _CUDA.match(name)}
    write("torch", {"torch": everything["torch"]})
    write("cuda", {name: everything[name] for name in cuda})
    write("lab", {name: everything[name] for name in names - cuda - {"torch"}})
    write("dev", {name: everything[name] for name in everything.keys() - names - cuda - {"torch"}})


if __name__ == "__main__":
    main()
