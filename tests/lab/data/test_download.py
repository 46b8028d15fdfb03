from __future__ import annotations

import gc
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.lab import atomic, cli
from vicinal.lab.data import download
from vicinal.lab.data.download import DATASETS, PublishedDataset, fetch
from vicinal.lab.errors import UserError

Member = tuple[tarfile.TarInfo, bytes]
Step = Callable[["Request"], None]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pooch leaves sockets to the collector


def noise(n: int, seed: int = 0) -> bytes:
    return np.random.Generator(np.random.Philox(key=[seed, n])).bytes(n)


def member(name: str, content: bytes = b"x", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar(*members: Member, mode: Any = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


FILES = {"set/a.bin": noise(300_000), "set/b.bin": noise(1000, 1)}
CONTENT = tar(*(member(name, content) for name, content in FILES.items()))


class Request(BaseHTTPRequestHandler):
    """Do the next of the server's steps, the last one for ever, and note what was asked."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        steps = self.server.steps
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.steps: list[Step] = []
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has gone away

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/set.tar.gz"


def whole(content: bytes = CONTENT, length: str = "") -> Step:
    headers = {"Content_Length": length} if length else {}
    return lambda request: request.answer(200, content, **headers)


def status(code: int) -> Step:
    return lambda request: request.answer(code, b"<html>no</html>")


def abort(request: Request) -> None:
    """Close without a word."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # pooch waits between attempts
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()
    gc.collect()


@pytest.fixture
def dataset(server: Server, monkeypatch: pytest.MonkeyPatch) -> PublishedDataset:
    made = PublishedDataset(
        title="The set",
        url=server.url,
        archive="set.tar.gz",
        size=len(CONTENT),
        checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}",
        folder="set",
        license="none",
        files={"a.bin": 300_000, "b.bin": None},
    )
    monkeypatch.setitem(DATASETS, "set", made)
    return made


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


# ---- fetching


@pytest.mark.usefixtures("dataset")
def test_fetch_and_verify(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    with pytest.raises(UserError, match=r"The set lacks set/a\.bin, set/b\.bin in '.*': put set\.tar\.gz, from http"):
        download.verify("set", root)
    server.steps = [whole()]
    calls: list[tuple[int, int | None]] = []
    folder = fetch("set", root, progress=lambda done, n: calls.append((done, n)))
    assert folder == root / "set"
    assert {f"set/{path.name}": path.read_bytes() for path in folder.iterdir()} == FILES
    assert names(root) == ["set", "set.tar.gz"]
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert calls == sorted(calls)
    assert download.verify("set", root) == ("The set: all of a.bin, b.bin are there; set.tar.gz has the published MD5")
    (root / "set.tar.gz").unlink()
    assert fetch("set", root) == folder  # nothing to do
    assert len(server.asked) == 1
    assert download.verify("set", root).endswith("without the archive no checksum was compared")
    (folder / "a.bin").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"The set lacks set/a\.bin: move '.*' away and rerun the same command"):
        fetch("set", root)
    assert (folder / "a.bin").read_bytes() == b"cut"


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize("first", [status(503), abort, whole(CONTENT[:1000], str(len(CONTENT))), whole(b"<html>")])
def test_servers_that_fail_and_recover(server: Server, tmp_path: Path, first: Step) -> None:
    server.steps = [first, whole()]
    assert download.download("set", tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2
    assert names(tmp_path) == ["set.tar.gz"]


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (status(404), "404 Client Error"),
        (status(503), "503 Server Error"),
        (abort, "Connection aborted"),
        (whole(CONTENT[:1000], str(len(CONTENT))), "IncompleteRead"),
        (whole(b"<html>sign in</html>"), "does not match the known hash"),
        (whole(CONTENT[:-1] + b"?"), "does not match the known hash"),
    ],
)
def test_servers_that_are_of_no_use(server: Server, tmp_path: Path, step: Step, sentence: str) -> None:
    server.steps = [step]
    with pytest.raises(UserError) as caught:
        fetch("set", tmp_path, attempts=3)
    assert str(caught.value).startswith(f"'set.tar.gz' could not be downloaded into '{tmp_path}' (")
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(f"put set.tar.gz, from {server.url}, there and rerun the same command")
    assert len(server.asked) == 3
    assert names(tmp_path) == []


def test_offline(dataset: PublishedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/set.tar.gz"
    monkeypatch.setitem(DATASETS, "set", replace(dataset, url=url))
    with pytest.raises(UserError, match=rf"Connection refused.*\): put set.tar.gz, from {url}, there and rerun"):
        fetch("set", tmp_path, attempts=2)
    assert names(tmp_path) == []
    (tmp_path / "set.tar.gz").write_bytes(CONTENT)  # as it says
    assert fetch("set", tmp_path) == tmp_path / "set"


@pytest.mark.usefixtures("dataset")
def test_stopped_by_the_user(server: Server, tmp_path: Path) -> None:
    def stop(done: int, _: int | None) -> None:
        raise KeyboardInterrupt

    server.steps = [whole()]
    with pytest.raises(KeyboardInterrupt):
        fetch("set", tmp_path, progress=stop)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("dataset")
def test_what_a_killed_command_left_is_removed_by_the_next(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.tar.gz.partial").mkdir()
    (tmp_path / ".set.tar.gz.partial" / "tmp123").write_bytes(CONTENT[:1000])
    (tmp_path / ".set.77.partial").mkdir()
    (tmp_path / ".set.77.partial" / "a.bin").write_bytes(b"cut")
    (tmp_path / ".set.tar.gz.lock").touch()
    server.steps = [whole()]
    fetch("set", tmp_path)
    assert names(tmp_path) == ["set", "set.tar.gz"]


@pytest.mark.usefixtures("dataset")
def test_two_commands_fetch_nothing_twice(server: Server, tmp_path: Path) -> None:
    server.steps = [whole()]
    with atomic.locked(tmp_path / ".set.tar.gz.lock") as mine:
        assert mine
        for get in (fetch, download.download):
            with pytest.raises(UserError, match=r"^another command fetches The set into '.*': wait for it, or end it$"):
                get("set", tmp_path)
    assert server.asked == []
    assert fetch("set", tmp_path) == tmp_path / "set"


@pytest.mark.usefixtures("dataset")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"'set\.tar\.gz' could not be downloaded into '.*file'"):
        fetch("set", tmp_path / "file")


@pytest.mark.usefixtures("dataset")
def test_a_wrong_archive_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    path.write_bytes(CONTENT[:-1] + b"?")
    found, expected = (hashlib.md5(content).hexdigest() for content in (CONTENT[:-1] + b"?", CONTENT))
    with pytest.raises(UserError, match=rf"bytes and the checksum md5:{found} where md5:{expected} was published: del"):
        fetch("set", tmp_path)
    assert path.exists()  # the user's own


def test_the_table() -> None:
    assert list(DATASETS) == [
        "cifar10",
        "cifar10-python",
        "cifar100",
        "cifar100-python",
        "speech-commands-v1",
        "speech-commands-v2",
        "imagenet",
    ]
    for dataset in DATASETS.values():
        assert dataset.title
        assert dataset.license
        assert bool(dataset.url) != bool(dataset.manual)
        if dataset.url:
            assert dataset.url.startswith("https://")
            assert dataset.url.endswith(f"/{dataset.archive}")
            kind, value = dataset.checksum.split(":")
            assert len(value) == {"md5": 32, "sha256": 64}[kind]
    with pytest.raises(UserError) as caught:
        fetch("imagenet", "anywhere")
    assert str(caught.value).startswith(
        "ImageNet-2012 cannot be downloaded by a program: register at https://image-net.org, download ILSVRC2012_img_tr"
    )
    with pytest.raises(
        UserError, match="'mnist' is not one of the published datasets: choose one of cifar10, cifar10-"
    ):
        fetch("mnist", "anywhere")


@pytest.mark.usefixtures("dataset")
def test_the_command_downloads_and_unpacks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(download.DATA_DIR_ENV, str(tmp_path))
    server.steps = [whole()]
    assert cli.main(["data", "fetch", "set"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'set'}\n"
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv(download.DATA_DIR_ENV, f"~/{tmp_path.name}")
    assert cli.main(["data", "verify", "set"]) == 0
    assert capsys.readouterr().out.startswith("The set: all of a.bin, b.bin are there")


# ---- unpacking


def unpack(root: Path, *members: Member) -> Path:
    path = root / "archive.tar"
    path.write_bytes(tar(*members, mode="w"))
    download.extract(path, root / "into")
    return root / "into"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_extract(tmp_path: Path, mode: str) -> None:
    files = {"./top.txt": b"1", "set/a": b"22", "set/deep/b": b"333", "set/empty": b""}
    path = tmp_path / "archive"
    path.write_bytes(tar(*(member(*file) for file in files.items()), mode=mode))
    download.extract(path, tmp_path / "into")
    assert contents(tmp_path / "into") == {"top.txt": b"1", "set/a": b"22", "set/deep/b": b"333", "set/empty": b""}
    with pytest.raises(UserError, match="into' exists already: move it away"):
        download.extract(path, tmp_path / "into")
    download.extract(path, tmp_path / "set", inside=True)
    assert contents(tmp_path / "set") == {"a": b"22", "deep/b": b"333", "empty": b""}
    with pytest.raises(UserError, match="does not hold the folder other: download it again"):
        download.extract(path, tmp_path / "other", inside=True)
    assert names(tmp_path) == ["archive", "into", "set"]


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("a/../../../evil")],
        [member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [member("link", b"", type=tarfile.SYMTYPE, linkname="../.."), member("link/evil")],
        [member("link", b"", type=tarfile.LNKTYPE, linkname="../archive.tar")],
        [member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("pipe", b"", type=tarfile.FIFOTYPE)],
    ],
)
def test_nothing_leads_out_of_the_folder(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(UserError, match=r"'archive\.tar' cannot be unpacked \(.*\): download it again"):
        unpack(tmp_path, member("good"), *members)
    assert names(tmp_path) == ["archive.tar"]


def test_absolute_names_land_inside(tmp_path: Path) -> None:
    target = tmp_path / "evil"
    assert list(contents(unpack(tmp_path, member(str(target))))) == [str(target).lstrip("/")]
    assert not target.exists()


def test_modes_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    into = unpack(tmp_path, member("a", mode=0o6777, uid=12345), member("b", mode=0o000))
    assert [(into / name).stat().st_mode & 0o7022 for name in "ab"] == [0, 0]
    assert (into / "a").stat().st_uid == os.getuid()
    assert (into / "b").read_bytes() == b"x"


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9])
def test_archives_that_end_too_early(tmp_path: Path, place: float) -> None:
    path = tmp_path / "set.tar.gz"
    path.write_bytes(CONTENT[: int(place * len(CONTENT))])  # other damage is found by the checksum, before
    with pytest.raises(UserError, match=r"'set\.tar\.gz' cannot be unpacked"):
        download.extract(path, tmp_path / "into")
    assert names(tmp_path) == ["set.tar.gz"]
