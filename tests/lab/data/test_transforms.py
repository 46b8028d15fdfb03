"""Crops of images, and what decodes them."""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab.data.transforms import Crop, CropFlip, CropParams, ImageError, center_crop, decode, random_resized_crop
from vicinal.lab.streams import Stream


def make_images(n: int, c: int = 3, h: int = 32, w: int = 32, *, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = np.random.Generator(np.random.Philox(key=[n, h]))
    return torch.from_numpy(generator.integers(0, 256, (n, c, h, w), dtype=np.uint8)).to(dtype)


def plain(images: torch.Tensor, shifts: CropParams, pad: int, fill: str) -> torch.Tensor:
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
        shifts = CropParams(torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]))
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


# -- crops of files


def test_random_crops_fit() -> None:
    generator = Key(0, 0, 0, 0).generator()
    for height, width in ((1, 1), (1, 1000), (1000, 1), (2, 3), (500, 375), (64, 64), (30, 4000)):
        for _ in range(200):
            crop = random_resized_crop(height, width, generator)
            assert crop.height >= 1
            assert crop.width >= 1
            assert crop.top >= 0
            assert crop.left >= 0
            assert crop.top + crop.height <= height
            assert crop.left + crop.width <= width


def test_an_image_too_long_is_cut_in_the_middle() -> None:
    generator = Key(0, 0, 0, 0).generator()
    assert {random_resized_crop(30, 4000, generator)[:4] for _ in range(50)} == {(0, 1980, 30, 40)}
    assert {random_resized_crop(4000, 30, generator)[:4] for _ in range(50)} == {(1980, 0, 40, 30)}


def test_law_of_the_crops() -> None:
    """Against the procedure as it is described, one number at a time, from another stream."""
    height, width, n = 375, 500, 8000
    other = Key(1, 0, 0, 0).generator()

    def described() -> tuple[float, float, float, float]:
        for _ in range(10):
            area = other.uniform(0.08, 1.0) * height * width
            ratio = math.exp(other.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                top, left = other.integers(0, height - h + 1), other.integers(0, width - w + 1)
                return w * h / (height * width), w / h, top / height, left / width
        raise AssertionError("one in a million")

    generator = Key(0, 0, 0, 0).generator()
    crops = [random_resized_crop(height, width, generator) for _ in range(n)]
    found = np.array(
        [(c.width * c.height / (height * width), c.width / c.height, c.top / height, c.left / width) for c in crops]
    )
    expected = np.array([described() for _ in range(n)])
    assert 0.0795 < found[:, 0].min() < 0.09
    assert 0.74 < found[:, 1].min() < 0.76
    assert 1.32 < found[:, 1].max() < 1.35
    for a, b in zip(found.T, expected.T, strict=True):
        grid = np.sort(np.concatenate([a, b]))
        distance = np.abs(
            np.searchsorted(np.sort(a), grid, side="right") - np.searchsorted(np.sort(b), grid, side="right")
        ).max()
        assert distance / n < 1.95 * math.sqrt(2 / n)  # Kolmogorov and Smirnov, one in a thousand
    assert abs(sum(c.flipped for c in crops) / n - 0.5) < 4 * 0.5 / math.sqrt(n)


def test_crops_are_kept() -> None:
    crops = [random_resized_crop(375, 500, Key(3, 0, 0, (2 << 32) + i, Stream.CROP).generator()) for i in range(3)]
    assert [tuple(crop) for crop in crops] == [  # a change of these changes every recorded result
        (33, 66, 279, 334, False),
        (67, 159, 235, 228, False),
        (61, 223, 194, 221, False),
    ]


def test_central_crop() -> None:
    assert center_crop(256, 256, 224 / 256) == (16, 16, 224, 224, False)
    assert center_crop(375, 500, 224 / 256) == (23, 86, 328, 328, False)
    assert center_crop(64, 80, 1.0) == (0, 8, 64, 64, False)
    assert center_crop(1, 1, 0.1) == (0, 0, 1, 1, False)


# -- decoding


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colors, uint8 [height, width, 3], as in a photograph."""
    generator = np.random.Generator(np.random.Philox(key=[seed, height * 10000 + width]))
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    image, out = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def decoded(content: bytes, crop: Crop, size: int) -> np.ndarray:
    return decode(content, lambda height, width: crop, size)


def test_pixels_come_through() -> None:
    pixels = scene(50, 70)
    crop = Crop(10, 20, 32, 32, flipped=False)
    for form in ("PNG", "BMP", "PPM", "TIFF"):
        assert np.array_equal(decoded(encoded(pixels, form), crop, 32), pixels[10:42, 20:52])
    flipped = decoded(encoded(pixels), crop._replace(flipped=True), 32)
    assert np.array_equal(flipped, pixels[10:42, 51:19:-1])
    webp = decoded(encoded(pixels, "WEBP", lossless=True), crop, 32)
    assert np.array_equal(webp, pixels[10:42, 20:52])
    jpeg = encoded(pixels, "JPEG", quality=95)
    reference = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    for flipped in (False, True):
        out = decoded(jpeg, crop._replace(flipped=flipped), 32)
        expected = reference[10:42, 20:52]
        difference = np.abs(out.astype(int) - (expected[:, ::-1] if flipped else expected))
        assert difference.mean() < 0.5
        assert difference.max() <= 4


@pytest.mark.parametrize(
    ("height", "width", "crop", "size"),
    [
        (300, 400, Crop(20, 30, 250, 300, flipped=False), 64),  # decoded at half the size
        (301, 403, Crop(20, 31, 250, 300, flipped=True), 20),  # at an eighth
        (63, 61, Crop(3, 5, 57, 55, flipped=True), 50),
        (40, 50, Crop(0, 0, 40, 50, flipped=False), 96),  # enlarged
        (97, 89, Crop(96, 88, 1, 1, flipped=False), 8),
        (1, 1, Crop(0, 0, 1, 1, flipped=True), 4),
    ],
)
def test_scaled_crops_are_close_to_the_plain_way(height: int, width: int, crop: Crop, size: int) -> None:
    content = encoded(scene(height, width), "JPEG", quality=95)
    whole = Image.open(io.BytesIO(content)).convert("RGB")
    cut = whole.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    expected = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    found = decoded(content, crop, size)
    assert np.abs(found - (expected[:, ::-1] if crop.flipped else expected)).mean() < 3.5


def test_kinds_of_images() -> None:
    pixels = scene(48, 48)
    crop = Crop(0, 0, 48, 48, flipped=False)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    for form in ("PNG", "JPEG"):
        out = decoded(encoded(pixels, form, "L"), crop, 48)
        assert (out[:, :, 0] == out[:, :, 1]).all()
        assert np.abs(out[:, :, 0].astype(int) - gray).mean() < 1.5
    opaque = np.concatenate([pixels, np.full((48, 48, 1), 7, dtype=np.uint8)], axis=2)
    assert np.array_equal(decoded(encoded(opaque), crop, 48), pixels)  # transparency is ignored
    assert np.abs(decoded(encoded(pixels, "JPEG", "CMYK"), crop, 48).astype(int) - pixels).mean() < 3
    palette = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)
    expected = np.asarray(palette.convert("RGB"))
    for form, options in (("GIF", {}), ("PNG", {}), ("PNG", {"transparency": bytes([0, 100, 255])})):
        out = io.BytesIO()
        palette.save(out, form, **options)
        assert np.array_equal(decoded(out.getvalue(), crop, 48), expected)
    two = decoded(encoded(pixels, "PNG", "1"), crop, 48)
    assert set(np.unique(two)) == {0, 255}
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: ignored, as ImageNet's readers do
    plain = decoded(encoded(pixels, "JPEG"), crop, 48)
    assert np.array_equal(decoded(encoded(pixels, "JPEG", exif=turned), crop, 48), plain)
    assert np.array_equal(decoded(encoded(pixels, "JPEG", progressive=True), crop, 48), plain)


def png(width: int, height: int, depth: int = 8, kind: int = 2) -> bytes:
    """A PNG file with a header that says so, and hardly any pixels."""
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        out += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG file whose header says so."""
    good = encoded(scene(16, 16), "JPEG")
    at = good.index(b"\xff\xc0") + 5
    return good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]


def test_what_is_no_image() -> None:
    crop = Crop(0, 0, 8, 8, flipped=False)
    good = encoded(scene(64, 64), "JPEG")
    for content, why in (
        (b"", "it is empty, 0 bytes"),
        (b"not an image", "it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"),
        (b"\xff\xd8\xff", "it begins as JPEG, but is cut off or damaged"),
        (good[: len(good) // 2], "it is cut off or damaged"),
        (good[:200], ""),
        (encoded(scene(64, 64))[:300], ""),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n",
            "it is none of JPEG,",
        ),  # would start Ghostscript
        (png(60000, 60000), "it has more than 178,956,970 pixels: scale it down"),
        (jpeg_of(65500, 65500), "it has more than 178,956,970 pixels: scale it down"),
        (png(30, 30), ""),
        (encoded(np.full((8, 8), 4095, dtype=np.uint16)), "its values of 16 bits end at 4095, which would be black"),
        (encoded(np.full((8, 8), 0.5, dtype=np.float32), "TIFF"), "its pixels have 32 bits or a sign: convert it to 8"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html></html>", "it is a web page, HTML"),
        (b"<svg xmlns='x'/>", "it is an SVG drawing: convert it to PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC: convert it to JPEG"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "it is AVIF: convert it to JPEG"),
        (b"\0\0\0\x18ftypisom", "it is a video"),
        (b"%PDF-1.7", "it is a PDF document: convert it to PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a pointer of Git LFS: run git lfs pull"),
        (bytes(4000), "it holds nothing but zeros"),
    ):
        with pytest.raises(ImageError) as caught:
            decoded(content, crop, 8)
        assert why in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*DecompressionBombWarning")
def test_damage_at_any_place_is_refused_or_harmless() -> None:
    crop = Crop(0, 0, 8, 8, flipped=False)
    generator = np.random.Generator(np.random.Philox(key=1))
    refused = 0
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        good = encoded(scene(16, 16), form)
        for _ in range(60):
            data = bytearray(good)
            for place in generator.integers(0, min(len(good), 300), size=3):
                data[place] = int(generator.integers(256))
            try:
                assert decoded(bytes(data), crop, 8).shape == (8, 8, 3)
            except ImageError:
                refused += 1
    assert 50 < refused < 350


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.array([0, 128, 129, 257, 4096, 32767, 32896, 33153, 65406, 65407, 65535], dtype=np.uint16)
    gray = np.tile(values[:, None], (1, 11))
    expected = [round(int(v) / 257) for v in values]
    assert expected[-3:] == [254, 255, 255]
    crop = Crop(0, 0, 11, 11, flipped=False)
    for form in ("PNG", "TIFF", "PPM"):
        found = decoded(encoded(gray, form), crop, 11)
        assert found.shape == (11, 11, 3)
        assert (found == np.array(expected)[:, None, None]).all(), form
    white = encoded(gray, "TIFF", tiffinfo={262: 0})
    assert (decoded(white, crop, 11) == 255 - np.array(expected)[:, None, None]).all()
    assert not decoded(encoded(np.zeros((8, 8), dtype=np.uint16)), Crop(0, 0, 8, 8, flipped=False), 8).any()
