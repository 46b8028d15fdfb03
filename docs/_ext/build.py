"""Build the site of the documentation, and check it: warnings are errors, and so are links that lead nowhere.

    python docs/_ext/build.py                       # into build/docs (what `make docs` runs)
    GALLERY=off python docs/_ext/build.py           # no script of the gallery is run
    python docs/_ext/build.py --into DIR --fresh    # elsewhere, and nothing kept of the last build

No network is used: with `--elsewhere`, Sphinx's own checker asks for each address that the pages link to.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import links
import llms
import website
from sphinx.application import Sphinx
from sphinx.util.console import nocolor
from stage import Stage

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Told(io.TextIOBase):
    """Warnings, as lines that name the page in docs/ instead of its copy."""

    def __init__(self, copy: Path) -> None:
        self.copy = f"{copy}/"
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        """Print a warning, and remember it."""
        if text.strip():
            text = text.replace(f"{self.copy}project/", "").replace(self.copy, "docs/")
            self.lines.append(text.rstrip())
            print(text.rstrip(), file=sys.stderr)
        return len(text)


def build(into: Path, fresh: bool = False, builder: str = "html") -> tuple[Sphinx, int]:
    """Return the application that has built the site, and the number of warnings."""
    work = into.with_name(f"{into.name}-work")
    if fresh:
        for folder in (into, work):
            shutil.rmtree(folder, ignore_errors=True)
    website.STAGE = Stage(ROOT, work / "source")
    website.STAGE.build()
    nocolor()
    told = Told(work / "source")
    for fault in website.STAGE.faults:
        told.write(fault)
    out = into if builder == "html" else work / builder
    app = Sphinx(
        srcdir=work / "source",
        confdir=ROOT / "docs",
        outdir=out,
        doctreedir=work / "doctrees",
        buildername=builder,
        status=None,
        warning=told,
        parallel=os.cpu_count() or 1,
    )
    app.build()
    return app, len(told.lines)


def main() -> None:
    """Build the site and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "docs", help="the folder of the site")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of the last build")
    parser.add_argument("--elsewhere", action="store_true", help="ask the network for each address elsewhere")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    into = arguments.into.absolute()
    if arguments.elsewhere:
        app, warnings = build(into, builder="linkcheck")
        raise SystemExit(app.statuscode or bool(warnings))
    with subprocess.Popen([sys.executable, str(HERE / "cards.py"), "--check"], cwd=ROOT) as cards:
        app, warnings = build(into, arguments.fresh)
    sizes, lacking = llms.write(app, into)
    found = links.check(into)
    for fault in lacking + found.faults:
        print(fault, file=sys.stderr)
    files = [path for path in into.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"{len(app.env.found_docs)} pages ({found.pages} with sources and indexes), {len(files)} files, {megabytes:.1f} MB"
    )
    print(
        f"{found.internal} links within; {len(found.elsewhere)} addresses elsewhere, whose form is checked: nobody is asked"
    )
    print(", ".join(f"{name} {size / 1000:.0f} kB" for name, size in sizes.items()))
    counts = {"warnings": warnings, "links at fault": len(found.faults), "faults of llms.txt": len(lacking)}
    faults = [f"{count} {what}" for what, count in counts.items() if count]
    if cards.returncode:
        faults.append("cards out of date (python docs/_ext/cards.py writes them)")
    if faults:
        raise SystemExit(f"the site is not right: {', '.join(faults)}")
    print(f"built and checked in {time.perf_counter() - begun:.0f} s: file://{into}/index.html")


if __name__ == "__main__":
    main()
