"""docs/playground/index.html in a real browser: its mathematics against SciPy and PyTorch, and the page itself."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch.optim.sgd import sgd

from browser import CHROMIUM, Browser, BrowserError
from vicinal._adamw import AdamW
from vicinal.formula import mix

PAGE = Path(__file__).parent.parent / "docs" / "playground" / "index.html"
URL = PAGE.as_uri()
ALPHAS = [0.01, 0.05, 0.2, 0.4, 0.999, 1.0, 1.001, 2.0, 5.0, 10.0]
SETTINGS = {"data": "moons", "classes": 2, "points": 60, "noise": 0.2, "alpha": 0.4, "seed": 7, "optimizer": "adam"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome was found on PATH: the playground was not opened")
    browser = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield browser
    browser.close()


@pytest.fixture
def page(browser):
    """Return the page, opened anew at the size of a desktop."""
    return opened(browser)


@pytest.fixture
def numbers(browser):
    """Return the page for its functions alone: opened if it is not, in any state."""
    return browser if browser.run("location.href").startswith(URL) else opened(browser)


def opened(browser, fragment="", width=1280, height=800):
    browser.send("Emulation.setEmulatedMedia", features=[])
    browser.size(width, height)
    browser.open("about:blank")
    browser.events.clear()
    browser.open(URL + fragment)
    browser.run("playground.ready")
    return browser


def until(page, condition, seconds=30.0):
    """Wait until an expression is true in the page."""
    end = time.monotonic() + seconds
    while not page.run(condition):
        assert time.monotonic() < end, f"not true in {seconds:.0f} s: {condition}"
        time.sleep(0.05)


def js(value):
    return json.dumps(value)


# -- part 1: the distribution ------------------------------------------------------------------------------------------


def test_density_and_distribution_function_are_those_of_scipy(numbers):
    x = [1e-300, 1e-12, 1e-4, 0.025, 0.2, 0.49, 0.5, 0.51, 0.8, 0.999, 1 - 1e-12]
    density, cdf = numbers.run(f"['density', 'cdf'].map(f => {ALPHAS}.map(a => {js(x)}.map(x => playground[f](x, a))))")
    alpha = np.array(ALPHAS)[:, None]
    np.testing.assert_allclose(density, scipy.stats.beta.pdf(x, alpha, alpha), rtol=1e-10)
    np.testing.assert_allclose(cdf, scipy.special.betainc(alpha, alpha, x), rtol=1e-10)


def test_density_at_the_ends_is_what_it_is(numbers):
    ends = numbers.run("[0.5, 1, 2].map(a => [-1, 0, 1, 2].map(x => String(playground.density(x, a))))")
    assert ends == [["0", "Infinity", "Infinity", "0"], ["0", "1", "1", "0"], ["0", "0", "0", "0"]]


def test_log_gamma_is_that_of_scipy(numbers):
    x = [1e-8, 0.01, 0.3, 0.5, 1.0, 1.5, 2.0, 10.0, 20.0, 171.0]
    found = numbers.run(f"{x}.map(playground.logGamma)")
    np.testing.assert_allclose(found, scipy.special.gammaln(x), rtol=1e-12, atol=1e-13)


def test_mean_of_the_larger_share(numbers):
    alpha = np.array(ALPHAS)
    exact = 1 - scipy.special.betainc(alpha + 1, alpha, 0.5)  # 2 E[lambda; lambda > 1/2]
    np.testing.assert_allclose(numbers.run(f"{ALPHAS}.map(playground.meanOfLarger)"), exact, rtol=1e-10)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 10.0])
def test_draws_follow_the_distribution(numbers, alpha):
    draws = np.array(numbers.run(f"Array.from(playground.betaSample({alpha}, 20000, 3))"))
    assert ((draws >= 0) & (draws <= 1)).all()
    # at alpha = 0.01 a third of the draws round to 1: the half below 1/2 is compared, where doubles are fine enough
    low = draws[draws < 0.5]
    assert scipy.stats.binomtest(len(low), len(draws)).pvalue > 1e-3
    assert scipy.stats.kstest(low, lambda x: 2 * scipy.stats.beta.cdf(x, alpha, alpha)).pvalue > 1e-3
    if alpha >= 0.2:
        assert scipy.stats.kstest(draws, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
        distance = scipy.stats.kstest(draws, scipy.stats.beta(alpha, alpha).cdf).statistic
        assert numbers.run(f"playground.distance({draws.tolist()}, {alpha})") == pytest.approx(distance, abs=1e-9)
    assert numbers.run(f"playground.distance(playground.betaSample({alpha}, 5000, 1), {alpha})") < 1.63 / 5000**0.5
    assert numbers.run(f"playground.distance(playground.betaSample({alpha}, 5000, 1), {alpha * 1.3})") > 0.02


def test_first_draws_of_keys_are_uniform_and_unlike(numbers):
    found = np.array(numbers.run("Array.from({length: 4000}, (_, step) => playground.keyed(1, 'mix', step)())"))
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest((found[1:] - found[:-1]) % 1, "uniform").pvalue > 1e-3  # of steps that follow one another
    assert len(set(found)) == len(found)


def test_slider_and_number_set_one_alpha(page):
    page.run("alpha = document.getElementById('alpha-number'); alpha.focus()")
    for text, expected, refused in (("2.5", 2.5, False), ("20", 2.5, True), ("", 2.5, True), ("0.013", 0.013, False)):
        page.run(f"alpha.value = {js(text)}; alpha.dispatchEvent(new Event('input'))")
        assert page.run("playground.settings.alpha") == expected
        assert bool(page.run("document.getElementById('alpha-error').textContent")) is refused
    assert page.run("document.getElementById('alpha-2').value") == page.run("document.getElementById('alpha').value")
    page.run("s = document.getElementById('alpha-2'); s.value = 0; s.dispatchEvent(new Event('input'))")
    assert page.run("[playground.settings.alpha, document.getElementById('alpha').valueAsNumber]") == [1, 0]
    assert "0.7500" in page.run("document.getElementById('alpha-facts').textContent")


# -- part 2: images and labels -----------------------------------------------------------------------------------------


def image(page):
    canvas = "document.getElementById('image')"
    flat = page.run(f"Array.from({canvas}.getContext('2d').getImageData(0, 0, 224, 224).data)")
    return np.array(flat).reshape(224, 224, 4)[:, :, :3]


def photographs(page, *names):
    return [np.array(page.run(f"Array.from(playground.pixels.{n})")).reshape(224, 224, 4)[:, :, :3] for n in names]


def test_image_is_the_mean_of_its_pixels(page):
    page.run("l = document.getElementById('lambda'); l.value = 0.3; l.dispatchEvent(new Event('input'))")
    cat, coffee = photographs(page, "cat", "coffee")
    np.testing.assert_array_equal(image(page), np.rint(0.3 * cat + (1 - 0.3) * coffee))
    assert "0.30 cat + 0.70 coffee" in page.run("document.getElementById('bars').ariaLabel")


def test_label_of_a_cut_image_is_the_share_of_its_pixels(page):
    page.run("document.querySelector('[value=cutmix]').click()")
    cat, coffee = photographs(page, "cat", "coffee")
    for lam, x, y in ((0.7, 0.62, 0.4), (0.5, 0.0, 1.0), (0.1, 0.5, 0.02)):
        page.run(f"Object.assign(playground.blended, {{x: {x}, y: {y}}}); l = document.getElementById('lambda')")
        page.run(f"l.value = {lam}; l.dispatchEvent(new Event('input'))")
        box = page.run(f"playground.cutBox(224, {lam}, {x}, {y})")
        expected = cat.copy()
        inside = np.s_[box["top"] : box["bottom"], box["left"] : box["right"]]
        expected[inside] = coffee[inside]
        np.testing.assert_array_equal(image(page), expected)
        own = 1 - (box["right"] - box["left"]) * (box["bottom"] - box["top"]) / 224**2
        assert box["own"] == pytest.approx(own, abs=1e-15)
        assert f"{own:.2f} cat" in page.run("document.getElementById('bars').ariaLabel")


def test_box_is_cut_as_the_library_cuts_it(numbers):
    rng = np.random.Generator(np.random.Philox(1))
    draws = rng.random((200, 3)).tolist()
    found = numbers.run(f"{js(draws)}.map(([l, x, y]) => playground.cutBox(224, l, x, y))")
    for (lam, x, y), box in zip(draws, found, strict=True):
        side = np.rint((1 - lam) ** 0.5 * 224)
        start = np.floor(np.array([x, y]) * 224 - (side - 1) / 2)
        edges = np.clip(np.stack([start, start + side]), 0, 224)
        assert [[box["left"], box["top"]], [box["right"], box["bottom"]]] == edges.tolist()
        clipped = (edges == 0).any() or (edges == 224).any()
        assert clipped or box["own"] == pytest.approx(lam, abs=0.005)
    assert numbers.run("[0, 1].map(l => playground.cutBox(224, l, 0.5, 0.5).own)") == [0, 1]


def test_loss_of_a_prediction_is_the_mixed_cross_entropy(page):
    for lam, a, b in ((0.7, 0.85, 0.15), (0.25, 0.3, 0.1)):
        expected = -lam * np.log(a) - (1 - lam) * np.log(b)
        assert page.run(f"playground.mixedLoss({lam}, {a}, {b})") == pytest.approx(expected, rel=1e-14)
    assert page.run("[playground.mixedLoss(1, 0.5, 0), playground.mixedLoss(0, 0, 0.5)]") == [np.log(2), np.log(2)]
    shown = page.run("document.getElementById('loss-sum').textContent")
    assert shown.endswith(f"= {-0.7 * np.log(0.85) - 0.3 * np.log(0.15):.3f}")
    page.run("document.querySelector('#guesses [value=label]').click()")
    shown = page.run("document.getElementById('loss-sum').textContent")
    assert shown.endswith(f"= {scipy.stats.entropy([0.7, 0.3]):.3f}")


def test_same_photograph_twice_changes_places(page):
    page.run("document.querySelector('#pick-b [value=cat]').click()")
    assert page.run("[playground.blended.a, playground.blended.b]") == ["coffee", "cat"]


# -- part 3: the network -----------------------------------------------------------------------------------------------


def model(theta, classes):
    """Return the page's network as PyTorch has it, in float64."""
    sizes = [(32, 2), (32,), (32, 32), (32,), (classes, 32), (classes,)]
    parts = torch.split(theta, [int(np.prod(size)) for size in sizes])
    w1, b1, w2, b2, w3, b3 = (part.view(size) for part, size in zip(parts, sizes, strict=True))
    return lambda x: F.linear(F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)), w3, b3)


@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_is_that_of_pytorch_and_of_finite_differences(numbers, classes):
    numbers.run(f"""var C = {classes}, u = playground.keyed(5), normal = () => playground.normal(u),
      theta = playground.initial(C, 1).map(w => w + 0.1 * normal()),
      x = Float64Array.from({{length: 14}}, normal), t = Float64Array.from({{length: 7 * C}}, u);
      for (let i = 0; i < 7; i++) {{
        const sum = t.slice(i * C, i * C + C).reduce((a, b) => a + b);
        for (let c = 0; c < C; c++) t[i * C + c] /= sum;
      }}""")
    theta, x, t = (
        torch.tensor(numbers.run(f"Array.from({name})"), dtype=torch.float64) for name in ("theta", "x", "t")
    )
    found = numbers.run("(r => [r.loss, Array.from(r.gradient)])(playground.lossAndGradient(theta, C, x, t))")
    theta.requires_grad_()
    loss = F.cross_entropy(model(theta, classes)(x.view(7, 2)), t.view(7, classes))
    loss.backward()
    assert found[0] == pytest.approx(loss.item(), rel=1e-13)
    np.testing.assert_allclose(found[1], theta.grad, rtol=1e-10, atol=1e-14)
    differences = numbers.run("""Array.from(theta, (w, i) => {
      const moved = theta.slice();
      const at = value => { moved[i] = value; return playground.lossAndGradient(moved, C, x, t).loss; };
      return (at(w + 1e-5) - at(w - 1e-5)) / 2e-5; })""")
    np.testing.assert_allclose(found[1], differences, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_optimizer_is_that_of_pytorch(numbers, kind):
    numbers.run(f"""var u = playground.keyed(2), theta = Float64Array.from({{length: 50}}, () => playground.normal(u)),
      start = Array.from(theta), step = playground.optimizer({js(kind)}, 50),
      gradients = Array.from({{length: 8}}, () => Float64Array.from({{length: 50}}, () => playground.normal(u)));
      gradients.forEach(g => step(theta, g));""")
    weights = torch.tensor(numbers.run("start"), dtype=torch.float64)
    adamw, momentum = AdamW([weights], weight_decay=0.0), [None]  # PyTorch's functions: the classes bring its compiler
    for gradient in numbers.run("gradients.map(g => Array.from(g))"):
        gradient = torch.tensor(gradient, dtype=torch.float64)
        if kind == "adam":
            adamw.step([gradient], 0.01)
            continue
        sgd(
            [weights],
            [gradient],
            momentum,
            weight_decay=0.0,
            momentum=0.9,
            lr=0.05,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
    np.testing.assert_allclose(numbers.run("Array.from(theta)"), weights, rtol=1e-12)


def test_mixed_rows_and_their_loss_are_the_formula(numbers):
    numbers.run(f"var one = new playground.Trial({js(SETTINGS)}); one.step(); var theta = one.mixed.theta.slice();")
    numbers.run("var rows = one.rows(one.batch(1)), found = one.step(), last = one.last;")
    partner, lam = numbers.run("last.partner"), numbers.run("last.lambda")
    assert sorted(partner) == list(range(32))
    x, t, mixed_x, mixed_t, theta = (
        torch.tensor(numbers.run(f"Array.from({name})"), dtype=torch.float64)
        for name in ("rows.x", "rows.t", "last.x", "last.t", "theta")
    )
    x, t = x.view(32, 2), t.view(32, 2)
    weight = torch.tensor([[lam, 1 - lam]], dtype=torch.float64).expand(32, 2)
    for rows, mixed in ((x, mixed_x), (t, mixed_t)):
        torch.testing.assert_close(mixed.view(32, 2), mix(rows, torch.tensor(partner)[:, None], weight))
    logits, a = model(theta, 2)(mixed_x.view(32, 2)), t.argmax(1)
    expected = lam * F.cross_entropy(logits, a) + (1 - lam) * F.cross_entropy(logits, a[partner])
    assert numbers.run("found.mixedLoss") == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_lambda_of_one_is_plain_training_to_the_bit(numbers, optimizer):
    numbers.run(f"var one = new playground.Trial({js(SETTINGS | {'optimizer': optimizer})});")
    same = "one.plain.theta.every((w, i) => Object.is(w, one.mixed.theta[i]))"
    assert numbers.run(same), "the first weights"
    numbers.run("for (let i = 0; i < 60; i++) one.step({lambda: 1, partner: one.plan(i, 32).partner});")
    assert numbers.run(same)
    numbers.run("one.step({lambda: 0.9, partner: one.plan(60, 32).partner});")
    assert not numbers.run(same)


def test_same_seed_repeats_exactly_and_another_does_not(numbers):
    trained = "(s => { const one = new playground.Trial(s); for (let i = 0; i < 80; i++) one.step(); return one; })"
    script = f"(s => JSON.stringify({trained}(s).measure()))"
    one, two, other = (numbers.run(f"{script}({js(SETTINGS | {'seed': seed})})") for seed in (7, 7, 8))
    assert one == two != other


def test_run_in_frames_gives_what_single_steps_give(page):
    page.run("document.querySelector('[name=speed][value=\"40\"]').click(); document.getElementById('run').click()")
    until(page, "playground.trial().steps >= 60")
    page.run("document.getElementById('run').click()")
    page.run("var byHand = new playground.Trial({...playground.settings}); while (byHand.steps < 60) byHand.step();")
    shown = page.run(
        "JSON.stringify((({plain, mixed}) => ({plain, mixed}))(playground.history().find(h => h.step === 60)))"
    )
    assert shown == page.run("JSON.stringify(byHand.measure())")
    assert page.run("document.getElementById('run').textContent") == "Run"
    page.run("document.getElementById('reset').click()")
    assert page.run("playground.trial().steps") == 0


def test_wrong_labels_are_as_many_as_asked_and_only_in_training(numbers):
    for data in ("moons", "circles", "spiral", "blobs"):
        for classes in (2, 3):
            settings = SETTINGS | {"data": data, "classes": classes, "noise": 0.25}
            clean, noisy = (f"new playground.Trial({js(settings | {'noise': n})})" for n in (0, 0.25))
            numbers.run(f"var clean = {clean}, noisy = {noisy};")
            assert numbers.run("noisy.label.reduce((sum, c, i) => sum + (c !== clean.label[i]), 0)") == 15
            assert numbers.run(
                f"noisy.x.every((v, i) => v === clean.x[i]) && noisy.test.label.every((c, i) => c === i % {classes})"
            )
            assert set(numbers.run("Array.from(noisy.label)")) == set(range(classes))
            assert numbers.run("Math.max(...noisy.test.x.map(Math.abs))") < 2


def test_score_counts_errors_and_confidence(numbers):
    numbers.run("var theta = playground.initial(3, 4), test = playground.points('spiral', 3, 90, 1, 'x');")
    found = numbers.run("playground.score(theta, 3, test)")
    theta, x, label = (
        torch.tensor(numbers.run(f"Array.from({name})"), dtype=torch.float64)
        for name in ("theta", "test.x", "test.label")
    )
    logits = model(theta, 3)(x.view(-1, 2))
    assert found["error"] == pytest.approx((logits.argmax(1) != label).double().mean().item())
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, label.long()).item(), rel=1e-12)
    assert found["confidence"] == pytest.approx(logits.softmax(1).amax(1).mean().item(), rel=1e-12)


def test_interval_is_that_of_a_paired_t_test(numbers):
    values = [0.1, -0.3, 0.25, 0.6, 0.05, 0.0, 0.4]
    found = numbers.run(f"playground.interval({values})")
    exact = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert [found["low"], found["high"]] == pytest.approx([exact.low, exact.high], abs=2e-4)
    assert found["mean"] == pytest.approx(np.mean(values))


def test_points_are_added_by_mouse_and_by_keyboard(page):
    page.run("document.querySelector('[name=data][value=own]').click()")
    assert page.run("document.getElementById('run').disabled")
    page.run("document.getElementById('plain').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = page.run("(b => [b.left, b.top, b.width])(document.getElementById('plain').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        at = {"x": box[0] + 0.75 * box[2], "y": box[1] + 0.25 * box[2], "button": "left", "clickCount": 1}
        page.send("Input.dispatchMouseEvent", type=kind, **at)
    page.run("document.getElementById('mixed').focus()")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "2"):
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "")
    assert page.run("Array.from(playground.trial().x)") == pytest.approx([0.625, 0.625, -0.05, 0.1], abs=0.01)
    assert page.run("Array.from(playground.trial().label)") == [0, 1]
    assert not page.run("document.getElementById('run').disabled")
    page.run("document.getElementById('step').click()")
    assert page.run("document.getElementById('figures').rows[0].cells[1].textContent") == "–"  # no test points
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key="Backspace")
    assert page.run("Array.from(playground.trial().label)") == [0]


def test_repetition_compares_in_pairs_and_stops_at_a_change(page):
    found = page.run(f"playground.repeat({js(SETTINGS)}, 2, 30)")
    one = "(s => { const t = new playground.Trial(s); while (t.steps < 30) t.step(); return t.measure(); })"
    runs = [page.run(f"{one}({js(SETTINGS | {'seed': seed})})") for seed in (7, 8)]
    assert found["plain"] == pytest.approx(np.mean([run["plain"]["test"]["error"] for run in runs]))
    assert found["mixed"] == pytest.approx(np.mean([run["mixed"]["test"]["error"] for run in runs]))
    page.run("document.getElementById('repeat').click()")
    page.run("document.getElementById('next-seed').click()")
    until(page, "document.getElementById('answer').textContent !== ''")
    assert page.run("document.getElementById('answer').textContent") == "Stopped, as a setting changed."
    assert page.run("document.getElementById('repeat').textContent") == "Repeat with 20 seeds"


@pytest.mark.torture
def test_figures_of_the_scenes_are_those_that_the_page_finds(numbers):
    for i, scene in enumerate(numbers.run("playground.scenes")):
        until(numbers, f"(window.found ??= {{}})[{i}] ??= (playground.repeat(playground.scenes[{i}].settings, 20, 1000)"
              f".then(r => {{ found[{i}] = r; }}), false), found[{i}]", seconds=200)  # fmt: skip
        found, said = numbers.run(f"found[{i}]"), scene["found"]
        measured = {key: 100 * value for key, value in (found | found["difference"]).items() if key != "difference"}
        assert {key: round(measured[key], 1) for key in said} == said, scene["title"]
        assert scene["kind"] == ("helps" if said["high"] < 0 else "harms" if said["low"] > 0 else "same")


# -- the page ----------------------------------------------------------------------------------------------------------


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.loaded, self.links, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        (self.links if tag == "a" else self.loaded).extend(given[k] for k in ("src", "href", "srcset") if k in given)
        if "id" in given:
            self.ids.append(given["id"])


def test_page_is_one_file_that_loads_nothing():
    text = PAGE.read_text(encoding="utf-8")
    parser = _Links()
    parser.feed(text)
    assert parser.loaded == []
    assert len(parser.ids) == len(set(parser.ids))
    for link in parser.links:
        assert link.startswith("#") or (PAGE.parent / link).is_file(), link
    assert not re.search(
        r"https?:|fetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\(|@import|url\(", text
    )
    assert "default-src 'none'" in text
    pictures = re.findall(r"data:image/[^\"]+", text)
    assert len(pictures) == 5
    assert sum(map(len, pictures)) < 150_000
    assert len(text) < 250_000


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(page):
    page.run("for (const b of document.querySelectorAll('[data-scene]')) b.click();")
    for data in ("circles", "spiral", "blobs", "own", "moons"):
        page.run(f"document.querySelector('[name=data][value={data}]').click()")
    page.run("document.querySelector('[name=classes][value=\"3\"]').click()")
    for button in ("theme", "theme", "theme", "swap", "draw-lambda", "draw-again", "next-seed", "step", "step"):
        page.run(f"document.getElementById('{button}').click()")
    page.run("document.getElementById('run').click()")
    until(page, "playground.trial().steps > 10")
    wrong = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
    assert [event for event in page.events if event.get("method") in wrong] == []
    asked = [e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"]
    assert URL in asked
    assert [url for url in asked if url != URL and not url.startswith("data:image/jpeg")] == []


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (768, 1024), (1280, 800)])
def test_nothing_runs_over_the_edge(browser, width, height):
    page = opened(browser, "#alpha=0.01&classes=3&data=spiral&points=400", width, height)
    page.run("document.querySelector('#pick-a [value=astronaut]').click()")
    page.run("document.querySelector('#pick-b [value=galaxies]').click()")
    page.run("document.querySelector('[value=cutmix]').click(); document.getElementById('step').click()")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") == width
    over = page.run("""[...document.querySelectorAll('body *')].filter(e => !e.closest('.unseen')).filter(e => {
      const box = e.getBoundingClientRect();
      return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
    }).map(e => e.outerHTML.slice(0, 100))""")
    assert over == []


def test_everything_that_can_be_used_has_a_name(page):
    page.run("document.querySelector('[name=classes][value=\"3\"]').click()")
    nameless = page.run("""[...document.querySelectorAll('input, button, canvas, [role=img], progress')].filter(e =>
      !(e.ariaLabel || e.labels?.length || (e.tagName === 'BUTTON' && e.textContent.trim()))).map(e => e.outerHTML)""")
    assert nameless == []
    named = page.run("""['aria-describedby', 'aria-labelledby', 'for'].flatMap(
      a => [...document.querySelectorAll(`[${a}]`)].map(e => e.getAttribute(a)))""")
    assert len(named) > 20
    for ref in named:
        assert page.run(f"document.getElementById({js(ref)}) !== null"), ref
    page.run("document.getElementById('step').click()")
    until(page, "document.getElementById('status').textContent.startsWith('Lambda')")


COLORS = ("paper", "wash", "ink", "muted", "mix", "on-mix", "bad", "erm", "one", "two", "three")


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_legible_in_light_and_in_dark(page, theme):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    read = "(s => n => s.getPropertyValue('--' + n).trim())(getComputedStyle(document.documentElement))"
    value = {n: page.run(f"{read}('{n}')") for n in COLORS}
    assert (luminance(value["paper"]) > 0.5) == (theme == "light")
    pairs = [(front, back) for back in ("paper", "wash") for front in ("ink", "muted", "mix", "bad", "erm")]
    for front, back in [*pairs, ("on-mix", "mix"), ("one", "paper"), ("two", "paper"), ("three", "paper")]:
        low, high = sorted((luminance(value[front]), luminance(value[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
    other = {"light": "dark", "dark": "light"}[theme]
    while page.run("document.getElementById('theme').textContent") != f"Theme: {other}":
        page.run("document.getElementById('theme').click()")
    assert page.run(f"{read}('paper')") != value["paper"]


def test_link_sets_what_it_may_and_nothing_else(browser):
    page = opened(browser, "#alpha=2&data=spiral&classes=3&points=50&noise=0.9&seed=1e9&optimizer=<b>&__proto__=1&x=2")
    assert page.run("JSON.stringify(playground.settings)") == json.dumps(
        {"alpha": 2, "data": "spiral", "classes": 3, "points": 50, "noise": 0.2, "seed": 1, "optimizer": "adam"},
        separators=(",", ":"),
    )
    link = page.run("document.getElementById('share').getAttribute('href')")
    page.run("document.getElementById('next-seed').click()")
    page.run(f"location.hash = {js(link)}")
    until(page, "playground.settings.seed === 1")


def test_reduced_motion_changes_pictures_seldom_and_figures_not(page):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.run("var painted = 0, shown = document.getElementById('plain').getContext('2d'), put = shown.drawImage;"
             "shown.drawImage = function (...all) { painted++; return put.apply(this, all); };"
             "document.getElementById('run').click()")  # fmt: skip
    until(page, "playground.trial().steps >= 60")
    frames = page.run("playground.frames.count")
    page.run("document.getElementById('run').click()")
    assert page.run("painted") - 1 <= frames / 2  # less the one of the pause
    page.run("var byHand = new playground.Trial({...playground.settings}); while (byHand.steps < 60) byHand.step();")
    shown = page.run("JSON.stringify(playground.history().find(h => h.step === 60).mixed)")
    assert shown == page.run("JSON.stringify(byHand.measure().mixed)")


# -- the driver --------------------------------------------------------------------------------------------------------


def test_errors_in_the_page_reach_the_test(numbers):
    with pytest.raises(BrowserError, match="RangeError: seen"):
        numbers.run("(() => { throw new RangeError('seen'); })()")
    numbers.run("setTimeout(() => { throw new Error('later'); })")
    numbers.wait_for("Runtime.exceptionThrown")
