from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vicinal.lab.data import download
from vicinal.lab.data.download import DATASETS, Source
from vicinal.lab.errors import UserError

Step = Callable[["Request"], None]


def noise(n: int, seed: int = 0) -> bytes:
    return np.random.Generator(np.random.Philox(key=[seed, n])).bytes(n)


def tar(members: dict[str, bytes], *, mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


FILES = {"set/a.bin": noise(300_000), "set/b.bin": noise(1000, 1)}
CONTENT = tar(FILES)
OTHER = tar({"set/a.bin": noise(300_000, 2), "set/b.bin": noise(1000, 3)})


class Request(BaseHTTPRequestHandler):
    """Do the next of the server's steps, the last one for ever, and note what was asked."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append({key.lower(): value for key, value in self.headers.items()} | {"path": self.path})
        step = server.steps.pop(0) if len(server.steps) > 1 else server.steps[0]
        self.close_connection = True
        step(self)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def start(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.steps: list[Step] = []
        self.asked: list[dict[str, str]] = []
        self.stopped = threading.Event()

    def handle_error(self, *_: object) -> None:
        pass  # a client that has gone away

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/set.tar.gz"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.stopped.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def source(server: Server, monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source(
        name="set",
        title="The set",
        urls=(server.url,),
        archive="set.tar.gz",
        size=len(CONTENT),
        checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}",
        folder="set",
        inside=True,
        unpacked=400_000,
        license="none",
        citation="nobody",
        files={"a.bin": 300_000, "b.bin": None},
    )
    monkeypatch.setitem(DATASETS, "set", made)
    return made


def fetch(root: Path, **options: object) -> Path:
    return download.fetch("set", root, **{"stall": 5.0, "pause": 0.0, **options})  # type: ignore[arg-type]


# ---- what a server does


def whole(content: bytes = CONTENT, *, tag: str = '"one"', length: bool = True) -> Step:
    """Send all of it, whatever was asked."""

    def step(request: Request) -> None:
        request.answer(200, content, ETag=tag, **({} if length else {"Content_Length": ""}))

    return step


def ranges(content: bytes = CONTENT, *, tag: str = '"one"', date: str = "", respects: bool = True) -> Step:
    """Send what was asked, as servers should; with `respects` false, whether or not it is of the same copy."""

    def step(request: Request) -> None:
        start = request.start()
        if start >= len(content):
            request.answer(416, b"", Content_Range=f"bytes */{len(content)}")
        elif start and (not respects or request.headers.get("If-Range") == (tag or date)):
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            request.answer(206, content[start:], ETag=tag, Last_Modified=date, Content_Range=where)
        else:
            request.answer(200, content, ETag=tag, Last_Modified=date)

    return step


def cut(n: int, content: bytes = CONTENT, *, tag: str = '"one"', date: str = "") -> Step:
    """Promise all of it from where it was asked, and close after n bytes."""

    def step(request: Request) -> None:
        start = request.start()
        code, where = (206, f"bytes {start}-{len(content) - 1}/{len(content)}") if start else (200, "")
        request.answer(
            code,
            content[start : start + n],
            Content_Length=str(len(content) - start),
            ETag=tag,
            Last_Modified=date,
            Content_Range=where,
        )

    return step


def hang(n: int) -> Step:
    """Send n bytes and then nothing, with the connection open."""

    def step(request: Request) -> None:
        request.answer(200, CONTENT[:n], Content_Length=str(len(CONTENT)), ETag='"one"')
        request.wfile.flush()
        request.server.stopped.wait(20)

    return step


def trickle(request: Request) -> None:
    """Send a byte now and then."""
    request.answer(200, b"", Content_Length=str(len(CONTENT)), ETag='"one"')
    for i in range(1000):
        if request.server.stopped.wait(0.02):
            return
        request.wfile.write(CONTENT[i : i + 1])
        request.wfile.flush()


def status(code: int, **headers: str) -> Step:
    return lambda request: request.answer(code, b"<html>no</html>", **headers)


def redirect(to: str, code: int = 302) -> Step:
    return lambda request: request.answer(code, b"", Location=to)


def abort(request: Request) -> None:
    """Close without a word."""


def chunked(content: bytes = CONTENT, *, end: bool = True) -> Step:
    def step(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for i in range(0, len(content), 50_000):
            part = content[i : i + 50_000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if end:
            request.wfile.write(b"0\r\n\r\n")

    return step


def nothing_else(root: Path, *names: str) -> None:
    assert sorted(path.name for path in root.iterdir()) == sorted(names)


# ---- fetching


@pytest.mark.usefixtures("source")
def test_fetch(server: Server, tmp_path: Path) -> None:
    server.steps = [ranges()]
    told: list[tuple[int, int | None]] = []
    path = fetch(tmp_path / "new" / "folder", progress=lambda done, n: told.append((done, n)))
    assert path == tmp_path / "new" / "folder" / "set.tar.gz"
    assert path.read_bytes() == CONTENT
    nothing_else(path.parent, "set.tar.gz")
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert "range" not in server.asked[0]
    assert fetch(path.parent) == path  # it is there: nobody is asked
    assert len(server.asked) == 1


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        ([cut(1000), ranges()], [None, "bytes=1000-"]),
        ([cut(1000), cut(70_000), cut(5), ranges()], [None, "bytes=1000-", "bytes=71000-", "bytes=71005-"]),
        ([cut(1000), whole()], [None, "bytes=1000-"]),  # one that ignores what part is asked for
        ([cut(1000, tag=""), ranges(tag="")], [None, None]),  # nothing to tell copies apart by
        ([cut(1000, tag='W/"weak"'), ranges(tag='W/"weak"')], [None, None]),
        ([abort, ranges()], [None, None]),
        ([status(503), status(500), status(429, Retry_After="0"), ranges()], [None] * 4),
        ([cut(1000), status(503, Retry_After="never"), abort, ranges()], [None] + ["bytes=1000-"] * 3),
        ([chunked()], [None]),
        ([chunked(CONTENT[:120_000], end=False), chunked()], [None, None]),
        ([whole(length=False)], [None]),  # until the connection closes: the published size tells whether it is all
        ([whole(CONTENT[:500], length=False), whole(length=False)], [None, "bytes=500-"]),
    ],
)
def test_servers_that_fail_and_recover(
    server: Server, tmp_path: Path, steps: list[Step], asked: list[str | None]
) -> None:
    server.steps = list(steps)
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert [request.get("range") for request in server.asked] == asked
    nothing_else(tmp_path, "set.tar.gz")


@pytest.mark.usefixtures("source")
def test_what_tells_copies_apart(server: Server, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.steps = [cut(1000), cut(1000, tag="", date=date), ranges(tag="", date=date)]
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert [request.get("if-range") for request in server.asked] == [None, '"one"', '"one"']
    (tmp_path / "set.tar.gz").unlink()
    server.steps, server.asked = [cut(1000, tag='W/"weak"', date=date), ranges(tag="", date=date)], []
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert [request.get("if-range") for request in server.asked] == [None, date]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("slow", [hang(0), hang(5000), trickle])
def test_servers_that_stall(server: Server, tmp_path: Path, slow: Step) -> None:
    server.steps = [slow, ranges()]
    begin = time.monotonic()
    assert fetch(tmp_path, stall=0.3).read_bytes() == CONTENT
    assert 0.3 <= time.monotonic() - begin < 10


@pytest.mark.usefixtures("source")
def test_a_server_that_only_stalls(server: Server, tmp_path: Path) -> None:
    server.steps = [hang(5000)]
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, stall=0.5, attempts=2)
    host = server.url.removeprefix("http://").removesuffix("/set.tar.gz")
    assert str(caught.value) == (
        f"'set.tar.gz' could not be downloaded into '{tmp_path}' ({host}: nothing came for 0.5 s, at the last of 2 "
        f"attempts): put set.tar.gz, from {server.url}, there and run the same command again"
    )
    assert len(server.asked) == 2


@pytest.mark.usefixtures("source")
def test_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.steps = [cut(100_000), abort]
    with pytest.raises(UserError, match="the connection broke"):
        fetch(tmp_path, attempts=2)
    nothing_else(tmp_path, ".set.tar.gz.part", ".set.tar.gz.part.json")
    server.steps, server.asked = [ranges()], []
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert server.asked[0]["range"] == "bytes=100000-"
    nothing_else(tmp_path, "set.tar.gz")


@pytest.mark.usefixtures("source")
def test_stopped_by_the_user(server: Server, tmp_path: Path) -> None:
    def stop(done: int, _: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    server.steps = [ranges()]
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, progress=stop)
    nothing_else(tmp_path, ".set.tar.gz.part", ".set.tar.gz.part.json")
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert server.asked[1]["range"] != "bytes=0-"


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    "then",
    [
        [ranges()],  # a good server notices
        [ranges(respects=False), ranges()],  # one that does not, but says which copy it sends
        [ranges(CONTENT[:900]), ranges()],  # the new one is shorter than what is here: 416
    ],
)
def test_a_file_that_changes_while_it_is_downloaded(server: Server, tmp_path: Path, then: list[Step]) -> None:
    server.steps = [cut(1000, OTHER[: len(CONTENT)].ljust(len(CONTENT)), tag='"two"'), *then]
    assert fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("source")
def test_a_change_that_nothing_tells(server: Server, tmp_path: Path) -> None:
    old = OTHER[: len(CONTENT)].ljust(len(CONTENT))
    server.steps = [cut(1000, old), ranges(respects=False), ranges()]
    assert fetch(tmp_path).read_bytes() == CONTENT  # the checksum tells, and it begins again
    assert [request.get("range") for request in server.asked] == [None, "bytes=1000-", None]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("step", "sentence", "asked"),
    [
        (status(404), "the server answered 404 Not Found)", 1),
        (status(403), "the server answered 403 Forbidden)", 1),
        (status(503), "the server answered 503 Service Unavailable, at the last of 3 attempts)", 3),
        (abort, "the connection broke", 3),
        (cut(10), "the connection closed after", 3),
        (whole(CONTENT + b"more"), f"it offers {len(CONTENT) + 4} bytes where {len(CONTENT)} were published)", 1),
        (whole(b"<html>sign in</html>"), f"it offers 20 bytes where {len(CONTENT)} were published)", 1),
        (whole(noise(len(CONTENT))), "is not a gzip file)", 1),
        (whole(CONTENT[:-1] + b"?"), "has the MD5", 1),
        (redirect("ftp://127.0.0.1/x"), "it redirects from http to ftp)", 1),
        (redirect("file:///etc/passwd"), "the server answered 302", 1),
        (redirect("/set.tar.gz"), "the server answered 302", None),
        (redirect("http://127.0.0.1:port/"), "the connection broke", 3),
    ],
)
def test_servers_that_are_of_no_use(
    server: Server, tmp_path: Path, step: Step, sentence: str, asked: int | None
) -> None:
    server.steps = [step]
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, attempts=3)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(f"put set.tar.gz, from {server.url}, there and run the same command again")
    assert asked is None or len(server.asked) == asked
    assert not (tmp_path / "set.tar.gz").exists()


@pytest.mark.usefixtures("source")
def test_a_page_in_between_costs_nothing(server: Server, tmp_path: Path) -> None:
    server.steps = [cut(100_000), whole(b"<html>sign in</html>", tag="")]
    with pytest.raises(UserError, match="it offers 20 bytes"):
        fetch(tmp_path)
    server.steps, server.asked = [ranges()], []
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert server.asked[0]["range"] == "bytes=100000-"


@pytest.mark.usefixtures("source")
def test_redirects(server: Server, tmp_path: Path) -> None:
    server.steps = [redirect("/elsewhere"), cut(1000), redirect("/elsewhere", 301), ranges()]
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert [request["path"] for request in server.asked] == ["/set.tar.gz", "/elsewhere"] * 2
    assert [request.get("range") for request in server.asked] == [None, None, "bytes=1000-", "bytes=1000-"]
    request = download.urllib.request.Request("https://example.org/")
    with pytest.raises(download._Refused, match="it redirects from https to http"):
        download._Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/")


def test_the_next_address(server: Server, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "http://127.0.0.1:9/set.tar.gz"
    monkeypatch.setitem(DATASETS, "set", replace(source, urls=(closed, server.url + "?a", server.url)))
    server.steps = [status(404), ranges()]
    assert fetch(tmp_path, attempts=2).read_bytes() == CONTENT
    assert [request["path"] for request in server.asked] == ["/set.tar.gz?a", "/set.tar.gz"]


def test_offline(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/set.tar.gz"
    monkeypatch.setitem(DATASETS, "set", replace(source, urls=(url,)))
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, attempts=2)
    assert str(caught.value) == (
        f"'set.tar.gz' could not be downloaded into '{tmp_path}' (127.0.0.1:9: no connection: [Errno 111] Connection "
        f"refused, at the last of 2 attempts): put set.tar.gz, from {url}, there and run the same command again"
    )
    nothing_else(tmp_path)
    (tmp_path / "set.tar.gz").write_bytes(CONTENT)  # as it says
    assert fetch(tmp_path).read_bytes() == CONTENT


def test_how_long_it_waits(server: Server, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    date = download.email.utils.formatdate(time.time() + 30, usegmt=True)
    steps = [abort, abort, abort, status(503, Retry_After="17"), status(503, Retry_After="9999"), cut(150_000), abort]
    server.steps = [*steps, status(503, Retry_After=date), ranges()]
    download.fetch(source.name, tmp_path, attempts=9, pause=1.0)
    assert waits[:3] == [1, 2, 4]
    assert waits[3:5] == [17, 60]
    assert waits[5:7] == [1, 1]  # what brought something begins the count again
    assert 25 < waits[7] <= 30


@pytest.mark.usefixtures("source")
def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    server.steps = [ranges()]
    with download._Part(tmp_path / "set.tar.gz"), pytest.raises(UserError) as caught:
        fetch(tmp_path)
    assert str(caught.value) == "another process is downloading 'set.tar.gz': wait for it, then run again"
    assert fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("source")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set\.tar\.gz' cannot be written or read \(.*\): mend that, or give another"):
        fetch(tmp_path / "file")


# ---- checking


@pytest.mark.usefixtures("source")
def test_a_wrong_archive_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    path.write_bytes(CONTENT[:-5])
    with pytest.raises(UserError) as caught:
        fetch(tmp_path)
    sizes = f"{len(CONTENT) - 5} bytes where {len(CONTENT)} were published"
    assert str(caught.value) == f"'set.tar.gz' has {sizes}: delete it and download it again"
    path.write_bytes(CONTENT[:-1] + b"?")
    found, expected = hashlib.md5(CONTENT[:-1] + b"?").hexdigest(), hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(UserError, match=f"has the MD5 {found} where {expected} was published: delete it and"):
        fetch(tmp_path)
    assert path.exists()  # the user's own


def test_a_set_without_a_checksum(
    server: Server, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "set", replace(source, checksum=None, size=None))
    server.steps = [cut(1000), ranges()]
    path = fetch(tmp_path)
    pin = tmp_path / "set.tar.gz.sha256"
    assert pin.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  set.tar.gz\n"  # as sha256sum writes it
    assert download.check_archive(DATASETS["set"], path).startswith("its SHA-256 is that of the first download")
    path.unlink()
    server.steps = [whole(OTHER)]
    with pytest.raises(UserError, match=r"has the SHA256 .* where .* is that of the first download"):
        fetch(tmp_path)
    nothing_else(tmp_path, "set.tar.gz.sha256")
    path.write_bytes(OTHER)
    with pytest.raises(
        UserError, match=r"delete it \(and 'set\.tar\.gz\.sha256' too, if you trust the new copy more\)"
    ):
        fetch(tmp_path)
    pin.write_text("no checksum\n")
    with pytest.raises(UserError, match=r"'set\.tar\.gz\.sha256' does not begin with a SHA-256: delete it"):
        fetch(tmp_path)
    pin.unlink()
    assert download.check_archive(DATASETS["set"], path).startswith("nothing to check it against")
    path.write_bytes(b"<html>sign in</html>")
    pin.unlink()
    with pytest.raises(UserError, match=r"'set\.tar\.gz' is not a gzip file: delete it"):
        fetch(tmp_path)
    assert not pin.exists()


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (whole(length=False), "it does not say how long the file is"),
        (whole(b"<html>sign in</html>"), "is not a gzip file"),
    ],
)
def test_without_any_checks_to_make(
    server: Server, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step, sentence: str
) -> None:
    monkeypatch.setitem(DATASETS, "set", replace(source, checksum=None, size=None))
    server.steps = [step]
    with pytest.raises(UserError, match=sentence):
        fetch(tmp_path)
    nothing_else(tmp_path)


def test_a_server_without_end(server: Server, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "set", replace(source, checksum=None, size=None))
    monkeypatch.setattr(download, "_LARGEST", 100_000)
    server.steps = [chunked()]
    with pytest.raises(UserError, match="it sends more than 100000 bytes"):
        fetch(tmp_path)
    monkeypatch.setattr(download, "_LARGEST", len(CONTENT) + 1)
    assert fetch(tmp_path).read_bytes() == CONTENT


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
    for name, source in DATASETS.items():
        assert source.name == name
        assert source.title
        assert source.license
        assert source.citation
        assert bool(source.urls) != bool(source.manual)
        assert all(url.startswith("https://") and url.endswith(f"/{source.archive}") for url in source.urls)
        if source.checksum is not None:
            kind, value = source.checksum.split(":")
            assert len(value) == {"md5": 32, "sha256": 64}[kind]
            assert source.size is not None
    with pytest.raises(UserError) as caught:
        download.fetch("imagenet", "anywhere")
    assert str(caught.value).startswith(
        "ImageNet-2012 cannot be downloaded by a program: register at https://image-net.org, download ILSVRC2012_img_tr"
    )
    with pytest.raises(UserError, match="'mnist' is none of the published sets: choose one of cifar10, cifar10-p"):
        download.fetch("mnist", "anywhere")


# ---- all of it


@pytest.mark.usefixtures("source")
def test_obtain_and_verify(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The set lacks set/a\.bin, set/b\.bin in '.*': put set\.tar\.gz, from http"):
        download.verify("set", tmp_path)
    server.steps = [ranges()]
    folder = download.fetch("set", tmp_path)
    assert folder == tmp_path / "set"
    assert {f"set/{path.name}": path.read_bytes() for path in folder.iterdir()} == FILES
    nothing_else(tmp_path, "set", "set.tar.gz")
    assert download.verify("set", tmp_path) == (
        "The set: all of a.bin, b.bin are there; set.tar.gz: its MD5 is the published one"
    )
    (tmp_path / "set.tar.gz").unlink()
    assert download.fetch("set", tmp_path) == folder  # nothing to do
    assert len(server.asked) == 1
    assert download.verify("set", tmp_path).endswith("without the archive no checksum was compared")
    (folder / "a.bin").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"The set lacks set/a\.bin: move '.*' away and run the same command again"):
        download.fetch("set", tmp_path)
    assert (folder / "a.bin").read_bytes() == b"cut"
    folder.rename(tmp_path / "away")
    download.fetch("set", tmp_path, keep_archive=False)
    nothing_else(tmp_path, "away", "set")


# ---- unpacking


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def unpack(path: Path, *, limit: int = 1000, inside: str = "") -> Path:
    into = path.parent / "into"
    download.extract(path, into, limit=limit, inside=inside)
    return into


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_extract(tmp_path: Path, suffix: str) -> None:
    files = {"./top.txt": b"1", "set/a": b"22", "set/deep/b": b"333", "set/empty": b""}
    path = tmp_path / f"archive{suffix}"
    if suffix == ".zip":
        write_zip(path, *files.items(), ("set/none/", b""))
    else:
        write_tar(path, *(member(*file) for file in files.items()), member("set/none", b"", type=tarfile.DIRTYPE))
    assert contents(unpack(path)) == {"top.txt": b"1", "set/a": b"22", "set/deep/b": b"333", "set/empty": b""}
    assert (tmp_path / "into" / "set" / "none").is_dir()
    with pytest.raises(UserError, match="into' exists already: move it away"):
        unpack(path)
    download.extract(path, tmp_path / "set", limit=6, inside="set")
    assert contents(tmp_path / "set") == {"a": b"22", "deep/b": b"333", "empty": b""}
    with pytest.raises(UserError, match="does not hold the folder other: download it again"):
        download.extract(path, tmp_path / "other", limit=6, inside="other")
    with pytest.raises(UserError, match="holds more than 5 bytes or 2000000 files: it is not unpacked"):
        download.extract(path, tmp_path / "more", limit=5)
    nothing_else(tmp_path, path.name, "into", "set")


OUTSIDE = (
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "a/..",
    "..",
    "C:\\evil",
    "C:/evil",
    "a\\..\\..\\evil",
    "//host/evil",
)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_out(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"archive.{kind}"
    if kind == "tar":
        write_tar(path, member("good"), member(name))
    else:
        write_zip(path, ("good", b"x"), (name, b"x"))
    with pytest.raises(UserError, match=r"holds '.*', a name that leads out of its folder: it is not unpacked"):
        unpack(path)
    nothing_else(tmp_path, path.name)
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    "members",
    [
        [member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [member("link", b"", type=tarfile.SYMTYPE, linkname="good")],
        [member("link", b"", type=tarfile.SYMTYPE, linkname="."), member("link/evil")],
        [member("link", b"", type=tarfile.LNKTYPE, linkname="good")],
        [member("link", b"", type=tarfile.LNKTYPE, linkname="../archive.tar")],
        [member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("disk", b"", type=tarfile.BLKTYPE, devmajor=8, devminor=0)],
        [member("pipe", b"", type=tarfile.FIFOTYPE)],
    ],
)
def test_members_that_are_no_files(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    path = write_tar(tmp_path / "archive.tar", member("good"), *members)
    with pytest.raises(UserError, match=r"neither a file nor a folder: it is not unpacked"):
        unpack(path)
    nothing_else(tmp_path, "archive.tar")


def test_links_in_a_zip(tmp_path: Path) -> None:
    for mode in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR):
        info = zipfile.ZipInfo("link")
        info.create_system = 3
        info.external_attr = (mode | 0o777) << 16
        path = write_zip(tmp_path / "archive.zip", ("good", b"x"), (info, b"/etc/passwd"))
        with pytest.raises(UserError, match="holds 'link', neither a file nor a folder"):
            unpack(path)
    nothing_else(tmp_path, "archive.zip")


def test_one_name_twice(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "archive.tar", member("a"), member("./a"))
    with pytest.raises(UserError, match="holds 'a' twice: it is not unpacked"):
        unpack(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(tmp_path / "archive.zip", ("a", b"x"), ("a", b"x"))
    with pytest.raises(UserError, match="holds 'a' twice"):
        unpack(path)
    path = write_tar(tmp_path / "archive.tar", member("a"), member("a/b"))
    with pytest.raises(UserError, match="could not be unpacked into"):
        unpack(path)
    nothing_else(tmp_path, "archive.tar", "archive.zip")


def test_modes_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "archive.tar", member("a", mode=0o6777, uid=12345), member("b", mode=0o000))
    into = unpack(path)
    assert stat.S_IMODE((into / "a").stat().st_mode) == 0o755
    assert (into / "a").stat().st_uid == os.getuid()
    assert (into / "b").read_bytes() == b"x"


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "archive.tar.gz"
    with gzip.open(path, "wb") as file:  # promises a terabyte, and holds two megabytes of it
        info = tarfile.TarInfo("big")
        info.size = 1 << 40
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(2 << 20))
    with pytest.raises(UserError, match="holds more than 1000 bytes"):
        unpack(path)
    path = write_tar(tmp_path / "archive.tar", *(member(f"{i}", b"x" * 300) for i in range(4)))
    with pytest.raises(UserError, match="holds more than 1000 bytes"):
        unpack(path)
    path = write_zip(tmp_path / "archive.zip", *((f"{i}", bytes(300)) for i in range(4)))
    with pytest.raises(UserError, match="holds more than 1000 bytes"):
        unpack(path)
    monkeypatch.setattr(download, "_MOST_MEMBERS", 3)
    for path in (
        write_tar(tmp_path / "archive.tar", *(member(f"{i}", b"") for i in range(4))),
        write_zip(tmp_path / "archive.zip", *((f"{i}", b"") for i in range(4))),
    ):
        with pytest.raises(UserError, match="or 3 files: it is not unpacked"):
            unpack(path)
    nothing_else(tmp_path, "archive.tar", "archive.tar.gz", "archive.zip")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", ("a", bytes(100_000)))
    data = path.read_bytes()
    path.write_bytes(data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="is damaged"):
        unpack(path)
    nothing_else(tmp_path, "archive.zip")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", ("a", b"x"))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"'archive\.zip' is encrypted: unpack it by hand"):
        unpack(path)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_damaged_archives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"archive{suffix}"
    content = noise(2000)
    write_zip(path, ("a", content)) if suffix == ".zip" else write_tar(path, member("a", content))
    good = path.read_bytes()
    for bad in (
        good[:1500],
        good[:700],
        b"",
        b"not an archive at all",
        b"\x1f\x8b" + bytes(50),
        noise(3000),
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"is damaged \(.+\): download it again"):
            unpack(path, limit=10_000)
    with pytest.raises(UserError, match=r"could not be unpacked into .*No such file"):
        unpack(tmp_path / f"absent{suffix}")
    nothing_else(tmp_path, path.name)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damage_at_any_place(tmp_path: Path, suffix: str) -> None:
    """Whatever one byte is changed to, no other content is unpacked."""
    path = tmp_path / f"archive{suffix}"
    files = {"a": noise(300), "deep/b": b"bb" * 300, "deep/c": b""}
    write_zip(path, *files.items()) if suffix == ".zip" else write_tar(path, *(member(*file) for file in files.items()))
    good = path.read_bytes()
    generator = np.random.Generator(np.random.Philox(key=1))
    refused = 0
    for place in range(0, len(good), 3):
        data = bytearray(good)
        data[place] ^= int(generator.integers(1, 256))
        path.write_bytes(data)
        try:
            found = contents(unpack(path))
            assert set(found.values()) <= set(files.values())
            shutil.rmtree(tmp_path / "into")
        except UserError:
            refused += 1
        nothing_else(tmp_path, path.name)
    assert refused > 100


def test_the_standard_library_filters_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused here by name is also kept in by the filter, should a name slip through."""
    monkeypatch.setattr(download._Allowance, "admit", lambda self, name, size, plain: download.PurePosixPath(name))
    path = write_tar(tmp_path / "archive.tar", member("../evil"))
    with pytest.raises(UserError, match="is damaged"):
        unpack(path)
    nothing_else(tmp_path, "archive.tar")
