"""The site of the documentation in a real browser: on a desktop and a phone, in light and dark, and what a search finds."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser, BrowserError

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"
PAGES = (
    "index.html",
    "start/loop.html",
    "how-to/segmentation-masks.html",
    "how-to/compare.html",
    "reference/vicinities.html",
    "gallery/index.html",
    "gallery/plot_two_moons.html",
    "cards/vicinities/mixup.html",
    "check/museum.html",
    "paper/report.html",
    "project/CHANGELOG.html",
    "playground/index.html",
)
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
pytestmark = pytest.mark.docs

# text on its background: the ratio of WCAG 2; a pixel that a page does not paint is white
LOW_CONTRAST = """(() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const low = [], seen = {count: 0};
  for (const element of document.querySelectorAll("article *, .sidebar-tree *, .toc-tree *, .sidebar-brand *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    if (style.visibility !== "visible" || !element.getClientRects().length || element.closest("svg, .headerlink")) continue;
    seen.count += 1;
    const under = behind(element), text = over(rgba(style.color), under);
    const [a, b] = [light(text), light(under)].sort((p, q) => q - p), ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5))
      low.push(`${ratio.toFixed(2)} <${element.className || element.tagName}> ${element.textContent.slice(0, 40)}`);
  }
  return {low: [...new Set(low)], seen: seen.count};
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def is_up_to_date() -> bool:
    """Return whether the site in build/docs is newer than what it is made of."""
    made = SITE / "llms-full.txt"
    if not made.exists():
        return False
    parts = [ROOT / name for name in ("docs", "src", "examples", "results")]
    sources = [
        path for part in parts for path in part.rglob("*") if path.suffix in (".md", ".py", ".css", ".js", ".html")
    ]
    sources += ROOT.glob("*.md")
    return made.stat().st_mtime > max(path.stat().st_mtime for path in sources)


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Return the address of the site, on a server of this process."""
    if not is_up_to_date():
        command = [sys.executable, str(ROOT / "docs" / "_ext" / "build.py")]
        built = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        assert built.returncode == 0, built.stdout + built.stderr
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome was found on PATH: the site was not opened")
    browser = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield browser
    browser.close()


def opened(browser: Browser, url: str, screen: str = "desktop", scheme: str = "light") -> Browser:
    """Return the browser with a page, opened anew."""
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.size(*SCREENS[screen])
    browser.open("about:blank")
    browser.events.clear()
    browser.open(url)
    return browser


def until(browser: Browser, condition: str, seconds: float = 60.0) -> None:
    """Wait until an expression is true in the page."""
    end = time.monotonic() + seconds
    while not browser.run(f"Boolean({condition})"):
        if time.monotonic() > end:
            raise BrowserError(f"in {seconds:.0f} seconds it did not become true: {condition}")
        time.sleep(0.02)


def complaints(browser: Browser) -> list[str]:
    """Return what the console shows as an error, with whatever was thrown and not caught."""
    found = []
    for event in browser.events:
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            found.append(str(about["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            found.append(f"{about['entry']['text']} {about['entry'].get('url')}")
        elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            found.append(str(about["args"]))
    return found


def asked(browser: Browser) -> list[str]:
    """Return the addresses that the page asked for."""
    sent = (e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent")
    return [url for url in sent if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_fits_and_can_be_read(site: str, browser: Browser, page: str, screen: str, scheme: str):
    opened(browser, site + page, screen, scheme)
    until(browser, "document.readyState === 'complete'")
    assert complaints(browser) == []
    assert asked(browser)[0] == site + page
    assert [url for url in asked(browser) if not url.startswith(site)] == []
    wide, width = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= width == SCREENS[screen][0]
    broken = browser.run("[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)")
    assert broken == []
    if page != "playground/index.html":  # which has tests of its own
        dark = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, str(dark)[4:-1].split(","))) < 60) == (scheme == "dark")
        found = browser.run(LOW_CONTRAST)
        assert isinstance(found, dict)
        assert found["low"] == []
        assert found["seen"] > 20


def test_low_contrast_would_be_seen(site: str, browser: Browser):
    opened(browser, f"{site}index.html")
    browser.run("document.querySelector('article p').style.color = 'rgb(150, 150, 150)'")
    found = browser.run(LOW_CONTRAST)
    assert isinstance(found, dict)
    assert len(found["low"]) >= 1


def test_the_navigation_opens_on_a_phone(site: str, browser: Browser):
    opened(browser, f"{site}how-to/segmentation-masks.html", "phone")
    left = "document.querySelector('.sidebar-drawer').getBoundingClientRect().left"
    assert browser.run(left) < 0
    browser.run("document.querySelector('label.nav-overlay-icon').click()")
    until(browser, f"{left} >= 0")
    link = "document.querySelector('.sidebar-tree a[href$=\"which-alpha.html\"]')"
    assert browser.run(f"{link}.getClientRects().length") == 1
    browser.run(f"{link}.click()")
    until(browser, "location.pathname.endsWith('/how-to/which-alpha.html') && document.readyState === 'complete'")


def test_the_three_doors_and_the_thumbnails_lead_somewhere(site: str, browser: Browser):
    opened(browser, f"{site}index.html")
    doors = browser.run(
        "[...document.querySelectorAll('section#vicinal > .table-wrapper td')].map((d) => d.querySelector('a').href)"
    )
    assert doors == [f"{site}{page}.html" for page in ("how-to/compare", "start/loop", "check/index")]
    shown = browser.run(
        "[...document.querySelectorAll('#from-the-gallery li')]"
        ".map((item) => [item.querySelector('img').naturalWidth, item.querySelector('a').href])"
    )
    assert isinstance(shown, list)
    assert len(shown) >= 4
    for width, link in shown:
        assert width > 100
        assert link.startswith(f"{site}gallery/plot_")
    opened(browser, doors[1])
    assert complaints(browser) == []


def found_by(browser: Browser, start: str, words: str) -> list[str]:
    """Return the pages that the search finds, best first, when a reader types words into the box of a page."""
    opened(browser, start)
    browser.run("document.querySelector('input.sidebar-search').focus()")
    browser.send("Input.insertText", text=words)
    browser.run("document.querySelector('form.sidebar-search-container').requestSubmit()")
    until(browser, "location.pathname.endsWith('/search.html') && document.readyState === 'complete'")
    until(
        browser,
        "/found \\d+|matching|did not match/i.test(document.querySelector('#search-results p.search-summary')?.textContent)",
    )
    until(browser, "document.querySelectorAll('#search-results ul.search > li').length")
    links = browser.run("[...document.querySelectorAll('#search-results ul.search > li > a')].map((a) => a.href)")
    assert isinstance(links, list)
    assert complaints(browser) == []
    return list(dict.fromkeys(link.partition("?")[0].partition("#")[0] for link in links))


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("segmentation mask", "how-to/segmentation-masks.html"),
        ("RegMixup", "how-to/regmixup.html"),
        ("Manifold Mixup", "how-to/text.html"),
        ("label noise", "how-to/label-noise.html"),
        ("audio", "how-to/audio.html"),
        ("tabular", "how-to/tables.html"),
    ],
)
def test_the_search_finds_a_page_by_the_words_of_the_field(site: str, browser: Browser, words: str, page: str):
    assert site + page in found_by(browser, f"{site}index.html", words)[:8]


def test_a_site_on_disk_needs_no_server(site: str, browser: Browser):
    """Open the site from its folder, where a page may fetch nothing: the search works without excerpts."""
    del site  # which has been built
    front = SITE.joinpath("index.html").as_uri()
    found = found_by(browser, front, "segmentation mask")
    assert SITE.joinpath("how-to", "segmentation-masks.html").as_uri() in found
