"""The code in README.md and docs/ runs, and prints what the page says it prints."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import installed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^(?P<ticks>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=ticks)$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    body: str
    line: int  # of the page, where the body begins
    printed: str | None  # a ```text block that follows at once


def blocks(text: str) -> list[Block]:
    found = list(FENCE.finditer(text))
    listed = []
    for i, block in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        follows = after is not None and after["language"] == "text" and not text[block.end() : after.start()].strip()
        line = text.count("\n", 0, block.start("body")) + 1
        listed.append(Block(block["language"], block["body"], line, after["body"] if after and follows else None))
    return listed


def run(block: Block, page: Path, names: dict[str, Any]) -> str:
    """Run one block; errors name the line of the page."""
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    return printed.getvalue()


# by tests/checking, whose checks know what each block must print
RUN_ELSEWHERE = {DOCS / "check" / "ci.md", *(DOCS / "cards" / "checks").glob("*.md")}


@pytest.mark.slow
@pytest.mark.usefixtures("worker_server")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.* is deprecated:DeprecationWarning")  # of torch.compile
@pytest.mark.parametrize("page", [p for p in PAGES if p not in RUN_ELSEWHERE], ids=lambda page: page.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if page.name == "torch-compile.md" and not installed.TRACES_TARGETS:
        pytest.skip("PyTorch 2.6 breaks the graph at a mixed target, as that page says")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.language == "python":
            printed = run(block, page, names)
            if block.printed is not None:
                assert printed == block.printed, f"{page.name}:{block.line} prints something else"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_changes_run_before_and_after(page: Path):
    for block in blocks(page.read_text()):
        if block.language == "diff":  # "udiff" is shown alike: of programs whose packages are not in this environment
            for kept in (" -", " +"):
                lines = [line[2:] for line in block.body.splitlines() if not line or line[0] in kept]
                run(block._replace(body="\n".join(lines)), page, {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_runner_itself(tmp_path: Path):
    text = "a\n```python\nprint(1)\n```\n\n```text\n1\n```\n```python\nx\n```\nword\n```text\n2\n```\n"
    first, _, second, _ = blocks(text)
    assert (first.printed, first.line, second.printed) == ("1\n", 3, None)
    with pytest.raises(NameError) as error:
        run(second, Path("page.md"), {})
    assert error.traceback[-1].lineno + 1 == 10
