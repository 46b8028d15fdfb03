from __future__ import annotations

import io
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab.data import class_folder, decoding, images, loader
from vicinal.lab.data.decoding import Crop
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream

Data = Callable[[str], Path]
Pixels = np.ndarray


@pytest.fixture(params=["Pillow", "fast"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both decoders, where both are installed."""
    if request.param == "Pillow":
        monkeypatch.setattr(decoding, "_fast", lambda: None)
    elif decoding._fast() is None:
        pytest.skip("the packages simplejpeg and opencv-python-headless are not installed")
    return request.param


def scene(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth colors, uint8 [height, width, 3], as in a photograph."""
    generator = np.random.Generator(np.random.Philox(key=[seed, height * 10000 + width]))
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: Pixels, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    image, out = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def folder(root: Path, classes: dict[str, int], *, form: str = "JPEG", size: tuple[int, int] = (40, 50)) -> Path:
    seed = 0
    for name, n in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            content = encoded(scene(size[0] + i, size[1] - i, seed), form)
            (root / name / f"{i:03d}.{form}").write_bytes(content)
            seed += 1
    return root


def decoded(content: bytes, crop: Crop, size: int) -> Pixels:
    out = np.zeros((size, size, 3), dtype=np.uint8)
    decoding.decode(content, lambda height, width: crop, out)
    return out


def everything(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, list[int]]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels).tolist()


# ---- what is there


def test_scan(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"dog": 2, "cat": 3})
    folder(root / "dog" / "puppies", {"small": 1}, form="PNG")
    for stray in ("cat/.hidden.jpg", "cat/notes.txt", "labels.csv", ".DS_Store", "dog/Thumbs.db"):
        (root / stray).touch()
    (root / ".cache").mkdir()
    os.rename(root / "cat" / "001.JPEG", root / "cat" / "001.Jpg")
    files = images.scan(str(root))
    assert files.classes == ("cat", "dog")
    assert files.paths == (
        "cat/000.JPEG",
        "cat/001.Jpg",
        "cat/002.JPEG",
        "dog/000.JPEG",
        "dog/001.JPEG",
        "dog/puppies/small/000.PNG",
    )
    assert files.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (files.name, len(files)) == ("pets", 6)
    some = files.take([5, 0])
    assert some.paths == ("dog/puppies/small/000.PNG", "cat/000.JPEG")
    assert some.labels.tolist() == [1, 0]


def test_folders_that_are_no_set(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"absent' is no folder that can be read \(No such file or directory\): give one"
    ):
        images.scan(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file' is no folder that can be read \(Not a directory\)"):
        images.scan(tmp_path / "file")
    with pytest.raises(
        UserError, match="holds no folders: put the images or audio of each class into one of its own, two"
    ):
        images.scan(tmp_path)
    folder(tmp_path / "set", {"a": 1})
    with pytest.raises(UserError, match="holds 1 folder: put"):
        images.scan(tmp_path / "set")
    (tmp_path / "set" / "b").mkdir()
    with pytest.raises(
        UserError, match=r"set/b' holds no images \(\.jpg, .*\) and no audio \(\.wav, \.flac\): add some"
    ):
        images.scan(tmp_path / "set")
    folder(tmp_path / "parted", {"train": 1, "val": 1})
    with pytest.raises(
        UserError, match=r"holds the folder 'train', not a folder for each class: give '.*parted/train'"
    ):
        images.scan(tmp_path / "parted")


def test_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_ENV, raising=False)
    with pytest.raises(UserError, match=f"ImageNet-2012 is not part of this program: put .* {DATA_DIR_ENV} to DIR"):
        images.imagenet()
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    with pytest.raises(UserError, match=r"ImageNet-2012 is not in '.*/imagenet': register at https://image-net\.org"):
        images.imagenet()
    folder(tmp_path / "imagenet" / "train", {"n01440764": 3, "n01443537": 2})
    (tmp_path / "imagenet" / "val").mkdir()
    (tmp_path / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(UserError, match=r"the images in '.*/val' are not in folders: sort them into val/WNID/"):
        images.imagenet()
    folder(tmp_path / "imagenet" / "val", {"n01443537": 1, "n01484850": 1})
    with pytest.raises(UserError, match="do not have the same folders: 'n01440764' is in one of them"):
        images.imagenet()
    os.rename(tmp_path / "imagenet" / "val" / "n01484850", tmp_path / "imagenet" / "val" / "n01440764")
    train, validation = images.imagenet()
    assert train.classes == validation.classes == ("n01440764", "n01443537")
    assert (len(train), validation.labels.tolist()) == (5, [0, 1])
    folder(tmp_path / "imagenet" / "train", {"goldfish": 1})
    with pytest.raises(UserError, match="holds the folder 'goldfish', which is no WNID"):
        images.imagenet(tmp_path / "imagenet")


def test_images_and_audio_are_not_mixed(tmp_path: Path) -> None:
    folder(tmp_path / "set", {"a": 2, "b": 2})
    (tmp_path / "set" / "b" / "deep").mkdir()
    (tmp_path / "set" / "b" / "deep" / "bark.WAV").touch()
    with pytest.raises(
        UserError, match=r"set' holds images \('a/000\.JPEG'\) and audio \('b/deep/bark\.WAV'\): give a folder"
    ):
        images.scan(tmp_path / "set")
    for i, name in enumerate(("a", "b", "_background_noise_")):
        (tmp_path / "calls" / name).mkdir(parents=True)
        (tmp_path / "calls" / name / f"{i}.flac").touch()
    found = class_folder.scan(tmp_path / "calls")
    assert (found.kind, found.paths, found.classes) == ("audio", ("a/0.flac", "b/1.flac"), ("a", "b"))
    assert found.take([1]).kind == "audio"
    with pytest.raises(UserError, match=r"calls' holds audio \('a/0\.flac'\), where images are expected"):
        images.scan(tmp_path / "calls")


# ---- where to cut


def test_random_crops_fit() -> None:
    generator = Key(0, 0, 0, 0).generator()
    for height, width in ((1, 1), (1, 1000), (1000, 1), (2, 3), (500, 375), (64, 64), (30, 4000)):
        for _ in range(200):
            crop = decoding.random_crop(height, width, generator)
            assert crop.height >= 1
            assert crop.width >= 1
            assert crop.top >= 0
            assert crop.left >= 0
            assert crop.top + crop.height <= height
            assert crop.left + crop.width <= width


def test_a_image_too_long_is_cut_in_the_middle() -> None:
    generator = Key(0, 0, 0, 0).generator()
    assert {decoding.random_crop(30, 4000, generator)[:4] for _ in range(50)} == {(0, 1980, 30, 40)}
    assert {decoding.random_crop(4000, 30, generator)[:4] for _ in range(50)} == {(1980, 0, 40, 30)}


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
    crops = [decoding.random_crop(height, width, generator) for _ in range(n)]
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
    assert abs(sum(c.mirrored for c in crops) / n - 0.5) < 4 * 0.5 / math.sqrt(n)


def test_kept_crops() -> None:
    crops = [decoding.random_crop(375, 500, Key(3, 0, 0, (2 << 32) + i, Stream.CROP).generator()) for i in range(3)]
    assert [tuple(crop) for crop in crops] == [  # a change of these changes every recorded result
        (33, 66, 279, 334, False),
        (67, 159, 235, 228, False),
        (61, 223, 194, 221, False),
    ]


def test_central_crop() -> None:
    assert decoding.central_crop(256, 256, 224 / 256) == (16, 16, 224, 224, False)
    assert decoding.central_crop(375, 500, 224 / 256) == (23, 86, 328, 328, False)
    assert decoding.central_crop(64, 80, 1.0) == (0, 8, 64, 64, False)
    assert decoding.central_crop(1, 1, 0.1) == (0, 0, 1, 1, False)


# ---- decoding


@pytest.mark.usefixtures("decoder")
def test_pixels_come_through(tmp_path: Path) -> None:
    pixels = scene(50, 70)
    crop = Crop(10, 20, 32, 32, mirrored=False)
    for form in ("PNG", "BMP", "PPM", "TIFF"):
        assert np.array_equal(decoded(encoded(pixels, form), crop, 32), pixels[10:42, 20:52])
    mirrored = decoded(encoded(pixels), crop._replace(mirrored=True), 32)
    assert np.array_equal(mirrored, pixels[10:42, 51:19:-1])
    webp = decoded(encoded(pixels, "WEBP", lossless=True), crop, 32)
    assert np.array_equal(webp, pixels[10:42, 20:52])
    jpeg = encoded(pixels, "JPEG", quality=95)
    reference = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    for flipped in (False, True):
        out = decoded(jpeg, crop._replace(mirrored=flipped), 32)
        expected = reference[10:42, 20:52]
        difference = np.abs(out.astype(int) - (expected[:, ::-1] if flipped else expected))
        assert difference.mean() < 0.5
        assert difference.max() <= 4


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    ("height", "width", "crop", "size"),
    [
        (300, 400, Crop(20, 30, 250, 300, mirrored=False), 64),  # decoded at half the size
        (301, 403, Crop(20, 31, 250, 300, mirrored=True), 20),  # at an eighth
        (63, 61, Crop(3, 5, 57, 55, mirrored=True), 50),
        (40, 50, Crop(0, 0, 40, 50, mirrored=False), 96),  # enlarged
        (97, 89, Crop(96, 88, 1, 1, mirrored=False), 8),
        (1, 1, Crop(0, 0, 1, 1, mirrored=True), 4),
    ],
)
def test_scaled_crops_are_close_to_the_plain_way(height: int, width: int, crop: Crop, size: int) -> None:
    content = encoded(scene(height, width), "JPEG", quality=95)
    whole = Image.open(io.BytesIO(content)).convert("RGB")
    cut = whole.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    expected = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    found = decoded(content, crop, size)
    assert np.abs(found - (expected[:, ::-1] if crop.mirrored else expected)).mean() < 3.5


@pytest.mark.usefixtures("decoder")
def test_kinds_of_images() -> None:
    pixels = scene(48, 48)
    crop = Crop(0, 0, 48, 48, mirrored=False)
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


@pytest.mark.usefixtures("decoder")
def test_what_is_no_image() -> None:
    crop = Crop(0, 0, 8, 8, mirrored=False)
    good = encoded(scene(64, 64), "JPEG")
    for content, why in (
        (b"", "cannot identify"),
        (b"not a picture", "cannot identify"),
        (b"\xff\xd8\xff", "cannot identify"),
        (good[: len(good) // 2], "truncated"),
        (good[:200], ""),
        (encoded(scene(64, 64))[:300], ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n", "cannot identify"),  # would start Ghostscript
        (png(60000, 60000), "exceeds limit"),
        (jpeg_of(65500, 65500), "exceeds limit"),
        (png(30, 30), ""),
        (encoded(np.full((8, 8), 40000, dtype=np.uint16)), "it has more than 8 bits a color"),
    ):
        with pytest.raises(decoding.Unreadable) as caught:
            decoded(content, crop, 8)
        assert why in str(caught.value)


@pytest.mark.usefixtures("decoder")
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*DecompressionBombWarning")
def test_damage_at_any_place_is_refused_or_harmless() -> None:
    crop = Crop(0, 0, 8, 8, mirrored=False)
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
            except decoding.Unreadable:
                refused += 1
    assert 50 < refused < 350


def test_the_name_of_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoding.decoder().startswith(("Pillow ", "simplejpeg "))
    monkeypatch.setattr(decoding, "_fast", lambda: None)
    assert decoding.decoder() == f"Pillow {Image.__version__}"


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(decoding.importlib, "import_module", absent)
    with pytest.raises(UserError, match="reading images needs the package pillow: install it"):
        decoding._pillow.__wrapped__()
    assert decoding._fast.__wrapped__() is None


# ---- batches


@pytest.mark.usefixtures("decoder")
def test_evaluation_batches(tmp_path: Path) -> None:
    files = images.scan(folder(tmp_path, {"a": 4, "b": 3}, form="PNG", size=(32, 48)))
    x, y = everything(images.evaluation_batches(files, batch=3, size=28))
    assert y == [0, 0, 0, 0, 1, 1, 1]
    first = scene(32, 48, 0)
    assert np.array_equal(x[0].permute(1, 2, 0).numpy(), first[2:30, 10:38])  # 28 is 32 * 224 / 256
    assert [len(labels) for _, labels in images.evaluation_batches(files, batch=3, size=8)] == [3, 3, 1]
    held = images.load(files, size=32)
    assert (held.images.shape, held.classes, held.name) == ((7, 3, 32, 32), ("a", "b"), tmp_path.name)
    assert held.images.is_contiguous()
    assert np.array_equal(held.images[0].permute(1, 2, 0).numpy(), first[:, 8:40])
    assert torch.equal(held.labels, files.labels)


def test_a_broken_image_ends_the_reading(tmp_path: Path) -> None:
    files = images.scan(folder(tmp_path, {"a": 30, "b": 30}, size=(20, 60)))
    for broken in ("a/011.JPEG", "a/017.JPEG", "b/003.JPEG"):
        (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:300])
    for threads in (1, 4):
        batches = images.evaluation_batches(files, batch=10, size=8, threads=threads)
        assert next(batches)[1].tolist() == [0] * 10
        with pytest.raises(UserError, match=r"a/011\.JPEG' is not an image that can be read \(.*\): replace or remove"):
            next(batches)
    (tmp_path / "a/000.JPEG").unlink()
    with pytest.raises(
        UserError, match=r"a/000\.JPEG' cannot be read \(No such file or directory\): mend that, or rem"
    ):
        next(images.evaluation_batches(files, batch=10, size=8))


def test_no_thread_stays(tmp_path: Path) -> None:
    files = images.scan(folder(tmp_path, {"a": 30, "b": 30}, size=(20, 60)))
    before = threading.active_count()
    for _ in images.evaluation_batches(files, batch=4, size=8, threads=3):
        break
    batches = images.evaluation_batches(files, batch=4, size=8, threads=3)
    next(batches)
    assert threading.active_count() > before
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_arguments_out_of_range(tmp_path: Path) -> None:
    files = images.scan(folder(tmp_path, {"a": 2, "b": 2}))
    for arguments, sentence in (
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 1, "size": 0}, "size must be at least 1, got 0"),
        ({"batch": 1, "keep": 1.5}, r"keep must be in \(0, 1\], got 1\.5"),
    ):
        with pytest.raises(ValueError, match=sentence):
            images.evaluation_batches(files, **arguments)


# ---- published images


def test_tiny_imagenet(real_data: Data) -> None:
    train, validation = images.imagenet(real_data("imagenet") / "imagenet" / "tiny-imagenet-20")
    assert train.labels.bincount().tolist() == [100] * 20
    assert validation.labels.bincount().tolist() == [50] * 20
    held = images.load(validation, size=64)
    assert held.images.shape == (1000, 3, 64, 64)
    for k in (0, 321, 999):
        expected = np.asarray(Image.open(validation.root / validation.paths[k]).convert("RGB"))
        difference = np.abs(held.images[k].permute(1, 2, 0).numpy().astype(int) - expected)
        assert difference.mean() < 0.5


def test_photographs(real_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images.scan(real_data("imagenet") / "imagenet" / "imagenet-samples")
    assert (len(files), len(files.classes)) == (48, 48)
    rows, key = torch.arange(48), Key(0, 0, 0, 0)
    x = loader.Reader(files, 224, loader.resized).batch(rows, key)
    assert x.shape == (48, 3, 224, 224)
    monkeypatch.setattr(decoding, "_fast", lambda: None)
    pillow = loader.Reader(files, 224, loader.resized).batch(rows, key)
    difference = (x.int() - pillow.int()).abs().float().mean(dim=(1, 2, 3))
    assert difference.mean() < 1.5  # 0 where Pillow is all there is
    assert difference.max() < 8
