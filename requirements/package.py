"""Build the wheel and the sdist, look into both, install each into a clean environment, and run what it holds.

    make package

An environment is clean in that it holds what the package asks for and nothing else. What that is comes as links to the
packages of the environment of the checks, so that nothing is fetched again; `--fetch` has pip install it from an index.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import sbom
from packaging.metadata import Metadata
from trove_classifiers import classifiers as known_classifiers

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "package"
MOST = {".whl": 1_500_000, ".gz": 8_000_000}  # bytes
KINDS = {".py", ".typed", ".j2", ".css", ".json", ".md"}  # of the files in a wheel
LIBRARY = """
import pathlib, sys, torch, vicinal
assert pathlib.Path(vicinal.__file__).is_relative_to(sys.prefix), vicinal.__file__
assert pathlib.Path(vicinal.__file__).with_name("py.typed").exists()
x, y = torch.randn(8, 3), torch.arange(8) % 3
mixed, target = vicinal.Mixup(0.4, seed=1)(x, y)
model = torch.nn.Linear(3, 3)
loss = torch.nn.functional.cross_entropy(model(mixed), target)
loss.backward()
assert loss.ndim == 0 and model.weight.grad is not None
assert not {"sklearn", "polars", "scipy", "matplotlib"} & sys.modules.keys()
print(f"vicinal {vicinal.__version__} mixes, and its loss is {float(loss.detach()):.3f}")
"""


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command and return what it prints on stdout; end this program with what it says if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(str(word) for word in command[:8])
        raise SystemExit(f"{words} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


# -- what was built ----------------------------------------------------------------------------------------------------


def build(kind: str, source: Path, into: Path) -> Path:
    """Build a wheel or an sdist of a source, and return it."""
    told = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    epoch = told.stdout.strip() or "315532800"
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into, cwd=source, SOURCE_DATE_EPOCH=epoch)
    (built,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    if built.stat().st_size > MOST[built.suffix]:
        raise SystemExit(f"{built.name} has {built.stat().st_size:,} bytes, more than {MOST[built.suffix]:,}")
    return built


def check_metadata(text: bytes, project: dict[str, Any]) -> None:
    """Check what indexes and pip read, against the rules of the format and against pyproject.toml."""
    about = Metadata.from_email(text, validate=True)
    unknown = sorted(set(about.classifiers or ()) - known_classifiers)
    if unknown:
        raise SystemExit(f"no classifiers: {unknown}")
    expected = {
        "name": project["name"],
        "summary": project["description"],
        "license_expression": project["license"],
        "requires_python": project["requires-python"],
        "classifiers": project["classifiers"],
        "provides_extra": sorted(project["optional-dependencies"]),
        "description_content_type": "text/markdown",
    }
    for name, value in expected.items():
        found = getattr(about, name)
        found = sorted(found) if name == "provides_extra" else str(found) if name == "requires_python" else found
        if found != value:
            raise SystemExit(f"the metadata say {name}: {found!r}, and pyproject.toml {value!r}")
    if not about.description or "# vicinal" not in about.description:
        raise SystemExit("the metadata lack the README")


def check_wheel(wheel: Path, project: dict[str, object]) -> list[str]:
    """Check the files of a wheel, its entry point and its metadata, and return the names."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        check_metadata(archive.read(f"{info}/METADATA"), project)
        entries = archive.read(f"{info}/entry_points.txt").decode()
    if entries.split("\n")[:2] != ["[console_scripts]", "vicinal = vicinal.lab.cli:main"]:
        raise SystemExit(f"the wheel's entry points are {entries!r}")
    ours = [name for name in names if not name.startswith(f"{info}/")]
    odd = [name for name in ours if not name.startswith("vicinal/") or Path(name).suffix not in KINDS]
    source = sorted(
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.suffix in KINDS and "__pycache__" not in path.parts
    )
    if odd or ours != source:
        raise SystemExit(f"the wheel and src/ differ: {odd or sorted(set(ours) ^ set(source))}")
    if "vicinal/py.typed" not in ours:
        raise SystemExit("the wheel lacks vicinal/py.typed")
    return names


def unpacked(sdist: Path, into: Path) -> Path:
    """Check the files of an sdist, unpack it, and return its folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    top = {path.name for path in folder.iterdir()}
    needed = {"src", "tests", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "PKG-INFO"}
    if lacking := needed - top:
        raise SystemExit(f"the sdist lacks {sorted(lacking)}")
    if odd := [name for name in top if name.startswith(".") and name != ".gitignore"] + [*folder.rglob("__pycache__")]:
        raise SystemExit(f"the sdist holds {odd}")
    return folder


# -- clean environments ------------------------------------------------------------------------------------------------


def environment(name: str, wheel: Path, extra: str, packages: dict[str, Distribution], fetch: bool) -> Path:
    """Make an environment with a wheel and what it needs, and return its folder of commands."""
    place = WORK / name
    venv.create(place, with_pip=fetch, symlinks=os.name != "nt")
    commands = place / ("Scripts" if os.name == "nt" else "bin")
    python = commands / "python"
    if fetch:
        run(python, "-m", "pip", "install", "-q", f"{wheel}{extra}")
        run(python, "-m", "pip", "check")
        return commands
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for package in packages.values():
        link(package, site)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run(*pip, "install", "-q", "--no-deps", "--no-index", "--no-compile", wheel)
    run(*pip, "check")  # what is linked fits what the wheel asks for
    return commands


def link(package: Distribution, site: Path) -> None:
    """Link a package's files, and what it says of itself, into the site-packages of an environment."""
    there = Path(str(package.locate_file("")))
    for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(there / top)


def check_library(commands: Path, fresh: Path) -> None:
    """Mix a batch without any extra; the command says what it lacks in one sentence."""
    print("  without extras:", run(commands / "python", "-I", "-W", "error", "-c", LIBRARY, cwd=fresh).strip())
    done = subprocess.run(
        [str(commands / "vicinal"), "compare", "iris"], cwd=fresh, capture_output=True, text=True, check=False
    )
    if done.returncode != 2 or not re.fullmatch(r"vicinal: .*pip install '?vicinal\[lab\]'?.*\n", done.stderr):
        raise SystemExit(f"without its extra the command ended with {done.returncode} and said {done.stderr!r}")


def check_lab(commands: Path, fresh: Path) -> None:
    """Compare on a small table by the command."""
    said = run(commands / "vicinal", "--version", cwd=fresh).strip()
    short = ["--seeds", "2", "--epochs", "1", "--alpha", "0.4", "--jobs", "1", "--out", "compared"]
    run(commands / "vicinal", "compare", "iris", *short, cwd=fresh)
    found = sorted(path.name for path in (fresh / "compared").iterdir())
    if not {"report.html", "results.json"} <= set(found):
        raise SystemExit(f"compare left {found}")
    print(f"  with [lab]: {said}; compare iris left {', '.join(found)}")


def main() -> None:
    """Build, look, install and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", action="store_true", help="install what is needed from an index")
    fetch = parser.parse_args().fetch
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.rmtree(WORK, ignore_errors=True)
    wheel, sdist = build("wheel", ROOT, WORK / "wheel"), build("sdist", ROOT, WORK / "sdist")
    names = check_wheel(wheel, project)
    folder = unpacked(sdist, WORK / "unpacked")
    again = build("wheel", folder, WORK / "again")
    if again.read_bytes() != wheel.read_bytes():
        raise SystemExit("the sdist builds another wheel than the checkout")
    files = sum(path.is_file() for path in folder.rglob("*"))
    for path, count in ((wheel, len(names)), (sdist, files)):
        print(f"{path.name}: {count} files, {path.stat().st_size:,} bytes")
    fresh = WORK / "empty"
    fresh.mkdir()
    check_library(environment("library", wheel, "", sbom.library(), fetch), fresh)
    check_lab(environment("lab", again, "[lab]", sbom.runtime(), fetch), fresh)


if __name__ == "__main__":
    main()
