"""How much of itself an example keeps."""

import numpy as np
import pytest
import torch

import vicinal as v
from vicinities import ids


def draw(weighting, n, step=0):
    return weighting.draw(v.Key(4, 0, 0, step).generator(), n)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize(("make", "k"), [(v.Beta, 2), (v.Dirichlet, 3)])
def test_shapes_and_sums(make, k, per, n):
    shares = draw(make(0.3, per=per), n)
    assert shares.shape == (n, k)
    assert (shares >= 0).all()
    assert np.allclose(shares.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("make", [v.Beta, v.Dirichlet])
def test_per_batch_is_one_draw_and_per_example_one_each(make):
    assert len(np.unique(draw(make(1.0, per="batch"), 50), axis=0)) == 1
    assert len(np.unique(draw(make(1.0, per="example"), 50), axis=0)) == 50


def test_the_default_is_one_lambda_a_batch():
    assert v.Beta().per == v.Dirichlet().per == "batch"
    assert v.Mixup().plan(9, step=0).weight.unique().numel() == 1


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_moments_reach_the_plan(alpha, per):
    n, steps = (1, 4000) if per == "batch" else (4000, 1)
    y = ids(n + 1)
    lam = torch.cat([v.Mixup(v.Beta(alpha, per)).plan(n + 1, y, step=s).weight[:n] for s in range(steps)]).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=4 * (variance / 4000) ** 0.5)
    assert lam.var().item() == pytest.approx(variance, rel=0.12)


def test_a_bare_alpha_is_beta_per_batch():
    assert torch.equal(v.Mixup(0.3, seed=2).plan(5, step=1).weight, v.Mixup(v.Beta(0.3), seed=2).plan(5, step=1).weight)


def test_dirichlet_of_two_is_a_share_and_the_rest():
    plan = v.Mixup(v.Dirichlet(1.0, k=2)).plan(5, step=1)
    assert plan.partners.shape == (5, 1)
    assert plan.shares.sum(1).eq(1).all()


def test_dirichlet_draws_its_partners_apart():
    partners = v.Mixup(v.Dirichlet(1.0, k=4)).plan(40, step=0).partners
    assert partners.shape == (40, 3)
    assert not torch.equal(partners[:, 0], partners[:, 1])
    assert not torch.equal(partners[:, 1], partners[:, 2])


@pytest.mark.parametrize("make", [v.Beta, v.Dirichlet, v.Mixup, v.InputMixup, v.CutMix])
@pytest.mark.parametrize("alpha", [0, 0.0, -1, float("nan"), float("inf"), -float("inf")])
def test_alpha_out_of_range(make, alpha):
    with pytest.raises(ValueError, match=rf"alpha must be a finite number > 0, got {alpha}; for no mixing use ERM\(\)"):
        make(alpha)


@pytest.mark.parametrize("make", [v.Beta, v.Dirichlet, v.Mixup, v.InputMixup, v.CutMix])
@pytest.mark.parametrize("alpha", ["a", True, None, [1.0], torch.tensor(1.0), 1j])
def test_alpha_of_another_kind(make, alpha):
    with pytest.raises(TypeError, match="alpha must be a number, got"):
        make(alpha)


@pytest.mark.parametrize("alpha", [1, 1.0, np.float32(1), np.float64(1), np.int64(1)])
def test_numbers_of_numpy_are_numbers(alpha):
    assert torch.equal(v.Mixup(alpha, seed=2).plan(5, step=0).weight, v.Mixup(1.0, seed=2).plan(5, step=0).weight)


@pytest.mark.parametrize("make", [v.Beta, v.Dirichlet, v.CutMix])
@pytest.mark.parametrize("per", ["sample", None, 1, []])
def test_per(make, per):
    with pytest.raises(ValueError, match=r"per must be 'batch' .* or 'example', got"):
        make(1.0, per=per)


@pytest.mark.parametrize("k", [1, 0, -3, 2.5, "3", None, True])
def test_k(k):
    with pytest.raises(ValueError, match="k counts the examples mixed into one and must be an integer >= 2, got"):
        v.Dirichlet(1.0, k=k)


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize(("alpha", "k"), [(0.5, 3), (2.0, 4)])
def test_moments_of_dirichlet(alpha, k, per):
    weighting, rows = v.Dirichlet(alpha, k, per), 6000
    shares = (
        np.concatenate([draw(weighting, 1, step) for step in range(rows)]) if per == "batch" else draw(weighting, rows)
    )
    variance = (k - 1) / (k**2 * (k * alpha + 1))
    assert np.abs(shares.mean(0) - 1 / k).max() < 4.5 * (variance / rows) ** 0.5
    assert shares.var(0) == pytest.approx([variance] * k, rel=0.1)
