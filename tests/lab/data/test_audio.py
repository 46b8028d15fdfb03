"""Audio of any usual form, and the paper's spectrograms of it."""

from __future__ import annotations

import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import get_window

from vicinal.lab.data import audio, class_folder, speech_commands
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError


def tone(n: int, rate: int, hertz: float, seed: int = 0) -> np.ndarray:
    """A tone with a little noise, float64 [n] in [-1, 1]."""
    noise = np.random.Generator(np.random.Philox(key=[seed, n])).standard_normal(n)
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / rate) + 0.002 * noise


def write(path: Path, samples: np.ndarray, rate: int = 16000, width: int = 2) -> Path:
    """Write float64 [n] or [n, channels]; 8 bits are unsigned, as the format has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64) + (128 if width == 1 else 0)
    content = whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


def clip(n: int, seed: int = 0) -> np.ndarray:
    """A glide with noise, int16 [n]."""
    generator = np.random.Generator(np.random.Philox(key=[seed, n]))
    t = np.arange(n) / audio.RATE
    tone = 0.5 * np.sin(2 * np.pi * (300 + 3000 * t) * t) * np.exp(-2 * t)
    return np.round(32767 * np.clip(tone + 0.05 * generator.standard_normal(n), -1, 1)).astype(np.int16)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_all_widths_have_one_scale(tmp_path: Path, width: int) -> None:
    samples = np.array([0.0, 1.0, -1.0, 0.5, -0.25, 0.001] * 40)
    found = audio.read(write(tmp_path / "a.wav", samples, width=width))
    assert (found.bits, found.rate, found.samples.shape[1], found.samples.dtype) == (8 * width, 16000, 1, np.int32)
    np.testing.assert_allclose(found.samples[:, 0] / 2**31, samples, atol=2.0 ** (1 - 8 * width), rtol=0)
    first = audio.read(write(tmp_path / "b.wav", samples, rate=8000, width=width), seconds=0.01)
    assert np.array_equal(first.samples, found.samples[:80])


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(16000, 16000, 700), tone(16000, 16000, 3000, seed=1)
    both = audio.read_any(write(tmp_path / "a.wav", np.stack([left, right], axis=1)))
    parts = [audio.read_any(write(tmp_path / f"{i}.wav", part)) for i, part in enumerate((left, right))]
    assert both.dtype == np.float32
    assert np.array_equal(both, (parts[0] + parts[1]) / 2)
    assert np.array_equal(parts[0], np.round(left * 32767).astype(np.float32))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    from scipy.signal import resample_poly

    samples = tone(3 * rate, rate, 1000)  # three seconds, of which one is read
    found = audio.read_any(write(tmp_path / "a.wav", samples, rate, width=4))
    assert len(found) == 16320
    common = int(np.gcd(rate, 16000))
    whole = 32768 * resample_poly(samples, 16000 // common, rate // common)[:16320]
    np.testing.assert_allclose(found, whole, atol=0.02, rtol=0)  # as if all had been read
    t = np.arange(200, 16000) / 16000
    off = found[200:16000] - 16384 * np.sin(2 * np.pi * 1000 * t)
    assert np.abs(off).max() < 600  # the tone itself, at the same place: 2 % for the filter and the noise
    assert audio.spectrograms([found])[0, 0].mean(dim=1).argmax() == 20  # 1000 Hz in steps of 50


def test_long_ones_are_cut_and_short_ones_padded(tmp_path: Path) -> None:
    samples = tone(40000, 16000, 500)
    long, second = (audio.read_any(write(tmp_path / f"{n}.wav", samples[:n])) for n in (40000, 16320))
    assert np.array_equal(long, second)
    short = audio.spectrograms([audio.read_any(write(tmp_path / "short.wav", samples[:8000]))])[0, 0]
    assert (short[:, 51:] == short[0, 51]).all()
    assert not (short[:, 50] == short[0, 51]).all()


def test_what_is_refused(tmp_path: Path) -> None:
    samples = tone(16000, 16000, 500)
    for path, sentence in (
        (
            write(tmp_path / "a.wav", samples, 4000),
            "has 4000 samples a second, not 8000 to 192000: convert it to 16000",
        ),
        (write(tmp_path / "b.wav", samples[:160]), "has 160 samples at 16000 Hz, where 161 are needed: remove it"),
        (write(tmp_path / "c.wav", samples[:400], 48000), "has 134 samples at 16000 Hz"),
    ):
        with pytest.raises(UserError) as caught:
            audio.read_any(path)
        assert sentence in str(caught.value)
        assert path.name in str(caught.value)
    content = bytearray(write(tmp_path / "d.wav", samples).read_bytes())
    content[20] = 3  # floating point
    (tmp_path / "d.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"d\.wav' is not an audio file that can be read \(.*\): get it again, or conv"):
        audio.read_any(tmp_path / "d.wav")


def test_flac(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = np.stack([tone(60000, 44100, 440), tone(60000, 44100, 2000)], axis=1)
    for width, form in ((2, "PCM_16"), (3, "PCM_24")):
        wav = write(tmp_path / f"{width}.wav", samples, 44100, width)
        soundfile.write(tmp_path / f"{width}.flac", audio.read(wav).samples, 44100, subtype=form)
        assert audio.read(tmp_path / f"{width}.flac").bits == 8 * width
        assert np.array_equal(audio.read_any(tmp_path / f"{width}.flac"), audio.read_any(wav))


def riff(samples: np.ndarray, tag: int, bits: int, stated: int | None = None, extensible: bool = False) -> bytes:
    """A .wav file of one channel at 16 kHz by the format's definition; `stated` bytes of samples."""
    content = samples.tobytes()
    size = bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, 1, 16000, 16000 * size, size, bits)
    if extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        form += struct.pack("<HHI", 22, bits, 4) + guid
    length = len(content) if stated is None else stated
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", len(form)) + form + struct.pack("<4sI", b"data", length) + content
    return b"RIFF" + struct.pack("<I", min(len(body) if stated is None else stated, 2**32 - 1)) + body


def test_floating_point_is_in_the_same_units(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    samples = tone(8000, 16000, 700)
    for bits, kind in ((32, "<f4"), (64, "<f8")):
        for extensible in (False, True):
            (tmp_path / "a.wav").write_bytes(riff(samples.astype(kind), 3, bits, extensible=extensible))
            found = audio.read(tmp_path / "a.wav")
            assert (found.bits, found.rate, found.samples.shape) == (bits, 16000, (8000, 1))
            assert np.array_equal(audio.read_any(tmp_path / "a.wav"), (samples.astype(kind) * 32768).astype(np.float32))
    loud = (samples * 2.5).astype("<f4")  # beyond full scale: kept, not clipped
    (tmp_path / "a.wav").write_bytes(riff(loud, 3, 32))
    np.testing.assert_allclose(audio.read_any(tmp_path / "a.wav"), loud * 32768, rtol=1e-6)
    for spoiled, says in (
        (
            samples * 32767,
            r"a\.wav' has samples of up to \d+.*, where those of floating point lie in \[-1, 1\]: divide",
        ),
        (
            np.where(np.arange(8000) == 9, np.nan, samples),
            r"a\.wav' is not .* \(it holds values that are not finite num",
        ),
    ):
        (tmp_path / "a.wav").write_bytes(riff(spoiled.astype("<f4"), 3, 32))
        with pytest.raises(UserError, match=says):
            audio.read_any(tmp_path / "a.wav")


def test_extensible_whole_numbers_are_those_of_the_plain_form(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    whole = np.round(tone(8000, 16000, 700) * 32767).astype("<i2")
    (tmp_path / "a.wav").write_bytes(riff(whole, 1, 16, extensible=True))
    assert np.array_equal(audio.read_any(tmp_path / "a.wav"), whole.astype(np.float32))
    assert np.array_equal(speech_commands.read_clip(tmp_path / "a.wav"), whole)


def law(codes: np.ndarray, kind: str) -> np.ndarray:
    """Expand bytes of ITU-T G.711 to 16 bits, by its definition."""
    if kind == "u":
        codes = ~codes & 0xFF
        size = (((codes & 0xF) << 3) + 0x84 << ((codes >> 4) & 7)) - 0x84
        return np.where(codes & 0x80, -size, size)
    codes = codes ^ 0x55
    exponent, size = (codes >> 4) & 7, ((codes & 0xF) << 4) + 8
    size = np.where(exponent > 0, size + 0x100 << np.maximum(exponent - 1, 0), size)
    return np.where(codes & 0x80, size, -size)


@pytest.mark.parametrize(("kind", "tag"), [("u", 7), ("a", 6)])
def test_telephone_laws(tmp_path: Path, kind: str, tag: int) -> None:
    pytest.importorskip("soundfile")
    codes = np.arange(1024) % 256
    (tmp_path / "a.wav").write_bytes(riff(codes.astype(np.uint8), tag, 8))
    assert np.array_equal(audio.read_any(tmp_path / "a.wav"), law(codes, kind).astype(np.float32))


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF - 36, 0x80000000])
@pytest.mark.parametrize(("tag", "kind", "bits"), [(1, "<i2", 16), (3, "<f4", 32)])
def test_a_header_written_before_the_length_was_known(
    tmp_path: Path, stated: int, tag: int, kind: str, bits: int
) -> None:
    pytest.importorskip("soundfile")
    samples = tone(8000, 16000, 700) * (32767 if tag == 1 else 1)
    samples = (samples.round() if tag == 1 else samples).astype(kind)
    (tmp_path / "a.wav").write_bytes(riff(samples, tag, bits, stated))
    scaled = samples.astype(np.float64) * (1 if tag == 1 else 32768)
    assert np.array_equal(audio.read_any(tmp_path / "a.wav"), scaled.astype(np.float32))


@pytest.mark.parametrize(("tag", "kind", "bits"), [(1, "<i2", 16), (3, "<f4", 32), (7, "<u1", 8)])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, tag: int, kind: str, bits: int) -> None:
    content = riff(np.ones(8000).astype(kind), tag, bits)
    (tmp_path / "a.wav").write_bytes(riff(np.ones(8000).astype(kind), tag, bits, 0))
    with pytest.raises(
        UserError, match=rf"its header states 0 bytes of samples, and {1000 * bits} follow: write it an"
    ):
        audio.read_any(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(content[:-1000])
    with pytest.raises(UserError, match=r"a\.wav' ends too early: get it again"):
        audio.read_any(tmp_path / "a.wav")


@pytest.mark.parametrize(("ending", "form", "subtype"), [("ogg", "OGG", "VORBIS"), ("mp3", "MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_lossy_forms_hold_the_same_tone(tmp_path: Path, ending: str, form: str, subtype: str, rate: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = tone(3 * rate, rate, 1000)
    soundfile.write(tmp_path / f"a.{ending}", samples, rate, format=form, subtype=subtype)
    found = audio.read_any(tmp_path / f"a.{ending}")
    assert len(found) == 16320
    middle = found[4000:12000].astype(np.float64)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(16384 / np.sqrt(2), rel=0.02)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(8000)))
    assert spectrum.argmax() * 16000 / 8000 == 1000
    assert (spectrum[495:506] ** 2).sum() > 0.999 * (spectrum**2).sum()


@pytest.mark.parametrize(
    ("ending", "form", "subtype"),
    [("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("mp3", "MP3", "MPEG_LAYER_III"), ("flac", "FLAC", "PCM_16")],
)
def test_what_was_cut_off_where_it_is_read_is_refused(tmp_path: Path, ending: str, form: str, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone(48000, 48000, 700), 48000, format=form, subtype=subtype)
    content = path.read_bytes()
    whole = audio.read_any(path)
    assert abs(len(whole) - 16000) < 500
    for share in (0.9, 0.6, 0.4, 0.2, 0.05):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(
            UserError, match=r"a\.\w+' (ends too early: get it again|is not an audio file that can be re)"
        ):
            audio.read_any(path)
    soundfile.write(path, tone(30 * 48000, 48000, 700), 48000, format=form, subtype=subtype)
    content, whole = path.read_bytes(), audio.read_any(path)
    path.write_bytes(content[: int(0.5 * len(content))])  # far behind what is read
    assert np.array_equal(audio.read_any(path), whole)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"is not an audio file that can be read \(it is empty, 0 bytes\)"),
        (b"<!DOCTYPE html><html>", r"\(it is a web page or other markup\)"),
        (b"version https://git-lfs.github.com/spec/v1", r"\(it is a pointer of Git LFS: run git lfs pull\)"),
        (b"\0\0\0\x18ftypM4A ", r"\(it is an MP4 or M4A file\)"),
        (riff(np.zeros(0, "<i2"), 1, 16), r"has 0 samples at 16000 Hz, where 161 are needed: remove it"),
        (riff(np.zeros(1, "<i2"), 1, 16), r"has 1 sample at 16000 Hz, where 161 are needed: remove it"),
    ],
)
@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_what_only_has_the_name_of_audio(tmp_path: Path, ending: str, content: bytes, says: str) -> None:
    pytest.importorskip("soundfile")
    (tmp_path / f"a.{ending}").write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        audio.read_any(tmp_path / f"a.{ending}")
    assert "object at" not in str(caught.value)


def test_other_forms_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(audio.importlib, "import_module", absent)
    (tmp_path / "a.wav").write_bytes(riff(np.zeros(400, "<f4"), 3, 32))
    says = r"a\.wav' is a \.wav file of another form than whole numbers: install the package soundfile to read it"
    with pytest.raises(UserError, match=says):
        audio.read_any(tmp_path / "a.wav")
    write(tmp_path / "b.wav", tone(400, 16000, 500))
    assert len(audio.read_any(tmp_path / "b.wav")) == 400


def plain(samples: np.ndarray, frames: int = 101) -> np.ndarray:
    """The features by their definition, float64, one frame after another."""
    x = np.pad(samples.astype(np.float64) / 32768, 160, mode="reflect")
    window = get_window("hamming", 320, fftbins=True)
    out = np.zeros((160, frames))
    for t in range(min(frames, 1 + len(samples) // 160)):
        spectrum = np.fft.fft(x[160 * t : 160 * t + 320] * window)
        out[:, t] = np.log(1 + np.abs(spectrum[:160]))
    return (out - out.mean()) / (out.std(ddof=1) or 1.0)


def test_features_equal_the_plain_loop() -> None:
    clips = [clip(n, seed=n) for n in (16000, 161, 162, 320, 9999, 15840, 15999, 16159, 16160, 16161, 16320, 30000)]
    features = audio.spectrograms(clips)
    assert features.shape == (len(clips), 1, 160, 101)
    assert features.dtype == torch.float32
    for samples, found in zip(clips, features, strict=True):
        np.testing.assert_allclose(found[0].numpy(), plain(samples), atol=1e-4, rtol=0)
    alone = torch.cat([audio.spectrograms([samples]) for samples in clips])
    torch.testing.assert_close(alone, features, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("seconds", "frames"), [(0.5, 51), (2.0, 201), (2.5, 251)])
def test_features_of_other_lengths(seconds: float, frames: int) -> None:
    clips = [clip(n, seed=n) for n in (161, 8000, 16000, 31999, 40319, 50000)]
    features = audio.spectrograms(clips, seconds)
    assert features.shape == (len(clips), 1, 160, frames)
    for samples, found in zip(clips, features, strict=True):
        np.testing.assert_allclose(found[0].numpy(), plain(samples, frames), atol=1e-4, rtol=0)


def test_features_are_normalised_and_padded_with_zeros() -> None:
    short = audio.spectrograms([clip(8000)])[0, 0]
    assert short.mean().item() == pytest.approx(0, abs=1e-5)
    assert short.std().item() == pytest.approx(1, abs=1e-4)
    assert (short[:, 51:] == short[0, 51]).all()  # what was zero before the last step
    assert not (short[:, 50] == short[0, 51]).all()
    silence = audio.spectrograms([np.zeros(16000, dtype=np.int16)])
    assert torch.equal(silence, torch.zeros(1, 1, 160, 101))


def test_a_tone_is_where_it_should_be() -> None:
    t = np.arange(16000) / 16000
    tone = np.round(10000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16)
    assert audio.spectrograms([tone])[0, 0].mean(dim=1).argmax() == 20  # 1000 Hz in steps of 50


def calls(root: Path, n: int = 4, name: str = "{i}.wav") -> class_folder.ClassFiles:
    for c, word in enumerate(("bark", "miaow")):
        for i in range(n):
            write(root / word / name.format(i=i), tone(9000 + 2000 * i, 16000, 400 * (c + 1), seed=i))
    return class_folder.scan(root)


def test_features_of_a_folder_and_their_cache(tmp_path: Path) -> None:
    files = calls(tmp_path / "calls")
    told = []
    found = audio.cached_spectrograms(
        files.full_paths, "calls", cache=tmp_path / "cache", progress=lambda *n: told.append(n)
    )
    assert told == [(8, 8)]
    expected = audio.spectrograms([audio.read_any(files.root / path) for path in files.paths])
    assert torch.equal(found, expected)
    again = audio.cached_spectrograms(
        files.full_paths, "calls", lambda path: pytest.fail(f"{path} was read again"), tmp_path / "cache"
    )
    assert torch.equal(again, expected)
    # other content of the same name, size and date is noticed
    path = files.root / files.paths[3]
    about, content = path.stat(), bytearray(path.read_bytes())
    content[1000:1200] = bytes(200)
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    changed = audio.cached_spectrograms(files.full_paths, "calls", cache=tmp_path / "cache").clone()
    assert [torch.equal(a, b) for a, b in zip(changed, expected, strict=True)] == [i != 3 for i in range(8)]
    # and so is a damaged cache
    for kept in (tmp_path / "cache").glob("*.npy"):
        damaged = bytearray(kept.read_bytes())
        damaged[5000] ^= 1
        kept.write_bytes(damaged)
    assert torch.equal(audio.cached_spectrograms(files.full_paths, "calls", cache=tmp_path / "cache"), changed)
    path.unlink()
    with pytest.raises(UserError, match=r"bark/3\.wav' cannot be read \(No such file"):
        audio.cached_spectrograms(files.full_paths, "calls", cache=tmp_path / "cache")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = calls(tmp_path / "calls", 1)
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path / "data"))
    audio.cached_spectrograms(files.full_paths, "calls")
    assert len(list((tmp_path / "data" / "cache").glob("calls-*.npy"))) == 1
    monkeypatch.delenv(DATA_DIR_ENV)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    audio.cached_spectrograms(files.full_paths, "calls")
    assert len(list((tmp_path / "user" / "vicinal").glob("calls-*.npy"))) == 1


def test_a_speaker_is_in_one_part(tmp_path: Path) -> None:
    assert speech_commands.split_by_speaker(calls(tmp_path / "unknown")) is None
    files = calls(tmp_path / "known", 40, "{i:04x}_nohash_0.wav")
    parts = speech_commands.split_by_speaker(files)
    assert parts is not None
    train, test = ({Path(path).name for path in part.paths} for part in parts)
    assert not train & test
    for part, label in zip(parts, ("training", "testing"), strict=True):
        assert {speech_commands.split_of(path, 0) for path in part.paths} == {label}
        assert part.labels.bincount().tolist() == [len(part) // 2] * 2
    with pytest.raises(
        UserError, match=r"has too few speakers for a t[a-z]+ing part with all classes: make train/ and"
    ):
        speech_commands.split_by_speaker(calls(tmp_path / "few", 1, "{i:04x}_nohash_0.wav"))
