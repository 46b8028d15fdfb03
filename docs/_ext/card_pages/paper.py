"""One card for each table and figure of the paper, from the results of its study."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from card_pages import markdown as md
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.agreement import agreements
from vicinal.lab.paper.claims import JudgedClaim, format_finding, judge
from vicinal.lab.paper.store import JobFolder, JobRecord
from vicinal.lab.paper.study import Row, Scale, Study, format_ours, format_published

RESULTS = md.ROOT / "results" / "reproduce"
_MOST_ROWS = 40  # of a card; the report has all


@dataclass(frozen=True)
class Reproduction:
    """A study at the largest scale that it was run at."""

    study: Study
    scale: Scale
    records: Mapping[str, JobRecord]
    rows: Sequence[Row]
    claims: Sequence[JudgedClaim]

    @property
    def place(self) -> str:
        """Which part of the paper it is, as a title."""
        section, _, part = self.study.section.partition(", ")
        return md.sentence(part) if part and part != "discussion" else f"Section {section}"

    @property
    def state(self) -> str:
        """What has become of the paper's claims, in words that promise no more than was run."""
        verdicts = [judged.verdict for judged in self.claims]
        if not self.records:
            return "not run"
        full = self.study.scales[self.scale].full
        where = "" if full else f", at {self.scale} scale"
        shown, in_part = verdicts.count("shown"), verdicts.count("shown in part")
        against = verdicts.count("contradicted") + verdicts.count("mixed")
        if verdicts and shown == len(verdicts):
            return "reproduced" if full else f"shown{where}"
        if shown or in_part:
            return f"in part{where}" + (f"; {against} contradicted" if against else "")
        if against:
            return f"contradicted{where}"
        return "not resolved" if full else "not at this scale"

    @property
    def command(self) -> str:
        """What runs it again; what each run was started by, in the words of its day, is in its record."""
        return f"vicinal reproduce {self.study.name} --scale {self.scale} --out results/reproduce"

    @property
    def counts(self) -> str:
        """How many claims have which verdict, in words."""
        verdicts = [judged.verdict for judged in self.claims]
        return ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts)) or "none"


def pages() -> dict[str, str]:
    """Return the card of each table and figure and their index, by place."""
    cards = [find(study.name) for study in reproduce.STUDIES if study.section[0].isdigit()]
    return {f"paper/{one.study.name}.md": _card(one) for one in cards} | {"paper/index.md": _index(cards)}


@cache
def find(name: str) -> Reproduction:
    """Return a study by its name."""
    study = reproduce.find(name)
    scale: Scale = "paper"
    records = JobFolder(RESULTS, study, scale).records(any_version=True)
    if not records:
        scale = "small"
        records = JobFolder(RESULTS, study, scale).records(any_version=True)
    done = {name: record.results for name, record in records.items()}
    return Reproduction(study, scale, records, study.rows(scale, done), judge(study.claims(scale, done)))


def _card(one: Reproduction) -> str:
    at = one.study.scales[one.scale]
    protocol = [" ".join(text.split()) for text in (inspect.getdoc(one.study) or "").split("\n\n")]
    about = [
        ("in the paper", one.study.section_title),
        ("state", one.state),
        ("scale", "the paper's" if at.full else f"{one.scale}, scaled down"),
        ("runs", f"{len(one.records)} of {len(one.study.jobs(one.scale))}"),
        ("command", f"`{one.command}`"),
        ("work", f"{sum(record.seconds for record in one.records.values()) / 60:.1f} minutes, all runs together"),
        ("machine", "; ".join(_distinct(_machine(record) for record in one.records.values()))),
    ]
    return md.page(
        f"{one.place}: {one.study.title}",
        [
            md.facts(row for row in about if row[1]),
            *(md.wrap(text) for text in protocol),
            md.section("What is smaller here", md.bullets(at.deviations)),
            md.section("Claims", _claims(one)),
            md.section("Numbers", _numbers(one)),
            md.section("Figures", _figures(one)),
            md.section("More", md.bullets(_more(one))),
        ],
        f"`results/reproduce/{one.study.name}/{one.scale}`",
    )


def _claims(one: Reproduction) -> str:
    rows = [
        (
            judged.claim.text,
            f"**{judged.verdict}**",
            "<br>".join(
                f"{finding.evidence.what}{' (beside the verdict)' if finding.evidence.contrast else ''}: "
                f"{format_finding(finding)}"
                for finding in judged.findings
            ),
        )
        for judged in one.claims
    ]
    if not rows:
        return ""
    limits = dict.fromkeys(judged.claim.limits for judged in one.claims if judged.claim.limits)
    note = "Mean differences with 95 % intervals; p corrected for all differences of the study (Holm)."
    return "\n\n".join(
        [md.table(("claim", "verdict", "measured"), rows), note, *(md.wrap(f"Limits: {text}") for text in limits)]
    )


def _numbers(one: Reproduction) -> str:
    """Rows with a published number; where the paper prints none, all that were run."""
    against = dict(zip(one.rows, agreements(one.rows, one.study.scales[one.scale]), strict=True))
    printed = [row for row in one.rows if row.published is not None]
    wanted = printed or [row for row in one.rows if row.values]
    rows = [
        (
            row.name,
            row.measure,
            format_published(row) or "none",
            format_ours(row) or "not run",
            str(len(row.values)),
            against[row].difference,
        )
        for row in wanted[:_MOST_ROWS]
    ]
    head = ("", "measure", "published", "ours", "n", "difference")
    left = len(one.rows) - len(rows)
    notes = [
        "" if one.study.scales[one.scale].full else "Runs are smaller than the paper's, so that levels do not compare.",
        "Ours: mean with its 95 % interval over n runs. Difference: whether that to the row the paper compares with has the "
        "published sign, beyond chance after correction.",
        f"{left} more rows stand in [the report]({_report(one)})." if left else "",
    ]
    return md.table(head, rows) + "\n\n" + md.wrap(" ".join(note for note in notes if note))


def _figures(one: Reproduction) -> str:
    folder = RESULTS / one.study.name / one.scale
    paths = [path.relative_to(md.ROOT).as_posix() for path in sorted(folder.glob("*.svg"))]
    return "\n\n".join(f"![{one.study.title}: {path.rpartition('/')[2]}](../../../{path})" for path in paths)


def _more(one: Reproduction) -> list[str]:
    more = [f"[In the report]({_report(one)})", "[how to run it](../../paper/reproduce.md)", "[all tables](index.md)"]
    pages = {"adversarial": "adversarial", "gan": "gan"}
    if one.study.name in pages:
        more.append(f"[a page of its own](../../paper/{pages[one.study.name]}.md)")
    return more


def _report(one: Reproduction) -> str:
    """Return where the report has this study: its heading, as an anchor."""
    heading = f"{one.study.title} ({one.study.section_title}), scale {one.scale}"
    return "../../paper/report.md#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _machine(record: JobRecord) -> str:
    return f"{record.machine.get('processor', 'unknown')}, {record.machine.get('cores', 'unknown')} cores"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _index(cards: Sequence[Reproduction]) -> str:
    rows = [
        (f"[{one.place}]({one.study.name}.md)", one.study.title, one.state, one.counts, f"{len(one.records)} runs")
        for one in cards
    ]
    intro = (
        "Every table and figure of the paper, run again: what it reports, our number beside it. *Reproduced* is said of "
        "runs of the paper's size alone. *Shown, at small scale*: in smaller runs every difference is as the paper says, "
        "beyond chance. *In part*: some are. *Not at this scale*, or *not resolved* at the paper's size: none is beyond "
        "chance. Real tables that are not in the paper: [the atlas](../../paper/atlas.md)."
    )
    return md.page(
        "Tables and figures of the paper",
        [md.wrap(intro), md.table(("of the paper", "", "state", "claims", ""), rows)],
        "`results/reproduce`",
    )
