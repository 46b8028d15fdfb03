"""The theorems T1 to T8 of docs/explanation/why.md, each against sums over pairs and quadrature over lambda, in float64."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import roots_jacobi
from scipy.stats import beta
from torch import Tensor

import vicinal as v

ALPHAS = [0.1, 0.4, 1.0, 2.0, 8.0]
N, CLASSES = 7, 3
Rule = tuple[Tensor, Tensor]  # values of lambda, and their probabilities


def of_beta(p: float, q: float, nodes: int = 80) -> Rule:
    """Gauss-Jacobi quadrature under Beta(p, q), which holds for p, q < 1, too."""
    at, weight = roots_jacobi(nodes, q - 1, p - 1)
    return torch.from_numpy((1 + at) / 2), torch.from_numpy(weight / weight.sum())


def of_folded(alpha: float, nodes: int = 80) -> Rule:
    """Quadrature under the law of max(lambda, 1 - lambda), lambda ~ Beta(alpha, alpha)."""
    at, weight = roots_jacobi(nodes, alpha - 1, 0)  # (1 - lambda)^(alpha - 1) on [1/2, 1]; the rest is smooth there
    lam = (3 + at) / 4
    weight = weight * lam ** (alpha - 1)
    return torch.from_numpy(lam), torch.from_numpy(weight / weight.sum())


def both_ways(rule: Rule) -> Rule:
    """The law whose folded law is `rule`."""
    return torch.cat([rule[0], 1 - rule[0]]), torch.cat([rule[1], rule[1]]) / 2


def normal(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(v.Key(seed, 0, 0, 0).generator().standard_normal(shape))


X = normal(N, 2, seed=1) + torch.tensor([0.5, -1.0])  # not centered, so that nothing vanishes by chance
IDS = torch.tensor([2, 0, 1, 0, 2, 1, 2])  # what `network(4)` says of these points: it has learned them
ONE_HOT = F.one_hot(IDS, CLASSES).double()
UNIFORM = torch.full((N, N), 1 / N**2, dtype=torch.float64)  # the probability of each pair


@dataclass(frozen=True)
class Network:
    """One hidden layer of tanh."""

    inner: Tensor
    outer: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner) @ self.outer


def network(seed: int) -> Network:
    return Network(normal(2, 6, seed=seed), 1.5 * normal(6, CLASSES, seed=seed + 100))


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    return -(y * prediction.log_softmax(-1)).sum(-1)


def squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().sum(-1)


def linear(lam: Tensor) -> Tensor:
    return lam


def own(lam: Tensor) -> Tensor:
    return torch.ones_like(lam)


def nearer(lam: Tensor) -> Tensor:
    return (lam >= 0.5).double()


def smooth(lam: Tensor) -> Tensor:
    return lam**2 * (3 - 2 * lam)


def risk(
    net: Callable[[Tensor], Tensor],
    rule: Rule,
    share: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    pairs: Tensor = UNIFORM,
) -> Tensor:
    """Sum over i, j and lambda of the loss at lambda x_i + (1 - lambda) x_j with share(lambda) of label i, the rest of j."""
    lam, g = rule[0][:, None, None, None], share(rule[0])[:, None, None, None]
    x = lam * X[:, None] + (1 - lam) * X
    y = g * ONE_HOT[:, None] + (1 - g) * ONE_HOT
    return (rule[1][:, None, None] * pairs * loss(net(x), y)).sum()


def test_the_quadrature_itself():
    for alpha in ALPHAS:
        lam, weight = of_beta(alpha + 1, alpha)
        assert (weight @ lam**3).item() == pytest.approx(beta(alpha + 1, alpha).moment(3), rel=1e-10)
        lam, weight = both_ways(of_folded(alpha))
        assert (weight @ lam**4).item() == pytest.approx(beta(alpha, alpha).moment(4), rel=1e-10)
    lam, weight = of_folded(1.0)
    assert (weight @ lam).item() == pytest.approx(3 / 4, rel=1e-12)
    assert beta(2, 1).cdf(0.5) == pytest.approx(1 / 4, rel=1e-12)  # T2: farther than half of the way


# T1
@pytest.mark.parametrize("alpha", ALPHAS)
def test_mixed_labels_are_the_examples_own_under_another_law(alpha: float):
    for seed in (4, 5):
        net = network(seed)
        mixed = risk(net, of_beta(alpha, alpha), linear)
        assert abs(mixed - risk(net, of_beta(alpha + 1, alpha), own)) < 1e-10
        assert mixed > 0.5  # of something


@pytest.mark.parametrize("alpha", ALPHAS)
def test_their_gradients_are_the_same(alpha: float):
    gradients = []
    for rule, share in ((of_beta(alpha, alpha), linear), (of_beta(alpha + 1, alpha), own)):
        net = Network(normal(2, 6, seed=3).requires_grad_(), normal(6, CLASSES, seed=5).requires_grad_())
        gradients.append(torch.autograd.grad(risk(net, rule, share), (net.inner, net.outer)))
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0.01
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_mixed_labels_have_the_less_noisy_gradient(alpha: float):
    """The mean squared gradient with respect to the logits, by draw: the variance, and a constant that is the same."""
    moments = [
        risk(network(4), rule, share, lambda logits, y: (logits.softmax(-1) - y).square().sum(-1))
        for rule, share in ((of_beta(alpha, alpha), linear), (of_beta(alpha + 1, alpha), own))
    ]
    distance = (ONE_HOT[:, None] - ONE_HOT).square().sum(-1).mean().item()
    less = alpha / (2 * (2 * alpha + 1)) * distance
    assert (moments[1] - moments[0]).item() == pytest.approx(less, rel=1e-9)
    assert less > 0.01


@pytest.mark.parametrize("alpha", ALPHAS)
def test_squared_errors_differ_by_what_no_model_changes(alpha: float):
    distance = (ONE_HOT[:, None] - ONE_HOT).square().sum(-1).mean()
    for seed in (4, 5):
        mixed = risk(network(seed), of_beta(alpha, alpha), linear, squared_error)
        unmixed = risk(network(seed), of_beta(alpha + 1, alpha), own, squared_error)
        assert (unmixed - mixed).item() == pytest.approx(alpha / (2 * (2 * alpha + 1)) * distance.item(), rel=1e-9)


# T2
@pytest.mark.parametrize("alpha", ALPHAS)
def test_any_share_of_the_label_is_a_law_of_lambda(alpha: float):
    """A share g with g(lambda) + g(1 - lambda) = 1 is the own label under the density 2 g(lambda) Beta(alpha, alpha)."""
    net, (lam, weight) = network(4), of_beta(alpha, alpha)
    assert abs(risk(net, (lam, weight), smooth) - risk(net, (lam, 2 * smooth(lam) * weight), own)) < 1e-12
    folded = of_folded(alpha)
    assert abs(risk(net, both_ways(folded), nearer) - risk(net, folded, own)) < 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_nearer_label_is_another_risk(alpha: float):
    net = network(4)
    mixed, nearest = risk(net, of_beta(alpha, alpha), linear), risk(net, both_ways(of_folded(alpha)), nearer)
    assert abs(mixed - nearest) > 0.01
    assert abs(mixed - risk(net, of_folded(alpha), linear)) < 1e-10  # folding alone changes nothing


# T1, its bounds
def test_the_identity_needs_pairs_that_are_as_likely_either_way():
    net, two_ways, same_class = network(4), (of_beta(1, 1), of_beta(2, 1)), (IDS[:, None] == IDS).double()
    same_class = same_class / same_class.sum(1, keepdim=True) / N
    nearest = F.one_hot((torch.cdist(X, X) + 9 * torch.eye(N)).argmin(1), N).double() / N
    gaps = []
    for pairs in (same_class, nearest):
        mixed, unmixed = (
            risk(net, rule, share, pairs=pairs) for rule, share in zip(two_ways, (linear, own), strict=True)
        )
        gaps.append(abs(mixed - unmixed).item())
    assert gaps[0] < 1e-12
    assert gaps[1] > 0.001


# T1 and T2, as the library draws
@dataclass(frozen=True)
class OwnLabel(v.Weighting):
    """lambda ~ Beta(alpha + 1, alpha), one per example."""

    alpha: float

    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        lam = generator.beta(self.alpha + 1, self.alpha, size=n)
        return np.stack([lam, 1 - lam], axis=1)


def drawn_risk(vicinity: v.Vicinity, net: Network, keep_labels: bool) -> tuple[float, float]:
    """Mean and standard error of the loss over 200 batches; each holds every row 100 times, so that pairs are uniform."""
    x, y, losses = X.repeat(100, 1), IDS.repeat(100), []
    for step in range(200):
        plan = vicinity.plan(len(x), y, step=step)
        losses.append(F.cross_entropy(net(plan(x)), y if keep_labels else plan.target(y)).item())
    return float(np.mean(losses)), float(np.std(losses, ddof=1) / len(losses) ** 0.5)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.0])
def test_the_library_draws_these_risks(alpha: float):
    net = network(4)
    mixup = risk(net, of_beta(alpha, alpha), linear).item()
    for vicinity, keep_labels in (
        (v.Mixup(v.Beta(alpha, per="example"), seed=1), False),
        (v.Mixup(OwnLabel(alpha), seed=2), True),
    ):
        mean, error = drawn_risk(vicinity, net, keep_labels)
        assert error < 0.005 * mixup
        assert abs(mean - mixup) < 4 * error
    for vicinity, keep_labels in (
        (v.InputMixup(v.Beta(alpha, per="example"), seed=3), False),
        (v.Mixup(v.Beta(alpha, per="example", folded=True), seed=4), True),
    ):
        mean, error = drawn_risk(vicinity, net, keep_labels)
        assert abs(mean - risk(net, of_folded(alpha), own).item()) < 4 * error
        assert abs(mean - mixup) > 10 * error


# T3
def laws(alpha: float) -> list[Rule]:
    return [of_beta(alpha, alpha), of_folded(alpha), of_beta(alpha + 1, alpha)]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_shrunk_data_and_noise_of_mean_zero(alpha: float):
    """The mixed example less the shrunk one has mean 0 and covariance v (z_i - mean)(z_i - mean)' + q cov(z)."""
    z = torch.cat([X, ONE_HOT], 1)  # inputs and labels at once: the theorem holds for both, and between them
    centered = z - z.mean(0)
    for lam, weight in laws(alpha):
        m, q = weight @ lam, weight @ (1 - lam) ** 2
        variance = weight @ (lam - m) ** 2
        mixed = lam[:, None, None, None] * z[:, None] + (1 - lam)[:, None, None, None] * z
        noise = mixed - (z.mean(0) + m * centered)[:, None]
        mean = torch.einsum("l,lijd->id", weight, noise) / N
        covariance = torch.einsum("l,lijd,lije->ide", weight, noise, noise) / N
        stated = variance * centered[:, :, None] * centered[:, None] + q * centered.T @ centered / N
        assert mean.abs().max() < 1e-12
        assert torch.allclose(covariance, stated, rtol=0, atol=1e-12)
        assert stated.abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_numbers_of_the_law_with_own_labels(alpha: float):
    lam, weight = of_beta(alpha + 1, alpha)
    m, q = weight @ lam, weight @ (1 - lam) ** 2
    assert m.item() == pytest.approx((alpha + 1) / (2 * alpha + 1), rel=1e-10)
    assert (weight @ (lam - m) ** 2).item() == pytest.approx(alpha / (2 * (2 * alpha + 1) ** 2), rel=1e-10)
    assert q.item() == pytest.approx(alpha / (2 * (2 * alpha + 1)), rel=1e-10)


# T4
W, B = torch.tensor([1.2, -0.7], dtype=torch.float64), 0.8
Y = (IDS == 0).double()


def logistic(z: Tensor, y: Tensor) -> Tensor:
    return F.softplus(z) - y * z


def expanded(alpha: float, x: Tensor) -> tuple[float, float, float]:
    """Return the mixup risk of a logistic regression, its expansion to second order, and the bound of what that misses."""
    m, variance, q = (alpha + 1) / (2 * alpha + 1), alpha / (2 * (2 * alpha + 1) ** 2), alpha / (2 * (2 * alpha + 1))
    lam, weight = of_beta(alpha, alpha)
    z = x @ W + B
    labels = lam[:, None, None] * Y[:, None] + (1 - lam)[:, None, None] * Y
    mixed = lam[:, None, None] * z[:, None] + (1 - lam)[:, None, None] * z
    exact = (weight[:, None, None] * logistic(mixed, labels)).sum() / N**2
    shrunk = z.mean() + m * (z - z.mean())
    p = torch.sigmoid(shrunk)
    penalty = p * (1 - p) * (variance * (z - z.mean()) ** 2 + q * z.var(correction=0)) / 2
    lam, weight = of_beta(alpha + 1, alpha)
    noise = lam[:, None, None] * z[:, None] + (1 - lam)[:, None, None] * z - shrunk[:, None]
    bound = (weight[:, None, None] * noise.abs() ** 3).sum() / N**2 / (36 * 3**0.5)
    return exact.item(), (logistic(shrunk, Y) + penalty).mean().item(), bound.item()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_second_order_of_a_logistic_regression(alpha: float):
    """The error stays below its bound, which is of third order in the spread of the inputs, and so is the error."""
    errors = []
    for spread in (1.0, 1 / 16, 1 / 32, 1 / 64):
        exact, quadratic, bound = expanded(alpha, X.mean(0) + spread * (X - X.mean(0)))
        assert abs(exact - quadratic) <= bound
        errors.append(exact - quadratic)
    if alpha < 0.4:  # the term of third order is of second order in alpha, and shows only where rounding does, too
        return
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.1)
    assert errors[2] / errors[3] == pytest.approx(8, rel=0.05)


# T5
def fitted(alpha: float, ridge: float) -> np.ndarray:
    """Minimize the squared mixup risk of a linear model over all pairs; the intercept is not penalized."""
    lam, weight = (t.numpy() for t in of_beta(alpha, alpha))
    design = np.column_stack([X.numpy(), np.ones(N)])
    y = X.numpy()[:, 0] ** 2 + np.arange(N)
    mixed, target = (
        lam[:, None, None, None] * t[:, None] + (1 - lam)[:, None, None, None] * t for t in (design, y[:, None])
    )
    w = np.broadcast_to(weight[:, None, None] / N**2, mixed.shape[:-1]).ravel()
    rows, target = mixed.reshape(-1, 3), target.ravel()
    return np.linalg.solve(rows.T @ (w[:, None] * rows) + ridge * np.diag([1, 1, 0]), rows.T @ (w * target))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_least_squares_of_a_linear_model_is_left_as_it_is(alpha: float):
    """All that mixup does to it is to divide the weight decay by (alpha + 1) / (2 alpha + 1)."""
    design = np.column_stack([X.numpy(), np.ones(N)])
    y = X.numpy()[:, 0] ** 2 + np.arange(N)
    for ridge in (0.0, 0.1):
        stronger = ridge * (2 * alpha + 1) / (alpha + 1)
        plain = np.linalg.solve(design.T @ design / N + stronger * np.diag([1, 1, 0]), design.T @ y / N)
        assert fitted(alpha, ridge) == pytest.approx(plain, rel=1e-9)


# T6
TWO = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)


def logistic_risk(w: np.ndarray, x: Tensor, rule: Rule, share: Callable[[Tensor], Tensor]) -> tuple[float, np.ndarray]:
    """Risk and gradient of w[:-1] x + w[-1], where the examples of which x[:, 0] > 0.5 are of class 1 and can be told."""
    at = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    z, y, lam, g = x @ at[:-1] + at[-1], (x[:, 0] > 0.5).double(), rule[0][:, None, None], share(rule[0])[:, None, None]
    losses = logistic(lam * z[:, None] + (1 - lam) * z, g * y[:, None] + (1 - g) * y)
    loss = (rule[1][:, None, None] * losses).sum() / len(x) ** 2
    return loss.item(), torch.autograd.grad(loss, at)[0].numpy()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("x", [TWO, X], ids=["two points", "seven"])
def test_separable_data_have_a_minimizer_under_mixup(x: Tensor, alpha: float):
    rule, ends = of_beta(alpha, alpha), []
    for start in (-3.0, 5.0):
        found = minimize(
            logistic_risk, np.full(x.shape[1] + 1, start), (x, rule, linear), "BFGS", jac=True, options={"gtol": 1e-9}
        )
        assert np.abs(found.jac).max() < 1e-8
        ends.append(found.x)
    assert ends[0] == pytest.approx(ends[1], rel=1e-5, abs=1e-6)
    assert 2 < np.abs(ends[0]).max() < 50
    for farther in (2, 10, 100):
        assert logistic_risk(farther * ends[0], x, rule, linear)[0] > found.fun + 0.001


@pytest.mark.parametrize("alpha", ALPHAS)
def test_separable_data_have_none_by_erm_or_the_nearer_label(alpha: float):
    alone = (torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    for rule in (alone, of_folded(alpha)):  # the steeper, the better
        falling = [logistic_risk(np.array([w, 0.0]), TWO, rule, own)[0] for w in (1.0, 10.0, 30.0, 100.0)]
        assert falling == sorted(set(falling), reverse=True)


# T7
@pytest.mark.parametrize("alpha", [0.4, 2.0])
def test_on_a_segment_of_its_own_the_mean_label_is_linear(alpha: float):
    x, y = torch.tensor([0.0, 1.0]).repeat(200), torch.tensor([0, 1]).repeat(200)
    near_x, near_y = v.Mixup(v.Beta(alpha, per="example"), seed=1)(x, y)
    assert torch.equal(near_y.dense(2)[:, 1], near_x)
    near_x, near_y = v.InputMixup(v.Beta(alpha, per="example"), seed=1)(x, y)
    assert torch.equal(near_y.dense(2)[:, 1], near_x.round())
    assert ((near_x > 0.1) & (near_x < 0.9)).sum() > 50


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda z, y: (z.softmax(1) - y).square().mean()])
def test_the_mean_label_is_the_best_prediction(loss: Callable[[Tensor, Tensor], Tensor]):
    y = v.Mixup(v.Beta(1.0, per="example"), seed=1).plan(60, step=0).target(torch.arange(60) % CLASSES).dense(CLASSES)
    best = y.double().mean(0).log().requires_grad_()
    least = loss(best.expand(60, -1), y.double())
    assert torch.autograd.grad(least, best)[0].abs().max() < 1e-12
    for direction in torch.eye(CLASSES):
        assert loss((best + 0.1 * direction).expand(60, -1), y.double()) > least + 1e-5


def middle_share(alpha: float, low: float, high: float) -> tuple[float, float]:
    """Return the probability of a mix in (low, high), 0 <= low, and its mean share of label 1: of 0, 1, 0 at -1, 0, 1."""
    side, across = beta(alpha, alpha), beta(alpha, alpha + 1)
    near = 2 / 9 * (side.cdf(high) - side.cdf(low))  # 0 with 1; the share 1 - x of label 1 makes the law Beta(a, a + 1)
    far = 2 / 9 * (side.cdf((1 + high) / 2) - side.cdf((1 + low) / 2))  # -1 with 1
    return near + far, 2 / 9 / 2 * (across.cdf(high) - across.cdf(low)) / (near + far)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.0])
def test_three_points_in_a_line(alpha: float):
    """The mixup minimizer is the mean label of what lands there, which near the middle is not its own label."""
    x, y = torch.tensor([-1.0, 0.0, 1.0]).repeat(40_000), torch.tensor([0, 1, 0]).repeat(40_000)
    plan = v.Mixup(v.Beta(alpha, per="example"), seed=7).plan(len(x), y, step=0)
    x, share = plan(x), plan.target(y).dense(2)[:, 1]
    for low, high in ((0.02, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.95)):
        inside = share[(x > low) & (x < high)].double()
        probability, mean = middle_share(alpha, low, high)
        assert abs(len(inside) / len(x) - probability) < 4 * (probability / len(x)) ** 0.5
        assert abs(inside.mean() - mean) < 4 * inside.std() / len(inside) ** 0.5
    limit = {0.4: 1.0, 1.0: 2 / 3, 2.0: 0.0}[alpha]
    width = 1e-9 if alpha == 0.4 else 1e-5
    assert middle_share(alpha, width / 2, width)[1] == pytest.approx(limit, abs=1e-4)


def share_of_the_middle(alpha: float) -> float:
    """Return the mean share of class 1 at x = 0, where x is uniform on [-1, 1] and class 1 in its middle third."""
    law = beta(alpha + 1, alpha)

    def mean(width: float) -> float:
        def of_quantile(u: float) -> float:
            lam = min(law.ppf(u), 1 - 1e-15)
            return min(width, (1 - lam) / lam) / (1 - lam)

        return quad(of_quantile, 0, 1, points=[law.cdf(0.5), law.cdf(0.75)], limit=500)[0]

    return mean(1 / 3) / mean(1)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 8.0])
def test_three_thirds_of_a_line(alpha: float):
    x = torch.linspace(-1, 1, 400_001)
    plan = v.Mixup(v.Beta(alpha, per="example"), seed=4).plan(len(x), step=0)
    share = plan.target((x.abs() < 1 / 3).long()).dense(2)[plan(x).abs() < 0.01, 1].double()
    assert len(share) > 3000
    assert abs(share.mean().item() - share_of_the_middle(alpha)) < 4 * share.std().item() / len(share) ** 0.5


def test_the_middle_third_changes_its_class_as_alpha_grows():
    shares = [share_of_the_middle(alpha) for alpha in (0.01, 0.1, 0.4, 1.0, 2.0, 8.0, 1e5)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.98
    assert shares[3] == pytest.approx(2 / 3, abs=1e-9)
    assert shares[5] < 0.5
    assert shares[-1] == pytest.approx(1 / 3, abs=1e-3)


# T8
@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_curved_target_is_missed_on_average(alpha: float):
    """Of y = x^2 the mixed targets lie above by alpha var(x) / (2 alpha + 1) on average, and nowhere below."""
    x, (lam, weight) = X[:, 0], of_beta(alpha, alpha)
    mixed, target = (lam[:, None, None] * t[:, None] + (1 - lam)[:, None, None] * t for t in (x, x**2))
    above = target - mixed**2
    stated = alpha * x.var(correction=0).item() / (2 * alpha + 1)
    assert above.min() > -1e-12
    assert (weight[:, None, None] * above).sum().item() / N**2 == pytest.approx(stated, rel=1e-10)
