"""Speech Commands: its files, its parts, and the strict reading of its audio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.data.test_audio import clip, plain, write
from vicinal.lab.data import audio, speech_commands
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError

Data = Callable[[str], Path]


@pytest.fixture(scope="module")
def published(real_data: Data) -> Path:
    """Twelve folders of the published test set of version 2, in a folder ``speech_commands``."""
    return real_data("speech")


def folder(root: Path, words: Iterable[str] = ("no", "yes"), speakers: int = 40, name: str = "speech_commands") -> Path:
    for i, word in enumerate(words):
        for k in range(speakers):
            samples = clip(16000 if k % 3 else 9000 + 100 * k, seed=i)
            write(root / name / word / f"{k:08x}_nohash_0.wav", samples / 32767)
    return root / name


# ---- the published parts


def test_the_published_rule(published: Path) -> None:
    # the sample is of the published test set: if the rule is right, it puts every one of its words there
    found = speech_commands.utterances(published / "speech_commands")
    assert sum(map(len, found)) == 2880
    words = [[path for path in part.paths if not path.startswith("_")] for part in found]
    assert [len(part) for part in words] == [0, 0, 2400]


def test_part_of() -> None:
    def by_hand(name: str) -> float:
        return int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)

    names = [f"{i:08x}" for i in range(2000)]
    parts = [speech_commands.split_of(f"{name}_nohash_{i % 4}.wav") for i, name in enumerate(names)]
    for name, part in zip(names, parts, strict=True):
        p = by_hand(name)
        assert part == ("validation" if p < 10 else "testing" if p < 20 else "training")
    assert 150 < parts.count("validation") < 250
    assert 150 < parts.count("testing") < 250
    assert by_hand("1024.wav") < 100
    assert (
        speech_commands.split_of("1024.flac")
        == speech_commands.split_of("1024.wav")
        == speech_commands.split_of("_silence_/1024.wav")
    )
    dealt = [speech_commands.split_of(f"{name}_nohash_0.wav", seed=1) for name in names]
    assert 150 < dealt.count("testing") < 250
    assert sum(a == b for a, b in zip(parts, dealt, strict=True)) < 1500  # 66 % agree by chance
    for seed in (None, 0, 5):
        for i in range(4):
            same = {speech_commands.split_of(f"{word}/bobby_nohash_{i}.wav", seed) for word in ("yes", "no")}
            assert same == {speech_commands.split_of("bobby_nohash_0.wav", seed)}


def test_lists(tmp_path: Path) -> None:
    words = folder(tmp_path, speakers=6)
    write(words / "_background_noise_" / "pink.wav", clip(50000) / 32767)
    (words / "LICENSE").write_text("a file")
    (words / "validation_list.txt").write_text("no/00000000_nohash_0.wav\nyes/00000000_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"has one of validation_list\.txt and testing_list\.txt: add the other"):
        speech_commands.utterances(words)
    (words / "testing_list.txt").write_text("yes/00000005_nohash_0.wav\n")
    train, validation, test = speech_commands.utterances(words)
    assert len(train) == 9
    assert validation.paths == ("no/00000000_nohash_0.wav", "yes/00000000_nohash_0.wav")
    assert test.paths == ("yes/00000005_nohash_0.wav",)
    (words / "testing_list.txt").write_text("yes/00000005_nohash_0.wav\nyes/00000009_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"lacks 1 files of its lists, such as yes/00000009_nohash_0\.wav: unpack"):
        speech_commands.utterances(words)
    (words / "testing_list.txt").write_text("no/00000000_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"no/00000000_nohash_0\.wav is in both lists"):
        speech_commands.utterances(words)


# ---- loading


def test_load(tmp_path: Path) -> None:
    words = folder(tmp_path)
    told: list[tuple[int, int]] = []
    parts = speech_commands.load("speech-commands", tmp_path, progress=lambda done, n: told.append((done, n)))
    assert told == [(64, 80), (80, 80)]
    assert [part.classes for part in parts] == [("no", "yes")] * 3
    assert sum(len(part) for part in parts) == 80
    for part, files in zip(parts, speech_commands.utterances(words), strict=True):
        assert part.labels.tolist() == [("no", "yes").index(path.split("/")[0]) for path in files.paths]
        for features, path in zip(part.inputs, files.full_paths, strict=True):
            np.testing.assert_allclose(features[0].numpy(), plain(speech_commands.read_clip(path)), atol=1e-4)
    assert len(parts[0]) > 40
    assert len(parts[1]) > 0


def test_the_cache(tmp_path: Path) -> None:
    words = folder(tmp_path, speakers=20)
    cache = tmp_path / "elsewhere" / "cache"
    runs: list[int] = []

    def read() -> torch.Tensor:
        parts = speech_commands.load(
            "speech-commands", tmp_path, cache=cache, progress=lambda done, _: runs.append(done)
        )
        return torch.cat([part.inputs for part in parts])

    first = read()
    assert runs == [40]
    array, about = sorted(cache.iterdir(), key=lambda path: path.suffix)
    assert (array.suffix, about.suffix) == (".npy", ".sha256")
    assert np.load(array).shape == (40, 1, 160, 101)
    again = read()
    assert runs == [40]
    assert torch.equal(again, first)
    again.fill_(7)  # what was read is this process's own
    assert torch.equal(read(), first)
    assert runs == [40]

    content = bytearray(array.read_bytes())
    content[5000] ^= 1
    array.write_bytes(content)  # damaged
    assert torch.equal(read(), first)
    assert runs == [40, 40]
    array.write_bytes(content[:-100])  # cut short
    assert torch.equal(read(), first)
    about.write_text("another")
    assert torch.equal(read(), first)
    about.unlink()
    assert torch.equal(read(), first)
    assert runs == [40] * 5

    write(words / "no" / "00000001_nohash_0.wav", clip(16000, seed=99) / 32767)  # another clip of the same length
    assert not torch.equal(read(), first)
    assert runs == [40] * 6
    assert len(list(cache.iterdir())) == 4
    assert not list(cache.glob(".*"))


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    words = folder(tmp_path, speakers=20)
    broken = words / "yes" / "00000013_nohash_0.wav"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"yes/00000013_nohash_0\.wav' ends too early: get it again"):
        speech_commands.load("speech-commands", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \(.*\): give another folder for the cache"):
        speech_commands.load("speech-commands", tmp_path, cache=tmp_path / "file" / "cache")


def test_parts_by_seed(tmp_path: Path) -> None:
    folder(tmp_path)
    sizes = set()
    for seed in (0, 1):
        parts = speech_commands.load("speech-commands", tmp_path, seed=seed)
        sizes.add(tuple(map(len, parts)))
        assert all(part.labels.bincount(minlength=2).tolist() == [len(part) / 2] * 2 for part in parts)  # by speaker
    assert len(sizes) == 2


def test_folds_test_every_utterance_once_and_no_speaker_twice(tmp_path: Path) -> None:
    folder(tmp_path, speakers=30)
    write(tmp_path / "speech_commands/no/yes_0000000a_nohash_1.wav", clip(16000) / 32767)  # a speaker of other files
    write(tmp_path / "speech_commands/no/noise.wav", clip(16000) / 32767)
    times = torch.zeros(62)
    for fold, name in enumerate(speech_commands.FOLDS):
        files, tested = speech_commands.fold_files(name, tmp_path)
        speakers = [speech_commands.speaker_of(path) for path in files.paths]
        by_hand = [int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 3 == fold for speaker in speakers]
        assert tested.tolist() == by_hand
        times += tested
        train, test = speech_commands.load_fold(name, tmp_path, cache=tmp_path / "cache")
        assert (len(train), len(test)) == (62 - sum(by_hand), sum(by_hand))
        first = speech_commands.read_clip(files.path(int(tested.nonzero()[0])))
        np.testing.assert_allclose(test.inputs[0, 0].numpy(), plain(first), atol=1e-4, rtol=0)
        assert test.labels.tolist() == files.labels[tested].tolist()
    assert times.tolist() == [1] * 62
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    assert speech_commands.speaker_of("no/yes_0000000a_nohash_1.wav") == "0000000a"
    assert speech_commands.speaker_of("no/noise.wav") == "noise.wav"


def test_real_utterances(published: Path, tmp_path: Path) -> None:
    root = published
    with pytest.raises(UserError, match=r"no utterance of 'down' in .* belongs to the training part: give a seed"):
        speech_commands.load("speech-commands", root, cache=tmp_path)
    train, validation, test = speech_commands.load("speech-commands", root, seed=0, cache=tmp_path)
    assert (len(train), len(validation), len(test)) == (2295, 340, 245)
    assert train.classes[:3] == ("_silence_", "_unknown_", "down")
    assert train.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    files = speech_commands.utterances(root / "speech_commands", seed=0)[2]
    for k in (0, 100, 244):
        samples = speech_commands.read_clip(files.path(k))
        np.testing.assert_allclose(test.inputs[k, 0].numpy(), plain(samples), atol=1e-4, rtol=0)


# ---- what is not there, or not right


def test_absent_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_ENV, raising=False)
    with pytest.raises(UserError) as caught:
        speech_commands.load()
    assert str(caught.value) == (
        "Speech Commands v0.01 is not part of this program: put the folder speech_commands_v0.01 into DIR "
        "and set the environment variable VICINAL_DATA to DIR"
    )
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    with pytest.raises(UserError, match=r"v0\.02 is not in '.*': unpack speech_commands_v0\.02\.tar\.gz, from https:"):
        speech_commands.load("speech-commands-v2")
    with pytest.raises(UserError, match=r"Speech Commands is not in '.*': put folders of \.wav files into '.*'"):
        speech_commands.load("speech-commands")
    with pytest.raises(UserError, match="'speech' is none of the speech sets: choose one of speech-commands-v1, sp"):
        speech_commands.load("speech")
    (tmp_path / "speech_commands").mkdir()
    with pytest.raises(UserError, match=r"holds no folders of \.wav files: unpack the archive there"):
        speech_commands.load("speech-commands")
    (tmp_path / "speech_commands" / "yes").mkdir()
    with pytest.raises(UserError, match=r"yes' holds no \.wav files: remove it"):
        speech_commands.load("speech-commands")


def test_reading_audio(tmp_path: Path) -> None:
    samples = clip(12345)
    exact = samples / 32767
    assert np.array_equal(speech_commands.read_clip(write(tmp_path / "a.wav", exact)), samples)
    for path, sentence in (
        (write(tmp_path / "b.wav", exact[:12344].reshape(-1, 2)), "has 2 channels of 16 bits at 16000 Hz: convert"),
        (write(tmp_path / "c.wav", exact, rate=44100), "has 1 channel of 16 bits at 44100 Hz: convert it to 1"),
        (write(tmp_path / "d.wav", exact, width=1), "has 1 channel of 8 bits at 16000 Hz"),
        (write(tmp_path / "e.wav", exact[:160]), "has 160 samples where at least 161 are needed: remove it"),
        (tmp_path / "absent.wav", "cannot be read (No such file or directory)"),
    ):
        with pytest.raises(UserError) as caught:
            speech_commands.read_clip(path)
        assert sentence in str(caught.value)
        assert path.name in str(caught.value)


def test_damaged_audio(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", clip(400) / 32767).read_bytes()
    path = tmp_path / "bad.wav"
    generator = np.random.Generator(np.random.Philox(key=1))
    refused = 0
    for place in [*range(44)] * 4 + [*range(50, 800, 50)]:
        data = bytearray(good)
        data[place] = int(generator.integers(256))
        path.write_bytes(data if generator.random() < 0.5 else data[:place])
        try:
            assert speech_commands.read_clip(path).dtype == np.int16
        except UserError as e:
            assert "bad.wav" in str(e)  # noqa: PT017
            refused += 1
    assert refused > 100
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"bad\.wav' is not an audio file that can be read \(it is empty, 0 bytes\)"):
        speech_commands.read_clip(path)


def test_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC, but no more")
    soundfile = pytest.importorskip("soundfile")
    with pytest.raises(
        UserError, match=r"a\.flac' is not an audio file that can be read \(unknown error in flac decoder\)"
    ):
        speech_commands.read_clip(path)
    samples = clip(16000)
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    assert np.array_equal(speech_commands.read_clip(path), samples)
    soundfile.write(path, samples, 8000, subtype="PCM_24")
    with pytest.raises(UserError, match="has 1 channel of 24 bits at 8000 Hz"):
        speech_commands.read_clip(path)


def test_flac_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(audio.importlib, "import_module", absent)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(UserError, match=r"a\.flac' is a \.flac file: install the package soundfile to read it"):
        speech_commands.read_clip(tmp_path / "a.flac")
