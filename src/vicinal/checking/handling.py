"""What a pipeline does to batches besides mixing them: memory, dtypes, sizes, and the order of transforms."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vicinal.checking import trees
from vicinal.checking.draws import Draw, draw, is_mixed
from vicinal.checking.marks import HIDING_NAME, MASK_NAME
from vicinal.checking.pipelines import Collation, Content, Fed, Pipeline, Step, Transform
from vicinal.checking.report import Fault


def findings(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return what is wrong with how batches are handled, as far as the draws show it."""
    yield from _changed_in_place(pipeline, draws)
    yield from _dtypes(pipeline, contents, draws)
    yield from _whole_numbers(pipeline, contents, draws)
    yield from _after_nonlinear(pipeline, contents, draws)
    yield from _boxes(contents, draws)
    yield from _masks(pipeline, draws)


def _changed_in_place(pipeline: Pipeline, draws: Sequence[Draw]) -> Iterator[Fault]:
    if not isinstance(pipeline, Transform):
        return
    names = set()
    for run in draws:
        for name, before in run.fed.before.items():
            after = run.fed.after.get(name)
            if after is None or after.shape != before.shape or not torch.equal(_comparable(after), _comparable(before)):
                names.add(f"part {name}" if name else "the batch")
    if names:
        yield Fault("VIC031", f"after the call, {', '.join(sorted(names))} of the caller's batch had changed.")


def _comparable(tensor: Tensor) -> Tensor:
    return tensor.nan_to_num(nan=1e30) if tensor.is_floating_point() else tensor


def _dtypes(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    if isinstance(pipeline, Step) or not any(run.is_mixed() for run in draws):
        return
    for content in contents:
        if content.how != "direct" or content.spec is None:
            continue
        like = trees.as_tensor(content.spec.like)
        leaf = draws[0].fed.inputs.get(content.name)
        if like is None or leaf is None or not like.is_floating_point():
            continue
        if leaf.dtype != like.dtype and leaf.is_floating_point():
            yield Fault("VIC032", f"{_short(like.dtype)} came out as {_short(leaf.dtype)}.", content.name)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def other_dtypes(pipeline: Transform, contents: Sequence[Content]) -> str:
    """Return which floating-point types, other than that of the example, come out as others; "" if none."""
    changed = []
    for content in contents:
        if content.how != "direct" or content.spec is None or not isinstance(content.spec.like, Tensor):
            continue
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            out = None if dtype == content.spec.like.dtype else _run_as(pipeline, content, dtype)
            leaf = None if out is None else out.inputs.get(content.name)
            if leaf is not None and leaf.is_floating_point() and leaf.dtype != dtype:
                changed.append(f"{_short(dtype)} would come out as {_short(leaf.dtype)}")
    return ", ".join(dict.fromkeys(changed))


def memory_format(pipeline: Transform, contents: Sequence[Content]) -> Iterator[Fault]:
    """Return whether images that are channels_last come out with other strides."""
    for content in contents:
        is_tensor = content.how == "direct" and content.spec is not None and isinstance(content.spec.like, Tensor)
        shape = _shape(content)
        if is_tensor and len(shape) == 3 and 1 < shape[0] < min(shape[1:]):
            yield from _channels_last(pipeline, content)


def _shape(content: Content) -> tuple[int, ...]:
    tensor = None if content.spec is None else trees.as_tensor(content.spec.like)
    return () if tensor is None else tuple(tensor.shape)


def _run_as(pipeline: Transform, content: Content, dtype: torch.dtype) -> Fed | None:
    """Run a transform on a batch of another dtype; None where it does not take it."""
    ids = list(range(pipeline.n))
    spec = content.spec
    assert spec is not None
    batch = trees.rebuilt(pipeline.batch(ids), lambda name, leaf: leaf.to(dtype) if name == spec.name else leaf)
    try:
        out = pipeline.call(batch)
    except Exception as error:  # a dtype that the pipeline does not take, loudly: no finding
        trees.raise_if_ours(error)
        return None
    inputs, found = pipeline.split(out)
    return Fed(ids, ids, inputs, found)


def _channels_last(pipeline: Transform, content: Content) -> Iterator[Fault]:
    spec = content.spec
    assert spec is not None

    def change(name: str, leaf: Any) -> Any:
        return leaf.contiguous(memory_format=torch.channels_last) if name == spec.name else leaf

    try:
        out = pipeline.call(trees.rebuilt(pipeline.batch(list(range(pipeline.n))), change))
    except Exception as error:  # as above
        trees.raise_if_ours(error)
        return
    for _, leaf in trees.leaves(out):
        if isinstance(leaf, Tensor) and leaf.ndim == 4 and tuple(leaf.shape[1:]) == _shape(content):
            if not leaf.is_contiguous(memory_format=torch.channels_last):
                yield Fault("VIC033", "a channels_last batch came out with other strides.", content.name)
            return


def _whole_numbers(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return token ids that are averaged, and bytes that are cut off instead of rounded."""
    for content in contents:
        if content.how != "direct" or content.spec is None:
            continue
        rows = [
            (row, leaf, run)
            for run in draws
            for row, leaf in zip(
                run.rows.get(content.name, []), run.fed.inputs.get(content.name, torch.empty(0)), strict=False
            )
            if row.is_known and is_mixed(row)
        ]
        if content.spec.role == "tokens":
            sums = [row for row, _, _ in rows if row.pieces is None]
            if len(sums) > 0.2 * max(1, len(rows)):
                shares = " + ".join(f"{sums[0].share[j]:.3f}" for j in sums[0].main()[:2])
                yield Fault(
                    "VIC038",
                    f"{len(sums)} rows of whole numbers are weighted sums ({shares}) of two rows.",
                    content.name,
                )
        elif rows and not rows[0][1].is_floating_point():
            off = [_mean_residual(pipeline, content, row, leaf, run) for row, leaf, run in rows if row.pieces is None]
            if len(off) >= 3 and abs(float(np.mean(off)) + 0.5) < 0.2:
                yield Fault(
                    "VIC035", f"mixed rows are {-float(np.mean(off)):.2f} levels too low on average.", content.name
                )


def _mean_residual(pipeline: Pipeline, content: Content, row: Any, leaf: Tensor, run: Draw) -> float:
    """Return how far a row of whole numbers lies above the weighted sum that it is, on average."""
    used = row.main()
    rows = content.rows(pipeline, [run.fed.candidates[j] for j in used]).double().reshape(len(used), -1).numpy()
    share = row.share[used] / row.share[used].sum()
    return float((leaf.double().reshape(-1).numpy() - share @ rows).mean())


def _after_nonlinear(pipeline: Pipeline, contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    if all(spec.role != "input" for spec in pipeline.marks.inputs):
        return  # token ids have no mean
    recording = draws[0].fed.recording if draws else None
    if recording is not None and len(recording.calls) > 1:
        return  # features that a part of the model makes: Manifold Mixup
    for content in contents:
        if content.how != "pure":
            continue
        sums = [
            row
            for run in draws
            for row in run.rows.get(content.name, [])
            if row.is_known and is_mixed(row) and row.pieces is None
        ]
        if not sums:
            continue
        bent = nonlinearity(pipeline, content)
        if bent > 0.02:
            yield Fault(
                "VIC034",
                f"{len(sums)} rows are weighted sums of what a transform made of each row, and it is not linear: what it "
                f"makes of the mean of two rows is {100 * bent:.0f} % of a standard deviation off the mean of what it makes "
                "of each.",
                content.name,
            )


def nonlinearity(pipeline: Pipeline, content: Content) -> float:
    """Return how far the transform of a mean of two rows is from the mean of their transforms, in parts of the spread."""
    first, second = content.rows(pipeline, [0, 1]).double()
    middle = content.rows(pipeline, [pipeline.marks.blend(0, 1, 0.5)])[0].double()
    spread = float((first - second).std()) or 1.0
    # its scale and its level are free: a row may be standardized by its own
    basis = torch.stack([((first + second) / 2).reshape(-1), torch.ones(first.numel(), dtype=torch.float64)], 1)
    fitted = basis @ torch.linalg.lstsq(basis, middle.reshape(-1, 1)).solution
    return float((middle.reshape(-1) - fitted[:, 0]).abs().mean()) / spread


def _boxes(contents: Sequence[Content], draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return boxes that cut the dimension of colors: the one of size 3 or 4, or 1 beside larger ones."""
    for content in contents:
        shape = _shape(content)
        channel = [d for d, size in enumerate(shape) if size in (3, 4)]
        if content.how != "direct" or len(shape) < 3 or len(channel) != 1:
            continue
        cut = total = 0
        for run in draws:
            for row in run.rows.get(content.name, []):
                if row.pieces is None or not row.is_known or not is_mixed(row):
                    continue
                total += 1
                pieces = np.moveaxis(row.pieces.reshape(shape), channel[0], 0)
                known = (pieces >= 0).all(axis=0)
                cut += bool(((pieces != pieces[:1]).any(axis=0) & known).mean() > 0.1)
        if cut > 0.1 * max(1, total):
            yield Fault(
                "VIC039",
                f"in {cut} of {total} rows a box covers some of the {shape[channel[0]]} channels and not the others "
                f"(dimension {channel[0] + 1} of the batch).",
                content.name,
            )


def _masks(pipeline: Pipeline, draws: Sequence[Draw]) -> Iterator[Fault]:
    """Return masks that hide tokens of a partner that has a share."""
    specs = pipeline.marks.masks
    if not specs:
        return
    marks, spec = pipeline.marks, specs[0]
    hidden: list[tuple[float, int, int]] = []
    total = 0
    for run in draws:
        made = run.main()
        masks = [(name, t) for name, t in run.fed.inputs.items() if MASK_NAME.search(name) and t.ndim >= 2]
        if made is None or not masks:
            continue
        name, mask = masks[0]
        out = mask.reshape(len(mask), -1, mask.shape[-1])[:, 0]
        hiding = HIDING_NAME.search(name) is not None
        for i, row in enumerate(made):
            place = run.own(i)
            if place is None or not row.is_known or row.pieces is not None or i >= len(out):
                continue
            seen = ~_tokens_seen(out[i]) if hiding else _tokens_seen(out[i])
            for j in row.main():
                if j == place or abs(row.share[j]) < 0.02:
                    continue
                own, theirs = (marks.tokens(spec, run.fed.candidates[k]) for k in (place, j))
                if len(theirs) != len(seen) or bool((theirs & ~own).sum() == 0):
                    continue
                total += 1
                lost = int((theirs & ~seen).sum())
                if lost:
                    hidden.append((float(row.share[j]), lost, int(theirs.sum())))
    if len(hidden) > 0.2 * max(1, total):
        share, lost, of = max(hidden)
        yield Fault(
            "VIC042",
            f"in {len(hidden)} of {total} rows; a partner with the share {share:.2f} has {of} tokens, {lost} hidden.",
            spec.name,
        )


def _tokens_seen(mask: Tensor) -> Tensor:
    """Return which tokens a mask lets be seen: 1 or True; of additive masks, 0."""
    if mask.is_floating_point() and float(mask.min()) < -1:
        return mask > -1
    return mask > 0.5 if mask.is_floating_point() else mask.bool()


# -- sizes and cost -----------------------------------------------------------------------------------------------------


def sizes(pipeline: Pipeline, contents: Sequence[Content], n: int) -> Iterator[Fault]:
    """Return whether batches of other sizes fail."""
    if isinstance(pipeline, Step):
        return
    for size in dict.fromkeys((n - 1 if n % 2 == 0 else n, 3, 1)):
        try:
            draw(pipeline, contents, list(range(size)))
        except Exception as error:  # whatever the pipeline raises is what the user would see
            trees.raise_if_ours(error)
            yield Fault("VIC036", f"a batch of {size}: {type(error).__name__}: {first_line(error)}")
            return


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= 160 else text[:157] + "..."


class _Allocated(TorchDispatchMode):
    """Count the bytes of all tensors that operations return in new memory."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: the mode is never compiled, and the guard against it imports torch._dynamo, which takes seconds."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor) and t.device.type != "meta"}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.total += tensor.numel() * tensor.element_size()
        return out


def cost(pipeline: Transform) -> tuple[str, Fault | None]:
    """Return what mixing a batch costs beside copying it, and a finding if that is much."""
    batch = pipeline.batch(list(range(pipeline.n)))
    size = sum(t.numel() * t.element_size() for t in trees.tensors(batch).values())
    fresh = [trees.rebuilt(batch, _cloned) for _ in range(5)]
    spent, copied = [], []
    for given in fresh:
        start = time.perf_counter()
        trees.rebuilt(batch, _cloned)
        copied.append(time.perf_counter() - start)
        start = time.perf_counter()
        pipeline.call(given)
        spent.append(time.perf_counter() - start)
    tracemalloc.start()
    try:
        with _Allocated() as allocated:
            pipeline.call(trees.rebuilt(batch, _cloned))
        _, arrays = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    taken, copy = min(spent), min(copied)  # what other programs add is never below 0
    memory = (allocated.total + (arrays if arrays > 0.5 * size else 0)) / max(
        size, 1
    ) - 1  # less the copy that it was given
    fact = f"mixing a batch of {pipeline.n} takes {1e3 * taken:.2f} ms, copying it {1e3 * copy:.2f} ms"
    if size > 1 << 16:  # beside which numbers about the batch weigh nothing
        fact += f"; tensors made on the way hold {max(memory, 0.0):.1f} times the batch"
    slow = taken > 0.01 and taken > 30 * copy
    return fact, Fault("VIC060", fact + ".") if slow else None


def _cloned(name: str, leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.clone()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def overwrites(pipeline: Collation) -> Iterator[Fault]:
    """Return whether running a collate function changes what the dataset holds."""
    ids = list(range(pipeline.n))
    for _ in range(4):
        fetched = pipeline.feed(ids).candidates
        changed = [i for i in fetched if not _equal(pipeline.marks.example(i), pipeline.marks.fresh(i))]
        if changed:
            yield Fault(
                "VIC030",
                f"after a batch of {len(ids)}, {len(changed)} of the dataset's examples had changed.",
                pipeline.source.name,
            )
            return


def _equal(a: Any, b: Any) -> bool:
    first, second = trees.tensors(a).values(), trees.tensors(b).values()
    return len(first) == len(second) and all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
