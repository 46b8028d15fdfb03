"""Print the oldest versions that pyproject.toml allows of what the package needs, as constraints for pip.

make test-oldest
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BESIDE = {"pyparsing": "3.2.0"}  # what Matplotlib 3.9 needs; later ones tell it of names that it should not use
EXTRAS = ("lab", "tensorboard", "cluster", "excel", "zstd")


def oldest(project: dict[str, Any]) -> dict[str, str]:
    """Return the oldest version of each package, the library's own and those of the extras that are tested."""
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"]]
    asked += [text for extra in EXTRAS for text in extras[extra]]
    found = dict(BESIDE)
    for text in asked:
        if text.startswith("vicinal["):
            continue
        match = re.fullmatch(r"([A-Za-z0-9-]+)>=([0-9.]+)", text)
        if match is None:
            raise SystemExit(f"pyproject.toml asks for {text!r}, which names no oldest version")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, version in oldest(read["project"]).items():
        print(f"{name}=={version}")
