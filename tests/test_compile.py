"""The one line inside a compiled step: a break of the graph, the values of eager mode, no compilation for each step."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

import installed
import vicinal as v
from vicinities import CASES, CLASSES, content, ids, images

STEPS = 80  # longer than two blocks of plans drawn ahead
# graphs, and breaks of them; PyTorch 2.6 breaks them at a mixed target too
MOST_GRAPHS, MOST_BREAKS = (3, 2) if installed.TRACES_TARGETS else (6, 12)


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def step_of(mixup, net, numbers=False):
    def step(x, y):
        x, y = mixup(x, y)
        out = net(x.flatten(1))
        return F.mse_loss(out[:, 0], y) if numbers else F.cross_entropy(out, y)

    return step


AFTER_EAGER = ("mixup", "cutmix", "choice", "scheduled-alpha")  # of each way to draw one


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "eager_calls"),
    [(case, calls) for case in CASES for calls in ((0, 2) if case.name in AFTER_EAGER else (0,))],
    ids=str,
)
def test_the_one_line_in_a_compiled_step(case, eager_calls):
    compiled_one, eager_one = case.fresh(), case.fresh()
    net = torch.nn.Linear(90, CLASSES)
    x, y = images(8, torch.float32), case.y(8).float() if case.numbers else case.y(8)
    eager = step_of(eager_one, net, case.numbers)
    before = step_of(compiled_one, net, case.numbers)
    for _ in range(eager_calls):
        torch.testing.assert_close(before(x, y), eager(x, y), rtol=0, atol=0)
    compiled = torch.compile(before, backend="eager")
    for _ in range(STEPS):
        got, expected = compiled(x, y), eager(x, y)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        (gradient,) = torch.autograd.grad(got, net.weight)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, net.weight)[0], rtol=1e-5, atol=1e-6)
    assert compiled_one.state_dict() == eager_one.state_dict()
    assert counters["stats"]["unique_graphs"] <= MOST_GRAPHS
    assert sum(counters["graph_break"].values()) <= MOST_BREAKS


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda m, i, x, y: m(x, y, step=i),
        lambda m, i, x, y: m.between((x, y), (x.flip(0), y.flip(0)), step=i),
        lambda m, i, x, y: (m.plan(len(x), y, x, step=i)(x), m.plan(len(x), y, x, step=i).target(y)),
    ],
)
def test_a_draw_by_its_step_in_a_compiled_step(draw):
    mixup, net = v.Mixup(0.4, seed=3), torch.nn.Linear(90, CLASSES)
    x, y = images(8, torch.float32), ids(8)

    def step(i):
        mixed, target = draw(mixup, i, x, y)
        return F.cross_entropy(net(mixed.flatten(1)), target)

    compiled = torch.compile(step, backend="eager")
    for i in range(40):
        torch.testing.assert_close(compiled(i), step(i), rtol=1e-6, atol=1e-6)
    assert counters["stats"]["unique_graphs"] <= (6 if installed.TRACES_TARGETS else 15)


@pytest.mark.slow
def test_a_failed_compilation_leaves_eager_mode_working():
    def broken(graph, inputs):
        raise RuntimeError("this backend never works")

    mixup, twin = v.Mixup(0.4, seed=3), v.Mixup(0.4, seed=3)
    x, y = images(8, torch.float32), ids(8)
    compiled = torch.compile(step_of(mixup, torch.nn.Linear(90, CLASSES)), backend=broken)
    with pytest.raises(Exception, match="this backend never works"):
        compiled(x, y)
    twin.load_state_dict(mixup.state_dict())
    for _ in range(40):
        assert content(mixup(x, y)) == content(twin(x, y))


PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch, torch.nn.functional as F, vicinal as v
from vicinities import content
x, y = torch.randn(8, 3, 6, 5), torch.arange(8) % 3
for make in (lambda: v.Mixup(0.4, seed=1), lambda: v.Choice([v.CutMix(1.0), v.Mixup(v.Dirichlet(1.0))], seed=1)):
    net, a, b = torch.nn.Linear(90, 3), make(), make()
    def step(mixup, x, y):
        x, y = mixup(x, y)
        return F.cross_entropy(net(x.flatten(1)), y)
    compiled = torch.compile(lambda x, y: step(a, x, y))  # the first draw of this process, by the default backend
    for _ in range(80):
        torch.testing.assert_close(compiled(x, y), step(b, x, y), rtol=1e-5, atol=1e-5)
    assert content([a(x, y) for _ in range(3)]) == content([b(x, y) for _ in range(3)])
"""


@pytest.mark.slow
def test_a_fresh_process_compiles_the_one_line_by_default(run_fresh):
    run_fresh(PROGRAM)


def test_importing_and_mixing_does_not_import_the_compiler(run_fresh):
    program = (
        "import sys, torch, vicinal; vicinal.Mixup(1.0)(torch.eye(4), torch.arange(4));"
        "print('torch._dynamo' in sys.modules)"
    )
    assert run_fresh(program) == "False\n"


@installed.traces_targets
@pytest.mark.slow
def test_a_plan_as_an_argument_makes_one_graph():
    mixup, net = v.Mixup(0.4, seed=3), torch.nn.Linear(90, CLASSES)

    def step(x, y, plan):
        return F.cross_entropy(net(plan(x).flatten(1)), plan.target(y))

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for i, n in enumerate([8, 8, 8, 12, 5, 16, 7]):
        x, y = images(n, torch.float32), ids(n)
        plan = mixup.plan(n, y, x, step=i)
        torch.testing.assert_close(compiled(x, y, plan), step(x, y, copy.copy(plan)), rtol=1e-6, atol=1e-6)
    assert counters["stats"]["unique_graphs"] <= 2
