"""Convention blocks: how they are read, the phrases that they are made of, and for each phrase the check that measures it.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda.
        one draw: one lambda per batch; shared by every tensor of a nest.

A check is handed a `Subject`, which is asked from outside: rows that say who they are go in, and who is in the rows that
come out is read off, as shares [n, n]. Labels are read in the same way.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vicinal as v

LINES = ("dimension 0", "lambda", "one draw")
ROWS, DRAWS = 7, 20
GRID = (6, 6)
PACKAGE = Path(v.__file__).parent


class Malformed(AssertionError):
    """A docstring has no block, or one of another form."""


def block(docstring: str | None) -> dict[str, list[str]]:
    """Read a block: of each of its three lines the phrases, which semicolons part."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    if lines.count("Convention:") != 1:
        raise Malformed("there is no Convention block, or more than one")
    inside: list[str] = []
    for line in lines[lines.index("Convention:") + 1 :]:
        if not line.startswith("    "):
            break
        if line.startswith("        "):
            inside[-1] += " " + line.strip()
        else:
            inside.append(line.strip())
    found = {name: text for name, _, text in (line.partition(": ") for line in inside)}
    if tuple(found) != LINES or not all(text.endswith(".") for text in found.values()):
        raise Malformed(f"a block has the lines {LINES}, each a sentence, got {inside}")
    return {name: text[:-1].split("; ") for name, text in found.items()}


def documented(path: Path) -> Iterator[tuple[str, str | None]]:
    """Return the public classes of a file with their docstrings, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node)


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """What came out of one batch: in whose rows who is, by inputs and by labels.

    Args:
        shares: float64 [n, n], of each row that came out the share of each row that went in.
        labels: float64 [n, classes].
        one_hot: float64 [n, classes], the labels that went in.
        plan: what the batch was mixed by, where there is one.
        cells: float64 [n, n, height, width], what `shares` is the mean of.

    """

    shares: Tensor
    labels: Tensor
    one_hot: Tensor
    plan: Any
    cells: Tensor


@dataclass(frozen=True)
class Subject:
    """An object whose block is measured.

    Args:
        mix: (x, y, step) -> (mixed x, mixed y), by the object itself.
        plan: (step, **key) -> plan, where the object has one.
        y: the targets that it is given.
        per_example: another object of the class, one that draws for each example.
        of: the object.
        drawn: (step) -> what the object itself draws, where that is not a plan.

    """

    mix: Callable[[Any, Any, int], tuple[Any, Any]]
    plan: Callable[..., Any] | None
    y: Tensor
    per_example: "Subject | None" = None
    of: Any = None
    drawn: Callable[[int], Any] | None = None

    def batch(self, step: int) -> Batch:
        """Mix batch number `step` of rows that say who they are; once."""
        if step not in self._batches:
            self._batches[step] = self._batch(step)
        return self._batches[step]

    @cached_property
    def _batches(self) -> dict[int, Batch]:
        return {}

    def _batch(self, step: int) -> Batch:
        x = marked()
        mixed, y = self.mix(x, self.y, step)
        classes = ROWS
        labels = y.dense(classes, torch.float64) if isinstance(y, v.MixedTarget) else y.double()
        one_hot = self.y if self.y.ndim == 2 else F.one_hot(self.y, classes).double()
        plan = None if self.plan is None else self.plan(step)
        return Batch(mixed.mean((2, 3)), labels, one_hot, plan, mixed)

    def batches(self) -> list[Batch]:
        """Mix several batches."""
        return [self.batch(step) for step in range(DRAWS)]


def marked(n: int = ROWS) -> Tensor:
    """Return images float64 [n, n, 6, 6]: channel i of row i is 1, all else is 0."""
    return torch.eye(n, dtype=torch.float64)[:, :, None, None].expand(n, n, *GRID).contiguous()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers, float64, by key."""
    return torch.from_numpy(v.Key(seed, 0, 0, 0).generator().standard_normal(shape))


def others(batch: Batch) -> Tensor:
    """Return which rows have another row as partner, bool [n]."""
    return batch.shares.diagonal() < 1


def equal(a: Tensor, b: Tensor, within: float = 1e-6) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= within)


VOCABULARY: dict[str, dict[str, Callable[[Subject], None]]] = {line: {} for line in LINES}


def says(line: str, *phrases: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Enter the check of a phrase."""

    def enter(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
        for phrase in phrases:
            assert phrase not in VOCABULARY[line], phrase
            VOCABULARY[line][phrase] = check
        return check

    return enter


def measure(phrases: dict[str, list[str]], subject: Subject) -> None:
    """Measure every phrase of a block on a subject."""
    for line, said in phrases.items():
        for phrase in said:
            if phrase not in VOCABULARY[line]:
                raise Malformed(f"{phrase!r} is not among the phrases of {line!r}")
            try:
                VOCABULARY[line][phrase](subject)
            except AssertionError as error:
                raise AssertionError(f"{line}: {phrase!r} is not true: {error}") from error


# -- dimension 0 -------------------------------------------------------------------------------------------------------


@says("dimension 0", "the rows of the batch, of inputs and targets alike")
def inputs_and_targets(s: Subject) -> None:
    x = numbers(ROWS, 3, *GRID)
    mixed, y = s.mix(x, s.y, 0)
    assert mixed.shape == x.shape
    assert len(y) == ROWS
    try:
        s.mix(x[:-1], s.y, 0)
    except ValueError:
        return
    raise AssertionError("inputs and targets of different numbers of rows were mixed")


@says("dimension 0", "the rows of the batch")
def rows_of_batch(s: Subject) -> None:
    for step in range(DRAWS):
        assert len(s.drawn(step)) == ROWS


@says("dimension 0", "row i is mixed with row partner[i]")
def direction(s: Subject) -> None:
    x = numbers(ROWS, 3, *GRID)
    for step in range(DRAWS):
        plan = s.plan(step)
        mixed, _ = s.mix(x, s.y, step)
        by_loop = [lam * x[i] + (1 - lam) * x[j] for i, (lam, j) in enumerate(pairs(plan))]
        assert equal(mixed, torch.stack(by_loop)), f"batch {step}"


def pairs(plan: v.MixPlan) -> list[tuple[float, int]]:
    """Return of each row its share and its partner."""
    return list(zip(plan.weight.tolist(), plan.partner.tolist(), strict=True))


# -- lambda ------------------------------------------------------------------------------------------------------------


@says("lambda", "the share that a row keeps of itself", "`weight`, the share that a row keeps of itself")
@says("lambda", "the first column, the share that a row keeps of itself")
def own_share(s: Subject) -> None:
    for batch in s.batches():
        for part in [batch.plan] if isinstance(batch.plan, v.MixPlan) else []:
            kept = part.shares[:, 0].double()
            alone = part.partners == torch.arange(ROWS)[:, None]
            kept = kept + (part.shares[:, 1:].double() * alone).sum(1)
            assert equal(batch.shares.diagonal(), kept)


@says("lambda", "its partner has 1 - lambda")
def rest(s: Subject) -> None:
    for batch in s.batches():
        for i, (lam, j) in enumerate(pairs(batch.plan)):
            row = torch.zeros(ROWS, dtype=torch.float64)
            row[i] += lam
            row[j] += 1 - lam
            assert equal(batch.shares[i], row), f"row {i}"


@says("lambda", "the other columns are its partners' shares")
def partners_shares(s: Subject) -> None:
    for batch in s.batches():
        for i, (partners, shares) in enumerate(
            zip(batch.plan.partners.tolist(), batch.plan.shares.tolist(), strict=True)
        ):
            row = torch.zeros(ROWS, dtype=torch.float64)
            for j, share in zip([i, *partners], shares, strict=True):
                row[j] += share
            assert equal(batch.shares[i], row), f"row {i}"


@says("lambda", "the labels have the same")
def labels_alike(s: Subject) -> None:
    for batch in s.batches():
        assert equal(batch.labels, batch.shares @ batch.one_hot)


@says("lambda", "the largest share takes the whole label")
def largest_share(s: Subject) -> None:
    for batch in s.batches():
        assert equal(batch.labels, batch.one_hot[batch.shares.argmax(1)])


@says("lambda", "the share of cells that a row keeps, counted after the box is clipped")
def cells(s: Subject) -> None:
    clipped = 0
    for batch in s.batches():
        size = batch.cells.shape[-1] * batch.cells.shape[-2]
        for i in range(ROWS):
            kept = sum(int(cell) for cell in batch.cells[i, i].flatten().tolist())
            assert abs(float(batch.labels[i] @ batch.one_hot[i]) - kept / size) < 1e-6, f"row {i}"
        clipped += bool(batch.plan is not None and (batch.plan.box[:, :, 0] == 0).any())
    assert clipped or s.plan is None


@says("lambda", "1, nothing is mixed")
def nothing_mixed(s: Subject) -> None:
    for step in range(DRAWS):
        x, changed = marked(), marked()
        changed[0] += 1
        (a, _), (b, _) = s.mix(x, s.y, step), s.mix(changed, s.y, step)
        assert torch.equal(a[1:], b[1:])  # no row is in another
        assert equal(b[0] - a[0], torch.ones_like(a[0]))


@says("lambda", "that of each part")
def of_each_part(s: Subject) -> None:
    for step in range(DRAWS):
        whole, mixed, y = s.batch(step), marked(), s.y
        for part in s.plan(step).plans:
            mixed, y = part(mixed), part.target(y)
        assert equal(whole.shares, mixed.mean((2, 3)))
        assert equal(whole.labels, y.dense(ROWS, torch.float64))


@says("lambda", "a part mixes what the one before it made")
def one_after_another(s: Subject) -> None:
    for step in range(DRAWS):
        shares = torch.eye(ROWS, dtype=torch.float64)
        for part in s.plan(step).plans:
            shares = part(marked()).mean((2, 3)) @ shares
        assert equal(s.batch(step).shares, shares)


@says("lambda", "that of the part that is chosen")
def of_the_chosen(s: Subject) -> None:
    seen = set()
    for step in range(DRAWS):
        key = v.Key(s.of.seed, 0, 0, step)
        plans = [part.draw(key.fold(i), ROWS, s.y, marked(), None) for i, part in enumerate(s.of.parts)]
        fits = [i for i, plan in enumerate(plans) if equal(plan(marked()).mean((2, 3)), s.batch(step).shares)]
        assert fits, f"batch {step}"
        seen.update(fits)
    assert seen == set(range(len(s.of.parts)))


@says("lambda", "that of the part in its epochs, 1 in the others")
def by_epoch(s: Subject) -> None:
    schedule, differs = s.of, False
    for epoch in range(schedule.stop + 2):
        for step in range(DRAWS // 5):
            mixed = schedule.plan(ROWS, s.y, marked(), step=step, epoch=epoch)(marked())
            inside = schedule.start <= epoch < schedule.stop
            part = schedule.part.draw(v.Key(schedule.seed, 0, 0, step).fold(0), ROWS, s.y, marked(), epoch)
            assert torch.equal(mixed, part(marked()) if inside else marked()), f"epoch {epoch}"
            differs |= inside and not torch.equal(mixed, marked())
    assert differs


@says("lambda", "drawn by the weighting, not here")
def by_the_weighting(s: Subject) -> None:
    class Half(v.Weighting):
        def draw(self, generator, n):
            return torch.full((n, 2), 0.5).numpy()

    for step in range(DRAWS):
        plan = v.Mixup(Half(), pairing=s.of, seed=0).plan(ROWS, s.y, marked(), step=step)
        assert plan.weight.tolist() == [0.5] * ROWS
        assert plan.partner.dtype == torch.int64


# -- one draw ----------------------------------------------------------------------------------------------------------


@says("one draw", "one lambda per batch")
def per_batch(s: Subject) -> None:
    drawn = []
    for batch in s.batches():
        kept = batch.shares.diagonal()[others(batch)].tolist()
        assert not kept or max(kept) - min(kept) < 1e-6, f"shares {kept}"
        drawn += [round(kept[0], 6)] if kept else []
    assert len(set(drawn)) > DRAWS / 2


@says("one draw", "one lambda per example")
def per_example(s: Subject) -> None:
    different = 0
    for batch in s.batches():
        kept = batch.shares.diagonal()[others(batch)].tolist()
        different += len({round(share, 6) for share in kept}) > 1
    assert different > DRAWS / 2


@says("one draw", 'one lambda per batch, or per example with `Beta(alpha, per="example")`')
@says("one draw", 'one lambda per batch, or per example with `per="example"`')
@says("one draw", 'one lambda per batch, or per example with `mode="elem"`')
def per_batch_or_example(s: Subject) -> None:
    per_batch(s)
    per_example(s.per_example)


@says("one draw", "one box per batch")
def box_per_batch(s: Subject) -> None:
    boxes = set()
    for batch in s.batches():
        mixed_rows = [batch.cells[i, i] == 0 for i in range(ROWS) if others(batch)[i]]
        boxes |= {str(rows.tolist()) for rows in mixed_rows[:1]}
        assert all(torch.equal(rows, mixed_rows[0]) for rows in mixed_rows)
    assert len(boxes) > DRAWS / 4


@says("one draw", 'one box per batch, or per example with `per="example"`')
def box_per_batch_or_example(s: Subject) -> None:
    box_per_batch(s)
    try:
        box_per_batch(s.per_example)
    except AssertionError:
        return
    raise AssertionError("with per='example' all rows have one box, too")


@says("one draw", "one partner per row")
def one_partner(s: Subject) -> None:
    partners = set()
    for batch in s.batches():
        assert int((batch.shares > 0).sum(1).max()) <= 2
        partners |= {tuple(row.nonzero()[:, 0].tolist()) for row in batch.shares}
    assert len(partners) > ROWS


@says("one draw", "shared by every tensor of a nest")
def shared(s: Subject) -> None:
    for step in range(DRAWS):
        image = marked()
        nest = {"image": image, "mask": image.float(), "more": [image.clone(), torch.eye(ROWS, dtype=torch.float64)]}
        mixed, _ = s.mix(nest, s.y, step)
        one = mixed["image"]
        assert torch.equal(mixed["more"][0], one)
        assert equal(mixed["mask"].double(), one)
        assert equal(mixed["more"][1], one.mean((2, 3)))


@says("one draw", "decided by seed, rank, worker and step")
def decided(s: Subject) -> None:
    def drawn(**key):
        steps = range(5, 10) if key.pop("later", False) else range(5)
        plans = [s.plan(step, **key) for step in steps]
        return [v.MixPlan.to_dict(plan) | {"key": None, "checksum": None} for plan in plans]

    first, again = str(drawn()), str(drawn())
    assert first == again
    for other in ({"seed": 1}, {"rank": 1}, {"worker": 1}, {"later": True}):
        assert str(drawn(**other)) != first, other


@says("one draw", "nothing is drawn")
def nothing_drawn(s: Subject) -> None:
    if isinstance(s.of, Scores):
        found = [s.of.of_rows(*scored()) for _ in range(3)]
        assert all(torch.equal(each, found[0]) for each in found)
        return
    first = s.batch(0)
    for batch in s.batches():
        assert torch.equal(batch.shares, first.shares)
        assert torch.equal(batch.labels, first.labels)
        assert batch.plan is None or batch.plan.key is None


@says("one draw", "independent noise for each tensor of a nest")
def noise_of_its_own(s: Subject) -> None:
    nest = [torch.zeros(ROWS, 50, *GRID), torch.zeros(ROWS, 50, *GRID)]
    (a, b), _ = s.mix(nest, s.y, 0)
    assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.1


@says("one draw", "the same when the plan is applied again", "recorded, the same at every use")
def replayed(s: Subject) -> None:
    for step in range(5):
        plan = s.plan(step)
        again = v.plan_from_dict(plan.to_dict())
        assert torch.equal(plan(marked()), plan(marked()))
        assert torch.equal(plan(marked()), again(marked()))
        assert torch.equal(plan.target(s.y).dense(ROWS), again.target(s.y).dense(ROWS))


@says("one draw", "one plan per part, independent of the others")
def plans_of_parts(s: Subject) -> None:
    first, second = [], []
    for step in range(DRAWS):
        plan = s.plan(step)
        assert len(plan.plans) == len(s.of.parts)
        first.append(plan.plans[0].weight[0])
        second.append(plan.plans[1].weight[0])
    drawn = torch.stack([torch.stack(first), torch.stack(second)])
    assert abs(float(torch.corrcoef(drawn)[0, 1])) < 0.5


@says("one draw", "one part per batch")
def one_part(s: Subject) -> None:
    kinds = {bool(others(batch).any()) for batch in s.batches()}  # ERM is among the parts
    assert kinds == {True, False}
    for batch in s.batches():
        assert not others(batch).any() or others(batch).sum() > 1


@says("one draw", "that of the part")
def draw_of_the_part(s: Subject) -> None:
    by_epoch(s) if isinstance(s.of, v.Scheduled) else mixed_by_the_part(s)


@says("one draw", "the shares of all rows of a batch")
def shares_of_all_rows(s: Subject) -> None:
    for drawn in map(s.drawn, range(DRAWS)):
        assert drawn.ndim == 2
        assert equal(torch.from_numpy(drawn.sum(1)), torch.ones(ROWS, dtype=torch.float64))


@says("one draw", "one permutation per batch")
def permutation(s: Subject) -> None:
    drawn = [s.plan(step).partner.tolist() for step in range(DRAWS)]
    assert all(sorted(partner) == list(range(ROWS)) for partner in drawn)
    assert len({str(partner) for partner in drawn}) > 3


@says("one draw", "one partner per row, not a permutation")
def not_a_permutation(s: Subject) -> None:
    one_partner(s)
    assert any(len(set(s.plan(step).partner.tolist())) < ROWS for step in range(DRAWS))


def partner_itself(s: Subject) -> int:
    """Return how often a row is its own partner."""
    return sum(i == j for step in range(DRAWS) for i, j in enumerate(s.plan(step).partner.tolist()))


@says("one draw", "no row is its own partner")
def never_itself(s: Subject) -> None:
    assert partner_itself(s) == 0


@says("one draw", "a row may be its own partner, unless `self_pairs=False`")
def perhaps_itself(s: Subject) -> None:
    assert partner_itself(s) > 0
    assert partner_itself(s.per_example) == 0


def classes_of_partners(s: Subject) -> list[tuple[int, int]]:
    y = s.y.tolist()
    return [(y[i], y[j]) for step in range(DRAWS) for i, j in enumerate(s.plan(step).partner.tolist())]


@says("one draw", "partners have the row's own class")
def own_class(s: Subject) -> None:
    assert all(a == b for a, b in classes_of_partners(s))


@says("one draw", "partners have another class")
def another_class(s: Subject) -> None:
    assert all(a != b for a, b in classes_of_partners(s))


# -- what holds a draw, or applies one ---------------------------------------------------------------------------------


@says("lambda", "that of the plan, for hidden states and targets alike")
@says("one draw", "that of the plan")
def of_the_plan(s: Subject) -> None:
    for step in range(DRAWS):
        batch, plan = s.batch(step), s.plan(step)
        assert equal(batch.shares, plan(marked()).mean((2, 3)))
        assert equal(batch.labels, plan.target(s.y).dense(ROWS, torch.float64))


@says("dimension 0", "the rows of the batch, which `ids` and `weight` hold in dimension 1")
def rows_in_dimension_1(s: Subject) -> None:
    maps = torch.arange(ROWS)[:, None].expand(ROWS, 3)
    for y in (s.plan(0).target(s.y), s.plan(0).target(maps)):
        assert len(y) == y.shape[0] == y.ids.shape[1] == y.weight.shape[1] == ROWS
        assert torch.equal(y[2:4].ids, y.ids[:, 2:4])


@says("lambda", "`weight[0]`, the share of the row's own label")
def share_of_own_label(s: Subject) -> None:
    for step in range(DRAWS):
        y = s.plan(step).target(s.y)
        assert torch.equal(y.ids[0], s.y)
        assert equal(y.weight[0], s.plan(step).shares[:, 0])


@says("lambda", "the other rows of `weight` are its partners' shares")
def shares_of_partners_labels(s: Subject) -> None:
    for step in range(DRAWS):
        plan = s.plan(step)
        y = plan.target(s.y)
        assert torch.equal(y.ids[1:], s.y[plan.partners].T)
        assert equal(y.weight[1:], plan.shares[:, 1:].T)


@says("one draw", "shared by every entry of a row")
def shared_by_entries(s: Subject) -> None:
    y = s.plan(0).target(torch.arange(ROWS)[:, None].expand(ROWS, 3))
    dense = y.dense(ROWS)
    assert equal(dense, dense[:, :, :1].expand_as(dense))


@says("dimension 0", "the rows of the batch, unless `dim` says otherwise")
def rows_of_hidden_states(s: Subject) -> None:
    x, plan = numbers(ROWS, 3, 5).float(), s.plan(0)
    for module, dim, given in (
        (torch.nn.GRU(5, 2, batch_first=True), None, x),
        (torch.nn.GRU(5, 2), 1, x.transpose(0, 1)),
    ):
        net = torch.nn.Sequential(module)
        latent = v.LatentMixing(net, "0", dim=dim)
        seen = []
        module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with latent(plan):
            net(given)
        assert equal(seen[0].movedim(dim or 0, 0), plan(x), within=1e-5)
    try:
        v.LatentMixing(torch.nn.Sequential(torch.nn.GRU(5, 2)), "0")
    except ValueError:
        return
    raise AssertionError("a time-major module was taken without dim")


@says("one draw", "one layer per plan")
def one_layer(s: Subject) -> None:
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    latent, chosen = v.LatentMixing(net, ["0", "1"]), []
    for step in [*range(20), *range(20)]:
        with latent(s.plan(step)):
            net(marked())
        chosen.append(latent.at)
    assert chosen[:20] == chosen[20:]
    assert set(chosen) == {"0", "1"}


@says("dimension 0", "the rows of the batch that `collate_fn` makes")
def rows_of_collated(s: Subject) -> None:
    x, y = s.of()([(torch.zeros(3), i) for i in range(5)])
    assert x.shape == (5, 3)
    assert y.shape == (5,)


@says("lambda", "that of the vicinity")
def of_the_vicinity(s: Subject) -> None:
    for step in range(DRAWS):
        batch = s.batch(step)
        assert equal(batch.shares, batch.plan(marked()).mean((2, 3)))
        assert equal(batch.labels, batch.shares @ batch.one_hot)


@says("one draw", "one plan per batch")
def plan_per_batch(s: Subject) -> None:
    per_batch(s)


@says("one draw", "each worker draws its own")
def workers(s: Subject) -> None:
    data = [(torch.zeros(1), i) for i in range(8)]
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, collate_fn=s.of(), num_workers=2, multiprocessing_context="fork"
    )
    shares = [y.weight[0, 0].item() for _, y in loader]
    assert len(set(shares)) == 2


# -- losses and metrics ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """A loss or a metric: of each row, on plain class indices and on mixed ones."""

    of_rows: Callable[[Tensor, Any], Tensor]
    plain: Callable[[Tensor, Tensor], Tensor]


def scored(seed: int = 0) -> tuple[Tensor, v.MixedTarget]:
    logits = numbers(ROWS, ROWS, seed=seed)
    return logits, v.Mixup(v.Beta(1.0, per="example"), seed=seed).plan(ROWS, step=0).target(torch.arange(ROWS))


@says("dimension 0", "the rows of the batch, of predictions and targets alike")
def rows_of_predictions(s: Subject) -> None:
    logits, y = scored()
    order = torch.arange(ROWS).flip(0)
    assert equal(s.of.of_rows(logits[order], y[order]), s.of.of_rows(logits, y)[order])


@says("lambda", "that of the target")
@says("lambda", "the loss on each label is weighted by its share", "a hit on a label counts by its share")
def weighted_by_shares(s: Subject) -> None:
    hits = 0
    for seed in range(DRAWS):
        logits, y = scored(seed)
        by_loop = []
        for i in range(ROWS):
            shares, ids = y.weight[:, i].tolist(), y.ids[:, i]
            terms = [s.of.plain(logits[i : i + 1], label[None]).item() for label in ids]
            by_loop.append(sum(share * term for share, term in zip(shares, terms, strict=True)))
        found = s.of.of_rows(logits, y)
        assert equal(found.double(), torch.tensor(by_loop, dtype=torch.float64), within=1e-5)
        hits += bool(found.any())
    assert hits > DRAWS / 2


# -- methods of the family ---------------------------------------------------------------------------------------------


@says("dimension 0", "of what comes out, the rows of the batch, then the mixed rows in their order", "2 n in all")
@says("lambda", "1 for the plain rows")
def plain_then_mixed(s: Subject) -> None:
    for batch in s.batches():
        assert len(batch.shares) == len(batch.labels) == 2 * ROWS
        assert torch.equal(batch.shares[:ROWS], torch.eye(ROWS, dtype=torch.float64))
        assert torch.equal(batch.labels[:ROWS], batch.one_hot)


@says("lambda", "for the mixed ones that of the part")
def mixed_by_the_part(s: Subject) -> None:
    for step in range(DRAWS):
        part = s.of.part.draw(v.Key(s.of.seed, 0, 0, step), ROWS, s.y, marked(), None)
        batch = s.batch(step)
        assert equal(batch.shares[ROWS:], part(marked()).mean((2, 3)))
        assert equal(batch.labels[ROWS:], part.target(s.y).dense(ROWS, torch.float64))


@says("lambda", "the probability that a row stays itself, that of the part", "what is drawn is 0 or 1")
@says("one draw", "that of the part, and one choice per example")
def itself_or_its_partner(s: Subject) -> None:
    stays, of_the_part = [], []
    for step in range(8 * DRAWS):
        plan, part = s.plan(step), s.of.part.draw(v.Key(s.of.seed, 0, 0, step), ROWS, s.y, marked(), None)
        assert set(plan.weight.tolist()) <= {0.0, 1.0}
        assert torch.equal(plan.partner, part.partner)
        stays.append(plan.weight)
        of_the_part.append(part.weight)
    stays, of_the_part = torch.stack(stays), torch.stack(of_the_part)
    assert bool((stays != stays[:, :1]).any())  # not one choice per batch
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (of_the_part >= low) & (of_the_part < low + 0.25)
        spread = 4 * 0.5 / float(chosen.sum()) ** 0.5  # four standard errors, at most
        assert abs(float(stays[chosen].mean() - of_the_part[chosen].mean())) < spread
    batch = s.batch(0)
    assert equal(batch.labels, batch.shares @ batch.one_hot)


@says("lambda", "the share of cells that a row keeps")
def cells_kept(s: Subject) -> None:
    for batch in s.batches():
        for i in range(ROWS):
            kept = sum(int(cell) for cell in batch.cells[i, i].flatten().tolist()) / batch.cells[i, i].numel()
            assert abs(float(batch.labels[i] @ batch.one_hot[i]) - kept) < 1e-6, f"row {i}"


@says("one draw", 'one mask per batch, or per example with `per="example"`')
def mask_per_batch_or_example(s: Subject) -> None:
    box_per_batch_or_example(s)


@says("dimension 0", "dimension 1 of inputs: the columns")
@says("lambda", "the share of features that a row keeps")
@says("one draw", "one choice of columns per example")
def columns(s: Any) -> None:
    different = 0
    for step in range(DRAWS):
        table = (
            torch.arange(ROWS, dtype=torch.float64)[:, None].expand(ROWS, 12).contiguous()
        )  # a row's cells: its number
        mixed, y = s.table.mix(table, s.y, step)
        kept = mixed == table
        assert mixed.shape == table.shape
        assert equal(
            y.weight[0].double(), torch.where(s.table.plan(step).partner == s.y, y.weight[0], kept.double().mean(1))
        )
        different += len({str(row.tolist()) for row in kept}) > 1
    assert different > DRAWS / 2


@says("lambda", "the labels have the same, or the importance of these features")
def labels_of_columns(s: Any) -> None:
    importance = torch.tensor(s.weighed.of.importance, dtype=torch.float64)
    for step in range(DRAWS):
        table = torch.arange(ROWS, dtype=torch.float64)[:, None].expand(ROWS, 12).contiguous()
        mixed, y = s.weighed.mix(table, s.y, step)
        for i, kept in enumerate(mixed == table):
            if int(s.weighed.plan(step).partner[i]) != i:
                assert abs(float(y.weight[0, i]) - float((kept * importance).sum() / importance.sum())) < 1e-5


@says("lambda", "the rarer class may take the whole label")
def rarer_class(s: Subject) -> None:
    counts, seen = torch.tensor(s.of.counts), set()
    for step in range(DRAWS):
        plan, y = s.plan(step), s.plan(step).target(s.y)
        for (lam, j), share, own in zip(pairs(plan), y.weight[0].tolist(), s.y.tolist(), strict=True):
            ratio = float(counts[own] / counts[s.y[j]])
            taken = 0.0 if ratio >= 3 and lam < 0.5 else 1.0 if ratio <= 1 / 3 and 1 - lam < 0.5 else lam
            assert abs(share - taken) < 1e-6
            seen.add(taken == lam)
    assert seen == {True, False}


@says("one draw", "as of `Mixup`")
def as_of_mixup(s: Subject) -> None:
    plain = v.Mixup(s.of.alpha, s.of.pairing, seed=s.of.seed)
    for step in range(DRAWS):
        plan, other = s.plan(step), plain.plan(ROWS, step=step)
        assert torch.equal(plan.partner, other.partner)
        assert torch.equal(plan.weight, other.weight)


@says("one draw", "one lambda per example, by the distance of its pair")
def by_distance(s: Subject) -> None:
    per_example(s)
    x = torch.tensor([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [9.3]])
    near, far = [], []
    for step in range(4 * DRAWS):
        plan = s.of.plan(ROWS, x=x, step=step)
        for i, (lam, j) in enumerate(pairs(plan)):
            if i != j:
                (near if abs(float(x[i] - x[j])) < 1 else far).append(min(lam, 1 - lam))
    assert sum(near) / len(near) > 2 * sum(far) / len(far)


@says("one draw", "one permutation per batch, reordered within blocks")
def permutation_of_blocks(s: Subject) -> None:
    permutation(s)


@says("one draw", "a row may be its own partner")
def sometimes_itself(s: Subject) -> None:
    assert partner_itself(s) > 0


@says("one draw", "no row is its own partner while another one fits")
def itself_only_alone(s: Subject) -> None:
    same = {i for i in range(ROWS) if s.y.tolist().count(int(s.y[i])) > 1}
    for step in range(DRAWS):
        assert {i for i, j in enumerate(s.plan(step).partner.tolist()) if i != j} == same


@says("dimension 0", "the rows of the batch that the loader asked for, of inputs and targets alike")
def rows_that_were_asked_for(s: Any) -> None:
    x, y = s.collated([3, 1], 0)
    assert x.shape == (2, ROWS)
    assert y.shape == (2, ROWS)


@says("one draw", "one partner per row, of all rows")
def partner_of_all_rows(s: Any) -> None:
    partners = set()
    for step in range(2 * DRAWS):
        x, _ = s.collated([0, 1], step)
        assert int((x > 0).sum(1).max()) <= 2
        partners |= set(x[0].nonzero()[:, 0].tolist())
    assert partners == set(range(ROWS))


@says("dimension 0", "the rows of the whole dataset")
@says("one draw", "one row of the dataset per row asked for, independently", "it may be the row itself")
def rows_of_the_dataset(s: Subject) -> None:
    drawn = [s.drawn(step).tolist() for step in range(DRAWS)]
    assert all(len(partners) == 3 and set(partners) <= set(range(ROWS)) for partners in drawn)
    assert {partners[0] for partners in drawn} >= {2}  # row 2 is asked for twice, and is drawn twice
    assert any(partners[0] != partners[1] for partners in drawn)


@says("lambda", "not drawn here")
def rows_alone(s: Subject) -> None:
    assert s.drawn(0).dtype.kind == "i"


# -- scikit-learn ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted(Subject):
    """An estimator, whose fit was watched.

    Args:
        watched: the batches of its fit.
        fit: (random_state) -> whatever tells one fit from another.
        bare: makes an estimator that is not fitted.

    """

    watched: tuple[Batch, ...] = ()
    fit: Callable[[int], Any] = lambda seed: None
    bare: Callable[[], Any] = lambda: None

    def batches(self) -> list[Batch]:
        return list(self.watched)


@says("dimension 0", "the rows of `X` and `y`")
def rows_of_table(s: Any) -> None:
    x = numbers(ROWS, 2).numpy()
    try:
        s.bare().fit(x, list(range(ROWS - 1)))
    except ValueError:
        return
    raise AssertionError("X and y of different numbers of rows were fitted")


@says("one draw", "decided by `random_state` and the step", "decided by `random_state`")
def by_random_state(s: Any) -> None:
    first, again, other = s.fit(0), s.fit(0), s.fit(1)
    assert first == again
    assert first != other


@says("one draw", "one lambda per row of each copy")
def lambda_per_row(s: Subject) -> None:
    per_example(s)


@says("one draw", "one partner per row of each copy")
def partner_per_row(s: Subject) -> None:
    one_partner(s)


@says("lambda", "that of `MixupClassifier`", "that of `MixupRegressor`")
@says(
    "one draw",
    "those of `MixupClassifier`, for each candidate alpha",
    "those of `MixupRegressor`, for each candidate alpha",
)
def as_the_estimator(s: Any) -> None:
    chosen, plain = s.of
    assert (chosen == plain).all()


# -- measured where the package is installed: tests/stacks/test_conventions.py -----------------------------------------

ELSEWHERE = {
    "dimension 0": {"the rows of the batch that one process trains on"},
    "lambda": set[str](),
    "one draw": {
        "one plan per training batch and process",
        "one plan per training batch",
        "decided by the trainer's count of batches",
        "decided by the trainer's global step",
        "decided by the count of batches in the history",
    },
}
