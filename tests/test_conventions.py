"""Convention blocks are there, say only what can be measured, and are true."""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import vicinal as v
from conventions import (
    DRAWS,
    ELSEWHERE,
    PACKAGE,
    ROWS,
    VOCABULARY,
    Batch,
    Fitted,
    Malformed,
    Scores,
    Subject,
    block,
    documented,
    marked,
    measure,
)
from vicinal import methods
from vicinal.losses import Mixed
from vicinal.plan import PlanBeside, PlanChain

IDS = torch.arange(ROWS)
CLASSES = IDS * 2 % 3
NUMBERS = torch.eye(ROWS, dtype=torch.float64)

# -- who owes a block --------------------------------------------------------------------------------------------------

WITHOUT = {  # public classes that neither draw, nor hold or apply a draw
    "Key": "the name of a draw",
    "FiniteCheck": "looks at tensors",
}
NEEDS_A_PACKAGE = ("lightning", "transformers", "skorch")


def owing():
    """Return every docstring that owes a block, by the name of its class or function."""
    docs = {name: getattr(v, name).__doc__ for name in v.__all__ if isinstance(getattr(v, name), type)}
    docs |= {f"methods.{name}": getattr(methods, name).__doc__ for name in methods.__all__}
    docs |= {
        "PlanChain": PlanChain.__doc__,
        "PlanBeside": PlanBeside.__doc__,
        "losses.Mixed": Mixed.__doc__,
        "losses.mixed": v.losses.mixed.__doc__,
    }
    docs["metrics.mixed_accuracy"] = v.metrics.mixed_accuracy.__doc__
    for path in sorted((PACKAGE / "integrations").glob("[a-z]*.py")):
        docs |= {f"{path.stem}.{name}": doc for name, doc in documented(path)}
    for path in sorted((PACKAGE / "integrations" / "sklearn").glob("[a-z]*.py")):
        found = documented(path)
        docs |= {f"sklearn.{name}": doc for name, doc in found if name.startswith("Mixup") and not is_base(name)}
    return {name: doc for name, doc in docs.items() if name not in WITHOUT}


def is_base(name):
    return name in ("MixupMLP", "MixupCV")


OWING = owing()


@pytest.mark.parametrize("name", sorted(OWING))
def test_whatever_draws_holds_or_applies_a_draw_says_how(name):
    for line, phrases in block(OWING[name]).items():
        assert set(phrases) <= set(VOCABULARY[line]) | ELSEWHERE[line]


def test_every_phrase_is_used():
    used = {(line, phrase) for doc in OWING.values() for line, said in block(doc).items() for phrase in said}
    known = {(line, phrase) for line, said in VOCABULARY.items() for phrase in said}
    known |= {(line, phrase) for line, said in ELSEWHERE.items() for phrase in said}
    assert known - used - {("one draw", "one lambda per example")} == set()  # which a block would say falsely, below


def test_what_needs_a_package_is_measured_in_its_environment():
    measured = (Path(__file__).parent / "stacks" / "test_conventions.py").read_text()
    names = [name for name in OWING if name.startswith(NEEDS_A_PACKAGE)]
    assert len(names) > 4
    assert {name for name in OWING if ELSEWHERE["one draw"] & set(block(OWING[name])["one draw"])} < set(names)
    assert [name for name in names if name.partition(".")[2] not in measured] == []


# -- vicinities, pairings, weightings ----------------------------------------------------------------------------------


def of_vicinity(vicinity, y=IDS, epoch=None, per_example=None):
    def mix(x, y, step):
        return vicinity(x, y, step=step, epoch=epoch)

    def plan(step, **key):
        return vicinity.plan(ROWS, y, marked(), step=step, epoch=epoch, **key)

    return Subject(mix, plan, y, None if per_example is None else of_vicinity(per_example, y), vicinity)


@dataclass(frozen=True)
class Paired(v.Mixup):
    """Mixup that hears of its partners from the pairing itself."""

    def draw(self, key, n, y, x, epoch):
        plan = super().draw(key, n, y, x, epoch)
        generator = key.generator()
        generator.beta(self.alpha, self.alpha, size=1)
        return v.MixPlan(torch.from_numpy(self.pairing.draw(generator, n, y, x)), plan.weight)


def of_pairing(pairing, y=CLASSES, per_example=None):
    drawn, mixes = Paired(1.0, pairing, seed=0), v.Mixup(1.0, pairing, seed=0)

    def plan(step, **key):
        return drawn.plan(ROWS, y, marked(), step=step, **key)

    def mix(x, y, step):
        return mixes.plan(ROWS, y, marked(), step=step)(x), mixes.plan(ROWS, y, marked(), step=step).target(y)

    def partner(step):
        return pairing.draw(v.Key(0, 0, 0, step).generator(), ROWS, y, marked())

    return Subject(mix, plan, y, None if per_example is None else of_pairing(per_example, y), pairing, partner)


def of_weighting(weighting, per_example):
    def shares(step):
        return weighting.draw(v.Key(0, 0, 0, step).generator(), ROWS)

    def subject(weighting):
        return of_vicinity(v.Mixup(weighting, v.RandomPairs(self_pairs=False), seed=0))

    s = subject(weighting)
    return Subject(s.mix, s.plan, IDS, subject(per_example), weighting, shares)


PER = v.Beta(1.0, per="example")
MIXUP = of_vicinity(v.Mixup(1.0, seed=0), per_example=v.Mixup(PER, seed=0))
PAIRINGS = {
    "RandomPairs": of_pairing(v.RandomPairs(), per_example=v.RandomPairs(self_pairs=False)),
    "Roll": of_pairing(v.Roll()),
    "SameClass": of_pairing(v.SameClass()),
    "OtherClass": of_pairing(v.OtherClass()),
    "Nearest": of_pairing(v.Nearest(k=3)),
    "LabelDistance": of_pairing(v.LabelDistance(1.0), y=NUMBERS),
}
VICINITIES = {
    "ERM": of_vicinity(v.ERM(seed=0)),
    "Mixup": MIXUP,
    "InputMixup": of_vicinity(v.InputMixup(1.0, seed=0), per_example=v.InputMixup(PER, seed=0)),
    "CutMix": of_vicinity(v.CutMix(1.0, seed=0), per_example=v.CutMix(1.0, per="example", seed=0)),
    "GaussianNoise": of_vicinity(v.GaussianNoise(0.1, seed=0)),
    "LabelSmoothing": of_vicinity(v.LabelSmoothing(0.1, seed=0)),
    "Chain": of_vicinity(v.Chain([v.Mixup(1.0), v.CutMix(1.0)], seed=0)),
    "Choice": of_vicinity(v.Choice([v.Mixup(v.Beta(1.0, per="example")), v.ERM()], seed=0)),
    "Scheduled": of_vicinity(v.Scheduled(v.Mixup(1.0), start=1, stop=3, seed=0), epoch=1),
}
# -- methods of the family ---------------------------------------------------------------------------------------------

BESIDE = of_vicinity(methods.Beside(v.Mixup(1.0), seed=0))
COUNTS = [10, 1, 100, 5, 5, 50, 2]


@dataclass(frozen=True)
class OfColumns(Subject):
    """ColumnMix, of images' channels, of a table, and with importances."""

    table: Subject | None = None
    weighed: Subject | None = None


def of_table(vicinity):
    table = torch.zeros(ROWS, 12, dtype=torch.float64)

    def mix(x, y, step):
        return vicinity(x, y, step=step)

    return Subject(mix, lambda step: vicinity.plan(ROWS, IDS, table, step=step), IDS, of=vicinity)


def of_columns():
    weighed = methods.ColumnMix(importance=tuple(range(1, 13)), seed=0)
    s = of_table(methods.ColumnMix(seed=0))
    return OfColumns(s.mix, s.plan, IDS, of=s.of, table=s, weighed=of_table(weighed))


def of_c_mixup(alpha=1.0, per_example=None):
    rows, labels = torch.eye(ROWS, dtype=torch.float64), torch.eye(ROWS, dtype=torch.float64)

    def collated(asked, step):
        data = methods.CMixup(TensorDataset(rows, labels), labels, bandwidth=1.0, alpha=alpha, seed=0)
        data.mixup.load_state_dict(at(v.Mixup(1.0, seed=0), step))
        return data.collate(data.__getitems__(asked))

    return OfLoader(None, None, NUMBERS, per_example, collated=collated)


@dataclass(frozen=True)
class OfLoader(Subject):
    """C-Mixup, whose partners come from the whole dataset."""

    collated: Callable = None

    def _batch(self, step):
        x, y = self.collated(list(range(ROWS)), step)
        return Batch(x, y, NUMBERS, MadePlan(x), x)


class MadePlan:
    """The plan of a batch of C-Mixup, read off the rows that came out."""

    def __init__(self, shares):
        apart = shares - torch.diag(shares.diagonal())
        self.partner = torch.where(apart.sum(1) > 0, apart.argmax(1), IDS)
        self.weight = shares.diagonal()


# -- what holds a draw, or applies one ---------------------------------------------------------------------------------


def latent():
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    mixes = v.LatentMixing(net, "1")

    def mix(x, y, step):
        with mixes(MIXUP.plan(step)) as plan:
            return net(x), plan.target(y)

    return Subject(mix, MIXUP.plan, IDS)


def collate():
    def made():
        return v.Collate(v.Mixup(1.0, v.RandomPairs(self_pairs=False), seed=0))

    collate = made()

    def mix(x, y, step):
        collate.vicinity.load_state_dict(at(v.Mixup(1.0, seed=0), step))
        return collate(list(zip(x, y, strict=True)))

    def plan(step):
        return collate.vicinity.plan(ROWS, IDS, marked(), step=step)

    return Subject(mix, plan, IDS, of=made)


def criterion(logits, ids, reduction="none"):
    return F.multi_margin_loss(logits, ids, reduction=reduction)


def accuracy_of_rows(logits, y):
    return torch.stack([v.metrics.mixed_accuracy(logits[i : i + 1], y[i : i + 1]) for i in range(len(logits))])


def scores(of_rows, plain):
    return Subject(None, None, IDS, of=Scores(of_rows, plain))


LOSS = scores(v.losses.mixed(criterion), criterion)
ACCURACY = scores(accuracy_of_rows, lambda logits, ids: (logits.argmax(1) == ids).double())

# -- timm and torchvision, which need nothing of theirs ----------------------------------------------------------------


def of_timm(**arguments):
    from vicinal.integrations.timm import TimmMixup

    made = TimmMixup(1.0, num_classes=ROWS, label_smoothing=0.0, seed=0, **arguments)

    def plan(step, **key):
        return made.vicinity.plan(ROWS, IDS, marked(), step=step, **key)

    return Subject(lambda x, y, step: made(x, y, step=step), plan, IDS, of=made)


def of_torchvision(name):
    from vicinal.integrations import torchvision

    made = getattr(torchvision, name)(num_classes=ROWS, seed=0)

    def mix(x, y, step):
        made.vicinity.load_state_dict(at(made.vicinity, step))
        return made(x, y)

    def plan(step, **key):
        return made.vicinity.plan(ROWS, IDS, marked(), step=step, **key)

    return Subject(mix, plan, IDS, of=made)


def at(vicinity, step):
    """Return the state of a vicinity that has counted to a step."""
    twin = type(vicinity)(vicinity.alpha, seed=vicinity.seed)
    for _ in range(step):
        twin.state.next_step(0)
    return twin.state_dict()


# -- scikit-learn ------------------------------------------------------------------------------------------------------


def watched(fit):
    """Return the batches of a fit: what `Vicinity.plan` was asked for, and what a linear layer was given then."""
    asked, given = [], []
    own = v.Vicinity.plan

    def plan(self, n, y=None, x=None, **key):
        drawn = own(self, n, y, x, **key)
        asked.append((x.double(), y, drawn))
        return drawn

    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: given.append((module, args[0]))
    )
    try:
        with mock.patch.object(v.Vicinity, "plan", plan):
            fit()
    finally:
        hook.remove()
    return asked, [
        x.double() for module, x in given if isinstance(module, torch.nn.Linear) and x.requires_grad is False
    ]


def read(x, mixed, y, labels, plan):
    """Return a batch whose shares are read off standardized rows: their differences say who they are."""
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    shares = torch.cat([mixed, ones], 1) @ torch.linalg.pinv(torch.cat([x, ones], 1))
    shares = torch.where(shares.abs() < 1e-5, 0.0, shares)
    shares[(shares.diagonal() - 1).abs() < 1e-5] = torch.eye(len(x), dtype=torch.float64)[
        (shares.diagonal() - 1).abs() < 1e-5
    ]
    return Batch(shares, labels.double(), y.double(), plan, shares)


def of_mlp(name, y):
    from vicinal.integrations import sklearn

    kind, losses = getattr(sklearn, name), []

    def bare(**more):
        options = {"hidden": (), "epochs": DRAWS, "batch_size": ROWS, "device": "cpu", "random_state": 0}
        return kind(1.0, **(options | more))

    def loss(outputs, target):
        losses.append(target)
        return own(outputs, target)

    own = kind._loss
    with mock.patch.object(kind, "_loss", staticmethod(loss)):
        asked, given = watched(lambda: bare().fit(np.eye(ROWS), y))
    batches = []
    for (x, y_of, plan), mixed, target in zip(asked, given[:DRAWS], losses, strict=True):
        one_hot = F.one_hot(y_of, ROWS) if y_of.ndim == 1 else y_of
        labels = target.dense(ROWS, torch.float64) if isinstance(target, v.MixedTarget) else target
        batches.append(read(x, mixed, one_hot, labels, plan))

    def fit(seed):
        return bare(random_state=seed, epochs=2).fit(np.eye(ROWS), y).loss_curve_

    return Fitted(None, None, IDS, watched=tuple(batches), fit=fit, bare=bare)


def of_meta():
    from sklearn.base import BaseEstimator, RegressorMixin

    from vicinal.integrations.sklearn import MixupMeta

    class Keeper(RegressorMixin, BaseEstimator):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.target_tags.multi_output = True
            return tags

        def fit(self, X, y):
            self.rows = torch.from_numpy(np.concatenate([X, y], axis=1)).reshape(-1, ROWS, 2 * ROWS)
            return self

    def bare(**more):
        return MixupMeta(Keeper(), 1.0, **({"copies": DRAWS, "random_state": 0} | more))

    asked, model = [], bare()
    asked, _ = watched(lambda: model.fit(np.eye(ROWS), np.eye(ROWS)))
    batches = [
        read(x, rows[:, :ROWS], y, rows[:, ROWS:], plan)
        for (x, y, plan), rows in zip(asked, model.estimator_.rows, strict=True)
    ]

    def fit(seed):
        return bare(random_state=seed).fit(np.eye(ROWS), np.eye(ROWS)).estimator_.rows.tolist()

    return Fitted(None, None, IDS, watched=tuple(batches), fit=fit, bare=bare)


def of_search(name, y):
    from vicinal.integrations import sklearn

    search, plain = getattr(sklearn, f"{name}CV"), getattr(sklearn, name)
    options = {"hidden": (), "epochs": 2, "random_state": 0, "device": "cpu"}
    x, folds = np.eye(12), [(np.arange(8), np.arange(8, 12))]
    model = search((0.2, 1.0), cv=folds, scoring=score_of, **options).fit(x, y)
    alone = [score_of(plain(alpha, **options).fit(x[:8], y[:8]), x[8:], y[8:]) for alpha in (0.2, 1.0)]
    assert len(set(alone)) == 2
    return Fitted(
        None, None, IDS, of=(model.scores_[0].round(5), np.array(alone).round(5)), bare=lambda: search(**options)
    )


def score_of(model, X, y):
    """Score a model by what it predicts of the first class, or first column."""
    return float(model.predict_proba(X)[:, 0].sum() if hasattr(model, "predict_proba") else model.predict(X).sum())


SUBJECTS = {
    "Vicinity": lambda: [s for name, s in VICINITIES.items() if name == "Mixup"],
    **{name: (lambda s=s: [s]) for name, s in {**VICINITIES, **PAIRINGS}.items()},
    "Pairing": lambda: [PAIRINGS["OtherClass"], PAIRINGS["Roll"]],
    "Weighting": lambda: [of_weighting(v.Beta(1.0), PER), of_weighting(v.Dirichlet(1.0, k=3), PER)],
    "Beta": lambda: [of_weighting(v.Beta(1.0), PER)],
    "Dirichlet": lambda: [of_weighting(v.Dirichlet(1.0, k=3), v.Dirichlet(1.0, k=3, per="example"))],
    "methods.Beside": lambda: [BESIDE],
    "PlanBeside": lambda: [BESIDE],
    "methods.Unmixed": lambda: [of_vicinity(methods.Unmixed(v.Mixup(1.0), seed=0))],
    "methods.Transport": lambda: [of_pairing(methods.Transport(k=3))],
    "methods.Selective": lambda: [of_pairing(methods.Selective("same", "any"), y=IDS.clamp(max=3).clamp(min=1))],
    "methods.Remix": lambda: [of_vicinity(methods.Remix(1.0, counts=COUNTS, seed=0))],
    "methods.SKMixup": lambda: [of_vicinity(methods.SKMixup(seed=0))],
    "methods.FMix": lambda: [of_vicinity(methods.FMix(seed=0), per_example=methods.FMix(per="example", seed=0))],
    "methods.ColumnMix": lambda: [of_columns()],
    "methods.CMixup": lambda: [of_c_mixup(per_example=of_c_mixup(PER))],
    "methods.LabelNeighbors": lambda: [neighbors()],
    "Plan": lambda: [MIXUP, VICINITIES["CutMix"]],
    "MixPlan": lambda: [MIXUP],
    "PlanChain": lambda: [VICINITIES["Chain"]],
    "MixedTarget": lambda: [MIXUP],
    "LatentMixing": lambda: [latent()],
    "Collate": lambda: [collate()],
    "losses.mixed": lambda: [LOSS],
    "losses.Mixed": lambda: [LOSS],
    "metrics.mixed_accuracy": lambda: [ACCURACY],
    "timm.TimmMixup": lambda: [timm()],
    "torchvision.MixUp": lambda: [of_torchvision("MixUp")],
    "torchvision.BatchCutMix": lambda: [of_torchvision("BatchCutMix")],
    "sklearn.MixupClassifier": lambda: [of_mlp("MixupClassifier", np.arange(ROWS))],
    "sklearn.MixupRegressor": lambda: [of_mlp("MixupRegressor", np.eye(ROWS))],
    "sklearn.MixupClassifierCV": lambda: [of_search("MixupClassifier", np.arange(12) % 2)],
    "sklearn.MixupRegressorCV": lambda: [of_search("MixupRegressor", np.arange(12.0))],
    "sklearn.MixupMeta": lambda: [of_meta()],
}


def neighbors():
    near = methods.LabelNeighbors(torch.arange(float(ROWS)), bandwidth=1.0)
    return Subject(None, None, IDS, of=near, drawn=lambda step: near.draw(v.Key(0, 0, 0, step).generator(), [2, 2, 5]))


def timm():
    s, per_example = of_timm(), of_timm(mode="elem")
    return Subject(s.mix, s.plan, s.y, per_example)


@pytest.mark.parametrize("name", sorted(name for name in OWING if not name.startswith(NEEDS_A_PACKAGE)))
def test_what_a_block_says_is_true(name):
    for subject in SUBJECTS[name]():
        measure(block(OWING[name]), subject)


# -- the pages of the reference ----------------------------------------------------------------------------------------

PAGES = {path.name: path.read_text() for path in (Path(__file__).parent.parent / "docs" / "reference").glob("*.md")}
SHOWN = re.compile(r"^\.\. auto(?:class|function|exception):: (\S+)$", re.MULTILINE)
LINK = re.compile(r"\((\w+\.md)#([\w-]+)\)")


def shown():
    return [name for text in PAGES.values() for name in SHOWN.findall(text)]


def anchors(text):
    """Return the anchors of a page's headings, as GitHub and the site have them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_public_name_has_its_place_in_the_reference():
    public = {f"vicinal.{name}" for name in v.__all__ if not name.islower() or callable(getattr(v, name))}
    public |= {f"vicinal.methods.{name}" for name in methods.__all__}
    found = shown()
    assert len(found) == len(set(found))
    assert public - set(found) == set()
    ours = {name.replace("integrations.", "").removeprefix("vicinal.") for name in found}
    assert [name for name in OWING if name not in ours and f"plan.{name}" not in ours] == []


@pytest.mark.parametrize("name", [name for name in shown() if not set(NEEDS_A_PACKAGE) & set(name.split("."))])
def test_what_a_page_shows_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert inspect.getdoc(getattr(importlib.import_module(module), attribute))


def test_the_index_links_to_what_is_there():
    links = LINK.findall(PAGES["index.md"])
    assert len(links) > 60
    assert [f"{page}#{anchor}" for page, anchor in links if anchor not in anchors(PAGES[page])] == []


# -- tests of the test -------------------------------------------------------------------------------------------------


def said(line, phrase):
    return {"dimension 0": [], "lambda": [], "one draw": [], line: [phrase]}


@pytest.mark.parametrize(
    ("line", "phrase", "subject"),
    [
        ("one draw", "one lambda per example", MIXUP),
        ("one draw", "one lambda per batch", of_vicinity(v.Mixup(PER, seed=0))),
        ("one draw", "nothing is drawn", MIXUP),
        ("one draw", "one permutation per batch", PAIRINGS["OtherClass"]),
        ("one draw", "no row is its own partner", PAIRINGS["RandomPairs"]),
        ("one draw", "partners have the row's own class", PAIRINGS["OtherClass"]),
        ("one draw", "one partner per row, not a permutation", PAIRINGS["SameClass"]),
        ("one draw", "one partner per row", of_vicinity(v.Mixup(v.Dirichlet(1.0, k=3), seed=0))),
        ("one draw", "shared by every tensor of a nest", VICINITIES["GaussianNoise"]),
        ("one draw", "one box per batch", of_vicinity(v.CutMix(1.0, per="example", seed=0))),
        ("lambda", "1, nothing is mixed", MIXUP),
        ("lambda", "the labels have the same", VICINITIES["InputMixup"]),
        ("lambda", "the largest share takes the whole label", MIXUP),
        ("lambda", "that of the part that is chosen", VICINITIES["Chain"]),
        ("lambda", "1 for the plain rows", MIXUP),
        ("one draw", "one lambda per example, by the distance of its pair", of_vicinity(v.Mixup(PER, seed=0))),
        ("one draw", "no row is its own partner while another one fits", of_pairing(v.RandomPairs())),
    ],
)
def test_what_is_false_is_seen(line, phrase, subject):
    with pytest.raises(AssertionError, match=re.escape(phrase)):
        measure(said(line, phrase), subject)


@dataclass(frozen=True)
class Inverted(v.Mixup):
    """Mixup whose lambda is the share of the partner, as in several implementations; labels fit."""

    def draw(self, key, n, y, x, epoch):
        plan = super().draw(key, n, y, x, epoch)
        return InvertedPlan(plan.partner, plan.weight)


class InvertedPlan(v.MixPlan):
    def mix_input(self, x, leaf=0, out=None, compiled=False):
        return v.MixPlan(self.partner, 1 - self.weight).mix_input(x, leaf, out, compiled)

    def mix_target(self, y):
        return v.MixPlan(self.partner, 1 - self.weight).mix_target(y)


def test_an_inverted_lambda_is_seen():
    inverted = of_vicinity(Inverted(v.Beta(1.0, per="example"), seed=0))
    measure(said("lambda", "the labels have the same"), inverted)
    with pytest.raises(AssertionError):
        measure(said("lambda", "the share that a row keeps of itself"), inverted)


def test_a_partner_that_is_read_the_other_way_round_is_seen():
    turned = of_pairing(v.OtherClass())
    plan = turned.plan
    back = Subject(
        turned.mix,
        lambda step: SimpleNamespace(weight=plan(step).weight, partner=plan(step).partner.argsort()),
        CLASSES,
    )
    with pytest.raises(AssertionError, match="batch"):
        measure(said("dimension 0", "row i is mixed with row partner[i]"), back)


GOOD = """Mix.

Convention:
    dimension 0: the rows of the batch.
    lambda: 1, nothing
        is mixed.
    one draw: nothing is drawn; that of the part.

"""


def test_a_block_is_read_as_it_is_meant():
    assert block(GOOD) == {
        "dimension 0": ["the rows of the batch"],
        "lambda": ["1, nothing is mixed"],
        "one draw": ["nothing is drawn", "that of the part"],
    }


@pytest.mark.parametrize(
    "docstring",
    [
        None,
        "Mix.",
        GOOD.replace("lambda: ", "share: "),
        GOOD.replace("    one draw: nothing is drawn; that of the part.\n", ""),
        GOOD.replace("of the part.", "of the part"),
        GOOD + GOOD,
    ],
)
def test_a_block_of_another_form_is_seen(docstring):
    with pytest.raises(Malformed):
        block(docstring)


def test_a_phrase_outside_the_vocabulary_is_seen():
    with pytest.raises(Malformed, match="'one mood per batch' is not among the phrases"):
        measure(said("one draw", "one mood per batch"), MIXUP)
