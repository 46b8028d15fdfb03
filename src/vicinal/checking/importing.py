"""Objects of a user's program by name, as the command line writes them: `train.py:make_loader`, `package.module:NAME`.

A file is imported as a module of its name, not as a script: what stands under `if __name__ == "__main__"` does not run,
and worker processes that import the module by its name find it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import vicinal
from vicinal.checking.report import relative

# a file that has exactly one of these need not be asked which it means
OBVIOUS = (
    "make_loader",
    "make_loaders",
    "train_step",
    "training_step",
    "collate_fn",
    "transform",
    "loader",
    "train_loader",
)
NOTATION = "give FILE.py:NAME or package.module:NAME"
_GUARD = 'put what runs under `if __name__ == "__main__":`'


class TargetError(ValueError):
    """What was named cannot be had: the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class NamedTarget:
    """An object of a user's program.

    Args:
        value: the object.
        module: the module that it was found in.
        name: its name there, with dots for what stands in a class or an object.
        spelled: how it was asked for, the name included.

    """

    value: Any
    module: ModuleType
    name: str
    spelled: str

    def place(self) -> tuple[str | None, int | None]:
        """Return the file and the line, from 1, where it is defined or assigned; None for what is not known."""
        value = self.value
        while isinstance(value, functools.partial):
            value = value.func
        value = inspect.unwrap(value) if callable(value) else value
        if inspect.isroutine(value) or inspect.isclass(value):
            try:
                file, line = inspect.getsourcefile(value), inspect.getsourcelines(value)[1]
            except (OSError, TypeError):  # made by exec, or written in C
                file, line = None, 0
            if file is not None and is_of_user(file):
                return relative(file), max(line, 1)
        file = getattr(self.module, "__file__", None)
        return (None, None) if file is None else (relative(file), _line_of(Path(file), self.name))


def load(text: str, folder: Path | None = None) -> NamedTarget:
    """Import what a text names.

    Args:
        text: `FILE.py:NAME`, `package.module:NAME`, or either without a name where one name is obvious.
        folder: where files and packages are looked for; by default the current folder.

    Raises:
        TargetError: there is none, or the program fails while it is imported.

    """
    folder = Path.cwd() if folder is None else Path(folder).resolve()
    where, name = _split(text)
    if _is_file(where):
        path = _file(where, folder, text)
        with as_program(path):
            module = _import_file(path, where, folder)
    else:
        with as_program(folder / where):
            module = _import_module(where, folder)
    if not name:
        name = _obvious(module, where)
    value = _attribute(module, name, where)
    _refuse_data(value, f"{where}:{name}")
    return NamedTarget(value, module, name, f"{where}:{name}")


def load_beside(text: str, target: NamedTarget, folder: Path | None = None) -> NamedTarget:
    """Import what a text names; a name alone is looked for in the module of `target`.

    Raises:
        TargetError: there is none, or the program fails while it is imported.

    """
    if ":" in text or _is_file(text):
        return load(text, folder)
    where = target.spelled.removesuffix(f":{target.name}")
    value = _attribute(target.module, text, where)
    return NamedTarget(value, target.module, text, f"{where}:{text}")


@contextmanager
def as_program(path: Path) -> Iterator[None]:
    """Hide the arguments of this process from a program, as if it were started without any."""
    before = sys.argv
    sys.argv = [str(path)]
    try:
        yield
    finally:
        sys.argv = before


# -- reading the text --------------------------------------------------------------------------------------------------


def _split(text: str) -> tuple[str, str]:
    """Return what is before the last colon and the name behind it; that of a drive, as in C:/train.py, is not one."""
    where, colon, name = text.strip().rpartition(":")
    if not colon or (len(where) == 1 and where.isalpha() and name[:1] in ("/", "\\")):
        where, name = text.strip(), ""
    elif not name.strip():
        raise TargetError(f"{text!r} ends with a colon: {NOTATION}")
    where, name = where.rstrip(":").strip(), name.strip()  # pytest writes two colons
    if not where:
        raise TargetError(f"{text!r} names no file and no module: {NOTATION}")
    if name and not _is_dotted(name):
        raise TargetError(f"{name!r} in {text!r} is not a name: {NOTATION}")
    return where, name


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _is_file(where: str) -> bool:
    return where.endswith(".py") or not _is_dotted(where)


def _file(where: str, folder: Path, text: str) -> Path:
    path = (folder / where).resolve()
    if path.is_dir():
        raise TargetError(f"{where!r} is a folder: give a file in it, as {Path(where, 'train.py').as_posix()}:NAME")
    if not path.exists():
        near = difflib.get_close_matches(path.name, sorted(file.name for file in path.parent.glob("*.py")), n=1)
        like = f"; did you mean {Path(where).with_name(near[0]).as_posix()!r}?" if near else f": {NOTATION}"
        raise TargetError(f"there is no file {where!r}{like}")
    if path.suffix != ".py":
        kind = " of Python; export a notebook as a script" if path.suffix == ".ipynb" else " of Python"
        raise TargetError(f"{text!r} is not a file{kind}: {NOTATION}")
    return path


# -- importing ---------------------------------------------------------------------------------------------------------


def _import_file(path: Path, where: str, folder: Path) -> ModuleType:
    root, name = _module_name(path)
    _on_the_path(root, first=True)
    _on_the_path(path.parent, first=False)  # a script that lies in a package may import its neighbors without dots
    _on_the_path(folder, first=False)
    package = name.rpartition(".")[0]
    with _told(where, path):
        if package and not _is_in(importlib.import_module(package), path.parent):
            raise TargetError(f"{where!r} is a part of the package {package!r}, of which Python finds another first")
        if path.name == "__init__.py":
            return importlib.import_module(name)
        name = _free_name(name, path)
        known = sys.modules.get(name)
        if known is not None:
            return known
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise TargetError(f"{where!r} is not a file of Python: {NOTATION}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs, as Python does: dataclasses and pickle look there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        if package:
            setattr(sys.modules[package], name.rpartition(".")[2], module)
        return module


def _module_name(path: Path) -> tuple[Path, str]:
    """Return the folder to import a file from, and the name of the module in it: packages have an `__init__.py`."""
    parts = [] if path.name == "__init__.py" else [path.stem.replace(".", "_")]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts) or "_init"


def _free_name(name: str, path: Path) -> str:
    """Return a name under which no other file is imported: a second `train.py` is `train_2`, and none is `__main__`."""
    name = "_main" if name == "__main__" else name
    names = [name, *(f"{name}_{i}" for i in range(2, 100))]
    return next(n for n in names if n not in sys.modules or _is_same(sys.modules[n], path))


def _is_same(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _is_in(package: ModuleType, folder: Path) -> bool:
    return any(Path(entry).resolve() == folder for entry in getattr(package, "__path__", ()))


def _import_module(where: str, folder: Path) -> ModuleType:
    _on_the_path(folder, first=True)
    try:
        with _told(where, None):
            module = importlib.import_module(where)
    except ModuleNotFoundError as error:  # of the module itself; what it imports has been told
        near = difflib.get_close_matches(where.split(".")[0], sorted(file.stem for file in folder.glob("*.py")), n=1)
        like = f"; did you mean {near[0]!r}?" if near else f": {NOTATION}"
        raise TargetError(f"there is no module {error.name!r}, and no file of that name{like}") from error
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        raise TargetError(f"{where!r} is a folder: give a file in it, as {where.replace('.', '/')}/train.py:NAME")
    return module


def _on_the_path(folder: Path, first: bool) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0 if first else len(sys.path), str(folder))


@contextmanager
def _told(where: str, path: Path | None) -> Iterator[None]:
    """Turn what a program raises while it is imported into one sentence that names its line."""
    try:
        yield
    except TargetError:
        raise
    except ModuleNotFoundError as error:
        if path is None and error.name is not None and f"{where}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"{told(error, where)}") from error
    except SystemExit as error:
        raise TargetError(f"{told(error, where)}: it ends the program while it is imported; {_GUARD}") from error
    except Exception as error:
        raise TargetError(told(error, where)) from error


# -- where an error comes from -----------------------------------------------------------------------------------------


def told(error: BaseException, where: str) -> str:
    """Return what a user's program raised, after the line of theirs that it came from.

    Args:
        error: what was raised.
        where: what stands in place of the line where no line is theirs.

    """
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{relative(error.filename)}:{error.lineno or 1}: {type(error).__name__}: {error.msg}"
    place = _line_of_user(error)
    if "Original Traceback (most recent call last)" in text:  # of a DataLoader's worker
        found = re.findall(r'^ *File "(.+?)", line (\d+)', text, re.MULTILINE)
        ours = [(file, int(line)) for file, line in found if is_of_user(file)]
        place = ours[-1] if ours else place
        kind, message = "", text.strip().splitlines()[-1]
    else:
        kind, message = type(error).__name__, (text.strip().splitlines() or [""])[0]
    hint = ""
    if isinstance(error, ImportError) and "relative import" in text:
        hint = "; its folder has no __init__.py: give it as package.module:NAME from the folder above"
    before = where if place is None else f"{relative(place[0])}:{place[1]}"
    return f"{before}: {': '.join(part for part in (kind, message) if part)}{hint}"


def comes_from_user(error: BaseException) -> bool:
    """Return True if a line of the user's was running when an error was raised."""
    return _line_of_user(error) is not None


def comes_from_the_check(error: BaseException) -> bool:
    """Return True if an error was raised by the code of the check itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(Path(__file__).resolve().parent)


def _line_of_user(error: BaseException) -> tuple[str, int] | None:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_of_user(frame.filename)]
    return (frames[-1].filename, frames[-1].lineno or 1) if frames else None


def is_of_user(file: str) -> bool:
    """Return True for a file that belongs neither to Python, nor to an installed package, nor to this one."""
    if file.startswith("<") or not file.endswith(".py"):
        return False
    path = Path(file).resolve()
    return not any(path.is_relative_to(folder) for folder in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths]
    folders += [*site.getsitepackages(), site.getusersitepackages(), str(Path(vicinal.__file__).parent)]
    return tuple(Path(folder).resolve() for folder in folders)


# -- names -------------------------------------------------------------------------------------------------------------


def _attribute(module: ModuleType, name: str, where: str) -> Any:
    value: Any = module
    for i, part in enumerate(name.split(".")):
        held = ".".join((where, *name.split(".")[:i])) if i else where
        try:
            value = getattr(value, part)
        except AttributeError as error:
            names = list(vars(value)) if i == 0 else dir(value)
            near = difflib.get_close_matches(part, [n for n in names if not n.startswith("__")], n=3)
            file = getattr(module, "__file__", None)
            line = None if i or file is None else _line_of(Path(file), part)
            if line is not None and file is not None:  # it is bound where nothing ran
                told_of = f"line {line}, which does not run when {where} is imported"
                raise TargetError(f"{part!r} is made in {told_of}: make it in a function, and give that") from error
            like = f"; did you mean {' or '.join(map(repr, near))}?" if near else _listed(module, i)
            raise TargetError(f"there is no {part!r} in {held}{like}") from error
        except Exception as error:  # a property of theirs
            raise TargetError(told(error, where)) from error
    return value


def _listed(module: ModuleType, depth: int) -> str:
    names = [] if depth else candidates(module)
    return f"; it has {', '.join(names[:8])}" if names else ""


def candidates(module: ModuleType) -> list[str]:
    """Return the names in a module that may be what mixes: its own functions and classes, and loaders."""
    of_it = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            (callable(value) and getattr(value, "__module__", None) == module.__name__)
            or (hasattr(value, "__iter__") and hasattr(value, "dataset"))
        )
    }
    return sorted(of_it, key=lambda name: name not in OBVIOUS)


def _obvious(module: ModuleType, where: str) -> str:
    found = [name for name in OBVIOUS if hasattr(module, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(f"{where!r} has {' and '.join(found)}: give one of them, as {where}:{found[0]}")
    names = candidates(module)
    if not names:
        raise TargetError(f"{where!r} has no function, class or loader of its own: {NOTATION}")
    if len(names) == 1:
        raise TargetError(f"{where!r} has {names[0]}: if that is meant, give {where}:{names[0]}")
    more = "" if len(names) <= 8 else f" and {len(names) - 8} more"
    raise TargetError(f"{where!r} has {', '.join(names[:8])}{more}: give one of them, as {where}:{names[0]}")


def _refuse_data(value: Any, spelled: str) -> None:
    if isinstance(value, ModuleType):
        raise TargetError(f"{spelled} is the module {value.__name__!r}: give the name of something in it")
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        shown = repr(value) if len(repr(value)) <= 40 else f"a {type(value).__name__}"
        kind = "None" if value is None else f"{shown}, of type {type(value).__name__}"
        raise TargetError(f"{spelled} is {kind}: give a loader, a collate function, a transform, a step or a loss")


def _line_of(path: Path, name: str) -> int | None:
    """Return the line of a source where a name is bound last; None where it is not found."""
    try:
        body: list[ast.AST] = [*ast.parse(path.read_bytes()).body]
    except (OSError, ValueError, SyntaxError):
        return None
    line = None
    for part in name.split("."):
        bound = [node for statement in body for node in _outside_functions(statement) if part in _binds(node)]
        if not bound:
            break
        line = getattr(bound[-1], "lineno", None)
        if not isinstance(bound[-1], ast.ClassDef):
            break
        body = [*bound[-1].body]
    return line


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _binds(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
