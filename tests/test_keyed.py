"""Keys name draws: equal keys equal numbers, different keys independent ones; and the laws drawn from them hold."""

import itertools
import multiprocessing

import numpy as np
import pytest
from scipy import stats

import vicinal as v
from vicinal import keyed

BASE = v.Key(seed=3, rank=1, worker=2, step=5, stream=0)


def numbers(key, n=4):
    return key.generator().random(n).tolist()


def test_a_key_is_all_that_a_draw_depends_on():
    first = numbers(BASE)
    np.random.random(3)  # noqa: NPY002 - somebody else uses the global generator
    assert numbers(v.Key(3, 1, 2, 5, 0)) == first
    assert numbers(v.Key(np.int64(3), np.int32(1), np.uint8(2), np.int64(5))) == first


def _in_process(queue):
    queue.put(numbers(BASE))


def test_another_process_draws_the_same():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_in_process, args=(queue,))
    process.start()
    assert queue.get() == numbers(BASE)
    process.join()


def test_known_numbers():
    # draws are part of what a release promises: a resumed run must not change under an upgrade
    assert numbers(v.Key(0, 0, 0, 0), 2) == pytest.approx(KNOWN[0], abs=0)
    assert numbers(BASE.fold(1), 2) == pytest.approx(KNOWN[1], abs=0)


KNOWN = ([0.011546754286331562, 0.24154919656271812], [0.3258735783948863, 0.44992531491433496])


@pytest.mark.parametrize("name", ["seed", "rank", "worker", "step", "stream"])
def test_every_part_of_a_key_counts(name):
    assert numbers(BASE._replace(**{name: 9})) != numbers(BASE)


def test_neighbouring_keys_never_meet():
    parts = itertools.product((0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 64, 65))
    seen = [tuple(numbers(v.Key(*part), 2)) for part in parts]
    assert len(set(seen)) == len(seen) == 3**4 * 4


@pytest.mark.parametrize("name", ["seed", "rank", "worker", "step"])
def test_draws_of_consecutive_keys_are_uniform_and_uncorrelated(name):
    n = 4000
    first = np.array([numbers(v.Key(0, 0, 0, 0)._replace(**{name: i}), 1)[0] for i in range(n)])
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(first[lag:], first[:-lag])[0, 1]) < 4 / np.sqrt(n)


def test_no_two_paths_of_folds_meet():
    def tree(key, depth):
        yield key.stream
        for i in (0, 1, 2, 61, 62) if depth else ():
            yield from tree(key.fold(i), depth - 1)

    streams = list(tree(v.Key(0, 0, 0, 0), 4))
    assert len(set(streams)) == len(streams) == sum(5**d for d in range(5))


def test_folds_keep_the_rest_of_the_key():
    assert BASE.fold(3)._replace(stream=0) == BASE


@pytest.mark.parametrize("i", [-1, 63])
def test_a_key_names_63_parts(i):
    with pytest.raises(ValueError, match=f"at most 63 parts.*{i}"):
        BASE.fold(i)


def test_folds_end_before_they_overflow():
    key = BASE
    for _ in range(10):
        key = key.fold(62)
    key.generator()
    with pytest.raises(ValueError, match="nested too deeply"):
        key.fold(62)


@pytest.mark.parametrize(("name", "bound"), [("seed", 2**64), ("step", 2**64), ("rank", 2**32), ("worker", 2**32)])
def test_numbers_out_of_range_are_refused(name, bound):
    BASE._replace(**{name: bound - 1}).generator()
    BASE._replace(**{name: 0}).generator()
    for value in (-1, bound, 1.5, None, "7"):
        with pytest.raises(
            ValueError, match=rf"{name} must be an integer in \[0, 2\*\*{bound.bit_length() - 1}\), got"
        ):
            BASE._replace(**{name: value}).generator()


# -- Beta and Dirichlet ------------------------------------------------------------------------------------------------

N = 100_000


def z(observed, expected, variance):
    return abs(observed - expected) / np.sqrt(variance / N)


@pytest.mark.filterwarnings("ignore:The integral is probably divergent")  # SciPy 1.13, of a density that has poles
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1, 0.2, 0.4, 1.0, 2.0, 8.0, 32.0, 1000.0])
def test_beta(alpha):
    lam, rest = v.Beta(alpha, per="example").draw(v.Key(1, 0, 0, 0).generator(), N).T
    law = stats.beta(alpha, alpha)
    assert lam.shape == (N,)
    assert np.abs(lam + rest - 1).max() < 1e-15
    assert ((lam >= 0) & (lam <= 1)).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert z(lam.mean(), 0.5, variance) < 4
    fourth = float(law.expect(lambda t: (t - 0.5) ** 4)) if alpha >= 0.1 else variance * 0.25
    assert z(((lam - 0.5) ** 2).mean(), variance, max(fourth - variance**2, 1e-12) + 1e-9) < 5
    for at in (1e-9, 1e-3, 0.1, 0.3, 0.45, 0.5, 0.55, 0.7, 0.9, 1 - 1e-3):
        p = float(law.cdf(at))
        assert z((lam <= at).mean(), p, p * (1 - p) + 1e-9) < 4.5, at


@pytest.mark.parametrize(("alpha", "k"), [(0.001, 3), (0.1, 3), (1.0, 3), (1.0, 5), (0.5, 2), (1000.0, 4)])
def test_dirichlet(alpha, k):
    shares = v.Dirichlet(alpha, k, per="example").draw(v.Key(2, 0, 0, 0).generator(), N)
    assert shares.shape == (N, k)
    assert (shares >= 0).all()
    assert np.abs(shares.sum(1) - 1).max() < 1e-9
    variance = (k - 1) / (k**2 * (k * alpha + 1))
    marginal = stats.beta(alpha, (k - 1) * alpha)
    for column in shares.T:
        assert z(column.mean(), 1 / k, variance) < 4.5
        for at in (1e-3, 0.1, 0.3, 0.5, 0.9):
            p = float(marginal.cdf(at))
            assert z((column <= at).mean(), p, p * (1 - p) + 1e-9) < 4.5, at
    covariance = -variance / (k - 1)
    assert np.cov(shares.T)[0, 1] == pytest.approx(covariance, abs=5 * variance / np.sqrt(N) + 1e-9)


def test_the_generator_that_is_lent_draws_what_a_fresh_one_does():
    keys = [v.keyed.Key(1, 0, 0, 5), v.keyed.Key(2**64 - 1, 2**32 - 1, 7, 2**64 - 1, 17), v.keyed.Key(1, 0, 0, 5)]
    for key in keys:
        fresh, lent = key.generator(), keyed.reused_generator(key)
        assert fresh.beta(0.3, 0.3) == lent.beta(0.3, 0.3, size=1)[0]
        assert fresh.permutation(9).tolist() == lent.permutation(9).tolist()
        # a half-used word is part of a generator's state, and must not reach the next key
        assert (
            fresh.integers(2**31, size=3, dtype=np.uint32).tolist()
            == lent.integers(2**31, size=3, dtype=np.uint32).tolist()
        )
