"""What the package promises as a whole: its names, its docstrings, and what it leaves alone."""

import ast
import doctest
import importlib
import inspect
import math
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import vicinal

HOME = Path(vicinal.__file__).parent
SOURCES = sorted(p for p in HOME.rglob("*.py") if p.relative_to(HOME).parts[0] != "lab")
PUBLIC = {name: value for name in vicinal.__all__ if not isinstance(value := getattr(vicinal, name), ModuleType)}
METHODS = {name: getattr(vicinal.methods, name) for name in vicinal.methods.__all__}
MODULES = ["vicinal"] + [f"vicinal.{m.name}" for m in pkgutil.iter_modules(vicinal.__path__) if not m.ispkg]


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# -- names and docstrings ----------------------------------------------------------------------------------------------


def test_the_public_names():
    # a name leaves this list only with a release that says so
    assert set(PUBLIC) >= {
        *("Plan", "MixPlan", "plan_from_dict", "MixedTarget", "Key", "LatentMixing"),
        *("Vicinity", "ERM", "Mixup", "InputMixup", "CutMix", "GaussianNoise", "LabelSmoothing"),
        *("Chain", "Choice", "Scheduled"),
        *("Pairing", "RandomPairs", "SameClass", "OtherClass", "Nearest", "LabelDistance"),
        *("Weighting", "Beta", "Dirichlet"),
        "show",
    }
    assert isinstance(vicinal.losses, ModuleType)
    assert isinstance(vicinal.metrics, ModuleType)


def test_every_vicinity_pairing_and_weighting_is_public():
    def kinds(base):
        for kind in base.__subclasses__():
            yield kind
            yield from kinds(kind)

    bases = (vicinal.Vicinity, vicinal.Pairing, vicinal.Weighting)
    made = {k for base in bases for k in kinds(base) if "._" not in k.__module__}
    ours = {k for k in made if k.__module__.rpartition(".")[0] == "vicinal"}
    assert ours
    assert ours <= {*PUBLIC.values(), *METHODS.values()}
    assert not {*PUBLIC} & {*METHODS}


def has_docstring(thing):
    text = inspect.getdoc(thing)
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '')}(")  # what a dataclass makes up


@pytest.mark.parametrize("name", sorted({**PUBLIC, **METHODS}))
def test_every_public_name_has_a_docstring(name):
    thing = {**PUBLIC, **METHODS}[name]
    assert has_docstring(thing)
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert has_docstring(value), member


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_of_modules_and_their_examples(name):
    module = importlib.import_module(name)
    assert has_docstring(module)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", sorted({**PUBLIC, **METHODS}))
def test_whatever_is_public_has_an_example(name):
    assert doctest.DocTestParser().get_examples({**PUBLIC, **METHODS}[name].__doc__), name


# what else the reference lists: `module:name`, without what the package itself hands out
LISTED = [
    *("plan:PlanChain", "losses:mixed", "losses:Mixed", "finite:NonFinite", "formula:mix", "formula:cut"),
    *("formula:cross_entropy", "metrics:mixed_accuracy", "metrics:nll", "metrics:brier", "metrics:ece"),
    *("metrics:reliability", "metrics:Reliability", "testing:check_mixing", "testing:parametrize_with_checks"),
    *("testing:load_target", "checking.check:check", "checking.report:Report", "checking.report:Fault"),
    *("checking.codes:Code", "checking.codes:code", "integrations.timm:TimmMixup"),
    *("integrations.torchvision:MixUp", "integrations.torchvision:BatchCutMix"),
]


@pytest.mark.parametrize("name", LISTED)
def test_whatever_the_reference_lists_has_an_example_that_runs(name):
    module = importlib.import_module(f"vicinal.{name.partition(':')[0]}")
    tests = doctest.DocTestFinder().find(getattr(module, name.partition(":")[2]), name, module)
    assert tests[0].examples
    if f"vicinal.{name.partition(':')[0]}" not in MODULES:  # which run above
        assert doctest.DocTestRunner().run(tests[0]).failed == 0


# -- importing ---------------------------------------------------------------------------------------------------------

FOREIGN = """
import sys
import torch, numpy
before = set(sys.modules)
{code}
print(*sorted({{m.partition(".")[0] for m in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""


def test_importing_brings_nothing_but_torch_and_numpy(run_fresh):
    assert run_fresh(FOREIGN.format(code="from vicinal import *")).split() == ["vicinal"]


def test_the_test_above_would_notice(run_fresh):
    assert "jinja2" in run_fresh(FOREIGN.format(code="from vicinal import *; import jinja2")).split()


COST = """
import os, time
import torch
print(time.process_time(), flush=True)
for _ in range(3):
    if os.fork() == 0:
        start = time.process_time()
        from vicinal import *
        print(time.process_time() - start, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
def test_importing_costs_little_more_than_torch():
    (alone, *ours), (again, *more) = ([float(word) for word in run(COST)] for _ in range(2))
    assert min(*ours, *more) <= 0.2 * min(alone, again)


LAZY = """
import sys
import vicinal
print(*sorted({"torch", "numpy", "vicinal.plan"} & set(sys.modules)))
assert set(vicinal.__all__) <= set(dir(vicinal)), vicinal.__all__
assert not hasattr(vicinal, "nonsense")
assert "torch" not in sys.modules
vicinal.Mixup
assert "torch" in sys.modules
"""


def test_importing_alone_brings_neither_torch_nor_numpy():
    assert run(LAZY) == []


def declared():
    """Read what type checkers read: of each name that the package imports for them, the module it comes from."""
    tree = ast.parse((HOME / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {alias.asname: node.module for node in block.body for alias in node.names}


def test_every_public_name_is_that_of_its_module():
    homes = {name: module for name, module in declared().items() if module != "vicinal"}
    assert set(homes) == set(PUBLIC)
    for name, module in homes.items():
        assert getattr(vicinal, name) is getattr(importlib.import_module(module), name)
        assert vars(vicinal)[name] is getattr(vicinal, name)  # found at once from the second time on
    modules = {name for name, module in declared().items() if module == "vicinal"}
    assert modules == {name.removeprefix("vicinal.") for name in MODULES if "._" not in name} - {"vicinal"}
    for name in modules:
        assert getattr(vicinal, name) is importlib.import_module(f"vicinal.{name}")


def test_a_star_imports_every_public_name_and_no_other():
    names = {}
    exec("from vicinal import *", names)
    del names["__builtins__"]
    assert names == {**PUBLIC, "losses": vicinal.losses, "metrics": vicinal.metrics}


def test_names_that_are_not_there():
    with pytest.raises(AttributeError) as plain:
        ModuleType("vicinal").nonsense  # noqa: B018
    with pytest.raises(AttributeError) as ours:
        vicinal.nonsense  # noqa: B018
    assert str(ours.value) == str(plain.value)
    assert not hasattr(vicinal, "nonsense")
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'vicinal'"):
        from vicinal import nonsense  # noqa: F401


ANY_ORDER = """
import importlib, os
import torch
import torch.nn.functional as F
for module in {modules}:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(module)
            import vicinal
            assert callable(vicinal.show) and vicinal.keyed.Key is vicinal.Key
            y = vicinal.target.MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.5], [0.5]]))
            F.cross_entropy(torch.zeros(1, 3), y)
        except BaseException:
            print(module, flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_any_module_may_be_imported_first(run_fresh):
    assert run_fresh(ANY_ORDER.format(modules=MODULES)) == ""


def test_a_pickled_target_brings_its_losses(run_fresh):
    # as of a DataLoader's worker: the process that reads it may have imported nothing
    y = vicinal.MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.75], [0.25]]))
    code = (
        f"import pickle\ny = pickle.loads({pickle.dumps(y)!r})\n"
        "import torch.nn.functional as F\nprint(F.cross_entropy(y.weight.new_tensor([[1.0, 0.0]]), y).item())"
    )
    assert [float(word) for word in run_fresh(code).split()] == pytest.approx([math.log(1 + math.exp(-1)) + 0.25])


# -- what the sources may not do ---------------------------------------------------------------------------------------


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_the_lab(source):
    return [name for name in imports(ast.parse(source)) if f"{name}.".startswith(("vicinal.lab.", ".lab.", "..lab."))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(HOME)))
def test_the_library_never_imports_the_lab(path):
    assert imports_the_lab(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import vicinal.lab",
        "from vicinal import lab",
        "from .lab import cli",
        "def f():\n from vicinal.lab.data import x",
    ],
)
def test_imports_of_the_lab_would_be_seen(source):
    assert imports_the_lab(source)


KEYED = {"Generator", "Philox"}  # the two names of numpy.random that take a key
IN_PLACE = {"uniform_", "normal_", "random_", "bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_"}
TORCH = {
    "bernoulli",
    "multinomial",
    "normal",
    "poisson",
    "manual_seed",
    "seed",
    "dropout",
}  # initial_seed moves nothing


def global_draws(source):
    """Name what reads or moves a global generator: of torch, numpy or Python."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            if (module is None and "random" in names) or module in ("random", "numpy.random"):
                found.append(ast.unparse(node))
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        of_torch = owner == "torch" and (node.attr.startswith("rand") or node.attr in TORCH)
        of_numpy = owner in ("np.random", "numpy.random") and node.attr not in KEYED
        if of_torch or of_numpy or node.attr in IN_PLACE:
            found.append(ast.unparse(node))
    return found


# sets and puts back the generators that other people's pipelines draw from; draws nothing
OF_PIPELINES = HOME / "checking" / "generators.py"


@pytest.mark.parametrize("path", sorted(set(SOURCES) - {OF_PIPELINES}), ids=lambda p: str(p.relative_to(HOME)))
def test_the_library_never_draws_from_a_global_generator(path):
    assert global_draws(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.rand(3)",
        "torch.randperm(3)",
        "torch.bernoulli(x)",
        "x.normal_()",
        "np.random.beta(1, 1)",
        "numpy.random.default_rng()",
        "import random",
        "from random import random",
        "from numpy.random import beta",
        "torch.manual_seed(0)",
    ],
)
def test_global_draws_would_be_seen(source):
    assert global_draws(source)


@pytest.mark.parametrize("source", ["from vicinal import random", "np.random.Generator(np.random.Philox(key=k))"])
def test_keyed_draws_are_fine(source):
    assert global_draws(source) == []
