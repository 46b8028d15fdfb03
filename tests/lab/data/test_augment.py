from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vicinal.keyed import Key
from vicinal.lab.data.augment import CropFlip, Shifts


def make_images(n: int, c: int = 3, h: int = 32, w: int = 32, *, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = np.random.Generator(np.random.Philox(key=[n, h]))
    return torch.from_numpy(generator.integers(0, 256, (n, c, h, w), dtype=np.uint8)).to(dtype)


def plain(images: torch.Tensor, shifts: Shifts, pad: int, fill: str) -> torch.Tensor:
    """One image, one pixel row after another, by numpy's own padding."""
    out = []
    for image, top, left, flip in zip(images.numpy(), shifts.top, shifts.left, shifts.flip, strict=True):
        mode = {"zero": "constant", "reflect": "reflect"}[fill]
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode=mode)  # type: ignore[call-overload]
        cut = padded[:, int(top) : int(top) + image.shape[1], int(left) : int(left) + image.shape[2]]
        out.append(torch.from_numpy(np.ascontiguousarray(cut[:, :, ::-1] if flip else cut)))
    return torch.stack(out)


@pytest.mark.parametrize("fill", ["zero", "reflect"])
@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (7, 1, 9, 6), (5, 4, 5, 11), (1, 3, 32, 32)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_plain_loop(fill: str, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    images = make_images(*shape).contiguous(memory_format=layout)
    before = images.clone()
    augment = CropFlip(pad=4, fill=fill)
    shifts = augment.draw(len(images), Key(1, 0, 0, 2))
    out = augment.apply(images, shifts)
    assert torch.equal(out, plain(images, shifts, 4, fill))
    assert out.is_contiguous(memory_format=layout)
    assert out.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(augment(images, Key(1, 0, 0, 2)), out)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_more_than_one_chunk_and_other_dtypes(layout: torch.memory_format) -> None:
    images = make_images(2500, 3, 8, 8, dtype=torch.float32).contiguous(memory_format=layout)
    augment = CropFlip(pad=2)
    shifts = augment.draw(2500, Key(0, 0, 0, 0))
    out = augment.apply(images, shifts)
    assert out.dtype == torch.float32
    assert torch.equal(out, plain(images, shifts, 2, "zero"))


def test_a_slice_of_a_larger_set() -> None:
    images = make_images(20)[::3]  # neither layout
    augment = CropFlip()
    shifts = augment.draw(len(images), Key(0, 0, 0, 0))
    assert torch.equal(augment.apply(images, shifts), plain(images, shifts, 4, "zero"))


def test_known_values() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)

    def at(top: int, left: int, flip: bool, fill: str) -> list[list[int]]:
        shifts = Shifts(torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]))
        return CropFlip(pad=1, fill=fill).apply(image, shifts)[0, 0].tolist()

    assert at(1, 1, False, "zero") == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert at(1, 1, True, "zero") == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert at(0, 0, False, "zero") == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert at(0, 0, True, "zero") == [[0, 0, 0], [2, 1, 0], [5, 4, 0]]
    assert at(2, 2, False, "zero") == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]
    assert at(0, 0, False, "reflect") == [[5, 4, 5], [2, 1, 2], [5, 4, 5]]
    assert at(2, 2, False, "reflect") == [[5, 6, 5], [8, 9, 8], [5, 6, 5]]


def test_draws_are_those_of_the_key() -> None:
    augment = CropFlip()

    def drawn(**key: int) -> tuple[list[int], list[int], list[bool]]:
        shifts = augment.draw(8, Key(**{"seed": 3, "rank": 0, "worker": 0, "step": 5, **key}))
        return shifts.top.tolist(), shifts.left.tolist(), shifts.flip.tolist()

    assert drawn() == (  # kept: a change of these changes every recorded result
        [1, 0, 8, 3, 3, 0, 1, 6],
        [4, 6, 5, 5, 3, 4, 5, 8],
        [False, True, False, False, True, False, True, False],
    )
    assert drawn(stream=7) == drawn()
    others = [drawn(), drawn(seed=4), drawn(rank=1), drawn(worker=1), drawn(step=6)]
    assert len({str(other) for other in others}) == 5


def test_draws_share_nothing_with_the_vicinities() -> None:
    key = Key(0, 0, 0, 0)
    assert not np.array_equal(key.generator().integers(0, 9, 64), CropFlip().draw(32, key).top.numpy().repeat(2))
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    CropFlip().draw(32, key)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # type: ignore[index]  # noqa: NPY002


def test_law_of_the_draws() -> None:
    n = 81_000
    shifts = CropFlip(pad=4).draw(n, Key(0, 0, 0, 0))
    counts = torch.bincount(shifts.top * 9 + shifts.left, minlength=81).numpy()
    chi2 = ((counts - n / 81) ** 2 / (n / 81)).sum()
    assert 80 - 4 * math.sqrt(160) < chi2 < 80 + 4 * math.sqrt(160)
    assert abs(shifts.flip.float().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(n)
    assert not CropFlip(flip=False).draw(1000, Key(0, 0, 0, 0)).flip.any()
    still = CropFlip(pad=0, flip=False)
    images = make_images(16)
    assert torch.equal(still(images, Key(0, 0, 0, 0)), images)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="pad must be at least 0, got -1"):
        CropFlip(pad=-1)
    with pytest.raises(ValueError, match="fill must be one of zero, reflect, got 'wrap'"):
        CropFlip(fill="wrap")
    augment = CropFlip()
    shifts = augment.draw(4, Key(0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"images must be \[4, c, h, w\] as the shifts, got \[5, 3, 32, 32\]"):
        augment.apply(make_images(5), shifts)
    with pytest.raises(ValueError, match=r"a reflected border of 4 needs larger images than \[4, 8\]"):
        CropFlip(fill="reflect").apply(make_images(4, 3, 4, 8), shifts)
    assert augment.apply(make_images(0), augment.draw(0, Key(0, 0, 0, 0))).shape == (0, 3, 32, 32)
