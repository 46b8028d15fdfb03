"""The diffs of examples/migrate: well formed, their calls exist, and what they add computes what they remove computed."""

import ast
import inspect
import math
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import vicinal
from vicinal.integrations.timm import TimmMixup

FOLDER = Path(__file__).parent.parent / "examples" / "migrate"
DIFFS = sorted(FOLDER.glob("*.diff"))
HEAD = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")

# a real batch: images of digits, as [n, 1, 8, 8], an odd number of them
N, CLASSES = 33, 10
IMAGES, LABELS = load_digits(return_X_y=True)
X = torch.from_numpy(IMAGES[:N] / 16).float().view(N, 1, 8, 8)
Y = torch.from_numpy(LABELS[:N])


class Hunk(NamedTuple):
    """One change: where it begins before and after, and its lines with their signs."""

    before: int
    after: int
    lines: list[str]

    def part(self, signs: str) -> list[str]:
        """Return the lines that have one of these signs, without them."""
        return [line[1:] for line in self.lines if line[0] in signs]


def hunks(name):
    """Return the changes of a diff, whose heads count its lines rightly."""
    lines = (FOLDER / name).read_text().splitlines()
    assert [line[:4] for line in lines[:2]] == ["--- ", "+++ "]
    found, i = [], 2
    while i < len(lines):
        before, n_before, after, n_after = (int(n or 1) for n in HEAD.fullmatch(lines[i]).groups())
        j = i + 1
        while j < len(lines) and not lines[j].startswith("@@"):
            j += 1
        hunk = Hunk(before, after, lines[i + 1 : j])
        assert (len(hunk.part(" -")), len(hunk.part(" +"))) == (n_before, n_after)
        found.append(hunk)
        i = j
    return found


def added(name, *words):
    """Return the code of the one change whose new lines hold all these words: those lines alone."""
    (code,) = [
        text for hunk in hunks(name) for text in ["\n".join(hunk.part("+"))] if all(word in text for word in words)
    ]
    return textwrap.dedent(code)


@pytest.mark.parametrize("name", [diff.name for diff in DIFFS])
def test_diffs_are_well_formed_and_small(name):
    end = shift = 0
    for hunk in hunks(name):
        signs = "".join(line[0] for line in hunk.lines)
        assert set(signs) <= set(" -+")
        assert set(signs) & set("-+")
        assert not re.search(r"^  |  $|   ", signs)  # one line of context at each side
        assert hunk.before > end
        assert hunk.after == hunk.before + shift
        end, shift = hunk.before + len(hunk.part(" -")) - 1, shift + len(hunk.part("+")) - len(hunk.part("-"))
    assert len((FOLDER / name).read_text().splitlines()) < 80


def test_every_diff_is_named_with_its_version():
    readme = (FOLDER / "README.md").read_text()
    listed = re.findall(
        r"^\| \[(\S+\.diff)\]\(\1\) \| .* \| .*?(?:commit [0-9a-f]{40}|release [\d.]+)", readme, re.MULTILINE
    )
    assert sorted(listed) == [diff.name for diff in DIFFS]
    page = (FOLDER.parents[1] / "docs" / "integrations" / "migrate.md").read_text()
    assert all(f"examples/migrate/{diff.name}" in page for diff in DIFFS)


# what names of the scripts hold, for their calls
MIX = vicinal.Mixup.__call__
HOLDS = {"Mixup": TimmMixup, "mixup_fn": TimmMixup.__call__, "mixup": MIX, "vicinity": MIX}
CALLS = {"mixup_cifar10.diff": 3, "timm_train.diff": 2, "torchvision_references.diff": 5}


def functions(tree):
    """Return each function of vicinal that is called, with the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith("vicinal."):
                yield getattr(vicinal, name.removeprefix("vicinal.")), node
            elif name in HOLDS:
                yield HOLDS[name], node


NO_STATEMENT = re.compile(r"^(def .*:|@.*|    \w+(, \w+)*)$", re.MULTILINE)  # heads of functions; the rest of an import


@pytest.mark.parametrize("name", CALLS)
def test_every_call_that_is_added_exists_with_its_arguments(name):
    seen = 0
    for hunk in hunks(name):
        code = textwrap.dedent(NO_STATEMENT.sub("", "\n".join(hunk.part("+"))))
        for function, call in functions(ast.parse(code)):
            given = [None] * (len(call.args) + inspect.isfunction(function))  # and self
            keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
            inspect.signature(function).bind_partial(*given, **keywords)
            seen += 1
    assert seen == CALLS[name]


# -- what the new lines compute ------------------------------------------------------------------------------------------


def net(x):
    """A fixed model of digits."""
    weight = torch.linspace(-1, 1, 64 * CLASSES).view(64, CLASSES).sin() * 3
    return x.flatten(1) @ weight.to(x.dtype)


def rows(plan):
    """Return (own row, other row, share of the own) for each row of a plan."""
    return [(i, int(j), float(w)) for i, (j, w) in enumerate(zip(plan.partner, plan.weight, strict=True))]


def mixed(plan):
    """The images of the paper, in float64."""
    return torch.stack([w * X[i].double() + (1 - w) * X[j].double() for i, j, w in rows(plan)])


def loss_of_two(plan, logits):
    """share * loss(own label) + (1 - share) * loss(other label), the mean over rows, in float64."""
    log_p = logits.double().log_softmax(1)
    return -sum(w * float(log_p[i, Y[i]]) + (1 - w) * float(log_p[i, Y[j]]) for i, j, w in rows(plan)) / N


@pytest.mark.parametrize(("epoch", "batch_idx"), [(0, 0), (3, 5)])
def test_mixup_cifar10(epoch, batch_idx):
    loader = [None] * 7
    names = {"vicinal": vicinal, "torch": torch, "args": SimpleNamespace(alpha=1.0, seed=4), "net": net}
    exec(added("mixup_cifar10.diff", "vicinal.Mixup"), names)
    plan = vicinal.Mixup(1.0, seed=4).plan(N, step=epoch * 7 + batch_idx)
    assert 0 < float(plan.weight[0]) < 1

    (hunk,) = [hunk for hunk in hunks("mixup_cifar10.diff") if any("mixup(inputs" in line for line in hunk.part("+"))]
    names |= {"inputs": X, "targets": Y, "epoch": epoch, "batch_idx": batch_idx, "trainloader": loader}
    names |= {"criterion": torch.nn.CrossEntropyLoss(), "train_loss": 0, "total": 0, "correct": 0}
    exec(textwrap.dedent("\n".join(hunk.part(" +"))), names)

    torch.testing.assert_close(names["inputs"].double(), mixed(plan), atol=1e-6, rtol=0)
    assert names["loss"].item() == pytest.approx(loss_of_two(plan, names["outputs"]), abs=1e-6)
    assert names["train_loss"] == names["loss"].item()
    hits = names["outputs"].argmax(1)
    by_shares = sum(w * (hits[i] == Y[i]).item() + (1 - w) * (hits[i] == Y[j]).item() for i, j, w in rows(plan))
    assert names["correct"] == pytest.approx(by_shares, abs=1e-5)
    assert names["total"] == N


def test_mixup_cifar10_of_alpha_zero_is_the_plain_script():
    names = {"vicinal": vicinal, "args": SimpleNamespace(alpha=0.0, seed=4)}
    exec(added("mixup_cifar10.diff", "vicinal.Mixup"), names)
    x, y = names["mixup"](X, Y, step=3)
    assert torch.equal(x, X)
    assert F.cross_entropy(net(x), y) == F.cross_entropy(net(X), Y)


def references(mixup_alpha, cutmix_alpha, epoch, i):
    """Run the lines that choose and mix; returns images, target and vicinity."""
    args = SimpleNamespace(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    names = {"vicinal": vicinal, "args": args, "image": X, "target": Y, "device": "cpu"}
    names |= {"epoch": epoch, "i": i, "data_loader": [None] * 7}
    exec(added("torchvision_references.diff", "vicinal.Choice"), names)
    exec(added("torchvision_references.diff", "vicinity(image"), names)
    return names["image"], names["target"], names["vicinity"]


def smoothed_loss(labels, logits, smoothing):
    """Cross-entropy with dense labels [n, classes] that are smoothed, in float64."""
    smooth = labels * (1 - smoothing) + smoothing / CLASSES
    return float(-(smooth * logits.double().log_softmax(1)).sum() / N)


def test_torchvision_references():
    kinds, criterion = set(), torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    hot = F.one_hot(Y, CLASSES).double()
    for step in range(8):
        image, target, vicinity = references(0.2, 1.0, step // 7, step % 7)
        plan = vicinity.plan(N, Y, X, step=step)
        kinds.add("mixup" if plan.box is None else "cutmix")
        expected, share = X.double().clone(), torch.empty(N, 1, dtype=torch.float64)
        for i, j, w in rows(plan):
            if plan.box is None:
                expected[i], share[i] = w * X[i] + (1 - w) * X[j], w
            else:
                (top, bottom), (left, right) = plan.box[i].tolist()
                expected[i, :, top:bottom, left:right] = X[j, :, top:bottom, left:right].double()
                share[i] = 1 - (bottom - top) * (right - left) / 64
        torch.testing.assert_close(image.double(), expected, atol=1e-6, rtol=0)
        labels = share * hot + (1 - share) * hot[plan.partner]
        assert criterion(net(image), target).item() == pytest.approx(smoothed_loss(labels, net(image), 0.1), abs=1e-6)
    assert kinds == {"mixup", "cutmix"}


def test_torchvision_references_without_either_is_the_plain_script():
    image, target, _ = references(0.0, 0.0, 1, 2)
    assert torch.equal(image, X)
    for criterion in (torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(label_smoothing=0.1)):
        assert criterion(net(image), target) == criterion(net(X), Y)
    hits = net(image).argmax(1)
    assert (hits == target).sum() == (hits == Y).sum()


def timm_mixup(epoch, batch_idx, **flags):
    """Run the lines that make and call `mixup_fn`, by the arguments that timm's script collects."""
    given = {"mixup_alpha": 0.8, "cutmix_alpha": 0.0, "cutmix_minmax": None, "prob": 1.0, "switch_prob": 0.5}
    given |= {"mode": "batch", "label_smoothing": 0.1, "num_classes": CLASSES, "multi_label": False} | flags
    names = {"mixup_args": given, "args": SimpleNamespace(seed=42), "input": X, "target": Y}
    names |= {"epoch": epoch, "batch_idx": batch_idx, "loader": [None] * 7}
    (line,) = [
        line for line in added("timm_train.diff", "import Mixup").splitlines() if line.startswith("from vicinal")
    ]
    for code in (line, added("timm_train.diff", "mixup_args"), added("timm_train.diff", "mixup_fn(input")):
        exec(code, names)
    return names["input"], names["target"], names["mixup_fn"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_timm(smoothing):
    images, labels, mixup_fn = timm_mixup(2, 3, label_smoothing=smoothing)
    plan = mixup_fn.vicinity.plan(N, Y, X, step=17)
    torch.testing.assert_close(images.double(), mixed(plan), atol=1e-6, rtol=0)
    log_p = net(images).double().log_softmax(1)
    soft_target = float(-(labels.double() * log_p).sum() / N)
    smooth = -sum(float(log_p[i].mean()) for i in range(N)) / N
    by_hand = (1 - smoothing) * loss_of_two(plan, net(images)) + smoothing * smooth
    assert soft_target == pytest.approx(by_hand, abs=1e-6)
    assert math.isclose(float(labels.sum()), N, rel_tol=1e-5)


def test_timm_goes_on_where_it_stopped():
    """A process that begins at epoch 2 draws as one that has run since epoch 0."""
    first, again = timm_mixup(2, 3, cutmix_alpha=1.0), timm_mixup(0, 0, cutmix_alpha=1.0)
    images, labels = again[2](X, Y, step=2 * 7 + 3)
    assert torch.equal(first[0], images)
    assert torch.equal(first[1], labels)
