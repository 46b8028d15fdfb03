"""The house: rooms on floors, imports that run downward only, no circle, one name for one class, one language."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "vicinal"
MODULES = sorted(
    ".".join(("vicinal", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
)

# -- imports -----------------------------------------------------------------------------------------------------------

# each floor may import from its own room and from the floors below it; two rooms on one floor never meet
FLOORS = (
    ("vicinal",),
    ("vicinal.lab",),  # the modules beside the rooms
    ("vicinal.lab.models", "vicinal.lab.data"),
    ("vicinal.lab.training",),
    ("vicinal.lab.compare", "vicinal.lab.paper"),
    ("vicinal.lab.cli",),
)


def path_of(module: str) -> Path:
    """Return the file of a module."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(source: str) -> set[str]:
    """Return what a source imports of vicinal, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "vicinal"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vicinal":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def room(module: str) -> str:
    """Return the room that a module stands in."""
    return max((r for floor in FLOORS for r in floor if f"{module}.".startswith(f"{r}.")), key=len)


def floor(name: str) -> int:
    """Return the number of a room's floor, from the ground."""
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def needs() -> dict[str, set[str]]:
    """Return the modules that each module imports. `vicinal` itself imports lazily, by name."""
    return {m: imported(path_of(m).read_text()) - {m} for m in MODULES if m != "vicinal"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that need one another in a circle, or nothing."""
    state: dict[str, int] = {}

    def visit(node: str, route: list[str]) -> list[str]:
        state[node] = 1
        for other in sorted(graph.get(node, ())):
            if state.get(other) == 1:
                return [*route[route.index(other) :], other]
            if other not in state and (found := visit(other, [*route, other])):
                return found
        state[node] = 2
        return []

    return next((found for node in sorted(graph) if node not in state and (found := visit(node, [node]))), [])


def test_no_module_needs_itself():
    assert circle(needs()) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "c"}, "b": {"c"}, "c": {"a"}}, ["a", "b", "c", "a"]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], found: list[str]):
    assert circle(graph) == found


def test_imports_run_downward():
    upward = [
        f"{module} -> {other}"
        for module, others in needs().items()
        for other in others
        if room(other) != room(module) and floor(room(other)) >= floor(room(module))
    ]
    assert upward == []


def test_rooms_and_floors_are_read_as_they_are_meant():
    assert [room(f"vicinal.{m}") for m in ("plan", "lab.atomic", "lab.data.cifar", "lab.paper.gans.modes")] == [
        *("vicinal", "vicinal.lab", "vicinal.lab.data", "vicinal.lab.paper")
    ]
    assert floor("vicinal.lab.data") < floor("vicinal.lab.training") < floor("vicinal.lab.paper")
    assert imported("from vicinal.lab.data import cifar\ndef f():\n    from vicinal.plan import Plan\n") == {
        *("vicinal.lab.data.cifar", "vicinal.plan")
    }


# -- names and language ------------------------------------------------------------------------------------------------


def trees() -> dict[str, ast.Module]:
    """Return the parsed source of every module."""
    return {module: ast.parse(path_of(module).read_text()) for module in MODULES}


def test_no_class_has_the_name_of_another():
    names = Counter(node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1} == {}


def docstrings() -> list[tuple[str, str]]:
    """Return every docstring with the place where it stands."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{module}:{getattr(node, 'lineno', 1)}", text)
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]


BEGINNINGS = re.compile(r"(Give|Say|Tell|Ask|Name|Whether|Take note|Let)s?\b")


def test_docstrings_return_compute_and_check():
    assert [f"{where} {text[:60]}" for where, text in docstrings() if BEGINNINGS.match(text)] == []


# words of a private language, and the field's
BANNED = {
    r"\bpictures?\b": "image",
    r"\bsounds?\b": "audio, clip",
    r"\bdata sets?\b": "dataset",
    r"\bcolours?\b": "color",
    r"\bneighbours?\b": "neighbor",
    r"\bclass ids\b": "class indices",
    r"\bpremise\b": "manifold intrusion",
    r"(?<!there )\bis no (?!longer|such)": "is not a",
    r"\bso many\b": "n, a number of",
    r"\bgoes on by the same command\b|\bthe same command goes on\b": "rerun the same command to resume",
    r"\bby heart\b": "memorize",
    r"\bone (lambda|draw|weight|process) an? ": "per",
}


def words() -> list[tuple[str, str]]:
    """Return the text of every source file, line by line, with its place."""
    return [
        (f"{module}:{i}", line)
        for module in MODULES
        for i, line in enumerate(path_of(module).read_text().splitlines(), 1)
    ]


@pytest.mark.parametrize("pattern", BANNED)
def test_words_are_those_of_the_field(pattern: str):
    found = re.compile(pattern)
    assert [f"{where} {line.strip()[:80]}" for where, line in words() if found.search(line)] == []
