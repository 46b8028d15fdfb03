"""The table of methods for a text, with the numbers of the page as it writes them: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

import re
from pathlib import Path

from vicinal.lab import atomic
from vicinal.lab.compare.results import Results
from vicinal.lab.compare.view import TableCell, View
from vicinal.lab.format import ABSENT, MINUS, counted

_NO_BREAK = "\N{NO-BREAK SPACE}"


def write(results: Results, folder: Path) -> None:
    """Write table.md and table.tex into a folder, each whole."""
    atomic.write(folder / "table.md", markdown(results).encode("utf-8", "replace"))
    atomic.write(folder / "table.tex", latex(results).encode("utf-8", "replace"))


def markdown(results: Results) -> str:
    """Return the table of methods in Markdown, with the verdict's sentence above it."""
    view = View(results, MINUS)
    columns = view.columns()
    lines = [
        f"**{_plain(results.verdict.sentence)}**",
        "",
        _row(["Method", *(_plain(column.title) for column in columns)]),
        _row(["---", *("---:" for _ in columns)]),
    ]
    for i, name in enumerate(view.rows):
        lines.append(_row([_plain(name), *(_cell(column.cells[i]) for column in columns)]))
    return "\n".join([*lines, "", _plain(_note(view)), ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: TableCell) -> str:
    text = f"**{_plain(cell.text)}**" if cell.supported else _plain(cell.text)
    return f"{text} {_plain(cell.interval)}".rstrip()


def _plain(text: str) -> str:
    """Return text that Markdown takes as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", _one_line(text))


def latex(results: Results) -> str:
    """Return the table of methods in LaTeX for the package booktabs, with the verdict's sentence as its caption."""
    view = View(results, MINUS)
    columns = view.columns()
    head = " & ".join(["Method", *(_tex(column.title) for column in columns)])
    rows = [
        " & ".join([_tex(name), *(_tex_cell(column.cells[i]) for column in columns)])
        for i, name in enumerate(view.rows)
    ]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_tex(results.verdict.sentence)} {_tex(_note(view))}}}",
            f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
            "\\toprule",
            f"{head} \\\\",
            "\\midrule",
            *(f"{row} \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _tex_cell(cell: TableCell) -> str:
    text = f"\\textbf{{{_tex(cell.text)}}}" if cell.supported else _tex(cell.text)
    return f"{text} {_tex(cell.interval)}".rstrip()


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    _NO_BREAK: "~",
    ABSENT: "--",
    MINUS: "$-$",
    "\N{SUPERSCRIPT TWO}": r"\textsuperscript{2}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _tex(text: str) -> str:
    """Return text as LaTeX sets it; a bracket is braced, for one that opens a row would be an option of the row before."""
    clean = _one_line(text)
    return "".join(_TEX.get(character, character) for character in clean).replace("[", "{[}").replace("]", "{]}")


def _one_line(text: str) -> str:
    """Return text in one line, without characters that cannot be seen, such as those that turn the direction of writing."""
    words = " ".join(text.replace(_NO_BREAK, "\0").split()).replace("\0", _NO_BREAK)
    return "".join(character for character in words if character.isprintable() or character == _NO_BREAK)


def _note(view: View) -> str:
    unlike = "R\N{SUPERSCRIPT TWO}" if not view.is_classification else view.measure.short if view.measure.higher else ""
    lower = f"Lower is better{f', except for {unlike}' if unlike else ''}."
    return (
        f"Means over {counted(view.results.protocol.seeds, 'seed')}, with 95 % intervals in brackets. {lower} Bold: a "
        "difference to ERM with a Holm-corrected p below 0.05."
    )
