"""The attacks: formulas against plain loops in float64, the laws of the box, and a model that is left as it was."""

import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from studies import SmokeRun
from torch import Tensor, nn

import vicinal as v
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.paper import adversarial
from vicinal.lab.paper.adversarial import AdversarialStudy
from vicinal.lab.paper.agreement import agreements
from vicinal.lab.paper.attacks import FGSM, PGD, Attack, AutoAttack, IteratedFGSM, NormalizedModel, evaluate
from vicinal.lab.paper.attacks.gradient import input_gradient, linf_ball
from vicinal.lab.paper.claims import judge
from vicinal.lab.paper.study import Scale
from vicinal.lab.recipe import Recipe

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MODELS = ("erm-1", "erm-2", "mixup")
ATTACKS = [FGSM(), FGSM(label="predicted"), IteratedFGSM(), IteratedFGSM(steps=3, step=2.0), PGD(steps=3)]


def numbers(*shape: int, key: int = 0) -> Tensor:
    return torch.from_numpy(v.Key(key, 0, 0, 0).generator().standard_normal(shape))


def pixels(n: int, *shape: int, key: int = 0) -> Tensor:
    return torch.from_numpy(v.Key(key, 0, 0, 1).generator().integers(0, 256, (n, 3, *(shape or (4, 4))), dtype="uint8"))


def labels(n: int, classes: int = 4, key: int = 0) -> Tensor:
    return torch.from_numpy(v.Key(key, 0, 0, 2).generator().integers(0, classes, n))


def linear(classes: int = 4, side: int = 4, key: int = 0, size: float = 0.3) -> NormalizedModel:
    """A linear model in float64, on normalized inputs."""
    layer = nn.Linear(3 * side * side, classes).double()
    with torch.no_grad():
        layer.weight.copy_(size * numbers(*layer.weight.shape, key=key))
        layer.bias.copy_(numbers(classes, key=key + 1))
    return NormalizedModel(nn.Sequential(nn.Flatten(), layer), MEAN, STD).eval()


def deep(classes: int = 10, key: int = 0) -> NormalizedModel:
    """Convolution, batch norm and dropout, in float32."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, classes)
    )
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.3 * numbers(*p.shape, key=100 * key + i))
    return NormalizedModel(net, MEAN, STD).eval()


# -- formulas ----------------------------------------------------------------------------------------------------------


def plain_gradient(model: NormalizedModel, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the cross-entropy of softmax(W (x / 255 - mean) / std + b), written down: W^T (p - e_y) / 255 std."""
    layer = model.model[1]
    gradient = torch.zeros(x.shape, dtype=torch.float64)
    for i in range(len(x)):
        z = torch.stack([(x[i, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]).reshape(-1)
        logits = layer.weight.detach() @ z + layer.bias.detach()
        p = (logits - logits.max()).exp()
        p = p / p.sum()
        p[y[i]] -= 1
        to_z = (layer.weight.detach().T @ p).reshape(x[i].shape)
        for c in range(3):
            gradient[i, c] = to_z[c] / (255 * STD[c])
    return gradient


def plain_climb(model: NormalizedModel, x: Tensor, y: Tensor, epsilon: float, step: float, steps: int) -> Tensor:
    x = x.double()
    found = x.clone()
    for _ in range(steps):
        gradient = plain_gradient(model, found, y)
        for i, moved in enumerate((found + step * gradient.sign()).flatten()):
            at = x.flatten()[i]
            found.view(-1)[i] = min(255.0, float(at) + epsilon, max(0.0, float(at) - epsilon, float(moved)))
    return found


def test_the_gradient_is_the_analytic_one():
    model, x, y = linear(), pixels(5).double(), labels(5)
    torch.testing.assert_close(input_gradient(model, x, y), plain_gradient(model, x, y), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 4.0, 300.0])
def test_fgsm_is_its_formula(epsilon: float):
    model, x, y = linear(), pixels(5), labels(5)
    expected = plain_climb(model, x, y, epsilon, epsilon, 1)
    assert torch.equal(FGSM(epsilon)(model, x.double(), y), expected)
    found = FGSM(epsilon)(model, x, y)  # pixels of 8 bits are taken, and these numbers are exact in float32
    assert found.dtype == torch.float32
    assert torch.equal(found.double(), expected)


@pytest.mark.parametrize(("steps", "step", "epsilon"), [(10, None, 4.0), (3, 2.5, 4.0), (2, 0.25, 4.0), (1, None, 2.0)])
def test_iterated_fgsm_is_its_formula(steps: int, step: float | None, epsilon: float):
    # large weights, so that the gradient turns on the way
    model, x, y = linear(size=3.0), pixels(4), labels(4)
    expected = plain_climb(model, x, y, epsilon, epsilon / steps if step is None else step, steps)
    found = IteratedFGSM(epsilon, steps, step)(model, x.double(), y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    if steps == 1:
        assert torch.equal(found, FGSM(epsilon)(model, x.double(), y))


def test_ten_steps_of_a_tenth_reach_the_edge():
    model, x, y = linear(classes=2), torch.full((6, 3, 4, 4), 100.0), labels(6, 2)  # of two classes, none turns
    assert torch.equal((IteratedFGSM()(model, x, y) - x).abs(), torch.full_like(x, 4.0))


def test_the_gradient_of_a_model_that_is_sure_is_not_lost():
    model, x = linear(size=30.0), pixels(8)
    with torch.no_grad():
        y = model(x.double()).argmax(1)
        sure = F.softmax(model(x.double()), 1).max(1).values.float() == 1
    assert sure.any()  # 1 - p is 0 in float32
    model = NormalizedModel(model.model.float(), MEAN, STD)
    gradient = input_gradient(model, x.float(), y)
    model = NormalizedModel(model.model.double(), MEAN, STD)
    exact = plain_gradient(model, x, y)
    seen = gradient.flatten(1).abs().sum(1) > 0
    assert seen.any()
    assert (seen & sure).any()
    same = gradient.sign() == exact.sign()
    assert same[seen].double().mean() > 0.999


def test_a_predicted_label_is_that_of_the_original_image():
    model, x, y = linear(size=3.0), pixels(6), labels(6)
    with torch.no_grad():
        predicted = model(x).argmax(1)
    assert (predicted != y).any()
    for attack in (FGSM(), IteratedFGSM()):
        found = replace(attack, label="predicted")(model, x, y)
        assert torch.equal(found, attack(model, x, predicted))
        assert not torch.equal(found, attack(model, x, y))


def test_normalisation_is_inside():
    inner, x = linear().model, pixels(3, key=5)
    z = torch.stack([(x[:, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)], 1)
    torch.testing.assert_close(NormalizedModel(inner, MEAN, STD)(x.double()), inner(z), rtol=1e-13, atol=1e-13)
    data = InMemoryDataset(x, labels(3), ("a", "b", "c", "d"), MEAN, STD)
    seen, _ = data.batch(torch.arange(3), None)  # what the training loop gives the model
    assert torch.equal(NormalizedModel(nn.Identity(), MEAN, STD)(x), seen)


def test_pgd_starts_anywhere_and_keeps_the_best():
    model, x, y = linear(size=1.0), pixels(40), labels(40)
    attack = PGD(epsilon=2.0, steps=4, restarts=3)
    found = attack(model, x, y)
    assert torch.equal(found, attack(model, x, y))
    assert not torch.equal(found, attack(model, x, y, batch=1))
    assert not torch.equal(found, replace(attack, seed=1)(model, x, y))

    def wrong(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images).argmax(1) != y

    def loss(images: Tensor) -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(images).double(), y, reduction="none")

    alone = [replace(attack, restarts=n)(model, x, y) for n in (1, 2, 3)]
    assert torch.equal(found, alone[2])
    for fewer, more in pairwise(alone):
        assert not (wrong(fewer) & ~wrong(more)).any()
        assert (wrong(more) | (loss(more) >= loss(fewer))).all()
    assert torch.equal(alone[0][wrong(alone[0])], alone[2][wrong(alone[0])])  # the first that fools is kept


# -- the box -----------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10**6),
    epsilon=st.one_of(st.sampled_from([0.0, 0.1, 4.0, 255.0]), st.floats(0, 300)),
    attack=st.sampled_from(["FGSM", "I-FGSM", "PGD"]),
    double=st.booleans(),
    whole=st.booleans(),
)
@example(
    seed=0, epsilon=1.8818633113271233, attack="FGSM", double=False, whole=False
)  # rounded by more than one number
def test_no_pixel_leaves_the_box_or_the_range(seed: int, epsilon: float, attack: str, double: bool, whole: bool):
    x = 255 * torch.from_numpy(v.Key(seed, 0, 0, 0).generator().random((3, 3, 4, 4)))
    x = (x.round() if whole else x).to(torch.float64 if double else torch.float32)
    of = {"FGSM": FGSM(epsilon), "I-FGSM": IteratedFGSM(epsilon, 4, 1.7), "PGD": PGD(epsilon, 2, 3.0, restarts=1)}
    before = x.clone()
    found = of[attack](linear(), x, labels(3))
    assert torch.equal(x, before)
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 255
    # exact up to float64's own rounding, which float32 pixels do not need
    slack = 1e-13 * 255 if double else 0.0
    assert float((found.double() - x.double()).abs().max()) <= epsilon + slack
    low, high = linf_ball(x, epsilon)
    assert ((low <= x) & (x <= high)).all()
    assert torch.equal(found, found.clamp(low, high))


@given(seed=st.integers(0, 10**6))
def test_fgsm_moves_every_pixel_by_epsilon_or_to_the_end_of_the_range(seed: int):
    x, y = pixels(2, key=seed), labels(2, key=seed)
    moved = (FGSM(4.0)(linear(), x, y) - x).abs()
    room = torch.minimum(x, 255 - x).float()
    assert ((moved == 4) | ((room < 4) & (moved == room))).all()


def test_attacks_raise_the_loss():
    model, x, y = deep(), pixels(50), labels(50, 10)

    def loss(images: Tensor) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(model(images), y))

    losses = [loss(x), loss(FGSM(2.0)(model, x, y)), loss(IteratedFGSM(2.0)(model, x, y))]
    assert losses[0] < losses[1] < losses[2]


# -- who crafts, and what is left behind -------------------------------------------------------------------------------


def test_a_black_box_takes_the_gradient_of_the_other_model():
    source, target = linear(key=1), linear(key=7)
    x, y = pixels(200), labels(200)
    crafted = plain_climb(source, x[:20], y[:20], 4.0, 4.0, 1)
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return target(x)

    found = evaluate(FGSM(), source, {"black": Watched()}, [(x[:20], y[:20])])
    assert len(seen) == 2  # as they are, and attacked: it is asked for no gradient
    assert torch.equal(seen[0], x[:20])
    assert torch.equal(seen[1].double(), crafted)
    with torch.no_grad():
        wrong = (target(crafted).argmax(1) != y[:20]).double().mean()
    assert found["black"].top1 == pytest.approx(float(wrong))
    # with the labels that the target gives, a white box is worse for it than a black one
    with torch.no_grad():
        right = target(x).argmax(1)
    attack = FGSM(40.0)
    white = evaluate(attack, target, {"t": target}, [(x, right)])["t"]
    black = evaluate(attack, source, {"t": target}, [(x, right)])["t"]
    assert white.clean_top1 == black.clean_top1 == 0
    assert white.top1 > black.top1 + 0.2


@contextmanager
def left_as_it_was(model: NormalizedModel) -> Iterator[None]:
    """Parts of it train, parts evaluate, one is frozen, one has a gradient; at the end all is as before."""
    model.train()
    model.model[1].eval()
    model.model[0].weight.requires_grad_(False)
    model.model[5].bias.grad = torch.ones(10)
    modes = [part.training for part in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), generator)
    assert [part.training for part in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert all(p.grad is None for name, p in model.named_parameters() if name != "model.5.bias")
    assert torch.equal(model.model[5].bias.grad, torch.ones(10))
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_a_model_is_left_as_it_was(attack: Attack):
    model, x, y = deep(), pixels(6), labels(6, 10)
    with left_as_it_was(model):
        found = attack(model, x, y)
    assert not found.requires_grad
    assert torch.equal(found, attack(model.eval(), x, y))  # it evaluated: no dropout, no statistics of the batch


def test_modes_return_after_an_error():
    model = deep().train()
    with pytest.raises(RuntimeError):
        FGSM()(model, pixels(2, 9, 9), labels(2, 10))
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_the_mode_of_the_caller_does_not_matter(mode: type, attack: Attack):
    model, x, y = deep(), pixels(4), labels(4, 10)
    expected = attack(model, x, y)
    with mode():
        assert torch.equal(attack(model, x.clone(), y.clone()), expected)


def test_a_batch_is_its_examples():
    model, x, y = deep(), pixels(7), labels(7, 10)
    for attack in (FGSM(), IteratedFGSM()):
        whole = attack(model, x, y)
        parts = torch.cat([attack(model, x[i : i + 1], y[i : i + 1]) for i in range(7)])
        torch.testing.assert_close(whole, parts, rtol=0, atol=0)
        assert attack(model, x[:0], y[:0]).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_bfloat16_models_are_attacked_in_whole_pixels(way: str):
    model, x, y = deep(), pixels(64), labels(64, 10)
    exact = input_gradient(model, x.float(), y)
    if way == "weights":
        model.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        gradient = input_gradient(model, x.float(), y)
        found = IteratedFGSM()(model, x, y)
    assert gradient.dtype == found.dtype == torch.float32
    assert float(F.cosine_similarity(gradient.flatten(1), exact.flatten(1)).min()) > 0.98
    moved = (found - x).abs()
    assert float(moved.max()) <= 4
    assert float(moved.median()) > 3.9  # steps of 0.4 would be lost on pixels in bfloat16, which has 250 and then 251


# -- evaluation --------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Gives each image the logits that its first pixel names."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].long()]


class Next:
    """The attack that makes each image the one after it."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        return (x.float() + 1).clamp(max=255)


def test_top_one_and_top_five_are_counted():
    logits = numbers(21, 8)
    y = labels(20, 8)
    x = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 2, 2)

    def plain(rows: Tensor, k: int) -> float:
        wrong = 0
        for row, label in zip(rows.tolist(), y.tolist(), strict=True):
            wrong += sum(other > row[label] for other in row) >= k
        return wrong / 20

    found = evaluate(Next(), Fixed(logits), {"a": Fixed(logits), "b": Fixed(-logits)}, [(x[:7], y[:7]), (x[7:], y[7:])])
    for name, rows in (("a", logits), ("b", -logits)):
        errors = found[name]
        assert errors.examples == 20
        assert errors.clean_top1 == pytest.approx(plain(rows[:20], 1))
        assert errors.clean_top5 == pytest.approx(plain(rows[:20], 5))
        assert errors.top1 == pytest.approx(plain(rows[1:], 1))
        assert errors.top5 == pytest.approx(plain(rows[1:], 5))
        assert errors.clean_top1 > errors.clean_top5 > 0
    few = evaluate(Next(), Fixed(logits), {"a": Fixed(logits[:, :5])}, [(x, y.clamp(max=4))])["a"]
    assert few.clean_top5 is few.top5 is None  # of five classes it would be 0 always


def test_what_cannot_be_attacked_is_refused():
    model, x, y = deep(), pixels(2), labels(2, 10)
    normalized = (x.float() / 255 - 0.5) / 0.2
    for bad, what in (
        (normalized, r"\[0, 255\]"),
        (x.float() * math.nan, r"\[0, 255\]"),
        (x.long(), "uint8 or floating"),
    ):
        with pytest.raises(ValueError, match=what):
            FGSM()(model, bad, y)
    for bad in (y.float(), y[:1], y[:, None]):
        with pytest.raises(ValueError, match=r"labels must be int64 \[2\]"):
            FGSM()(model, x, bad)
    with pytest.raises(ValueError, match=r"pixels must be \[n, 3, ...\]"):
        FGSM()(model, x[:, :2], y)
    for make in (
        lambda: FGSM(-1.0),
        lambda: FGSM(math.nan),
        lambda: FGSM(label="false"),  # type: ignore[arg-type]
        lambda: IteratedFGSM(steps=0),
        lambda: IteratedFGSM(step=0.0),
        lambda: PGD(restarts=0),
        lambda: AutoAttack(0.0),
        lambda: NormalizedModel(model, (0.5,), (0.0,)),
        lambda: NormalizedModel(model, (0.5,), (1.0, 1.0)),
    ):
        with pytest.raises(ValueError, match="got"):
            make()
    with pytest.raises(ValueError, match="no images"):
        evaluate(FGSM(), model, {"a": model}, [])
    with torch.no_grad():
        model.model[5].weight.fill_(math.inf)
    with pytest.raises(ValueError, match="not finite"):
        FGSM()(model, x, y)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(Next(), model, {"a": model}, [(x, y)])


# -- beside other people's attacks -------------------------------------------------------------------------------------


def other(name: str):
    with warnings.catch_warnings():
        # foolbox 3.3.4 imports a part of SciPy by the name it had before
        warnings.filterwarnings(
            "ignore", message=".*gaussian_filter.*scipy.ndimage.filters", category=DeprecationWarning
        )
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")


def test_foolbox_crafts_the_same():
    foolbox = other("foolbox")
    model, x, y = deep(), pixels(32), labels(32, 10)
    shape = (1, 3, 1, 1)
    theirs = foolbox.PyTorchModel(
        model.model,
        bounds=(0, 255),
        device="cpu",
        preprocessing={"mean": 255 * torch.tensor(MEAN).view(shape), "std": 255 * torch.tensor(STD).view(shape)},
    )
    for mine, its in (
        (FGSM(), foolbox.attacks.LinfFastGradientAttack(random_start=False)),
        (
            IteratedFGSM(),
            foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.4, steps=10, random_start=False),
        ),
    ):
        _, expected, _ = its(theirs, x.float(), y, epsilons=4.0)
        found = mine(model, x, y)
        # a gradient that is 0 but for rounding may have either sign
        same = (found - expected).abs() < 1e-3
        assert same.double().mean() > 0.999, float(same.double().mean())
        assert float((expected - x).abs().max()) == pytest.approx(4, abs=1e-4)


needs_autoattack = pytest.mark.skipif(
    not AutoAttack.installed(), reason="pyautoattack is not installed: pip install pyautoattack"
)


@needs_autoattack
def test_autoattack_is_stronger_and_stays_in_the_box():
    model, x = deep(), pixels(12)
    with torch.no_grad():
        y = model(x).argmax(1)
    epsilon = 60.0
    found = AutoAttack(epsilon)(model, x, y)
    assert float((found - x).abs().max()) <= epsilon
    assert float(found.min()) >= 0
    assert float(found.max()) <= 255
    with torch.no_grad():
        weak, best = ((model(p).argmax(1) != y).double().mean() for p in (FGSM(epsilon)(model, x, y), found))
    assert 0 < weak < best
    with pytest.raises(ValueError, match="10 classes or more, found 4"):
        AutoAttack()(linear(), x, labels(12))


@pytest.mark.torture
@needs_autoattack
def test_autoattack_leaves_the_model_and_the_program_as_they_were_and_takes_images_in_channels_last():
    model, x = deep(), pixels(1)
    with torch.no_grad():
        y = model(x).argmax(1)

    with left_as_it_was(model):
        found = AutoAttack(0.5)(model, x, y)
    # the image withstands, so that each of the four attacks was run
    with torch.no_grad():
        assert torch.equal(model.eval()(found).argmax(1), y)
        assert torch.equal(AutoAttack(0.5)(model, x.contiguous(memory_format=torch.channels_last), y), found)


def test_without_its_package_autoattack_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(AutoAttack, "installed", staticmethod(lambda: False))
    with pytest.raises(UserError, match=r"pip install pyautoattack"):
        AutoAttack()(deep(), pixels(1), labels(1, 10))


# -- the study ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smoke_study_trains_attacks_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, smoke: Callable[[str], SmokeRun]
):
    study = AdversarialStudy()
    jobs = study.jobs("smoke")
    assert [job.name for job in jobs] == ["seed-0", "seed-1"]
    folder = smoke(study.name)[0].path / "seed-0"
    result = jobs[0].run(folder)
    assert json.loads(json.dumps(result)) == result
    table = study.rows("smoke", {"seed-0": result})
    by_name = {row.name: row for row in table}
    errors = result["attacks"]["I-FGSM"]
    assert by_name["white box, top-1, ERM, I-FGSM"].values == (100 * errors["erm-1"]["erm-1"]["top1"],)
    assert by_name["white box, top-5, mixup, I-FGSM"].values == (100 * errors["mixup"]["mixup"]["top5"],)
    assert by_name["black box, top-1, ERM, I-FGSM"].values == (100 * errors["erm-1"]["erm-2"]["top1"],)
    assert by_name["black box, top-1, mixup, I-FGSM"].values == (100 * errors["erm-1"]["mixup"]["top1"],)
    assert by_name["not attacked, top-1, mixup"].values == (100 * errors["mixup"]["mixup"]["clean_top1"],)
    assert "not run at this scale" in by_name["white box, top-1, ERM, AutoAttack"].note
    assert errors["erm-1"]["erm-1"]["examples"] == 20
    weak = result["attacks"]["FGSM, epsilon = 1"]["erm-1"]
    assert by_name["black box, top-1, mixup, FGSM, epsilon = 1"].values == (100 * weak["mixup"]["top1"],)

    # two seeds, two models of ERM and two of mixup: both seeds attack the same two of ERM
    root = folder.parents[2] / "runs"
    trained = {name: root / adversarial._recipe("smoke", name, 0).fingerprint()[:16] for name in MODELS}
    recipes = [json.loads((run / "recipe.json").read_text())["recipe"] for run in trained.values()]
    assert [(r["vicinity"], r["seed"]) for r in recipes] == [("ERM()", 0), ("ERM()", 1), ("Mixup(alpha=1.0)", 0)]
    other = [adversarial._recipe("smoke", name, 1).fingerprint()[:16] for name in MODELS]
    assert other[:2] == [trained["erm-2"].name, trained["erm-1"].name]
    # beside those of other studies
    assert {run.name for run in root.iterdir()} >= {trained["mixup"].name, *other}

    # what the model that was loaded gets wrong is what the loop measured of it
    trained = json.loads((trained["mixup"] / "results.json").read_text())
    assert errors["mixup"]["mixup"]["clean_top1"] == pytest.approx(trained["test_error"]["last"])

    # again: nothing is attacked twice, but what another attack measured is not taken for it
    asked: list[str] = []

    def counted(attack: Attack, *args: object) -> object:
        asked.append(repr(attack))
        return evaluate(attack, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(adversarial, "evaluate", counted)
    assert jobs[0].run(folder) == result
    assert asked == []
    record = json.loads((folder / "FGSM-mixup.json").read_text())
    (folder / "FGSM-mixup.json").write_text(json.dumps({**record, "what": {**record["what"], "attack": "FGSM(8.0)"}}))
    assert jobs[0].run(folder) == result
    assert asked == [repr(FGSM())]


def invented(seed: int) -> dict[str, Any]:
    """Results as a job gives them, with other numbers for each cell."""

    def errors(at: float) -> dict[str, float]:
        return {"examples": 10, "clean_top1": 0.1, "clean_top5": 0.05, "top1": at + seed / 100, "top5": at / 2}

    def attack(at: float) -> dict[str, Any]:
        return {
            "erm-1": {"erm-1": errors(at), "erm-2": errors(at - 0.1), "mixup": errors(at - 0.2)},
            "mixup": {"mixup": errors(at - 0.3)},
        }

    attacks = {"FGSM": attack(0.9), "I-FGSM": attack(0.8), "PGD": attack(0.95)}
    attacks |= {"FGSM, epsilon = 1": attack(0.7), "I-FGSM, epsilon = 1": attack(0.6)}
    return {"attacks": attacks, "torch": "2", "device": "cpu"}


def test_the_table_is_the_papers():
    study = AdversarialStudy()
    done = {f"seed-{seed}": invented(seed) for seed in range(3)}
    table = study.rows("small", done)
    names = [row.name for row in table]
    assert len(set(names)) == len(names)
    published = {row.name: row.published.value for row in table if row.published is not None}
    assert len(published) == 16
    assert published["white box, top-1, ERM, FGSM"] == 90.7
    # the ratios of accuracies that the text of section 3.5 names: 2.7, 1.25, and 40 % more
    for setting, attack, ratio in (("white", "FGSM", 2.7), ("black", "FGSM", 1.25), ("black", "I-FGSM", 1.4)):
        erm, mixed = (published[f"{setting} box, top-1, {method}, {attack}"] for method in ("ERM", "mixup"))
        assert (100 - mixed) / (100 - erm) == pytest.approx(ratio, rel=0.02)
    for row in table:
        assert row.against is None or row.against in names
        assert ("top-5" in row.name) == ("top-5" in row.measure)
        if "AutoAttack" in row.name:
            assert row.values == ()
            assert "not run at this scale" in row.note
            in_full = {each.name: each for each in study.rows("paper", done)}
            assert "pip install pyautoattack" in in_full[row.name].note
        else:
            assert len(row.values) == 3
    by_name = {row.name: row for row in table}
    assert by_name["white box, top-1, mixup, FGSM"].values == pytest.approx((60, 61, 62))
    assert by_name["black box, top-1, ERM, FGSM"].values == pytest.approx((80, 81, 82))
    assert by_name["black box, top-1, mixup, I-FGSM"].values == pytest.approx((60, 61, 62))
    assert by_name["white box, top-1, mixup, PGD"].values == pytest.approx((65, 66, 67))
    assert by_name["not attacked, top-5, ERM, the second"].values == pytest.approx((5, 5, 5))
    assert by_name["black box, top-1, mixup, I-FGSM, epsilon = 1"].values == pytest.approx((40, 41, 42))
    # of 90 % that are right, 60, 61 and 62 % of all are not after the attack
    lost = by_name["white box, mixup, FGSM, right answers lost"]
    assert lost.values == pytest.approx([100 * (90 - right) / 90 for right in (40, 39, 38)])
    assert lost.against == "white box, ERM, FGSM, right answers lost"
    assert "says little" in by_name["white box, top-5, ERM, FGSM"].note
    at = AdversarialStudy.scales["small"]
    levels = dict(zip([row.name for row in table], agreements(table, at), strict=True))
    assert levels["white box, top-1, mixup, PGD"] == ("", "")
    nothing = study.rows("small", {})
    assert [row.name for row in nothing] == names
    assert all(each.level == "not run" for each in agreements(nothing, at))


def test_claims_are_judged_at_the_papers_strength_by_errors_and_by_right_answers_lost():
    study = AdversarialStudy()
    done = {f"seed-{seed}": invented(seed) for seed in range(3)}
    for seed in range(3):
        attacks = done[f"seed-{seed}"]["attacks"]
        attacks["FGSM"]["mixup"]["mixup"] |= {"top1": 0.6 + seed / 50}
        # errs less under attack because it errs less without: of its right answers, it loses more
        attacks["I-FGSM"]["mixup"]["mixup"] |= {"clean_top1": 0.02, "top1": 0.79 + seed / 200}
        attacks["I-FGSM"]["erm-1"]["erm-1"] |= {"clean_top1": 0.5, "top1": 0.85 + seed / 200}
        attacks["FGSM"]["erm-1"]["mixup"] |= {"top1": 0.81 + seed / 50}
    judged = judge(study.claims("small", done))
    by_text = {each.claim.text: each for each in judged}
    assert list(by_text) == [
        f"mixup is more robust to {attack} in the {setting} box"
        for setting in ("white", "black")
        for attack in ("FGSM", "I-FGSM")
    ]
    white, iterated, black, _ = judged
    assert [evidence.contrast for evidence in white.claim.evidence] == [False, False, True, True]
    error, lost, *_ = white.claim.evidence
    assert "epsilon = 4, top-1 error" in error.what
    assert error.differences == pytest.approx([100 * (0.6 + s / 50 - 0.9 - s / 100) for s in range(3)])
    assert lost.differences == pytest.approx([100 * (0.6 + s / 50 - 0.9 - s / 100) / 0.9 for s in range(3)])
    assert white.verdict == "shown"
    assert iterated.claim.evidence[0].differences == pytest.approx([-6.0] * 3)
    assert iterated.claim.evidence[1].differences == pytest.approx(
        [100 * ((0.77 + s / 200) / 0.98 - (0.35 + s / 200) / 0.5) for s in range(3)]
    )
    assert iterated.findings[1].result == "otherwise"
    assert black.claim.evidence[0].differences == pytest.approx([1.0 + s for s in range(3)])
    assert all(each.verdict == "not run" for each in judge(study.claims("small", {})))


@pytest.mark.parametrize(("scale", "at"), adversarial.SCALES.items())
def test_every_scale_says_what_it_is(scale: Scale, at: adversarial.AdversarialScale):
    assert any("Not stated in the paper" in sentence for sentence in at.deviations)
    if at.images is not None:
        assert f"The first {at.images} test images are attacked, by I-FGSM the first {at.iterated}." in at.deviations
    assert 4 in at.epsilons
    assert any(f"tried on the first {at.strong} images" in sentence for sentence in at.deviations)
    assert len(AdversarialStudy().jobs(scale)) == at.seeds == {"smoke": 2, "small": 3, "paper": 1}[scale]


def test_audio_are_not_attacked(tmp_path: Path):
    audio = InMemoryDataset(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), ("a", "b"))
    with pytest.raises(UserError, match="pixels of images"):
        adversarial.load(Recipe(dataset="speech-commands-v1", model="small"), tmp_path, audio)
