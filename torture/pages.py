"""Pages of hostile names in a real browser: nothing runs, nothing is fetched, all is shown, and nothing breaks out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torture.part import ROOT, Outcome
from vicinal.keyed import Key
from vicinal.lab import stored, terminal
from vicinal.lab.paper import store

ABOUT = "reports of data with hostile names, opened in a real browser"
CANARY = "document.title='ran';window.ran=1;document.documentElement.dataset.ran=1"

# names of columns, classes, files and methods that would do harm where they are not escaped
NAMES = (
    f"<script>{CANARY}</script>",
    f"</style></title></textarea><script>{CANARY}</script>",
    f'"><img src=x onerror="{CANARY}">',
    f"'><svg onload={CANARY}>",
    f'" onmouseover="{CANARY}" style="position:fixed;inset:0" x="',
    f"javascript:{CANARY}",
    "&lt;b&gt;&amp;&#60;script&#62;&quot;",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "]]><!-- --><![CDATA[",
    "<iframe src=http://127.0.0.1:9/>",
    "@import url(http://127.0.0.1:9/a.css);",
    "=HYPERLINK(1)",
    "\u202eright to left\u202c \u2066isolate",
    "\u05e2\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u0430dmin \U0001f98b \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\u0301\u0301\u0301\u0301",
    "bell\x07 escape\x1b[31m null-like\x01",
    "$x^2$ \\frac{1}{2} \\textbf{a} _b_ *c* | d",
)
LONG = "W" * 10_000
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
MODES = ("light", "dark")


def _browser_module() -> Any:
    """Return the module that drives a browser, which the tests keep."""
    place = ROOT / "tests" / "browser.py"
    spec = importlib.util.spec_from_file_location("browser", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults(
    browser: Any, page: Path, shown: Sequence[str], sizes: Sequence[str] = (*SIZES,), modes: Sequence[str] = MODES
) -> list[str]:
    """Open a page at each size in each mode, and return what is wrong with it.

    Args:
        browser: of tests/browser.py.
        page: the file.
        shown: texts that must stand in it as they are.
        sizes: of `SIZES`.
        modes: light or dark.

    """
    found: list[str] = []
    for size in sizes:
        width, height = SIZES[size]
        for mode in modes:
            at = f"{page.parent.name}/{page.name} ({size}, {mode})"
            browser.events.clear()
            browser.size(width, height)
            browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
            browser.open(page.resolve().as_uri())
            found += [f"{at}: {fault}" for fault in _faults(browser, page, shown, width)]
    return found


_LOOK = """(() => {
  const hover = document.querySelectorAll('[onmouseover],[onload],[onerror],[onclick]').length;
  const made = document.querySelectorAll('script,iframe,object,embed,form,link,base,video,audio').length;
  const links = [...document.querySelectorAll('[href],[src]')].map(e => e.getAttribute('href') || e.getAttribute('src'))
    .filter(u => !u.startsWith('#') && !u.startsWith('data:image/png;base64,'));
  const wide = [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll,pre,svg') &&
    e.getBoundingClientRect().right > innerWidth + 1).length;
  return {ran: window.ran || document.documentElement.dataset.ran || 0, title: document.title, hover, made, links, wide,
    width: document.documentElement.scrollWidth, text: document.body.textContent,
    titles: [...document.querySelectorAll('[title]')].map(e => e.title).join('\\n')};
})()"""


def _faults(browser: Any, page: Path, shown: Sequence[str], width: int) -> list[str]:
    look = browser.run(_LOOK)
    own = page.resolve().as_uri()
    found = []
    if look["ran"] or look["title"] == "ran":
        found.append("a script of a name ran")
    for name in ("hover", "made"):
        if look[name]:
            found.append(f"{look[name]} elements or attributes came out of names ({name})")
    found += [f"it leads to {link[:80]!r}" for link in look["links"][:3]]
    if look["width"] > width or look["wide"]:
        found.append(f"it is {look['width']} pixels wide on {width}, and {look['wide']} elements reach out of it")
    text = " ".join(f"{look['text']}\n{look['titles']}".split())
    found += [f"it does not show {one[:60]!r}" for one in shown if " ".join(one.split()) not in text]
    for event in browser.events:
        method, of = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent" and of["request"]["url"] not in (own, f"{own}#"):
            if not of["request"]["url"].startswith("data:"):
                found.append(f"it asks for {of['request']['url'][:80]}")
        elif method in ("Page.javascriptDialogOpening", "Runtime.exceptionThrown"):
            found.append(f"{method}: {str(of)[:120]}")
    return found


# ---- what is opened --------------------------------------------------------------------------------------------------


def _command(*words: str) -> None:
    """Run a command of vicinal.

    Raises:
        RuntimeError: it failed; with what it said.

    """
    done = subprocess.run(
        [sys.executable, "-m", "vicinal.lab.cli", *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(f"vicinal {words[0]} ended with {done.returncode}: {done.stderr[-600:]}")


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_SHORT = ("--seeds", "2", "--epochs", "1", "--alpha", "0.4", "--jobs", "1")


def table(root: Path, regression: bool) -> tuple[Path, list[str]]:
    """Compare on a table whose file, columns, target, categories and classes have such names."""
    rng = Key(0, 0, 0, 0).generator()
    target, classes = NAMES[2], [*NAMES[:5], LONG]
    names = [*(f"{i} {name}" for i, name in enumerate(NAMES)), LONG[:5000], "kind", target]
    lines = [",".join(map(_cell, names))]
    for i in range(90):
        numbers = [f"{x:.3f}" for x in rng.normal(size=len(NAMES) + 1)]
        answer = f"{rng.normal():.3f}" if regression else classes[i % len(classes)]
        lines.append(",".join(map(_cell, [*numbers, NAMES[i % len(NAMES)], answer])))
    file = root / '"><img src=x onerror=alert(1)>.csv'
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = root / "out"
    _command("compare", str(file), "--target", target, *_SHORT, "--out", str(out))
    return out / "report.html", [target, *(() if regression else classes[:5])]


def folder(root: Path) -> tuple[Path, list[str]]:
    """Compare on a folder of images whose classes have such names."""
    rng = Key(1, 0, 0, 0).generator()
    classes = [name for name in NAMES if "/" not in name][:8]
    for i, name in enumerate(classes):
        place = root / "<b>pictures" / name
        place.mkdir(parents=True)
        for j in range(8):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) // 2 + 15 * i
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{j}.png")
    out = root / "out"
    words = ("--size", "16", "--model", "small-eighth")
    _command("compare", str(root / "<b>pictures"), *words, *_SHORT, "--out", str(out))
    return out / "report.html", classes


def reproduced(root: Path) -> tuple[Path, list[str]]:
    """Report a study whose records, with a checksum that fits, have such texts in each field."""
    out = root / "out"
    _command("reproduce", "toy", "--scale", "smoke", "--out", str(out), "--jobs", "1")
    for path in (out / "toy" / "smoke").glob("*.json"):
        if path.name == "table.json":
            continue
        fields = stored.unseal(path.read_bytes(), store.FORMAT)
        fields |= {"command": "; ".join(NAMES), "created": NAMES[0], "versions": {NAMES[1]: NAMES[2]}}
        fields["machine"] = {"processor": NAMES[3], "cores": NAMES[4], "gpu": LONG}
        stored.write(path, fields, store.FORMAT)
    _command("reproduce", "--report", "--scale", "smoke", "--out", str(out))
    return out / "report.html", list(NAMES[:5])


PAGES: dict[str, Callable[[Path], tuple[Path, list[str]]]] = {
    "table": lambda root: table(root, False),
    "regression": lambda root: table(root, True),
    "images": folder,
    "reproduce": reproduced,
}


def main(names: Sequence[str]) -> int:
    """Make some pages, by default all, below the folder `pages`, which must not be there; print what is wrong with them."""
    root, module, wrong = Path("pages"), _browser_module(), 0
    root.mkdir()
    browser = module.Browser(root / "profile")
    try:
        for name in names or PAGES:
            (root / name).mkdir()
            page, shown = PAGES[name](root / name)
            told = faults(browser, page, [terminal.printable(one) for one in shown])
            print("\n".join([f"{page}: {len(told)} faults", *told]), flush=True)
            wrong += len(told)
    finally:
        browser.close()
    return int(wrong > 0)


def run(seconds: float, seed: int) -> Outcome:
    """Make the pages, and open each in a browser; `seed` plays no part, for the names are given."""
    outcome, module = Outcome(), _browser_module()
    if module.CHROMIUM is None:
        outcome.skipped.append("no Chromium or Chrome was found on PATH: no page was opened")
        return outcome
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="vicinal-pages-") as place:
        root = Path(place)
        browser = module.Browser(root / "profile")
        try:
            for name, make in PAGES.items():
                if time.monotonic() > end:
                    outcome.skipped.append(f"the page of {name}: the time was over")
                    continue
                (root / name).mkdir()
                page, shown = make(root / name)
                told = faults(browser, page, [terminal.printable(one) for one in shown])
                outcome.failed += [f"{fault}: python -m torture.pages {name}" for fault in told]
                outcome.tried += len(SIZES) * len(MODES)
                outcome.count(f"views of {name}", len(SIZES) * len(MODES))
                outcome.count("names", len(shown))
        finally:
            browser.close()
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
