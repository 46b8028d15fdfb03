"""Inputs that once crashed, hung, or filled memory: each ends in one sentence.

`python -m torture.hostile` found them; those of a few bytes are made here, the others lie in `crashers`.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import socket
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import zstandard
from PIL import Image
from polars.testing import assert_frame_equal

from vicinal.lab import limits, memory
from vicinal.lab.data import apart, audio, cifar, class_folder, download, speech_commands, table_files, tables
from vicinal.lab.data.encoder import TableEncoder, TargetColumn
from vicinal.lab.data.table import make_table
from vicinal.lab.data.transforms import ImageError, center_crop, decode
from vicinal.lab.errors import UserError

CRASHERS = Path(__file__).parent / "crashers"
ZEROS = bytes(1 << 24)
MANY = 9  # times ZEROS: more than the memory that `little_memory` leaves
CSV = b"a,y\n" + b"1,u\n2,v\n" * 8


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave 70 MiB of memory, as far as anybody is told."""
    monkeypatch.setattr(memory, "available", lambda: (70 << 20, "on this machine"))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        table_files.read(path)
    return str(caught.value)


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# ---- binary tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "aborts.parquet",
            "is not a readable Parquet file (the process that read it ended with SIGABRT): write it again",
        ),
        ("panics.parquet", "is not a readable Parquet file (called `Result::unwrap()`"),
        ("aborts.arrow", "is not a readable Arrow file (the process that read it ended with SIGABRT): write it again"),
        ("panics.arrow", "is not a readable Arrow file (out-of-spec"),
        (
            "aborts.xlsx",
            "is not a readable Excel workbook (the process that read it ended with SIGABRT): save the table as",
        ),
    ],
)
def test_what_ends_its_reader_is_a_sentence(name: str, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(CRASHERS / name).startswith(f"{name!r} {sentence}")
    assert capfd.readouterr().err == ""  # the reader's own words stay with it
    assert apart._process is None


def test_good_files_are_read_after_bad_ones(tmp_path: Path) -> None:
    good = pl.DataFrame({"a": [1, 2], "y": ["u", "v"]})
    good.write_parquet(tmp_path / "b.parquet")
    with apart.kept():
        assert "SIGABRT" in refused(CRASHERS / "aborts.parquet")
        assert_frame_equal(table_files.read(tmp_path / "b.parquet")[0], good)
        first = apart._process
        assert_frame_equal(table_files.read(tmp_path / "b.parquet")[0], good)
        assert apart._process is first
    assert first is not None
    assert first.running.returncode == 0


def test_types_come_through_the_other_process(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.Int8),
            "c": pl.Series(["u", None, "v"], dtype=pl.Categorical),
            "e": pl.Series(["u", None, "v"], dtype=pl.Enum(["v", "u"])),
            "t": pl.Series([1, 2, None]).cast(pl.Datetime("ns", "UTC")),
            "d": pl.Series([1, 2, None]).cast(pl.Duration("ms")),
            "m": pl.Series([1, 2, None]).cast(pl.Decimal(10, 2)),
            "l": [[1], None, []],
            "b": [b"x", None, b""],
            "n": pl.Series([None, None, None], dtype=pl.Null),
        }
    )
    frame.write_ipc(tmp_path / "t.arrow")
    assert_frame_equal(table_files.read(tmp_path / "t.arrow")[0], frame)
    frame.select(pl.exclude("n")).write_parquet(tmp_path / "t.parquet")
    assert_frame_equal(table_files.read(tmp_path / "t.parquet")[0], frame.select(pl.exclude("n")))


def test_an_allocation_that_fails_is_told_with_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = put(
        tmp_path,
        "p.py",
        b"import os, sys\nsys.stdin.buffer.readline()\n"
        b"os.write(2, b'memory allocation of 5368709120 bytes failed')\nos.abort()\n",
    )
    monkeypatch.setattr(apart, "_PROGRAM", program)
    monkeypatch.setattr(memory, "available", lambda: (3 << 30, "on this machine"))
    message = refused(put(tmp_path, "a.parquet", b"PAR1" + bytes(40)))
    assert "(it asks for 5.0 GiB of memory, of which 3.0 GiB are free on this machine)" in message


# ---- what is packed --------------------------------------------------------------------------------------------------


def _zip(name: str, *more: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other in more:
            archive.writestr(other, "<x/>")
        archive.writestr(name, ZEROS * MANY)
    return file.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "t.csv.gz": lambda: gzip.compress(ZEROS, 1) * MANY,
    "t.csv.bz2": lambda: bz2.compress(ZEROS) * MANY,
    "t.csv.xz": lambda: lzma.compress(ZEROS, preset=0) * MANY,
    "t.csv.zst": lambda: zstandard.ZstdCompressor().compress(ZEROS) * MANY,
    "t.zip": lambda: _zip("t.csv"),
    "t.xlsx": lambda: _zip("xl/worksheets/sheet1.xml", "xl/workbook.xml"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path: Path, name: str) -> None:
    message = refused(put(tmp_path, name, BOMBS[name]()))
    assert message.startswith(f"{name!r} {'holds a sheet of' if name.endswith('x') else 'unpacks to'} more than ")
    assert "and 70 MiB of memory are free on this machine: " in message


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.bz2", "t.csv.xz", "t.csv.zst"])
def test_streams_one_behind_the_other(tmp_path: Path, name: str) -> None:
    pack: Callable[[bytes], bytes] = {
        "gz": gzip.compress,
        "z2": bz2.compress,
        "xz": lzma.compress,
        "st": zstandard.ZstdCompressor().compress,
    }[name[-2:]]
    text = b"a,y\n" + b"".join(b"%d,u\n" % i for i in range(30_000))
    parts = pack(text[:100_000]) + pack(b"") + pack(text[100_000:])
    assert table_files.read(put(tmp_path, name, parts))[0]["a"].to_list() == [str(i) for i in range(30_000)]
    assert "is not a whole" in refused(put(tmp_path, name, parts[:-30]))


def test_archives_in_archives(tmp_path: Path) -> None:
    raw = CSV
    for _ in range(3):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("t.csv", raw)
        raw = file.getvalue()
    assert len(table_files.read(put(tmp_path, "t.zip", raw))[0]) == 16
    for _ in range(3):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("t.csv", raw)
        raw = file.getvalue()
    assert refused(put(tmp_path, "t.zip", raw)) == "'t.csv' is an archive in 4 archives: unpack it and give one table"


def test_an_index_of_another_version(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("t.csv", CSV)
    raw = bytearray(file.getvalue())
    raw[raw.index(b"PK\1\2") + 6] = 99  # the version of ZIP that is needed
    assert refused(put(tmp_path, "t.zip", bytes(raw))).startswith(
        "'t.zip' is not a whole ZIP file (zip file version 9.9)"
    )


@pytest.mark.usefixtures("little_memory")
def test_a_text_of_more_cells_than_memory_holds(tmp_path: Path) -> None:
    message = refused(put(tmp_path, "t.csv", b"a,y\n" + b"1,2\n" * 700_000))
    assert message == (
        "'t.csv' has about 1,400,002 cells, which take 91 MiB, and 70 MiB of memory are free on this machine: give fewer "
        "rows or columns"
    )


# ---- files that are none ---------------------------------------------------------------------------------------------


def test_pipes_devices_and_files_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    (tmp_path / "z.csv").symlink_to("/dev/zero")
    with open(tmp_path / "s.csv", "wb") as file:
        file.truncate(1 << 42)
    assert refused(tmp_path / "p.csv") == "'p.csv' cannot be read (it is a named pipe, not a file): check the file"
    assert refused(tmp_path / "z.csv") == "'z.csv' cannot be read (it is a device, not a file): check the file"
    assert refused(tmp_path / "s.csv").startswith("'s.csv' cannot be read (it has 4,096.0 GiB, and ")
    os.mkfifo(tmp_path / "p.wav")
    with pytest.raises(UserError, match=r"p\.wav' cannot be read \(it is a named pipe, not a file\)"):
        audio.read(tmp_path / "p.wav")


@pytest.mark.usefixtures("little_memory")
def test_standard_input_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        buffer = Any

        def read(self, size: int) -> bytes:
            return b"y\n" * (size // 2)

    endless = Endless()
    endless.buffer = endless  # type: ignore[assignment]
    monkeypatch.setattr(sys, "stdin", endless)
    assert refused(table_files.STDIN).startswith("'standard input' gives more than ")


def _image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Return a folder of two classes of images."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(5):
            put(tmp_path / "data" / name, f"{i}.png", _image())
    return tmp_path / "data"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # its whole path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(place)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 42)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_fifo, "it is a named pipe, not a file"),
        (_socket, "it is a socket, not a file"),
        (_sparse, "it has 4,096.0 GiB, and "),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b""), "it is empty, 0 bytes"),
    ],
)
def test_files_of_a_class_that_are_none(classes: Path, make: Callable[[Path], None], says: str) -> None:
    make(classes / "cat" / "x.png")
    with pytest.raises(UserError) as caught:
        class_folder.read(classes)
    assert str(caught.value).startswith(f"'{classes / 'cat' / 'x.png'}' ")
    assert f"({says}" in str(caught.value)
    assert len(class_folder.read(classes, skip_broken=True)) == 10


def test_a_folder_named_like_an_image_and_names_of_several_lines(classes: Path) -> None:
    (classes / "cat" / "x.png").mkdir()
    put(classes / "cat" / "x.png", "y\n\x1b[2J.png", _image())
    assert len(class_folder.read(classes)) == 11


def test_folders_in_folders(classes: Path) -> None:
    deep = classes / "cat"
    for _ in range(110):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(UserError, match=r"cat' holds folders in folders, more than 100 deep: move its files up"):
        class_folder.read(classes)


@pytest.mark.parametrize(("content", "says"), [(b"\xff\xfe", "it is not UTF-8 text"), (None, "cannot be read")])
def test_lists_of_utterances_that_are_not_text(tmp_path: Path, content: bytes | None, says: str) -> None:
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        put(tmp_path / word, "a.wav", b"")
    put(tmp_path, "testing_list.txt", b"")
    if content is None:
        (tmp_path / "validation_list.txt").symlink_to(tmp_path / "yes" / "a.wav")
        (tmp_path / "yes" / "a.wav").unlink()
        with open(tmp_path / "yes" / "a.wav", "wb") as file:
            file.truncate(1 << 42)
    else:
        put(tmp_path, "validation_list.txt", content)
    with pytest.raises(UserError, match=says):
        speech_commands.utterances(tmp_path)


def test_utterances_whose_names_are_not_utf8(tmp_path: Path) -> None:
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for name in (b"a\xff_nohash_0.wav", "ä_nohash_0.wav".encode()):
            (tmp_path / word / os.fsdecode(name)).write_bytes(b"")
    assert sum(map(len, speech_commands.utterances(tmp_path))) == 4
    assert speech_commands.fold_of("a\udcff.wav") in range(3)


# ---- audio, images ---------------------------------------------------------------------------------------------------


def _flac(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def test_a_header_that_states_more_samples_than_there_are(tmp_path: Path) -> None:
    raw = bytearray(_flac(np.zeros(16_000)))
    raw[21] |= 0x0F
    raw[22:26] = b"\xff" * 4  # 2**36 - 1 samples
    for read in (audio.read, audio.read_any, speech_commands.read_clip):
        with pytest.raises(UserError, match=r"a\.flac'"):
            read(put(tmp_path, "a.flac", bytes(raw)))


@pytest.mark.usefixtures("little_memory")
def test_silence_that_unpacks_to_more_than_memory(tmp_path: Path) -> None:
    path = put(tmp_path, "a.flac", _flac(np.zeros((1 << 20, 8), np.int16)))
    with pytest.raises(
        UserError, match=r"a\.flac' takes .* and 70 MiB of memory are free on this machine: cut or remove it"
    ):
        speech_commands.read_clip(path)
    assert len(audio.read_any(path)) == audio.samples_of(1.0)  # a second of it fits


def test_a_clip_whose_file_states_another_end(tmp_path: Path) -> None:
    samples = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    chunks = b"WAVEfmt \x10\0\0\0" + samples + b"data" + struct.pack("<I", 2000) + bytes(2000)
    raw = b"RIFF" + struct.pack("<I", 535) + chunks
    with pytest.raises(UserError, match=r"a\.wav' ends too early: get it again"):
        audio.read(put(tmp_path, "a.wav", raw))


def test_a_cache_that_is_not_what_was_written(tmp_path: Path) -> None:
    clip = tmp_path / "a.wav"
    soundfile.write(clip, np.sin(np.arange(4000) / 5) * 0.5, 16_000)
    whole = audio.cached_spectrograms([clip], "x", cache=tmp_path / "cache").numpy().copy()
    kept = next((tmp_path / "cache").glob("*.npy"))
    for content, stated in (
        (b"\x93NUMPY", None),
        (kept.read_bytes()[:-4], None),  # shorter, with the checksum of that
        (kept.read_bytes(), b"\xff\xfe"),  # a checksum that is not text
    ):
        kept.write_bytes(content)
        kept.with_suffix(".sha256").write_bytes(stated or hashlib.sha256(content).hexdigest().encode())
        assert np.array_equal(audio.cached_spectrograms([clip], "x", cache=tmp_path / "cache").numpy(), whole)


def _png(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.usefixtures("little_memory")
def test_images_of_more_pixels_than_memory_holds() -> None:
    with pytest.raises(
        ImageError, match="its 3,000 x 3,000 pixels take 103 MiB, and 70 MiB of memory are free on this"
    ):
        decode(_png(3000, 3000), center_crop, 32)
    with pytest.raises(ImageError, match="it has more than 178,956,970 pixels: scale it down"):
        decode(_png(2**31 - 1, 2**31 - 1), center_crop, 32)


# ---- pickles ---------------------------------------------------------------------------------------------------------


def test_pickles_that_ask_for_memory_or_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cifar.unpickle(b"\x80\x02}r\xff\xff\xff\x3f.") == {}  # a place far behind all others, of which room is made
    laughs = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(1, 200))
    with pytest.raises(cifar._Refused, match="a key that is not text"):  # its hash would take 2**199 steps
        cifar.unpickle(b"\x80\x02}q\x00(K\x01K\x01\x86q\x01" + laughs + b"K\x01u.")
    monkeypatch.setattr(cifar, "_MOST_STEPS", 1000)
    with pytest.raises(cifar._Refused, match="it has more than 1,000 instructions"):
        cifar.unpickle(b"\x80\x02}U\x01a" + b"]" * 2000)


# ---- archives --------------------------------------------------------------------------------------------------------


def _member(name: str, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def _tar(*members: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for member in members:
            archive.addfile(member)
    return file.getvalue()


def _head(name: str, kind: bytes, size: int) -> bytes:
    return _member(name, type=kind, size=size).tobuf(tarfile.GNU_FORMAT)


ARCHIVES = {
    "larger than the disk": (
        lambda: gzip.compress(_head("f", b"0", 1 << 52)),
        "its files state 4,194,304.0 GiB, and there is",
    ),
    "a long name": (
        lambda: gzip.compress(_head("x", b"L", 1 << 33)),
        "a member states 8,589,934,592 bytes about itself",
    ),
    "a long header": (
        lambda: gzip.compress(_head("x", b"x", 1 << 33)),
        "a member states 8,589,934,592 bytes about itself",
    ),
    "less than nothing": (lambda: _tar(_member("f", pax_headers={"size": "-1"})), "'f' states -1 bytes"),
    "holes": (
        lambda: _tar(
            _member("f", size=0, pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 42)}),
        ),
        "",
    ),
    "a link": (lambda: _tar(_member("l", type=b"2", linkname="f")), "'l' is a link, a device or a file with holes"),
    "a hard link": (lambda: _tar(_member("l", type=b"1", linkname="/etc/passwd")), "'l' is a link, a device or a file"),
    "a device": (lambda: _tar(_member("d", type=b"3")), "'d' is a link, a device or a file with holes"),
    "a pipe": (lambda: _tar(_member("p", type=b"6")), "'p' is a link, a device or a file with holes"),
    "out of the folder": (lambda: _tar(_member("a/../../x")), "the name 'a/../../x' leads out of its folder"),
    "backslashes": (lambda: _tar(_member("..\\x")), "leads out of its folder"),
    "no text": (lambda: _tar(_member("f", pax_headers={"path": "a\0b"})), "leads out of its folder"),
    "long names": (lambda: _tar(_member("n" * 10_000)), "has 10,000 characters, more than a file's name may have"),
    "deep": (lambda: _tar(_member("d/" * 5000 + "x")), "has 10,001 characters, more than a file's name may have"),
    "twice": (lambda: _tar(_member("x"), _member("x")), "it holds 'x' twice, or as a folder and a file"),
    "a file as a folder": (
        lambda: _tar(_member("x"), _member("x/y")),
        "it holds 'x/y' twice, or as a folder and a file",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_are_not_unpacked(tmp_path: Path, name: str) -> None:
    make, says = ARCHIVES[name]
    archive = put(tmp_path, "a.tar", make())
    with pytest.raises(UserError) as caught:
        download.extract(archive, tmp_path / "into")
    assert str(caught.value).startswith("'a.tar' cannot be unpacked (")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600
    assert os.listdir(tmp_path) == ["a.tar"]


def test_an_archive_of_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = put(tmp_path, "a.tar", _tar(*(_member(f"d/{i}") for i in range(300))))
    download.extract(archive, tmp_path / "into")
    assert len(os.listdir(tmp_path / "into" / "d")) == 300
    monkeypatch.setattr(download, "_MOST_MEMBERS", 299)
    with pytest.raises(UserError, match=r"\(it has more than 299 members\)"):
        download.extract(archive, tmp_path / "other")


# ---- sentences and numbers -------------------------------------------------------------------------------------------


def test_sentences_do_not_quote_without_end(tmp_path: Path) -> None:
    name = b"A" * 70_000
    with pytest.raises(UserError) as caught:
        tables.load(str(put(tmp_path, "t.csv", CSV.replace(b"a,", name + b","))), target="x")
    assert "A... (70,0" in str(caught.value)
    assert len(str(caught.value)) < 4000


def test_a_name_of_five_thousand_digits(tmp_path: Path) -> None:
    assert "holds values such as" in refused(put(tmp_path, "t.csv", CSV.replace(b"a,", b"9" * 5000 + b",")))


@pytest.mark.parametrize(
    "ids",
    [
        ("9223372036854775806", "9223372036854775807"),
        ("18446744073709551616", "18446744073709551617"),
        ("9" * 40, "8" * 40),
    ],
)
def test_labels_keep_all_their_digits(tmp_path: Path, ids: tuple[str, str]) -> None:
    text = "a,y\n" + "".join(f"{i},{ids[i % 2]}\n" for i in range(20))
    table = tables.load(str(put(tmp_path, "t.csv", text.encode())), target="y")
    assert table.classes == tuple(sorted(ids))
    assert table.target.tolist() == [table.classes.index(ids[i % 2]) for i in range(20)]
    assert [str(label) for label in TableEncoder.fit(table, np.arange(20)).target.labels] == sorted(ids)


def test_integers_of_a_typed_file_keep_their_digits() -> None:
    cells = pl.Series([2**63 - 1, 2**63 - 2] * 10, dtype=pl.Int64)
    table = make_table(pl.DataFrame({"a": range(20), "y": cells}), "y", name="t", source="t")
    assert table.classes == ("9223372036854775806", "9223372036854775807")
    assert TargetColumn("y", table.classes, 0.0, 1.0, "number").labels.tolist() == [2**63 - 2, 2**63 - 1]


def test_groups_keep_their_digits() -> None:
    frame = pl.DataFrame({"a": range(20), "g": [f"{2**60 + i // 4}" for i in range(20)], "y": ["u", "v"] * 10})
    assert len(set(make_table(frame, "y", name="t", source="t", decimal=".", group="g").groups.tolist())) == 5  # type: ignore[union-attr]


def test_spreads_whose_squares_are_too_small_for_float64() -> None:
    small = np.linspace(0, 1e-300, 20)
    table = make_table({"a": small, "b": small * 1e300, "y": ["u", "v"] * 10}, "y", name="t", source="t")
    scaled = TableEncoder.fit(table, np.arange(20)).transform(table)
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1], rtol=1e-6)
    with pytest.raises(
        UserError, match="the target 'y' varies by no more than 1e-300, whose square is next to 0: rescale it"
    ):
        make_table({"a": np.arange(20.0), "y": small}, "y", name="t", source="t")


def test_figures_of_memory() -> None:
    free, _ = memory.available()
    if free is not None:
        assert limits.lacking(free / 2 + 1) == ""
        assert "of memory are free" in limits.lacking(free * 10 + (1 << 30))
