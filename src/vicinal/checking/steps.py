"""Training steps: what reaches the model beside what the loss holds for the label, and the loss itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.checking import labeled_rows, trees
from vicinal.checking.draws import Draw, draw, expected, is_mixed
from vicinal.checking.marks import LeafSpec
from vicinal.checking.pipelines import Content, Fed, Step, content_of, trees_shape
from vicinal.checking.recorder import Recorder, Recording
from vicinal.checking.recover import Candidates, Recovered
from vicinal.checking.report import Fault

_CLASSES = ("indices", "one-hot", "map")
_MOST_HIDDEN = 60  # inner tensors that are looked through for a mixture


def draws(step: Step, contents: Sequence[Content], count: int) -> list[Draw]:
    """Return several runs of a step, each with the label read off the gradient of the loss."""
    ids = list(range(step.n))
    found = []
    for _ in range(count):
        run = draw(step, contents, ids)
        read(step, run)
        found.append(run)
    augmented = any(content.how == "random" for content in contents)
    if not augmented and not any(run.is_mixed() for run in found) and any(_mixed_labels(step, run) for run in found):
        found = inside(step, contents, count) or found
        if step.is_unsure:
            for run in found:
                run.readings.clear()
    return found


def watch_labels(step: Step) -> bool:
    """Watch the call whose outputs are compared with labels; return whether there is one.

    A step may call its model for other losses too, contrastive ones or those of a teacher's outputs.
    """
    first, changed = step.watched_at, step.changed
    depend = []
    for k in range(min(step.with_gradients, 6)):
        step.watched_at = k
        if depends_on_labels(step):
            depend.append(k)
    step.watched_at = next((k for k in depend if k < len(changed) and changed[k]), depend[0] if depend else first)
    return bool(depend)


def depends_on_labels(step: Step) -> bool:
    """Return whether the slopes that are watched change with the labels: not so of contrastive losses and of teachers'."""
    ids = list(range(step.n))
    runs = [step.step([step.marks.fresh(i, label_of=of) for i in ids], ids, torch.zeros_like) for of in (0, 0, 1, 2, 3)]
    gradients = [run.gradient for run in runs if run.gradient is not None]
    if len(gradients) < len(runs) or len({gradient.shape for gradient in gradients}) > 1:
        return True
    sums = [gradient.double().sum(0) for gradient in gradients]
    noise = float((sums[0] - sums[1]).abs().max())
    least = 3 * noise + 1e-4 * float(gradients[0].abs().max())
    return max(float((sums[0] - other).abs().max()) for other in sums[2:]) > least


def read(step: Step, run: Draw) -> None:
    """Add to a run what the loss holds for the labels."""
    gradients = run.fed.gradients if step.has_labels else []
    for spec in step.marks.labels:
        fitting = [g for g in gradients if g.ndim >= 2 and g.shape[1] == spec.classes]
        gradient = fitting[0] if fitting else gradients[0] if len(gradients) == 1 else None
        if gradient is None:
            continue
        if spec.role == "values" and spec.is_whole and gradient.ndim == 2 and gradient.shape[1] > max(1, spec.high):
            spec = step.marks.as_classes(spec, gradient.shape[1])  # class indices as floating point
        if spec.role in _CLASSES:
            reading = labeled_rows.gradient_reading(
                gradient, spec, losses_of(run), run.fed.loss if step.with_gradients == 1 else None
            )
            if reading is not None:
                ignored = [call.ignore_index for call in losses_of(run) if 0 <= call.ignore_index < spec.classes]
                reading.ignored = ignored[0] if ignored else None
                run.readings[spec.name] = reading


def _mixed_labels(step: Step, run: Draw) -> bool:
    """Return whether the loss holds labels that are not those of the rows."""
    for spec in step.marks.labels:
        reading = run.readings.get(spec.name)
        if reading is None or reading.shares is None:
            continue
        for i, says in enumerate(reading.shares):
            place = run.own(i)
            if place is not None and says.ndim == 1 and not np.isnan(says).any():
                one = Recovered(np.eye(len(run.fed.candidates))[place], 0.0, 1.0)
                own = expected(step.marks, spec, one, run.fed.candidates, ())
                if own is not None and np.abs(labeled_rows.padded(own, says) - says).max() > 0.02:
                    return True
    return False


# -- mixing at a hidden layer -------------------------------------------------------------------------------------------


def inside(step: Step, contents: Sequence[Content], count: int) -> list[Draw]:
    """Return runs of a step read at the first inner tensor whose rows are mixtures; none if there is no such tensor."""
    ids = list(range(step.n))
    plain: dict[tuple[str, int], list[Tensor]] = {}
    for i in ids:
        fed = step.step([step.marks.fresh(i) for _ in ids], [i] * step.n, torch.zeros_like, hidden=True)
        assert fed.recording is not None
        for key, leaf in list(fed.recording.hidden.items())[:_MOST_HIDDEN]:
            same = bool(torch.isclose(leaf, leaf[:1], rtol=1e-3, atol=1e-5).all())  # not where a part draws at random
            plain.setdefault(key, []).extend([leaf[0].cpu()] if same else [])
    rows = {
        key: torch.stack(of) for key, of in plain.items() if len(of) == len(ids) and len({t.shape for t in of}) == 1
    }
    found = []
    for _ in range(count):
        fed = step.step([step.marks.fresh(i) for i in ids], ids, torch.zeros_like, hidden=True)
        run = Draw(fed)
        assert fed.recording is not None
        name, made, known = _first_mixed(fed.recording, rows, ids)
        step.is_unsure |= not made and not known
        if made:
            run.rows[name] = made
            fed.inputs[name] = fed.recording.hidden[_key(name)].cpu()
        else:  # mixed nowhere: the inputs themselves
            run = draw(step, contents, ids, fed)
        read(step, run)
        found.append(run)
    return found if any(run.is_mixed() for run in found) else []


def _key(name: str) -> tuple[str, int]:
    part, _, number = name.rpartition(" #")
    return part, int(number)


def _first_mixed(
    recording: Recording, rows: dict[tuple[str, int], Tensor], ids: Sequence[int]
) -> tuple[str, list[Recovered], bool]:
    """Return name and rows of the first inner tensor that is mixed, if any is; and whether all before it are known."""
    known = True
    for key, leaf in recording.hidden.items():
        if key not in rows or leaf.shape[1:] != rows[key].shape[1:] or len(leaf) != len(ids):
            continue
        candidates, made = Candidates(rows[key]), list[Recovered]()
        for i, row in enumerate(leaf.cpu()):
            made.append(candidates.recover(row, i))
            if not made[-1].is_known:
                known = False
                break
        else:
            if any(is_mixed(row) for row in made):
                return f"{key[0]} #{key[1]}", made, known
    return "", [], known


# -- numbers as labels --------------------------------------------------------------------------------------------------


def numbers(step: Step, runs: Sequence[Draw]) -> Iterator[Fault]:
    """Return whether the slope of the loss follows other numbers than the mixed targets.

    At outputs of 0 the slope of squared error and of binary cross-entropy is a straight function of the target, whatever
    its scale; so the slopes of a batch lie on a line over the right targets.
    """
    for spec in step.marks.labels:
        made = [run for run in runs if run.main() is not None and run.fed.gradient is not None]
        scores: list[dict[str, float]] = []
        for run in made:
            score = _lines(step, spec, run)
            if score:
                scores.append(score)
        telling = [score for score in scores if score["own"] < 0.9999 or score["mixed"] < 0.9999]
        if not telling:
            continue
        right = sum(score["mixed"] > 0.999 for score in telling)
        if right > 0.9 * len(telling):
            continue
        for name, code, sentence in (
            ("own", "VIC002", "the slope of the loss follows the rows' own targets, though their inputs are mixed"),
            ("swapped", "VIC001", "the slope of the loss follows targets mixed with lambda and 1 - lambda exchanged"),
            ("cut", "VIC011", "the slope of the loss follows mixed targets cut to whole numbers"),
        ):
            if sum(score[name] > 0.999 for score in telling) > 0.9 * len(telling):
                worst = min(score["mixed"] for score in telling)
                yield Fault(
                    code, f"in {len(telling)} batches {sentence} (correlation with the right ones down to {worst:.3f})."
                )
                break
        else:
            worst = min(score["mixed"] for score in telling)
            if any(
                call.name in ("mse_loss", "binary_cross_entropy_with_logits") for run in made for call in losses_of(run)
            ):
                yield Fault(
                    "VIC001",
                    f"the slope of the loss does not follow the mixed targets (correlation down to {worst:.3f}).",
                )


def losses_of(run: Draw) -> list[Any]:
    """Return the calls of losses that were recorded in a run."""
    return run.fed.recording.losses if run.fed.recording is not None else []


def _lines(step: Step, spec: LeafSpec, run: Draw) -> dict[str, float]:
    """Return how well slopes lie on a line over the targets by each assumption."""
    made = run.main()
    gradient = run.fed.gradient
    if made is None or gradient is None or spec.role not in ("values", "multi-hot", "indices"):
        return {}
    if not any(is_mixed(row) for row in made):
        return {}
    slopes = gradient.double().numpy().reshape(len(gradient), -1)
    values = np.stack([step.marks.leaf(spec.name, i).double().numpy().reshape(-1) for i in run.fed.candidates])
    if slopes.shape[1] != values.shape[1] or len(slopes) != len(made):
        return {}
    if spec.role == "indices" and spec.classes != 2:
        return {}
    share = np.stack([row.share for row in made])
    places = [run.own(i) for i in range(len(made))]
    if any(place is None for place in places):
        return {}
    swapped = np.stack([labeled_rows.swapped_shares(row).share for row in made])
    guesses = {
        "mixed": share @ values,
        "own": values[[place for place in places if place is not None]],
        "swapped": swapped @ values,
        "cut": np.trunc(share @ values),
    }
    return {name: _correlation(slopes, guess) for name, guess in guesses.items()}


def _correlation(slopes: np.ndarray, targets: np.ndarray) -> float:
    """Return how well slopes lie on a line over targets, a line for each column: its class weights are its own."""
    x = targets - targets.mean(axis=0)
    y = slopes - slopes.mean(axis=0)
    spread = (x * x).sum(axis=0)
    slope = np.divide((x * y).sum(axis=0), spread, out=np.zeros_like(spread), where=spread > 1e-12)
    total, left = float((y * y).sum()), float(((y - slope * x) ** 2).sum())
    return float(np.sqrt(max(0.0, 1 - left / total))) if total > 0 else 0.0


# -- around the loss ----------------------------------------------------------------------------------------------------


def around(step: Step, runs: Sequence[Draw]) -> Iterator[Fault]:
    """Return what a step does with labels beside the loss: metrics, and the kind of loss that a model chooses."""
    yield from _metric(step, runs)
    yield from _chosen_loss(step, runs)


class _Distinct:
    """Outputs whose largest entry is at another class in each row, whatever the batch."""

    def __call__(self, out: Tensor) -> Tensor:
        if out.ndim < 2:
            return torch.zeros_like(out)
        stand = torch.zeros_like(out)
        places = (torch.arange(len(out)) * 7 + 3) % out.shape[1]
        stand[torch.arange(len(out)), places.to(out.device)] = 1.0
        return stand


def _metric(step: Step, runs: Sequence[Draw]) -> Iterator[Fault]:
    specs = [spec for spec in step.marks.labels if spec.role in ("indices", "one-hot")]
    if not specs or not any(run.is_mixed() for run in runs):
        return
    ids = list(range(step.n))
    own = torch.tensor([step.marks.class_of(specs[0], i) for i in ids])
    against_own = others = 0
    for _ in range(4):
        fed = step.step([step.marks.fresh(i) for i in ids], ids, _Distinct())
        gradient = fed.gradient
        if fed.recording is None or gradient is None or gradient.ndim != 2 or len(gradient) != len(ids):
            return
        predicted = (torch.arange(len(ids)) * 7 + 3) % gradient.shape[1]
        for a, b in fed.recording.equalities:
            for first, second in ((a, b), (b, a)):
                if torch.equal(first.long(), predicted) and not second.is_floating_point():
                    if torch.equal(second.long(), own):
                        against_own += 1
                    elif len(second) == len(own):
                        others += 1
    if against_own and not others:
        yield Fault(
            "VIC055", f"{against_own} times predictions of mixed inputs were compared with the rows' own labels alone."
        )


def _chosen_loss(step: Step, runs: Sequence[Draw]) -> Iterator[Fault]:
    """Return whether a model that computes its loss from labels takes another loss for soft ones."""
    recording = runs[0].fed.recording
    specs = [spec for spec in step.marks.labels if spec.role in ("indices", "one-hot")]
    if recording is None or not recording.calls or not specs:
        return
    names = {call.name for call in recording.losses}
    if not names & {"binary_cross_entropy_with_logits", "binary_cross_entropy"}:
        return
    call = recording.calls[0]
    soft = {
        name: value for name, value in call.arguments.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    labels = next((name for name in ("labels", "label", "targets", "target", "y") if name in soft), None)
    if labels is None or soft[labels].ndim != 2:
        return
    config = getattr(call.module, "config", None)
    kept = getattr(config, "problem_type", None)
    try:
        if config is not None and hasattr(config, "problem_type"):
            config.problem_type = None  # as it was before the first batch
        with Recorder().recording_of() as plain:
            call.module(**{**call.arguments, labels: soft[labels].argmax(1)})
    except Exception as error:  # the model takes no class indices, loudly
        trees.raise_if_ours(error)
        return
    finally:
        if config is not None and hasattr(config, "problem_type"):
            config.problem_type = kept
    if any(loss.name in ("cross_entropy", "nll_loss") for loss in plain.losses):
        yield Fault(
            "VIC053", "the model computes binary cross-entropy of the mixed labels, and cross-entropy of class indices."
        )


# -- accumulation, and whole loops --------------------------------------------------------------------------------------


def update_size(step: Step) -> float:
    """Return the size of a step's update, where all labels are one class.

    It is that of the gradient that the optimizer is given for the outputs' bias; without one, the sum of the slopes.
    """
    ids = list(range(step.n))
    fed = step.step([step.marks.fresh(i, label_of=0) for i in ids], ids, torch.zeros_like)
    biases = [sizes[k] for sizes in fed.recording.updates for k in _widths(step) if k in sizes] if fed.recording else []
    return biases[-1] if biases else _total(fed.recording)


def _widths(step: Step) -> list[int]:
    """Return how long the vector of parameters is that is added to the outputs: one entry for each class."""
    return [spec.classes for spec in step.marks.labels if spec.classes > 1]


def _total(recording: Recording | None) -> float:
    outputs = [z for call in recording.calls for z in call.outputs] if recording is not None else []
    return float(sum(z.grad.double().sum(0).abs().sum() for z in outputs if z.grad is not None))


def accumulated(trainer: Any, marks: Any, collate: Any, parts: int) -> float:
    """Return the size of the update that a Hugging Face Trainer makes of 16 rows in several micro-batches."""
    rows = [marks.fresh(i, label_of=0) for i in range(16)]
    size = len(rows) // parts
    batches = [dict(collate(rows[i * size : (i + 1) * size])) for i in range(parts)]
    kept = trainer.args.gradient_accumulation_steps, getattr(trainer, "current_gradient_accumulation_steps", None)
    trainer.args.gradient_accumulation_steps = trainer.current_gradient_accumulation_steps = parts
    try:
        with Recorder(torch.zeros_like).recording_of() as recording:
            samples, count = trainer.get_batch_samples(iter(batches), parts, trainer.args.device)
            for batch in samples:
                trainer.training_step(trainer.model, batch, count)
    finally:
        trainer.args.gradient_accumulation_steps, trainer.current_gradient_accumulation_steps = kept
    return _total(recording)


def runs_of_loop(step: Step, count: int) -> list[Draw]:
    """Return what each batch of a whole training loop showed, which is given a loader of marked rows in order."""
    with Recorder(torch.zeros_like).recording_of() as recording:
        step.run(None)
    found = []
    calls = [call for call in recording.calls if call.grad and call.inputs]
    for k, call in enumerate(calls):
        ids = list(range(k % count * step.n, (k % count + 1) * step.n))
        inputs = content_of(call)
        fed = Fed(ids, ids, inputs, None, call.gradients, recording)
        contents = [
            Content(name, "direct", spec)
            for name, t in inputs.items()
            for spec in step.marks.inputs[:1]
            if tuple(t.shape[1:]) == tuple(trees_shape(spec))
        ]
        run = draw(step, contents, ids, fed)
        read(step, run)
        found.append(run)
    return found
