"""The gallery's scripts: short, quick, without warnings, one figure each, and the same wherever and whenever they run."""

import ast
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "gallery"
SCRIPTS = sorted(FOLDER.glob("plot_*.py"))
LINES, SECONDS = 60, 20

# Run scripts as the site does, in one process with one look; then say of each what it printed and drew.
PROGRAM = """
import contextlib, hashlib, io, json, runpy, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

found = {}
for script in sys.argv[2:]:
    matplotlib.rcdefaults()
    matplotlib.rc_file(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(script, run_name="__main__")
    drawn = []
    for number in plt.get_fignums():
        canvas = plt.figure(number).canvas
        canvas.draw()
        drawn.append(hashlib.sha256(canvas.buffer_rgba()).hexdigest())
    found[script] = {"printed": printed.getvalue(), "drawn": drawn}
    plt.close("all")
print(json.dumps(found))
"""


def run(scripts: list[Path], folder: Path) -> dict[str, dict]:
    """Run scripts in one new process in which warnings are errors, in programs that it starts too."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(FOLDER / "matplotlibrc"), *map(str, scripts)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def all_in_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What all scripts print and draw, run one after another in the other order."""
    return run(SCRIPTS[::-1], tmp_path_factory.mktemp("all"))


def test_there_are_12_to_15_scripts():
    assert 12 <= len(SCRIPTS) <= 15


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_is_short_and_says_what_it_shows(script: Path):
    text = script.read_text()
    assert len(text.splitlines()) <= LINES
    title, line, empty, *about = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert line == "=" * len(title)
    assert empty == ""
    sentences = re.findall(r"[^.?:]*\w[.?)](?=\s|$)", " ".join(about))
    assert 2 <= len(sentences) <= 6, sentences
    assert "# %%" in text


@pytest.mark.docs
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_draws_one_figure_alone_or_after_others(script: Path, all_in_one: dict[str, dict], tmp_path: Path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    (alone,) = run([script], tmp_path).values()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime <= SECONDS
    assert len(alone["drawn"]) == 1
    assert re.search(r"\d", alone["printed"])
    assert alone == all_in_one[str(script)]
