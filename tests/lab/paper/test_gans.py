"""The GAN of section 3.7: its losses against plain loops, its data and measures on known points, its keyed draws."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab.errors import UserError
from vicinal.lab.paper import gan as study_file
from vicinal.lab.paper.gan import METHODS, SETS, GanStudy
from vicinal.lab.paper.gans import training
from vicinal.lab.paper.gans.methods import BatchMixupGan, GanMethod, MixupGan, PlainGan, SmoothedGan, cross_entropy
from vicinal.lab.paper.gans.modes import Coverage, Modes, grid, ring
from vicinal.lab.paper.gans.training import Gan, GanSettings, train
from vicinal.lab.training import checkpoint

SMALL = GanSettings(
    ring(), MixupGan(0.2), seed=3, iterations=4, snapshots=(2, 4), batch_size=8, hidden=(6, 6), samples=50
)


def draws(step: int = 0) -> np.random.Generator:
    return Key(11, 0, 0, step).generator()


def discriminator(points: Tensor) -> Tensor:
    """Any smooth function will do."""
    return (1.5 * points[:, :1] - 0.7 * points[:, 1:] + points[:, :1] * points[:, 1:]).sin() * 3


def logit(x: float, y: float) -> float:
    return 3 * math.sin(1.5 * x - 0.7 * y + x * y)


def plain_cross_entropy(z: float, label: float) -> float:
    p = 1 / (1 + math.exp(-z))
    return -label * math.log(p) - (1 - label) * math.log(1 - p)


def points(n: int, step: int) -> Tensor:
    return torch.from_numpy(draws(step).standard_normal((n, 2)))


# -- losses ------------------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_formula_and_stays_finite():
    z = torch.tensor([[-3.0], [0.0], [2.0]], dtype=torch.float64)
    label = torch.tensor([[0.3], [0.0], [1.0]], dtype=torch.float64)
    plain = sum(plain_cross_entropy(float(a), float(b)) for a, b in zip(z, label, strict=True)) / 3
    assert float(cross_entropy(z, label)) == pytest.approx(plain, rel=1e-14)
    assert float(cross_entropy(torch.tensor([[1000.0]]), 0.0)) == 1000.0


@pytest.mark.parametrize(("method", "real_label"), [(PlainGan(), 1.0), (SmoothedGan(0.1), 0.9)])
def test_unmixed_losses_are_the_formula(method: GanMethod, real_label: float):
    real, fake = points(7, 1), points(7, 2)
    plain = 0.0
    for (a, b), (c, d) in zip(real.tolist(), fake.tolist(), strict=True):
        plain += plain_cross_entropy(logit(a, b), real_label) / 7 + plain_cross_entropy(logit(c, d), 0.0) / 7
    assert float(method.loss(discriminator, real, fake, draws())) == pytest.approx(plain, rel=1e-13)


def test_mixed_loss_is_the_papers_formula():
    real, fake = points(9, 1), points(9, 2)
    method = MixupGan(0.2)
    shares = draws().beta(0.2, 0.2, 9)
    plain = 0.0
    for lam, (a, b), (c, d) in zip(shares, real.tolist(), fake.tolist(), strict=True):
        plain += plain_cross_entropy(logit(lam * a + (1 - lam) * c, lam * b + (1 - lam) * d), lam) / 9
    assert len(set(shares)) == 9  # one for each example
    assert float(method.loss(discriminator, real, fake, draws())) == pytest.approx(plain, rel=1e-12)
    assert float(method.generator_objective(discriminator, real, fake, draws())) == pytest.approx(plain, rel=1e-12)


def test_mixed_batches_is_the_authors_demo():
    n, method = 5, BatchMixupGan(0.3)
    real, fake = points(2 * n, 1), points(2 * n, 2)
    generator = draws()
    order, shares = generator.permutation(2 * n), generator.uniform(0, 0.3, (2 * n, 1))[:, 0]
    first = [(p, 1.0) for p in real[:n].tolist()] + [(p, 0.0) for p in fake[:n].tolist()]
    second = [(p, 1.0) for p in real[n:].tolist()] + [(p, 0.0) for p in fake[n:].tolist()]
    plain, labels = 0.0, []
    for i, ((x, label), lam) in enumerate(zip(first, shares, strict=True)):
        other, other_label = second[order[i]]
        mixed = [lam * a + (1 - lam) * b for a, b in zip(x, other, strict=True)]
        labels.append(lam * label + (1 - lam) * other_label)
        plain += plain_cross_entropy(logit(*mixed), labels[-1]) / (2 * n)
    assert float(method.loss(discriminator, real, fake, draws())) == pytest.approx(plain, rel=1e-12)
    assert {0.0, 1.0} < set(labels)  # pairs of one kind and of two


def test_mixed_batches_with_no_share_is_half_the_plain_loss_of_the_second_batch():
    real, fake = points(10, 1), points(10, 2)
    plain = PlainGan().loss(discriminator, real[5:], fake[5:], draws())
    assert float(BatchMixupGan(0.0).loss(discriminator, real, fake, draws())) == pytest.approx(
        float(plain) / 2, rel=1e-13
    )


class Share:
    """Draws one and the same share."""

    def __init__(self, share: float) -> None:
        self.share = share

    def beta(self, a: float, b: float, size: int) -> np.ndarray:
        return np.full(size, self.share)


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_mixing_at_its_ends_is_one_term_of_the_plain_loss(share: float):
    real, fake = points(6, 1), points(6, 2)
    ours = MixupGan(0.2).loss(discriminator, real, fake, Share(share))  # pyright: ignore[reportArgumentType]
    assert torch.equal(ours, cross_entropy(discriminator(real if share else fake), share))


@pytest.mark.parametrize("method", [PlainGan(), SmoothedGan(), BatchMixupGan(), MixupGan(both=False)], ids=repr)
def test_the_generator_plays_the_plain_game_unless_the_formula_mixes_it(method: GanMethod):
    fake = points(6, 2)
    plain = sum(plain_cross_entropy(logit(a, b), 0.0) for a, b in fake.tolist()) / 6
    assert float(method.generator_objective(discriminator, points(6, 1), fake, draws())) == pytest.approx(
        plain, rel=1e-13
    )


def test_the_generators_gradient_goes_through_the_mixing():
    real, fake = points(4, 1), points(4, 2).requires_grad_()
    MixupGan(0.2).generator_objective(discriminator, real, fake, draws()).backward()
    shares = draws().beta(0.2, 0.2, 4)
    assert fake.grad is not None
    for i, lam in enumerate(shares):
        (a, b), (c, d) = real[i].tolist(), fake[i].tolist()

        def loss(c: float, d: float, lam: float = lam, a: float = a, b: float = b) -> float:
            return plain_cross_entropy(logit(lam * a + (1 - lam) * c, lam * b + (1 - lam) * d), lam) / 4

        slope = (loss(c + 1e-6, d) - loss(c - 1e-6, d)) / 2e-6
        assert float(fake.grad[i, 0]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


# -- data and measures -------------------------------------------------------------------------------------------------


def test_the_sets_are_those_of_the_demo():
    assert len(ring().centers) == 8
    assert all(math.hypot(x, y) == pytest.approx(1, rel=1e-15) for x, y in ring().centers)
    assert ring().centers[0] == (0.0, 1.0)
    assert len(set(grid().centers)) == 25
    assert {x for x, _ in grid().centers} == {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert ring().std == grid().std == 0.01


@pytest.mark.parametrize("modes", [ring(), grid()], ids=lambda m: m.name)
def test_the_data_are_found_whole(modes: Modes):
    n = 40_000
    x = torch.from_numpy(modes.draw(draws(), n))
    found = modes.coverage(x, 3)
    expected = 1 - math.exp(-4.5)
    assert found.modes == len(modes.centers)
    assert abs(found.share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
    nearest = torch.cdist(x, torch.tensor(modes.centers, dtype=torch.float64)).argmin(1).bincount()
    fair = n / len(modes.centers)
    assert bool((nearest.double().sub(fair).abs() < 5 * math.sqrt(fair)).all())
    assert bool(modes.in_window(x).all())


def test_modes_are_counted_from_a_tenth_of_their_fair_share_on():
    modes = ring()  # of 800 points, a fair share is 100
    centers = torch.tensor(modes.centers, dtype=torch.float64)
    rows = torch.cat(
        [centers[0].repeat(10, 1), centers[1].repeat(9, 1), centers[2].repeat(281, 1), torch.zeros(500, 2)]
    )
    assert modes.coverage(rows, 3) == Coverage(modes=2, share=300 / 800)


def test_the_radius_is_a_circle_in_standard_deviations():
    modes = Modes("one", ((0.0, 0.0),), std=0.1)
    rows = torch.tensor([[0.29, 0.0], [0.0, 0.31], [0.22, 0.22], [0.2, 0.2]], dtype=torch.float64)
    assert modes.coverage(rows, 3).share == 0.5
    assert modes.coverage(rows, 3.2).share == 1.0


def test_what_is_not_finite_is_nowhere():
    rows = torch.tensor([[0.0, 1.0], [math.nan, 1.0], [math.inf, 0.0], [-math.inf, math.nan]])
    assert ring().coverage(rows, 3) == Coverage(modes=1, share=0.25)
    assert ring().in_window(rows).tolist() == [True, False, False, False]


def test_the_window_is_the_data_and_a_quarter():
    rows = torch.tensor([[1.27, 0.0], [0.0, -1.29], [1.27, -1.27]])
    assert ring().in_window(rows).tolist() == [True, False, True]


@pytest.mark.parametrize(("modes", "deviations"), [(ring(), 10), (grid(), 10), (grid(), 3)])
def test_the_share_of_evenly_spread_points(modes: Modes, deviations: int):
    n = 100_000
    spread = torch.from_numpy(draws().uniform(-modes.window, modes.window, (n, 2)))
    share = modes.uniform_baseline(deviations)
    assert abs(modes.coverage(spread, deviations).share - share) < 4 * math.sqrt(share / n)


# -- training ----------------------------------------------------------------------------------------------------------


def plain_training(settings: GanSettings, loss: Callable, generator_objective: Callable) -> tuple[nn.Module, nn.Module]:
    """Train as anybody would: PyTorch's modules, its plain Adam, and gradients to everything."""
    d, g = (
        nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, out)).double()
        for out in (1, 2)
    )
    start = Gan(settings, torch.float64)
    for model, ours in ((d, start.d), (g, start.g)):
        for parameter, value in zip(model.parameters(), ours.parameters(), strict=True):
            parameter.data.copy_(value.data)
    adam_d = torch.optim.Adam(d.parameters(), foreach=False)
    adam_g = torch.optim.Adam(g.parameters(), foreach=False)
    key = Key(settings.seed, 0, 0, 0)
    for iteration in range(settings.iterations):
        for i in range(6):
            steps_d = i < 5
            step = key._replace(step=iteration * 5 + i) if steps_d else key._replace(step=iteration)
            generator = step.fold(2 if steps_d else 3).generator()
            n = 8 * (settings.method.batches if steps_d else 1)
            real = torch.from_numpy(settings.modes.draw(generator, n))
            fake = g(torch.from_numpy(generator.standard_normal((n, 2))))
            adam_d.zero_grad()
            adam_g.zero_grad()
            (loss if steps_d else lambda *a: -generator_objective(*a))(d, real, fake, generator).backward()
            (adam_d if steps_d else adam_g).step()
    return d, g


def unmixed(d, real, fake, generator) -> Tensor:
    log = F.logsigmoid
    return -log(d(real)).mean() - log(-d(fake)).mean()


def mixed(d, real, fake, generator) -> Tensor:
    lam = torch.from_numpy(generator.beta(0.2, 0.2, len(real)))[:, None]
    out = d(lam * real + (1 - lam) * fake)
    return -(lam * F.logsigmoid(out) + (1 - lam) * F.logsigmoid(-out)).mean()


@pytest.mark.parametrize(
    ("method", "loss", "generator_objective"),
    [(PlainGan(), unmixed, unmixed), (MixupGan(0.2), mixed, mixed), (MixupGan(0.2, both=False), mixed, unmixed)],
    ids=lambda value: value.__name__ if callable(value) else repr(value),
)
def test_training_is_the_plain_loop(method: GanMethod, loss: Callable, generator_objective: Callable):
    settings = replace(SMALL, method=method, iterations=8)
    d, g = plain_training(settings, loss, generator_objective)
    ours = Gan(settings, torch.float64)
    before = [p.detach().clone() for p in (*ours.d.parameters(), *ours.g.parameters())]
    for _ in range(8):
        ours.iterate()
    plain = [p.detach() for p in (*d.parameters(), *g.parameters())]
    now = [p.detach() for p in (*ours.d.parameters(), *ours.g.parameters())]
    assert max(float((a - b).abs().max()) for a, b in zip(now, plain, strict=True)) < 1e-12
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(now, before, strict=True))  # all of it moved


def test_a_run_is_a_function_of_its_settings():
    before = torch.get_rng_state()
    first, second = train(SMALL), train(SMALL)
    assert list(first) == [2, 4]
    assert all(torch.equal(first[i], second[i]) for i in first)
    assert torch.equal(torch.get_rng_state(), before)  # the global one is left alone


def test_methods_of_one_seed_begin_alike_and_seeds_do_not():
    one, other, third = (Gan(s) for s in (SMALL, replace(SMALL, method=PlainGan()), replace(SMALL, seed=4)))
    assert torch.equal(one.sample(), other.sample())
    assert not torch.equal(one.sample(), third.sample())
    assert not torch.equal(one.d.layers[0].weight, one.g.layers[0].weight)
    bound = 1 / math.sqrt(6)
    weight = one.g.layers[1].weight
    assert 0.8 * bound < float(weight.detach().abs().max()) <= bound


def test_a_killed_run_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = train(SMALL)
    iterate, done = Gan.iterate, []

    def killed(gan: Gan) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        iterate(gan)
        done.append(gan.iteration)

    monkeypatch.setattr(Gan, "iterate", killed)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path, every_seconds=0)
    assert done == [1, 2, 3]
    done.clear()
    resumed = train(SMALL, tmp_path, every_seconds=0)
    assert done == [4]
    assert list(resumed) == list(whole)
    assert all(torch.equal(resumed[i], whole[i]) for i in whole)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    gan = Gan(replace(SMALL, seed=9))
    gan.iterate()
    checkpoint.save(tmp_path, 1, training._state(gan, {}))
    with pytest.raises(UserError, match=r"another run \(GanSettings\(.*seed=9"):
        train(SMALL, tmp_path)


def test_the_discriminator_takes_five_steps_before_the_generator_takes_one(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(Gan, "_draws", lambda self, step, part: asked.append((part, step)) or draws(step))
    gan = Gan(SMALL)
    asked.clear()
    gan.iterate()
    gan.iterate()
    d, g = training._DISCRIMINATOR_STEP, training._GENERATOR_STEP
    assert asked == [*((d, i) for i in range(5)), (g, 0), *((d, i) for i in range(5, 10)), (g, 1)]


def test_the_defaults_are_the_papers():
    settings = GanSettings(grid(), PlainGan(), 0)
    assert (settings.iterations, settings.batch_size, settings.hidden) == (20_000, 128, (512, 512, 512))
    assert (settings.noise, settings.discriminator_steps, settings.learning_rate) == (2, 5, 1e-3)
    assert {10, 100, 1000, 10_000, 20_000} < set(settings.snapshots)
    assert MixupGan().alpha == BatchMixupGan().bound == 0.2
    adam = Gan(replace(settings, hidden=(2,)))._adam_g.defaults
    assert (adam["lr"], adam["betas"], adam["eps"], adam["weight_decay"]) == (1e-3, (0.9, 0.999), 1e-8, 0)


# -- the study ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gan")
    return {job.name: job.run(folder) for job in GanStudy().jobs("smoke")}


def test_the_smoke_scale_runs_and_measures_all(smoke: dict):
    assert len(smoke) == len(METHODS) * len(SETS)
    for result in smoke.values():
        assert result["iterations"] == [10, 20]
        assert list(result["points"]) == ["10", "20"]
        for key in ("inside", "share_3", "share_10", "modes_3", "modes_10"):
            assert len(result[key]) == 2
        assert all(a <= b for a, b in zip(result["share_3"], result["share_10"], strict=True))
        kept = len(result["points"]["20"]) / 1000  # of the first 1,000 points, those in the window
        assert abs(kept - result["inside"][-1]) < 0.1
    assert json.loads(json.dumps(smoke)) == smoke


def test_rows_show_the_end_of_training_and_compare_with_erm(smoke: dict):
    rows = GanStudy().rows("smoke", smoke)
    assert len({row.name for row in rows}) == len(rows) == 2 * 5 * 5
    by_name = {row.name: row for row in rows}
    row = by_name["ring, mixup as in the author's demo: points in the window"]
    assert row.values == (100 * smoke["ring-mixup-demo-0"]["inside"][-1],)
    assert row.measure == "points in the window, %"
    assert row.against == "ring, ERM: points in the window"
    assert all(r.against in by_name for r in rows if r.against)
    assert all(r.published is None for r in rows)
    assert "the author's demo" in row.note
    assert "gives no number" in row.note
    formula = by_name["ring, mixup by the formula: points in the window"]
    assert formula.note.startswith("the formula as printed")
    assert formula.values == (100 * smoke["ring-mixup-formula-0"]["inside"][-1],)
    assert row.note != formula.note


def test_rows_of_jobs_that_were_not_run_are_there_without_values():
    rows = GanStudy().rows("small", {})
    assert len(rows) == 50
    assert all(row.values == () for row in rows)


def test_jobs_have_one_name_each_and_the_first_seed_comes_first():
    names = [job.name for job in GanStudy().jobs("small")]
    assert len(set(names)) == len(names) == 50
    assert names[:3] == ["grid-erm-0", "ring-erm-0", "grid-mixup-demo-0"]
    assert all(name.endswith("-0") for name in names[:10])
    assert not any(name.endswith("-0") for name in names[10:])
    assert all(name.replace("-", "").isalnum() for name in names)


def test_a_job_trains_what_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(
        study_file, "train", lambda settings, folder: seen.append((settings, folder)) or {20: points(9, 1)}
    )
    job = next(job for job in GanStudy().jobs("paper") if job.name == "ring-mixup-formula-7")
    job.run(tmp_path)
    snapshots = (10, 100, 1000, 4000, 10_000, 20_000)
    assert seen == [(GanSettings(ring(), MixupGan(0.2), 7, snapshots=snapshots), tmp_path)]  # else the paper's


def test_the_paper_is_not_scaled_down_and_other_scales_say_what_is():
    assert study_file.SCALES["paper"].deviations == ()
    for at in (study_file.SCALES["smoke"], study_file.SCALES["small"]):
        assert f"{at.width} units, not 512" in at.deviations[0]
        assert f"{at.iterations:,} iterations" in at.deviations[1]


@pytest.mark.parametrize("left_out", [None, "ring-mixup-demo-0"])
def test_the_figures_are_drawn_with_what_is_there(smoke: dict, tmp_path: Path, left_out: str | None):
    paths = GanStudy().draw("smoke", {k: v for k, v in smoke.items() if k != left_out}, tmp_path)
    assert [path.name for path in paths] == ["gan-figure-5.svg", "gan-figure-5-formula.svg", "gan-measures.svg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(path.name for path in paths)
    text = paths[0].read_text()
    panels = 2 * 2 * 2  # sets, methods, iterations
    missing = 0 if left_out is None else 2
    assert (text.count("<image"), text.count(">not run<")) == (panels - missing, missing)
    assert all(title in text for title in ("ERM", "mixup as in the author's demo"))
    assert not GanStudy().draw("smoke", {}, tmp_path)


def test_claims_compare_seeds_with_erm_and_with_their_own_start():
    def run(start: float, end: float, modes: int) -> dict:
        nothing = [0.0, 0.0]
        return {
            "iterations": [10, 4000], "inside": [start, end], "modes_3": [0, modes], "share_3": nothing,
            "modes_10": [0, 0], "share_10": nothing,
        }  # fmt: skip

    done = {
        "ring-erm-0": run(0.9, 0.1, 1),
        "ring-erm-1": run(0.9, 0.2, 0),
        "ring-mixup-demo-0": run(0.9, 1.0, 4),
        "ring-mixup-demo-1": run(0.8, 0.9, 5),
        "ring-mixup-formula-0": run(0.9, 0.2, 0),
        "ring-mixup-formula-1": run(0.8, 0.1, 0),
    }
    demo, formula, modes = GanStudy().claims("small", done)
    assert [evidence.what[:4] for evidence in formula.evidence] == ["grid", "ring"] * 2
    found = [claim.evidence[i].differences for claim, i in ((demo, 1), (formula, 1), (formula, 3), (modes, 1))]
    by_hand = [(90.0, 70.0), (-70.0, -70.0), (10.0, -10.0), (3.0, 5.0)]
    assert [pytest.approx(differences) for differences in found] == by_hand
    assert demo.evidence[0].differences == ()
    assert {evidence.expected for claim in (demo, formula, modes) for evidence in claim.evidence} == {"higher"}
