"""Audio of any usual form, and the paper's spectrograms of it."""

from __future__ import annotations

import os
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
    with pytest.raises(UserError, match=r"d\.wav' is not a \.wav file that can be read \(unknown format: 3\)"):
        audio.read_any(tmp_path / "d.wav")


def test_flac(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = np.stack([tone(60000, 44100, 440), tone(60000, 44100, 2000)], axis=1)
    for width, form in ((2, "PCM_16"), (3, "PCM_24")):
        wav = write(tmp_path / f"{width}.wav", samples, 44100, width)
        soundfile.write(tmp_path / f"{width}.flac", audio.read(wav).samples, 44100, subtype=form)
        assert audio.read(tmp_path / f"{width}.flac").bits == 8 * width
        assert np.array_equal(audio.read_any(tmp_path / f"{width}.flac"), audio.read_any(wav))


def plain(samples: np.ndarray) -> np.ndarray:
    """The features by their definition, float64, one frame after another."""
    x = np.pad(samples.astype(np.float64) / 32768, 160, mode="reflect")
    window = get_window("hamming", 320, fftbins=True)
    out = np.zeros((160, 101))
    for t in range(min(101, 1 + len(samples) // 160)):
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
