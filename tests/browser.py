"""A real browser without a window, driven over two pipes by the DevTools protocol; nothing but the standard library."""

import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class BrowserError(RuntimeError):
    """The browser did not start, did not answer, or a script in its page failed."""


class Browser:
    """One tab of Chromium.

    `events` holds whatever the browser reported: exceptions, messages of the console, requests.
    """

    def __init__(self, profile: Path, seconds: float = 60.0) -> None:
        if CHROMIUM is None:
            raise BrowserError("no Chromium or Chrome was found on PATH")
        self.events: list[dict] = []
        self._seconds = seconds
        self._last = 0
        self._unread = b""
        # the browser reads commands from descriptor 3 and writes answers to 4: ours stay above them
        to_browser, self._write = _pipe()
        self._read, from_browser = _pipe()
        log = (profile.parent / f"{profile.name}.log").as_posix()
        self._process = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, to_browser, 3),
                (os.POSIX_SPAWN_DUP2, from_browser, 4),
            ],
            setpgroup=0,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
            attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session: str | None = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    _session: str | None = None

    def send(self, method: str, **params: object) -> dict:
        """Return the browser's answer to a command."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self._seconds
        while True:
            answer = self._receive(until, method)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event: str) -> None:
        """Return when the browser reports an event that it has not reported before."""
        until = time.monotonic() + self._seconds
        while True:
            self.events.append(self._receive(until, event))
            if self.events[-1].get("method") == event:
                return

    def _receive(self, until: float, what: str) -> dict:
        while b"\0" not in self._unread:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise BrowserError(f"{what}: no answer in {self._seconds:.0f} seconds")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise BrowserError(f"{what}: the browser has ended")
            self._unread += piece
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        seen = sum(event.get("method") == "Page.loadEventFired" for event in self.events)
        self.send("Page.navigate", url=url)
        if sum(event.get("method") == "Page.loadEventFired" for event in self.events) == seen:
            self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> object:
        """Return the value of an expression (or of its promise) in the page, as JSON has it."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """Give the page a window; below 500 pixels Chromium has no window, but a phone's screen."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    def close(self) -> None:
        """End the browser and all its processes."""
        for end in (self._write, self._read):
            os.close(end)
        until = time.monotonic() + 5  # it ends by itself when its pipe does
        while time.monotonic() < until:
            if os.waitpid(self._process, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, both numbered 10 or more."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return high[0], high[1]
