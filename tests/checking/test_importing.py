"""Objects of a user's program by name: what is found, under which name, and what is said where it is not."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.checking import importing
from vicinal.checking.importing import TargetError, load, load_beside


@pytest.fixture(autouse=True)
def _as_in_a_new_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start in an empty folder, and forget what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(
            getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")
        ):
            del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


STEP = "def train_step(x, y):\n    return x\n"


def test_a_file_and_a_name():
    write(
        "train.py",
        "import os\n\n" + STEP + "\nclass Model:\n    def step(self):\n        return 2\n\nmodel = Model()\n",
    )
    found = load("train.py:train_step")
    assert (found.name, found.spelled, found.module.__name__) == ("train_step", "train.py:train_step", "train")
    assert found.value(3, 4) == 3
    assert found.place() == ("train.py", 3)
    assert load("train.py:Model.step").place() == ("train.py", 7)
    bound = load("train.py:model.step")
    assert (bound.value(), bound.place()) == (2, ("train.py", 7))
    assert load("train.py:model").place() == ("train.py", 10)
    assert load("train.py::train_step").value is found.value  # imported once
    assert load(f"{Path.cwd()}/train.py:train_step").value is found.value


def test_places_of_what_is_not_a_function_of_the_file():
    write("lib.py", "import functools\n\n\ndef wrap(fn):\n    @functools.wraps(fn)\n    def inner(*args):\n"
          "        return fn(*args)\n    return inner\n\n\ndef collate(examples):\n    return examples\n")  # fmt: skip
    text = (
        "import functools\nfrom lib import collate, wrap\n\n@wrap\ndef mix(x):\n    return x\n\n"
        "half = functools.partial(mix, 2)\nif True:\n    loader = [1]\nelse:\n    loader = [2]\n"
        "made = eval('lambda x: x')\n\ndef other():\n    loader = [3]\n"
    )
    write("train.py", text)
    places = {name: load(f"train.py:{name}").place() for name in ("collate", "mix", "half", "loader", "made")}
    assert places == {
        "collate": ("lib.py", 11),
        "mix": ("train.py", 4),
        "half": ("train.py", 4),
        "loader": ("train.py", 12),  # the last binding outside of functions
        "made": ("train.py", 13),
    }


def test_the_guard_of_a_script_stays_shut_and_arguments_are_not_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["vicinal", "check", "train.py"])
    write("train.py", "import sys\nseen = [list(sys.argv)]\nif __name__ == '__main__':\n    seen.append(1)\n")
    assert load("train.py:seen").value == [[str(Path("train.py").resolve())]]
    assert sys.argv == ["vicinal", "check", "train.py"]


@pytest.mark.parametrize(
    "name", ["my-train.py", "my train.py", "2train.py", "v1.2.py", "__main__.py", "json.py", "é.py"]
)
def test_names_that_are_no_identifiers_or_are_taken(name: str):
    import json

    write(name, STEP)
    found = load(f"{name}:train_step")
    assert found.value(1, 2) == 1
    assert found.module.__name__ != "__main__"
    assert sys.modules[found.module.__name__] is found.module
    assert pickle.loads(pickle.dumps(found.value)) is found.value
    assert sys.modules["json"] is json


def test_two_files_of_one_name():
    write("a/train.py", "x = [1]\n")
    write("b/train.py", "x = [2]\n")
    assert (load("a/train.py:x").value, load("b/train.py:x").value, load("a/train.py:x").value) == ([1], [2], [1])


def test_a_file_in_a_package_may_import_with_dots_and_without():
    write("pkg/__init__.py", "")
    write("pkg/sub/__init__.py", "")
    write("pkg/helpers.py", "k = 5\n")
    write("pkg/sub/near.py", "n = 7\n")
    write("pkg/sub/train.py", "from ..helpers import k\nfrom . import near\nimport near as plain\n\n"
          "def train_step(x, y):\n    return x * k * near.n * plain.n\n")  # fmt: skip
    found = load("pkg/sub/train.py:train_step")
    assert (found.value(2, 0), found.module.__name__) == (2 * 5 * 7 * 7, "pkg.sub.train")
    assert load("pkg.sub.train:train_step").value is found.value
    assert load("pkg/__init__.py:helpers.k.real.__add__").module.__name__ == "pkg"


def test_a_package_of_which_another_is_found_first():
    write("far/pkg/__init__.py", "")
    write("far/pkg/train.py", STEP)
    write("pkg/__init__.py", "")
    write("pkg/train.py", STEP)
    load("pkg.train:train_step")
    with pytest.raises(TargetError, match="part of the package 'pkg', of which Python finds another first"):
        load("far/pkg/train.py:train_step")


def test_a_file_may_import_from_the_current_folder():
    write("lib/__init__.py", "k = 5\n")
    write("scripts/train.py", "from lib import k\nx = [k]\n")
    assert load("scripts/train.py:x").value == [5]


def test_workers_that_are_spawned_find_it():
    write("my-train.py", "def triple(x):\n    return 3 * x\n")
    found = load("my-train.py:triple")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(found.value, (7,)) == 21


def test_a_name_beside_another():
    write("train.py", STEP + "batch = [1, 2]\n")
    write("more/data.py", "loader = [3]\n")
    target = load("train.py:train_step")
    beside = load_beside("batch", target)
    assert (beside.value, beside.spelled) == ([1, 2], "train.py:batch")
    assert load_beside("more/data.py:loader", target).value == [3]
    assert load_beside("more/data.py", target).value == [3]  # its obvious name
    with pytest.raises(TargetError, match=r"no 'bacth' in train.py; did you mean 'batch'\?"):
        load_beside("bacth", target)


def test_another_folder(tmp_path: Path):
    write("deep/train.py", STEP)
    assert load("train.py", tmp_path / "deep").name == "train_step"
    assert load("train:train_step", tmp_path / "deep").value(1, 2) == 1


NOTATION = "give FILE.py:NAME or package.module:NAME"


@pytest.mark.parametrize("name", importing.OBVIOUS)
def test_one_obvious_name_is_taken(name: str):
    write("train.py", f"{name} = [1]\n\ndef helper():\n    return 1\n")
    found = load("train.py")
    assert (found.value, found.spelled) == ([1], f"train.py:{name}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def mix(x): ...\nclass Net: ...\nfrom os.path import join\nalpha = 0.2\n",
         "'train.py' has mix, Net: give one of them, as train.py:mix"),
        ("def mix(x): ...\n", "'train.py' has mix: if that is meant, give train.py:mix"),
        ("loader = [1]\ndef train_step(x): ...\n",
         "'train.py' has train_step and loader: give one of them, as train.py:train_step"),
        ("alpha = 0.2\n", f"'train.py' has no function, class or loader of its own: {NOTATION}"),
        ("".join(f"def f{i}(): ...\n" for i in range(10)),
         "'train.py' has f0, f1, f2, f3, f4, f5, f6, f7 and 2 more: give one of them, as train.py:f0"),
    ],
)  # fmt: skip
def test_no_obvious_name(text: str, says: str):
    write("train.py", text)
    with pytest.raises(TargetError) as told:
        load("train.py")
    assert str(told.value) == says


MIXES = "give a loader, a collate function, a transform, a step or a loss"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("zzz", f"there is no module 'zzz', and no file of that name: {NOTATION}"),
        ("trein:x", "there is no module 'trein', and no file of that name; did you mean 'train'?"),
        ("", f"'' names no file and no module: {NOTATION}"),
        (":", f"':' ends with a colon: {NOTATION}"),
        (":x", f"':x' names no file and no module: {NOTATION}"),
        ("train.py:", f"'train.py:' ends with a colon: {NOTATION}"),
        ("train.py:a b", f"'a b' in 'train.py:a b' is not a name: {NOTATION}"),
        ("train.py:a.", f"'a.' in 'train.py:a.' is not a name: {NOTATION}"),
        ("trein.py:x", "there is no file 'trein.py'; did you mean 'train.py'?"),
        ("none/at/all.py:x", f"there is no file 'none/at/all.py': {NOTATION}"),
        ("./folder:x", "'./folder' is a folder: give a file in it, as folder/train.py:NAME"),
        ("folder.py:x", "'folder.py' is a folder: give a file in it, as folder.py/train.py:NAME"),
        ("folder:x", "'folder' is a folder: give a file in it, as folder/train.py:NAME"),
        ("folder", "'folder' is a folder: give a file in it, as folder/train.py:NAME"),
        ("./notes.txt:x", f"'./notes.txt:x' is not a file of Python: {NOTATION}"),
        ("./a-b.ipynb", f"'./a-b.ipynb' is not a file of Python; export a notebook as a script: {NOTATION}"),
        ("C:\\code\\train.py:step", "there is no file 'C:\\\\code\\\\train.py'; did you mean 'train.py'?"),
        ("C:\\code\\train.py", "there is no file 'C:\\\\code\\\\train.py'; did you mean 'train.py'?"),
        ("C:/code/train.py", f"there is no file 'C:/code/train.py': {NOTATION}"),
        ("train.py:SIZE", f"train.py:SIZE is 64, of type int: {MIXES}"),
        ("train.py:NOTHING", f"train.py:NOTHING is None: {MIXES}"),
        ("train.py:LONG", f"train.py:LONG is a str, of type str: {MIXES}"),
        ("train.py:os", "train.py:os is the module 'os': give the name of something in it"),
        ("train.py:train_stap", "there is no 'train_stap' in train.py; did you mean 'train_step'?"),
        ("train.py:zzz", "there is no 'zzz' in train.py; it has train_step, Model"),
        ("train.py:late", "'late' is made in line 14, which does not run when train.py is imported: make it in a function, "
         "and give that"),
        ("train:late", "'late' is made in line 14, which does not run when train is imported: make it in a function, and "
         "give that"),
        ("train.py:Model.stepp", "there is no 'stepp' in train.py.Model; did you mean 'step'?"),
        ("train.py:Model.step.zzz", "there is no 'zzz' in train.py.Model.step"),
        ("train.py:model.broken", "train.py:7: KeyError: 'no'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had(target: str, says: str):
    Path("folder").mkdir()
    Path("folder.py").mkdir()
    write("notes.txt", "")
    write("a-b.ipynb", "{}")
    write("train.py", "import os\nclass Model:\n    def step(self): ...\n    @property\n    def broken(self):\n"
          "        table = {}\n        return table['no']\nmodel = Model()\nSIZE = 64\nNOTHING = None\n"
          "LONG = 'x' * 99\ndef train_step(x): ...\nif __name__ == '__main__':\n    late = [1]\n")  # fmt: skip
    with pytest.raises(TargetError) as told:
        load(target)
    assert str(told.value) == says


END = 'it ends the program while it is imported; put what runs under `if __name__ == "__main__":`'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\nx = (1,\n", "train.py:2: SyntaxError: '(' was never closed"),
        ("x = 1\0", "train.py: SyntaxError: source code string cannot contain null bytes"),
        ("if True:\nx = 1\n", "train.py:2: IndentationError: expected an indented block after 'if' statement on line 1"),
        ("import os\nimport no_such_package\n", "train.py:2: ModuleNotFoundError: No module named 'no_such_package'"),
        ("\n\nimport json\njson.loads('{')\n", "train.py:4: JSONDecodeError: Expecting property name enclosed in double"
         " quotes: line 1 column 2 (char 1)"),
        ("import helpers\n", "helpers.py:3: ZeroDivisionError: division by zero"),
        ("from .helpers import f\n", "train.py:1: ImportError: attempted relative import with no known parent package; its "
         "folder has no __init__.py: give it as package.module:NAME from the folder above"),
        ("import sys\nsys.exit(3)\n", f"train.py:2: SystemExit: 3: {END}"),
        ("raise SystemExit\n", f"train.py:1: SystemExit: {END}"),
        ("raise MemoryError\n", "train.py:1: MemoryError"),
        ("def f(): return f()\nf()\n", "train.py:1: RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('first\\nsecond')\n", "train.py:1: ValueError: first"),
    ],
)  # fmt: skip
def test_programs_that_fail_while_they_are_imported(text: str, says: str):
    write("train.py", text)
    write("helpers.py", "def f():\n    return 1\n1 / 0\n")
    with pytest.raises(TargetError) as told:
        load("train.py:x")
    assert str(told.value) == says
    assert "train" not in sys.modules
    with pytest.raises(TargetError) as again:  # the same by the name of the module
        load("train:x")
    assert str(again.value).replace("train:", "train.py:") == says.replace("train:", "train.py:")


def test_arguments_that_a_program_requires_while_it_is_imported(capsys: pytest.CaptureFixture[str]):
    write("train.py", "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\nargs = p.parse_args()\n")
    with pytest.raises(TargetError) as told:
        load("train.py:x")
    assert str(told.value) == f"train.py:4: SystemExit: 2: {END}"
    assert "usage: train.py [-h] data" in capsys.readouterr().err


def test_ctrl_c_is_not_an_error_of_the_program():
    write("train.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("train.py:x")
    assert "train" not in sys.modules


def test_what_is_of_the_user(tmp_path: Path):
    import torch

    assert importing.is_of_user(str(tmp_path / "train.py"))
    others = (torch.__file__, json_file(), pytest.__file__, importing.__file__, "<string>", "<frozen importlib>")
    assert [importing.is_of_user(str(file)) for file in others] == [False] * 6


def json_file() -> str:
    import json

    return json.__file__


def test_errors_of_workers_name_the_line_of_the_user():
    write("train.py", "from torch.utils.data import DataLoader\n\ndef collate(rows):\n    raise ValueError('two words')\n\n"
          "def run():\n    return list(DataLoader([1, 2], collate_fn=collate, num_workers=1))\n")  # fmt: skip
    with pytest.raises(ValueError, match="two words") as raised:
        load("train.py:run").value()
    assert importing.told(raised.value, "train.py:run") == "train.py:4: ValueError: two words"
    assert importing.comes_from_user(raised.value)
