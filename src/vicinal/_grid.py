"""Which dimensions of a batch make the grid that CutMix cuts boxes from, and FMix takes cells from."""

from __future__ import annotations

from torch import Tensor

_FEW = 4  # channels of images, at most: gray, RGB, RGBA
_MANY = 16  # from here on channels may as well be time or depth: spectrograms [n, t, f], volumes [n, d, h, w]


def grid_of(
    x: Tensor, dims: int | None, channels_last: bool, y: Tensor | None = None, who: str = "CutMix"
) -> tuple[int, ...]:
    """Return the sizes of the grid of inputs x.

    Args:
        x: [n, ..., *grid], or [n, ..., *grid, c] with channels_last.
        dims: how many dimensions the grid has; None: what the shape says, if it can mean one thing only.
        channels_last: whether the last dimension holds channels.
        y: targets: class indices [n, *grid], a mask of each input, say what the grid is, too.
        who: the vicinity, for the sentences of errors.

    Raises:
        ValueError: the shape can mean several things, has no such grid, or a grid of no cells.

    """
    shape = tuple(x.shape)
    body = shape[1:-1] if channels_last else shape[1:]
    if dims is None:
        dims = _dims_of_mask(y, body) or _dims(x, body, channels_last, who)
    if len(body) < dims:
        raise ValueError(
            f"{who}(dims={dims}{', channels_last=True' if channels_last else ''}) needs inputs "
            f"[n, ..., {'*grid, c' if channels_last else '*grid'}] with {dims} dimensions of a grid, got {list(shape)}"
        )
    grid = body[len(body) - dims :]
    if 0 in grid:
        raise ValueError(f"{who} needs a grid to cut {_cut_by(who)} from, got inputs {list(shape)}")
    return grid


def _dims_of_mask(y: Tensor | None, body: tuple[int, ...]) -> int:
    """Return of how many dimensions a mask beside the inputs is; 0 if there is none."""
    if y is None or y.is_floating_point() or not 3 <= y.ndim <= 4:
        return 0
    return y.ndim - 1 if tuple(y.shape[1:]) == body[1 - y.ndim :] else 0


def _dims(x: Tensor, body: tuple[int, ...], channels_last: bool, who: str) -> int:
    """Return how many dimensions the grid has if nobody said it."""
    shape = list(x.shape)
    if channels_last:
        if 1 <= len(body) <= 3:
            return len(body)
        raise ValueError(f"{who}(channels_last=True) needs inputs [n, *grid, c], got {shape}: say dims=")
    if any(cls.__name__ == "Video" and cls.__module__.startswith("torchvision") for cls in type(x).__mro__):
        return 2  # [n, t, c, h, w] by its type: the same box out of every frame
    match body:
        case ():
            raise ValueError(f"{who} needs inputs [n, channels, *grid] to cut {_cut_by(who)} from, got {shape}")
        case (_,):  # a signal without channel, or token ids
            return 1
        case channels, length if channels > _FEW and (length <= _FEW or channels > _MANY or channels >= length):
            raise _ambiguous(
                who,
                shape,
                f"signals of {channels} channels (say dims=1), images or spectrograms without a channel (dims=2)"
                f", or signals [n, t, c] (channels_last=True)",
            )
        case _, _:
            return 1
        case channels, height, width:
            if width <= _FEW < max(height, channels):
                raise _ambiguous(who, shape, "images [n, h, w, c] (say channels_last=True) or [n, c, h, w] (dims=2)")
            deep = channels >= _MANY and 2 * channels >= min(height, width)
            if deep or channels == height == width > _FEW:
                readings = f"images of {channels} channels (say dims=2) or volumes without a channel (dims=3)"
                raise _ambiguous(who, shape, readings)
            return 2
    readings = "volumes [n, c, d, h, w] (say dims=3) or videos [n, t, c, h, w] (dims=2: the same box in every frame)"
    raise _ambiguous(who, shape, readings)


def _cut_by(who: str) -> str:
    return "boxes" if who == "CutMix" else "masks"


def _ambiguous(who: str, shape: list[int], readings: str) -> ValueError:
    return ValueError(
        f"{who} cannot tell the grid of inputs {shape}: they may be {readings}. The label's share would be right and the "
        "cut wrong, so nothing is guessed"
    )
