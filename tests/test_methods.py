"""Methods of the family: each against its authors' formula as a plain float64 loop, on fixed draws; and what refuses them.

Shares are float32 and exact multiples of 2**-24, so labels agree to 1e-6, inputs in float64 to 1e-6 of their size.
"""

import ast
import inspect
import itertools
import math
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch.utils.data import DataLoader, Subset, TensorDataset

import vicinal as v
from conventions import block
from vicinal import _state, _stored, methods
from vicinal.methods import (
    Beside,
    CMixup,
    ColumnMix,
    FMix,
    LabelNeighbors,
    Remix,
    Selective,
    SKMixup,
    Transport,
    Unmixed,
    low_frequencies,
)
from vicinal.plan import PlanBeside, PlanChain
from vicinities import content, images, noise

N = 9
IDS = torch.arange(N) % 3
close = {"rtol": 0, "atol": 1e-6}


def key(step=0):
    return v.Key(0, 0, 0, step)


def lines_of(function):
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    body = tree.body[1:]  # without the docstring
    return body[-1].end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("name", sorted(set(methods.__all__) - {"LabelNeighbors"}))
def test_a_method_draws_in_15_lines(name):
    kind = getattr(methods, name)
    assert lines_of(kind.draw) <= 15


@pytest.mark.parametrize("name", methods.__all__)
def test_a_method_says_what_one_draw_is(name):
    assert all(block(getattr(methods, name).__doc__).values())


# -- k-Mixup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(9, 3), (8, 3), (4, 4), (5, 1), (1, 4), (0, 2)])
def test_transport_minimizes_squared_distances_within_blocks(n, k):
    x = noise(n, 2, 3)
    for step in range(10):
        partner = Transport(k).draw(key(step).generator(), n, None, x)
        order = key(step).generator().permutation(n)
        expected = []
        for start in range(0, n, k):
            block, rows = order[start : start + k], range(start, min(start + k, n))
            costs = {
                matched: sum(float((x[i] - x[j]).square().sum()) for i, j in zip(rows, matched, strict=True))
                for matched in itertools.permutations(block.tolist())
            }
            expected += min(costs, key=costs.__getitem__)
        assert partner.tolist() == expected


def test_transport_with_what_is_no_distance():
    x = noise(6, 2)
    x[2], x[4, 1] = math.nan, math.inf
    partner = Transport(6).draw(key().generator(), 6, None, x)
    assert sorted(partner.tolist()) == list(range(6))
    assert [partner[i] for i in (0, 1, 3, 5)] == [0, 1, 3, 5]
    with pytest.raises(ValueError, match=r"Transport looks at the inputs: give them to plan\(n, y, x\)"):
        v.Mixup(1.0, Transport()).plan(4, step=0)
    with pytest.raises(ValueError, match=r"Transport measures distances and needs floating-point inputs \[4, ...\]"):
        v.Mixup(1.0, Transport()).plan(4, x=torch.zeros(4, 2, dtype=torch.int64), step=0)
    for k in (0, 2.0, True):
        with pytest.raises(ValueError, match="k counts the rows of a block and must be an integer >= 1, got"):
            Transport(k)


def test_transport_between_batches():
    (x, y), (other_x, other_y) = (noise(5, 2), IDS[:5]), (noise(5, 2)[[3, 0, 4, 1, 2]] + 0.01, IDS[:5])
    mixed, _ = v.Mixup(1.0, Transport(5), seed=0).between((x, y), (other_x, other_y))
    torch.testing.assert_close(mixed, x, rtol=0, atol=0.02)


def test_transport_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="Transport matches rows by SciPy, which is not installed: pip install scipy"):
        v.Mixup(1.0, Transport()).plan(4, x=noise(4, 2), step=0)


# -- selective mixup, and its control ----------------------------------------------------------------------------------

GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 0])


def fitting(i, label, group):
    def fits(criterion, a, b):
        return criterion == "any" or (a == b) == (criterion == "same")

    return {j for j in range(N) if j != i and fits(label, IDS[i], IDS[j]) and fits(group, GROUPS[i], GROUPS[j])}


@pytest.mark.parametrize("group", ["same", "other", "any"])
@pytest.mark.parametrize("label", ["same", "other", "any"])
def test_selective_partners_fit_and_are_uniform(label, group):
    draws = 150
    seen = [Counter() for _ in range(N)]
    pairing = Selective(label, group)
    for step in range(draws):
        y = IDS if group == "any" and step % 2 else torch.stack([IDS, GROUPS], 1)
        for i, j in enumerate(pairing.draw(key(step).generator(), N, y, None).tolist()):
            seen[i][j] += 1
    for i, found in enumerate(seen):
        fits = fitting(i, label, group) or {i}  # nobody fits: it stays alone
        assert set(found) == fits
        expected = draws / len(fits)
        assert sum((found[j] - expected) ** 2 / expected for j in fits) <= stats.chi2.ppf(1 - 1e-5, len(fits))


def test_groups_stand_beside_the_labels():
    lisa = v.Choice([v.Mixup(2.0, Selective("same", "other")), v.Mixup(2.0, Selective("other", "same"))], seed=3)
    x = noise(N, 2)
    for step in range(5):
        mixed, (y, group) = lisa(x, (IDS, GROUPS), step=step)
        plan = lisa.plan(N, (IDS, GROUPS), x, step=step)
        assert content(plan) == content(lisa.plan(N, torch.stack([IDS, GROUPS], 1), x, step=step))
        assert content([mixed, y, group]) == content([plan(x), plan.target(IDS), plan.target(GROUPS)])
        for i, j in enumerate(plan.partner.tolist()):
            assert j == i or (IDS[i] == IDS[j]) != (GROUPS[i] == GROUPS[j])
    some = torch.tensor([0, 3, 5, 6])
    partner = v.Mixup(2.0, Selective("any", "other"), seed=0).plan(N, (IDS, GROUPS), step=0, rows=some).partner
    assert set(partner[some].tolist()) <= set(some.tolist())
    assert all(GROUPS[i] != GROUPS[partner[i]] for i in some)
    batch, others = (x, (IDS, GROUPS)), (noise(4, 2, seed=1), (IDS[:4], GROUPS[:4] + 1))
    _, (_, group) = v.Mixup(v.Beta(9.0), Selective("any", "same"), seed=0).between(batch, others)
    assert torch.equal(group.ids[0], GROUPS)
    assert all(a == b or w == 0 or int(a) == 0 for a, b, w in zip(*group.ids, group.weight[1], strict=True))
    loader = DataLoader([(x[i], (IDS[i], GROUPS[i])) for i in range(N)], batch_size=N, collate_fn=v.Collate(lisa))
    _, (y, group) = next(iter(loader))
    assert len(y) == len(group) == N


def test_selective_says_what_it_needs():
    with pytest.raises(
        ValueError, match=r"Selective looks at groups: give a pair as the target, \(class indices, groups\)"
    ):
        v.Mixup(2.0, Selective())(noise(N, 2), IDS)
    with pytest.raises(ValueError, match="Selective looks at the labels: give class indices"):
        v.Mixup(2.0, Selective("other", "any")).plan(N, step=0)
    with pytest.raises(ValueError, match="Selective needs integer class indices"):
        v.Mixup(2.0, Selective("other", "any"))(noise(N, 2), noise(N))
    with pytest.raises(ValueError, match="group must be 'same', 'other' or 'any', got 'both'"):
        Selective("same", "both")


@pytest.mark.parametrize(
    "part", [v.Mixup(2.0, v.OtherClass()), v.Mixup(v.Dirichlet(1.0, k=3)), Remix(), v.CutMix(1.0), v.ERM()], ids=repr
)
def test_the_control_has_the_same_pairs_and_no_mixing(part):
    x, y = images(N), IDS
    for step in range(30):
        mixing = part.plan(N, y, x, step=step, seed=4)
        plan = Unmixed(part).plan(N, y, x, step=step, seed=4)
        assert torch.equal(plan.partner, mixing.partner)
        assert set(plan.weight.flatten().tolist()) <= {0.0, 1.0}
        rows = torch.cat([torch.arange(N)[:, None], plan.partners], 1)
        who = rows.gather(1, plan.shares.argmax(1, keepdim=True))[:, 0]
        assert torch.equal(plan(x), x[who])
        assert torch.equal(plan.target(y).dense(3).argmax(1), y[who])


def test_the_control_chooses_by_the_shares():
    part = v.Mixup(v.Dirichlet(1.0, k=3, per="example"))
    draws, n = 60, 256
    total, expected, variance = np.zeros(3), np.zeros(3), np.zeros(3)
    for step in range(draws):
        plan, mixing = (vicinity.plan(n, step=step, seed=1) for vicinity in (Unmixed(part), part))
        shares = mixing.shares.double().numpy()
        total += plan.shares.numpy().sum(0)
        expected += shares.sum(0)
        variance += (shares * (1 - shares)).sum(0)
    assert (np.abs(total - expected) <= 5 * np.sqrt(variance)).all()


def test_a_control_of_several_mixings_is_refused():
    with pytest.raises(TypeError, match=r"Unmixed takes a vicinity that mixes once, such as Mixup\(2.0\), not Chain"):
        Unmixed(v.Chain([v.Mixup(), v.LabelSmoothing()])).plan(4, step=0)
    with pytest.raises(TypeError, match="a composition needs one or more vicinities, got"):
        Unmixed(0.2)
    with pytest.raises(ValueError, match="the seed belongs to the outermost vicinity"):
        Unmixed(v.Mixup(seed=1))


# -- RegMixup ----------------------------------------------------------------------------------------------------------


def test_regmixup_is_the_mean_of_both_losses():
    logits_of = torch.nn.Linear(4, 3).double()
    x, regmixup, alone = noise(N, 4), Beside(v.Mixup(10.0), seed=2), v.Mixup(10.0, seed=2)
    for step in range(5):
        both, y = regmixup(x, IDS, step=step)
        plan = alone.plan(N, IDS, x, step=step)  # the same draw
        lam = float(plan.weight[0])
        terms = []
        for i in range(N):
            mixed = lam * x[i] + (1 - lam) * x[plan.partner[i]]
            plain, of_mix = (F.log_softmax(logits_of(row), 0) for row in (x[i], mixed))
            terms.append(-plain[IDS[i]] - lam * of_mix[IDS[i]] - (1 - lam) * of_mix[IDS[plan.partner[i]]])
        torch.testing.assert_close(F.cross_entropy(logits_of(both), y), sum(terms) / (2 * N), **close)
        assert torch.equal(both[:N], x)
        assert torch.equal(y[:N].dense(3), F.one_hot(IDS, 3).float())


def test_more_rows_than_there_were():
    plan = Beside(v.Mixup(10.0), seed=2).plan(N, IDS, step=0)
    inner = plan.plan
    assert isinstance(plan, PlanBeside)
    assert (len(plan), plan.rows_out, plan.key) == (N, 2 * N, inner.key)
    soft, numbers = noise(N, 3).softmax(1), noise(N)
    nest = plan({"a": noise(N, 2), "b": (noise(N), None)})
    assert [len(nest["a"]), len(nest["b"][0]), nest["b"][1]] == [2 * N, 2 * N, None]
    assert torch.equal(plan.target(soft), torch.cat([soft, inner.target(soft)]))
    assert torch.equal(plan.target((numbers, IDS))[0], torch.cat([numbers, inner.target(numbers)]))
    maps = plan.target(IDS[:, None].expand(N, 4))
    assert maps.shape == (2 * N, 4)
    again = plan.target(v.Mixup(0.4, seed=0).plan(N, step=1).target(IDS))
    assert torch.equal(again[:N].dense(3), v.Mixup(0.4, seed=0).plan(N, step=1).target(IDS).dense(3))
    half = torch.where(torch.arange(N) < 3, math.nan, numbers)
    assert torch.equal(plan.target(half, missing=math.nan)[:N].isnan(), half.isnan())
    mask = noise(N, 5) > 0
    assert torch.equal(plan.union(mask), torch.cat([mask, inner.union(mask)]))
    assert torch.equal(plan.longest(IDS), torch.cat([IDS, inner.longest(IDS)]))
    listed = plan([noise(2) for _ in range(N)])
    assert len(listed) == 2 * N
    x, y = v.Collate(Beside(v.Mixup(10.0), seed=2))([(noise(2), i) for i in range(4)])
    assert len(x) == len(y) == 8
    off = Beside(v.Mixup(10.0))
    off.off()
    assert len(off(noise(N, 2), IDS)[0]) == N
    assert len(plan.show(images(N).clamp(0, 1), IDS, rows=2).axes) > 3
    later = v.Scheduled(Beside(v.Mixup(10.0)), start=2, seed=0)
    assert [later.plan(N, step=0, epoch=epoch).rows_out for epoch in (1, 2)] == [N, 2 * N]


def test_where_more_rows_are_refused():
    x, regmixup = noise(N, 4), Beside(v.Mixup(10.0))
    with pytest.raises(ValueError, match=r"Beside takes no rows=, whose other rows would stand there twice"):
        regmixup(x, IDS, rows=torch.arange(3))
    with pytest.raises(ValueError, match=r"takes no out=: a buffer has as many rows as the input"):
        regmixup(x, IDS, out=torch.empty_like(x))
    with pytest.raises(ValueError, match=r"takes no out=: a buffer has as many rows as the input"):
        regmixup([x], IDS, out=[torch.empty_like(x)])
    with pytest.raises(
        ValueError, match="between makes one row of each row of the batch, and this vicinity makes more"
    ):
        regmixup.between((x, IDS), (x, IDS))
    with pytest.raises(ValueError, match="a plan that makes more rows than it is given comes last in a chain"):
        v.Chain([regmixup, v.LabelSmoothing(0.1)])(x, IDS)
    with pytest.raises(ValueError, match=r"Beside takes a plan that makes n rows of n, got 18 of 9"):
        Beside(regmixup)(x, IDS)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with (
        pytest.raises(ValueError, match="Beside makes more rows than the model was given, and belongs at the input"),
        v.LatentMixing(net, "0")(regmixup.plan(N, step=0)),
    ):
        net(x)


# -- Remix -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (1.0, 0.9), (5.0, 0.0), (1.5, 1.0)])
def test_remix_shares_the_label_as_the_paper_says(kappa, tau):
    counts = [90, 40, 10]
    remix, mixup, x = Remix(v.Beta(0.8, per="example"), counts=counts, kappa=kappa, tau=tau), None, noise(N, 2)
    mixup = v.Mixup(v.Beta(0.8, per="example"))
    for step in range(20):
        plan, plain = (vicinity.plan(N, IDS, x, step=step, seed=1) for vicinity in (remix, mixup))
        assert torch.equal(plan(x), plain(x))
        for i, (lam, j) in enumerate(zip(plain.weight.tolist(), plain.partner.tolist(), strict=True)):
            own, other = counts[IDS[i]], counts[IDS[j]]
            label = lam
            if own / other >= kappa and lam < tau:
                label = 0.0
            if own / other <= 1 / kappa and 1 - lam < tau:
                label = 1.0
            assert plan.target_weight[i] == label


def test_remix_counts():
    y = torch.tensor([0] * 8 + [1])
    in_batch, told = (Remix(1.0, counts=counts).plan(9, y, step=1, seed=0) for counts in (None, [8, 1]))
    assert content(in_batch) == content(told)
    assert Remix(counts=np.array([3, 4])) == Remix(counts=[3, 4])
    for bad in ([], [1, 0], [1.5], 3, "ab"):
        with pytest.raises(ValueError, match="counts are the examples of each class, integers >= 1, got"):
            Remix(counts=bad)
    with pytest.raises(ValueError, match=r"Remix needs kappa >= 1 and tau in \[0, 1\], got 0.5 and 0.5"):
        Remix(kappa=0.5)
    with pytest.raises(ValueError, match="counts has 2 classes, and y holds 0 to 2"):
        Remix(counts=[5, 5]).plan(N, IDS, step=0)
    with pytest.raises(TypeError, match=r"Remix mixes pairs, got Dirichlet"):
        Remix(v.Dirichlet(1.0)).plan(N, IDS, step=0)
    with pytest.raises(ValueError, match="Remix looks at the labels"):
        Remix().plan(N, step=0)


# -- SK mixup ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["x", "y"])
def test_sk_mixup_draws_by_the_similarity_of_each_pair(of):
    x, y = noise(N, 2, 2), noise(N, seed=5)
    sk = SKMixup(tau_max=1.5, tau_std=0.7, of=of)
    for step in range(20):
        plan = sk.plan(N, y, x, step=step, seed=0)
        generator = key(step).generator()
        partner = generator.permutation(N).tolist()
        seen = x if of == "x" else y[:, None]
        squares = [float((seen[i] - seen[j]).square().sum()) for i, j in enumerate(partner)]
        mean = sum(squares) / N
        taus = [1.5 * math.exp(-(square / mean - 1) / (2 * 0.7**2)) for square in squares]
        lam = [generator.beta(tau, tau) for tau in taus]
        assert plan.partner.tolist() == partner
        torch.testing.assert_close(plan.weight.double(), torch.tensor(lam, dtype=torch.float64), **close)


def test_sk_mixup_has_the_law_of_the_warped_uniform():
    # the authors' lambda is the quantile function of Beta(tau, tau) at a uniform number
    x = torch.tensor([[0.0], [1.0], [3.0]])
    taus, drawn = {}, {}
    for step in range(400):
        plan = SKMixup(tau_std=1.0, seed=1).plan(3, x=x, step=step)
        for tau, lam in zip(SKMixup(tau_std=1.0).taus(x.double(), plan.partner.numpy()), plan.weight, strict=True):
            taus[round(tau, 9)] = tau
            drawn.setdefault(round(tau, 9), []).append(float(lam))
    assert len(taus) > 4
    for name, tau in taus.items():
        assert stats.kstest(drawn[name], stats.beta(tau, tau).cdf).pvalue > 1e-5, tau


def test_sk_mixup_at_the_ends():
    x = torch.tensor([[0.0], [0.0], [math.nan], [math.inf], [1e308], [-1e308]], dtype=torch.float64)
    sk = SKMixup(tau_std=1e-3)
    for step in range(20):
        assert bool(((w := sk.plan(6, x=x, step=step, seed=0).weight) >= 0).all() & (w <= 1).all())
    tau = sk.taus(x, np.array([1, 0, 3, 2, 4, 5]))
    assert np.isfinite(tau).all()
    assert (tau > 0).all()
    same = SKMixup(2.0).taus(torch.zeros(3, 1, dtype=torch.float64), np.array([1, 2, 0]))
    assert (same > 2.0).all()
    with pytest.raises(ValueError, match=r"SKMixup measures distances and needs floating-point labels \[9, ...\], got"):
        SKMixup(of="y")(noise(N, 2), IDS)
    with pytest.raises(ValueError, match="of must be 'x' "):
        SKMixup(of="z")
    with pytest.raises(ValueError, match="tau_std must be a finite number > 0, got 0"):
        SKMixup(tau_std=0)


# -- masks: FMix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(7,), (4, 6), (3, 2, 4)])
def test_low_frequencies_are_the_papers_transform(grid):
    normal = key().generator().standard_normal((2, *grid, 2))
    image = low_frequencies(normal, 3.0)
    cells = list(itertools.product(*map(range, grid)))

    def frequency(place):  # of a bin: the nearer of its index and its index - size, over the size
        bins = [(k if k < (size + 1) // 2 else k - size) / size for k, size in zip(place, grid, strict=True)]
        return max(math.sqrt(sum(f * f for f in bins)), 1 / max(grid))

    for row in range(2):
        by_loop = []
        for at in cells:
            total = 0j
            for bin_ in cells:
                angle = 2 * math.pi * sum(a * k / size for a, k, size in zip(at, bin_, grid, strict=True))
                total += complex(*normal[row][bin_]) / frequency(bin_) ** 3 * complex(math.cos(angle), math.sin(angle))
            by_loop.append(total.real)
        found = image[row].ravel()
        assert np.allclose(found / np.abs(found).max(), np.array(by_loop) / np.abs(by_loop).max(), atol=1e-10)


@pytest.mark.parametrize("per", ["batch", "example"])
def test_fmix_keeps_the_highest_values(per):
    fmix, x = FMix(alpha=0.7, decay=2.0, per=per), images(N)
    for step in range(10):
        plan = fmix.plan(N, x=x, step=step, seed=0)
        generator, draws = key(step).generator(), 1 if per == "batch" else N
        lam = generator.beta(0.7, 0.7, size=draws)
        image = low_frequencies(generator.standard_normal((draws, 6, 5, 2)), 2.0)
        partner = generator.permutation(N)
        for i in range(N):
            values, own = image[i % draws].ravel(), round(lam[i % draws] * 30)
            kept = sorted(range(30), key=lambda cell, values=values: -values[cell])[:own]
            mask = [cell not in kept for cell in range(30)]
            assert plan.mask[i].flatten().tolist() == mask
            assert float(plan.weight[i]) == pytest.approx(own / 30, abs=1e-7)
            by_loop = torch.where(plan.mask[i], x[partner[i]], x[i])
            assert torch.equal(plan(x)[i], by_loop)
        assert plan.partner.tolist() == partner.tolist()


def test_masks_follow_the_rules_of_boxes():
    x, maps = images(N), (noise(N, 6, 5) > 0).long()
    plan = FMix(seed=4).plan(N, maps, x, step=3)
    assert 0 < float(plan.weight[0]) < 1
    cut = plan.target(maps)
    assert cut.ids.shape == (1, N, 6, 5)
    assert torch.equal(cut.ids[0], torch.where(plan.mask, maps[plan.partner], maps))
    soft = noise(N, 3, 6, 5).softmax(1)
    assert torch.equal(plan.target(soft), torch.where(plan.mask[:, None], soft[plan.partner], soft))
    share = float(plan.mask[0].double().mean())
    torch.testing.assert_close(
        plan.target(noise(N, 4)), (1 - share) * noise(N, 4) + share * noise(N, 4)[plan.partner], **close
    )
    last = FMix(channels_last=True, seed=4).plan(N, x=x.permute(0, 2, 3, 1), step=3)
    assert torch.equal(last.mask, plan.mask)
    assert torch.equal(last(x.permute(0, 2, 3, 1)), plan(x).permute(0, 2, 3, 1))
    signal = FMix(seed=4).plan(N, x=noise(N, 50), step=1)
    assert torch.equal(signal(noise(N, 50)), torch.where(signal.mask, noise(N, 50)[signal.partner], noise(N, 50)))
    tokens = torch.arange(N * 50).view(N, 50)
    assert torch.equal(signal(tokens), torch.where(signal.mask, tokens[signal.partner], tokens))
    with pytest.raises(
        ValueError, match=r"an input of shape \[9, 3, 8, 8\] does not lie on the grid \[6, 5\] that the masks"
    ):
        plan(noise(N, 3, 8, 8))
    with pytest.raises(ValueError, match=r"FMix cannot tell the grid of inputs \[9, 20, 20\]: they may be"):
        FMix()(noise(N, 20, 20), IDS)
    with pytest.raises(ValueError, match="FMix looks at the shape of the inputs"):
        FMix().plan(4, step=0)
    with pytest.raises(ValueError, match="decay is a power and must be finite and >= 0, got -1"):
        FMix(decay=-1)
    with pytest.raises(ValueError, match="normalized has no path for boxes, masks and noise"):
        plan.normalized(images(N, torch.uint8), [0.5] * 3, [0.5] * 3)
    with pytest.raises(TypeError, match="maps of class indices can be cut by mask only before they are mixed"):
        plan.target(v.Mixup(0.4, seed=0).plan(N, step=0).target(maps))
    assert torch.equal(plan(x, out=(into := torch.empty_like(x))), into)
    assert "mask=[" in repr(plan)
    assert "of 6x5" in repr(plan)
    some = FMix(seed=4).plan(N, x=x, step=3, rows=torch.arange(4))
    assert torch.equal(some(x)[4:], x[4:])
    assert not torch.equal(some(x)[:4], x[:4])
    *_, mix = plan.show(x.clamp(0, 1), IDS, rows=1).axes
    assert len(mix.collections) == 1  # the outline of what is the partner's
    *_, shaded = signal.show(noise(N, 50), rows=1, kind="signal").axes
    assert len(shaded.patches) == int((signal.mask[0].long().diff(prepend=torch.zeros(1)) > 0).sum()) > 0
    plan.mask[0] = ~plan.mask[0]
    with pytest.raises(RuntimeError, match="this plan was changed in place"):
        plan(x)
    big = FMix(decay=1e4, seed=0).plan(2, x=noise(2, 1, 9, 9), step=0)
    assert big.mask.shape == (2, 9, 9)


# -- masks: columns of a table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", [None, (3.0, 0.5, 1.0)])
def test_column_mix_takes_whole_features(importance):
    features = (0, 1, 1, 2)
    mix, x = ColumnMix(0.6, importance, features), noise(N, 4)
    for step in range(20):
        plan = mix.plan(N, IDS, x, step=step, seed=0)
        generator = key(step).generator()
        rate = generator.beta(0.6, 0.6, size=(N, 1))
        own = generator.random((N, 3)) < rate
        partner = generator.permutation(N)
        for i in range(N):
            kept = [bool(own[i, feature]) for feature in features]
            by_loop = [float(x[i if keep else partner[i], c]) for c, keep in enumerate(kept)]
            assert plan(x)[i].tolist() == by_loop
            weights = importance or (1, 1, 1)
            label = sum(w for w, keep in zip(weights, own[i], strict=True) if keep) / sum(weights)
            expected = label * F.one_hot(IDS[i], 3) + (1 - label) * F.one_hot(IDS[partner[i]], 3)
            torch.testing.assert_close(plan.target(IDS).dense(3, torch.float64)[i], expected.double(), **close)


def test_columns_are_of_inputs_alone():
    plan = ColumnMix(seed=1).plan(N, IDS, x := torch.arange(N * 4).view(N, 4), step=2)
    assert torch.equal(plan(x), torch.where(plan.mask, x[plan.partner], x))  # integers are taken, not averaged
    embedded = noise(N, 4, 7)
    assert torch.equal(plan(embedded), torch.where(plan.mask[:, :, None], embedded[plan.partner], embedded))
    heads = plan.target(torch.stack([IDS] * 4, 1))  # as many as columns, and none of them
    assert torch.equal(heads[:, 0].dense(3), plan.target(IDS).dense(3))
    numbers = noise(N, 4)
    w = plan.weight[:, None].double()
    torch.testing.assert_close(plan.target(numbers), w * numbers + (1 - w) * numbers[plan.partner], **close)
    with pytest.raises(
        ValueError, match=r"an input of shape \[9, 3\] does not have the 4 columns that the mask was drawn"
    ):
        plan({"numbers": x, "more": noise(N, 3)})
    with pytest.raises(ValueError, match=r"an input of shape \[9\] does not have the 4 columns"):
        plan(noise(N))
    with pytest.raises(ValueError, match=r"ColumnMix needs inputs \[n, columns\] in plan\(n, y, x\), got \[9\]"):
        ColumnMix()(noise(N), IDS)
    with pytest.raises(ValueError, match=r"ColumnMix needs inputs \[n, columns\] in plan\(n, y, x\), got nothing"):
        ColumnMix().plan(4, step=0)
    with pytest.raises(ValueError, match="features names those of 2 columns, and the inputs have 4"):
        ColumnMix(features=(0, 1))(noise(N, 4), IDS)
    with pytest.raises(ValueError, match="importance has 2 features, and the inputs have 4"):
        ColumnMix(importance=(1, 1))(noise(N, 4), IDS)
    for bad in ((0, 2), (-1, 0), (0.5,), (), 3):
        with pytest.raises(ValueError, match="features are the features of the columns, integers that count from 0"):
            ColumnMix(features=bad)
    for bad in ((0, 0), (-1, 2), ("a",), (math.inf, 1), (math.nan, 1)):
        with pytest.raises(ValueError, match="importance are the weights of the features, numbers >= 0 and not all 0"):
            ColumnMix(importance=bad)


# -- plans of these kinds, read back -----------------------------------------------------------------------------------

PAIR = {"partner": torch.tensor([1, 0]), "weight": torch.tensor([0.5, 0.5])}


@pytest.mark.parametrize(
    "arguments",
    [
        {"mask": torch.ones(2, 3)},
        {"mask": torch.ones(3, 3, dtype=torch.bool)},
        {"mask": torch.ones(2, dtype=torch.bool)},
        {"mask": torch.ones(2, 3, dtype=torch.bool), "grid": (4,)},
        {
            "mask": torch.ones(2, 3, dtype=torch.bool),
            "grid": (3,),
            "box": torch.zeros(2, 1, 2, dtype=torch.int64),
        },
    ],
)
def test_a_mask_that_does_not_fit_is_refused(arguments):
    with pytest.raises(ValueError, match=r"mask must be bool .* beside partner \[n\]"):
        v.MixPlan(**PAIR, **arguments)


MASKED = FMix(seed=0).plan(4, x=images(4), step=0).to_dict()
TABLE = ColumnMix(seed=0).plan(4, x=noise(4, 3), step=0).to_dict()
BOTH = Beside(v.Mixup(1.0), seed=0).plan(4, step=0).to_dict()
PLAIN = v.Mixup(1.0, seed=0).plan(4, step=0).to_dict()
CUT = v.CutMix(1.0, seed=0).plan(4, x=images(4), step=0).to_dict()


def unsealed(values):
    return {name: part for name, part in values.items() if name not in ("format", "draws", "sha256")}


def forged(values, form=3):
    return _stored.sealed({"draws": 1, **unsealed(values)}, form)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (forged({**MASKED, "mask": MASKED["mask"].long()}), "mask must be bool with numbers in it, got"),
        (forged({**MASKED, "mask": None}), "mask must be a tensor, bool, got None"),
        (
            forged({**MASKED, "mask": MASKED["mask"][:, :3]}),
            r"mask must be \[n, \*grid\], or \[n, columns\] .* got \[4, 3, 5\]",
        ),
        (forged({**TABLE, "mask": TABLE["mask"][:3]}), r"mask must be \[n, \*grid\]"),
        (forged({**TABLE, "grid": [4]}), r"mask must be \[n, \*grid\]"),
        (forged({**CUT, "mask": MASKED["mask"]}), r"beside partner \[n\] and no box"),
        ({**TABLE, "mask": torch.zeros(1, 1, dtype=torch.bool).expand(4, 1 << 40)}, "mask shows fewer numbers"),
        (forged(MASKED, 2), "it holds 'mask', which none has"),
        (unsealed(MASKED), "it holds 'mask', which none has"),
        (forged(PLAIN), r"\['mask'\] missing"),
        (forged(BOTH, 2), "it holds 'beside', which none before format 3 has"),
        (unsealed(BOTH), "it holds 'beside', which none before format 3 has"),
        (forged({**BOTH, "beside": 5}), "beside must be a dict, got 5"),
        (forged({**BOTH, "beside": BOTH}), "beside makes 8 rows of 4, and stands beside as many plain ones"),
        (
            forged({**BOTH, "beside": unsealed({**PLAIN, "weight": PLAIN["weight"] * 99})}),
            r"beside.weight must lie in \[0, 1\], got",
        ),
        (forged({"plans": [BOTH, PLAIN], "key": None}), r"plans\[0\] makes 8 rows of 4, which only the last"),
        ({**BOTH, "key": [1, 0, 0, 0, 0]}, "sha256 does not fit the other fields"),
        ({**MASKED, "mask": ~MASKED["mask"]}, "sha256 does not fit the other fields"),
    ],
)
def test_what_is_forged_is_refused_in_a_sentence(values, sentence):
    with pytest.raises(ValueError, match=f"this is not what to_dict of a plan gave: .*{sentence}") as caught:
        v.plan_from_dict(values)
    assert "\n" not in str(caught.value)


def test_plans_beside_beside_end():
    deep = BOTH
    for _ in range(40):
        deep = _stored.sealed({"draws": 1, "beside": deep, "key": None}, 3)
    with pytest.raises(ValueError, match="plans are nested more than 32 levels deep"):
        v.plan_from_dict(deep)
    last = PlanChain((v.plan_from_dict(PLAIN), v.plan_from_dict(BOTH)))
    assert v.plan_from_dict(last.to_dict()).rows_out == 8


# -- C-Mixup -----------------------------------------------------------------------------------------------------------


def kernel_rates(y, bandwidth, i):
    """Return the authors' rates of row i: a Gaussian kernel density around its label, at all labels, of sum 1."""
    density = [
        math.exp(-sum((a - b) ** 2 for a, b in zip(y[i], other, strict=True)) / (2 * bandwidth**2)) for other in y
    ]
    return [value / sum(density) for value in density]


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("bandwidth", [0.05, 0.6, 50.0])
def test_partners_of_the_whole_set_have_the_authors_rates(d, bandwidth):
    n, draws = 25, 4000
    labels = noise(n, d, seed=3)
    labels[3] = labels[4] = labels[5]  # ties
    near = LabelNeighbors(labels[:, 0] if d == 1 else labels, bandwidth)
    for i in (0, 4, int(labels[:, 0].argmin())):
        rates = np.array(kernel_rates(labels.tolist(), bandwidth, i))
        found = np.bincount(near.draw(key(i).generator(), [i] * draws), minlength=n)
        assert found[rates < 1e-12].sum() == 0
        often = rates * draws >= 5
        rest = (draws - found[often].sum(), draws * (1 - rates[often].sum()))
        statistic = ((found - rates * draws)[often] ** 2 / (rates * draws)[often]).sum()
        statistic += (rest[0] - rest[1]) ** 2 / rest[1] if rest[1] > 1e-9 else rest[0]
        assert statistic <= stats.chi2.ppf(1 - 1e-6, often.sum() + 1)


def test_partners_of_many_rows_take_no_matrix():
    n = 200_000
    y = torch.from_numpy(key().generator().standard_normal(n))
    near = LabelNeighbors(y, 0.01)
    rows = np.arange(0, n, 200)
    partner = near.draw(key(1).generator(), rows)
    distance = (y[rows] - y[partner]).abs().numpy()
    assert (partner != rows).mean() > 0.99
    assert stats.kstest(distance / 0.01, stats.halfnorm.cdf).pvalue > 1e-5  # labels are dense there


def test_labels_at_the_ends():
    for y, bandwidth in (
        ([1e308, -1e308, 1e300], 1e-300),
        ([1e-308, 2e-308], 1e300),
        ([0.0, 0.0], 5e-324),
        ([7.0], 1.0),
    ):
        near = LabelNeighbors(torch.tensor(y, dtype=torch.float64), bandwidth)
        assert set(near.draw(key().generator(), range(len(y))).tolist()) <= set(range(len(y)))
    assert LabelNeighbors(torch.zeros(3), 1.0).draw(key().generator(), []).tolist() == []
    for bad in (torch.zeros(0), torch.arange(3), torch.zeros(2, 2, 2), [0.0]):
        with pytest.raises(ValueError, match="y must hold floating-point labels of all rows"):
            LabelNeighbors(bad, 1.0)
    with pytest.raises(ValueError, match="y must be finite: a label of nan or infinity is near nobody"):
        LabelNeighbors(torch.tensor([0.0, math.nan]), 1.0)
    for bad in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="bandwidth is a distance between labels, finite and > 0, got"):
            LabelNeighbors(torch.zeros(3), bad)


X, Y = noise(40, 3, seed=7), noise(40, seed=8)


def whole(**options):
    return CMixup(TensorDataset(X, Y), Y, 0.3, seed=5, **options)


def loaded(data, workers=0, batches=None):
    loader = DataLoader(
        data, batch_size=8, collate_fn=data.collate, num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip
    return list(itertools.islice(loader, batches))


def test_c_mixup_mixes_each_batch_with_partners_of_all_rows():
    seen = set()
    for step, (x, y) in enumerate(loaded(whole(), batches=5)):
        rows = list(range(8 * step, 8 * step + 8))
        of = v.Key(5, 0, 0, step)
        partner = LabelNeighbors(Y, 0.3).draw(of.fold(0).generator(), rows)
        lam = of.generator().beta(2.0, 2.0)
        seen |= set(partner.tolist()) - set(rows)
        for i, (row, other) in enumerate(zip(rows, partner, strict=True)):
            torch.testing.assert_close(x[i], lam * X[row] + (1 - lam) * X[other], **close)
            torch.testing.assert_close(y[i], lam * Y[row] + (1 - lam) * Y[other], **close)
    assert len(seen) > 10


def test_c_mixup_resumes_is_switched_off_and_draws_its_own_in_each_worker():
    data = whole()
    first = loaded(data, batches=2)
    state = data.mixup.state_dict()
    assert state["steps"] == [2]
    going_on = loaded(data)
    again = whole()
    again.mixup.load_state_dict(state)
    assert content(loaded(again)) == content(going_on)
    assert content(first) == content(loaded(whole(), batches=2))
    data.mixup.off()
    assert content(loaded(data)) == content([(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)])
    by_workers = loaded(counted := whole(), workers=2)
    assert counted.mixup.state_dict()["steps"] == [0, 3, 2]
    assert content(by_workers) == content(loaded(whole(), workers=2))
    assert content(by_workers) != content(loaded(whole()))


def test_c_mixup_takes_datasets_and_weightings_of_any_kind():
    data = [{"x": X[i], "y": Y[i]} for i in range(40)]
    mixed = loaded(CMixup(data, Y, 0.3, v.Beta(2.0, per="example"), seed=5))
    assert [sorted(batch) for batch in mixed] == [["x", "y"]] * 5
    subset = CMixup(Subset(TensorDataset(X, Y), range(10, 30)), Y[10:30], 0.3)
    assert len(subset) == 20
    assert torch.equal(subset[3][0], X[13])
    assert len(loaded(subset)) == 3
    plain = DataLoader(whole(), batch_size=None, collate_fn=whole().collate)
    with pytest.raises(TypeError, match=r"CMixup mixes whole batches: DataLoader\(data, batch_size=..., collate_fn="):
        next(iter(plain))
    with pytest.raises(ValueError, match="y holds the labels of all rows: got 40 for 39 examples"):
        CMixup(TensorDataset(X[:39], Y[:39]), Y, 0.3)
    with pytest.raises(TypeError, match="C-Mixup mixes pairs, got Dirichlet"):
        loaded(whole(alpha=v.Dirichlet(1.0)))


def test_a_vicinity_that_is_made_is_one_of_the_count_that_seeds_come_from():
    before = next(_state._INSTANCES)
    FMix()
    assert next(_state._INSTANCES) == before + 2
