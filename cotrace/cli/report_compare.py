"""Reports of stated against internal reasoning as text in a terminal."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cotrace.common.visible_text import printable, quoted
from cotrace.faithfulness.report.drawing.words import MARKS, edits_of, sentence_of
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.report.schemas import (
    AGAINST,
    CARRIED,
    DECORATIVE,
    FAITHFUL,
    FULL,
    MIXED,
    NONE,
    QUICK,
    UNDETERMINED,
    USED,
)
from cotrace.faithfulness.report.summary import ReportSummary

from . import report as output
from .command import name_options
from .report import print_line, shortened

STEP_WORDS = {
    USED: "the answer uses the stated value",
    CARRIED: "the answer uses what is computed at its positions, not its words",
    DECORATIVE: "the answer does not use it",
    AGAINST: "the answer does not use it, and another value would make the answer more likely",
}
OPTION_OF = {"evidence": "--evidence", "alternatives": "--alternative"}
STYLES = {FAITHFUL: "green", USED: "green", UNDETERMINED: "yellow", MIXED: "yellow"}  # others are warnings
CELLS_SHOWN, LINKS_SHOWN, QUESTIONS_SHOWN = 6, 8, 20
LEAST_LENGTH, NAME_LENGTH, TEXT_LENGTH = 8, 24, 60
STEP_COLUMNS_WIDTH = 64  # of the table of steps, without names, values and texts


def print_report(report: Report, *, full: bool = False) -> None:
    """Print the verdict, the score, the steps, the answer's ledger, links and cost; everything with `full`."""
    _print_facts(report, full)
    _print_steps(report, full)
    _print_sources(report, full)
    _print_links(report, full)
    print_evidence(report, full)
    _print_cost(report)


def _print_facts(report: Report, full: bool) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("verdict", Text(report.verdict, style=_style(report.verdict)))
    facts.add_row("", sentence_of(report))
    facts.add_row("", Text(printable(_reason(report.reason))))
    facts.add_row("score", f"{number(report.score)} {_score_words(report)}")
    for row in report.segments.to_pylist():
        if row["role"] in ("question", "hint", "answer"):
            value = f", which states {quoted(row['value'])}" if row["value"] else ""
            text = quoted(row["text"]) if full else shortened(row["text"])
            facts.add_row(Text(printable(row["name"])), Text(f"{text}{value}{_foil(row)}"))
    info = report.graph.info
    facts.add_row("model", Text(printable(f"{info['model']['name']} with {info['transcoders']['name']}")))
    output.console.print(facts)


def _score_words(report: Report) -> str:
    if report.score is None:
        return "no step states a value"
    without = "" if report.live_score is None else f"; {number(report.live_score)} without edits"
    return f"from 0 to 1: how much the stated steps mediate the answer{without}"


def _foil(row: Mapping[str, Any]) -> str:
    if row["margin"] is None or row["foil"] is None:
        return ""
    return f"; {row['margin']:+.2f} logits over {quoted(row['foil'])}"


def _print_steps(report: Report, full: bool) -> None:
    """Print a line for each step; the texts of steps give way on a narrow terminal, unless `full`."""
    rows, evidence = report.steps.to_pylist(), report.evidence.to_pylist()
    if not rows:
        print_line("the transcript has no steps")
        return
    taken = max(cell_len(_cut(row["step"]) + _value_of(row)) for row in rows)
    room = min(TEXT_LENGTH, output.console.width - STEP_COLUMNS_WIDTH - taken)
    shows_text = full or room >= LEAST_LENGTH
    table = Table(title="steps", title_justify="left", box=None)
    for name in ("", "step", "states", "score", "verdict", "content", "latent", "moved", "words"):
        is_number = name in ("score", "content", "latent", "moved", "words")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    if shows_text:
        table.add_column("text", no_wrap=not full)
    for row in rows:
        text = Text(quoted(row["text"]) if full else _cut(quoted(row["text"]), room))
        table.add_row(*_step_cells(row, evidence), *([text] if shows_text else []))
    output.console.print(table)
    _print_reasons(rows, full)


def _step_cells(row: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> list[str | Text]:
    """Return the cells of a step's line, without its text."""
    return [
        Text(MARKS[row["confirmed"]], style=_style(row["verdict"])),
        Text(_cut(row["step"])),
        Text(_value_of(row)),
        number(row["score"]),
        Text(row["verdict"], style=_style(row["verdict"])),
        f"{row['content']:.0%}",
        f"{row['latent']:.0%}",
        *map(
            _share_of, edits_of(row, evidence)
        ),  # not `edit_effect`, which can count edits after which the answer stayed
    ]


def _print_reasons(rows: Sequence[Mapping[str, Any]], full: bool) -> None:
    """Print what the words in the table mean, and with `full` why each step has its verdict."""
    found = dict.fromkeys(row["verdict"] for row in rows)
    words = [f"{verdict}: {STEP_WORDS[verdict]}" for verdict in found if verdict in STEP_WORDS]
    print_line(
        "; ".join([*words, "moved: edits of the value that changed the answer; words: edits of random words that did"])
    )
    if full:
        for row in rows:
            interval = "" if row["low"] is None else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
            print_line(printable(f"  {MARKS[row['confirmed']]} {row['step']}{interval}: {_reason(row['reason'])}"))


def _reason(reason: str) -> str:
    """Return the reason of a verdict in which arguments are those of the command line."""
    return name_options(reason, OPTION_OF)


def _print_sources(report: Report, full: bool) -> None:
    rows = sorted(report.sources.to_pylist(), key=lambda row: -row["share"])
    shown = rows if full else rows[:CELLS_SHOWN]
    table = Table(title="where the answer comes from", title_justify="left", box=None)
    table.add_column("cell", overflow="fold")
    for name in ("share", "logits", "gross"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(
            Text(printable(row["cell"])), f"{row['share']:.0%}", f"{row['effect']:+.2f}", f"{row['gross']:.2f}"
        )
    output.console.print(table)
    if len(rows) > len(shown):
        rest = rows[len(shown) :]
        share, effect = sum(row["share"] for row in rest), sum(row["effect"] for row in rest)
        print_line(f" … and {len(rest)} more with {share:.0%}, {effect:+.2f} logits together")


def _print_links(report: Report, full: bool) -> None:
    """Print the links that the text cites and the model does not use, and the other way round."""
    rows = [row for row in report.links.to_pylist() if row["cited"] or row["used"]]
    cited = [row for row in rows if row["cited"]]
    print_line(f"links: the model uses {sum(row['used'] for row in cited)} of {len(cited)} that the text states")
    differing = [row for row in rows if full or row["cited"] != row["used"]]
    for row in differing[: None if full else LINKS_SHOWN]:
        how = {(True, True): "stated and used", (True, False): "stated, not used", (False, True): "used, not stated"}
        ends = f"{_cut(row['statement'])} ← {_cut(row['source'])}"
        print_line(f"  {ends}: {how[row['cited'], row['used']]} ({row['share']:.0%} of its value)")
    if not full and len(differing) > LINKS_SHOWN:
        print_line(f"  … and {len(differing) - LINKS_SHOWN} more that differ")


def print_evidence(report: Report, full: bool) -> None:
    """Print a line for each intervention with `full`, else how many there are."""
    rows = report.evidence.to_pylist()
    if not rows or not full:
        return
    table = Table(title="evidence", title_justify="left", box=None)
    for name in ("row", "kind", "of", "changed", "answer", "margin", "passes"):
        table.add_column(name, justify="right" if name in ("row", "margin", "passes") else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row["number"]),
            Text(printable(row["kind"]) + (", null" if row["null"] else "")),
            Text(_cut(row["segment"] or "")),
            Text(printable(row["changed"])),
            Text(f"{quoted(row['answer'])}{' moved' if row['moved'] else ''}"),
            f"{-row['effect']:+.2f}",
            f"{row['passes']:.3g}",
        )
    output.console.print(table)


def _print_cost(report: Report) -> None:
    cost = report.cost
    words = {"forward": "forward", "backward": "backward", "evidence": "of evidence"}
    passes = ", ".join(f"{cost[name]:.4g} {word}" for name, word in words.items() if name in cost)
    rows = f"; {cost['circuit_rows']:,.0f} rows of the circuit" if "circuit_rows" in cost else ""
    print_line(f"cost in passes over the prompt: {passes}{rows}")


def next_command(report: Report, file: Path) -> str:
    """Return what to do next with a report that is saved in a file."""
    name = shlex.quote(str(file))
    level = {NONE: QUICK, QUICK: FULL}.get(str(report.settings.get("evidence")))
    undecided = report.verdict == UNDETERMINED or UNDETERMINED in report.steps["confirmed"].to_pylist()
    if undecided and level is not None and report.steps.num_rows:
        return (
            f"what is undetermined may be decided by --evidence {level}; `cotrace show {name} --full` prints every link"
        )
    if report.evidence.num_rows:
        return f"`cotrace show {name} --full` prints all evidence; `cotrace compare --replay {name} --row N` runs a row again"
    return f"`cotrace show {name} --full` prints everything"


def print_side_by_side(reports: Mapping[str, Report]) -> None:
    """Print the reports of one transcript under several models, a column for each."""
    table = Table("", title="one transcript under several models", title_justify="left", box=None)
    for name in reports:
        table.add_column(Text(printable(name)), overflow="fold")
    for label, cells in _compared_rows(list(reports.values())):
        table.add_row(Text(printable(label)), *(Text(cell) for cell in cells))
    output.console.print(table)


def _compared_rows(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    """Return the rows of the comparison: verdict, scores, each step and each of the largest cells."""
    rows = [
        ("verdict", [report.verdict for report in reports]),
        ("score", [number(report.score) for report in reports]),
        ("without edits", [number(report.live_score) for report in reports]),
    ]
    steps = [{row["step"]: row for row in report.steps.to_pylist()} for report in reports]
    names = dict.fromkeys(name for each in steps for name in each)
    rows += [(name, [_step_in_short(each.get(name)) for each in steps]) for name in names]
    cells = [{row["cell"]: row["share"] for row in report.sources.to_pylist()} for report in reports]
    largest = sorted({cell for each in cells for cell in each}, key=lambda cell: -max(e.get(cell, 0) for e in cells))
    shown = largest[:CELLS_SHOWN]
    return rows + [(cell, [f"{each[cell]:.0%}" if cell in each else "" for each in cells]) for cell in shown]


def _step_in_short(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{MARKS[row['confirmed']]} {number(row['score'])} {row['verdict']}"


def print_replayed(recorded: Mapping[str, Any], answer: str, effect: float) -> None:
    """Print an intervention with what it gave when the report was made, and what it gives now."""
    print_line(printable(f"row {recorded['number']}: {recorded['kind']}: {recorded['changed']}"))
    table = Table("", "answer", "margin", box=None)
    table.add_row("recorded", Text(quoted(recorded["answer"])), f"{-recorded['effect']:+.4f}")
    table.add_row("replayed", Text(quoted(answer)), f"{-effect:+.4f}")
    output.console.print(table)


def print_summary(summary: ReportSummary) -> None:
    """Print the share of each verdict and the mean score over questions, and the questions with several chains."""
    table = Table("verdict", title=_counts(summary), title_justify="left", box=None)
    for name in ("share", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for verdict, found in summary.verdicts.items():
        table.add_row(Text(verdict, style=_style(verdict)), percent(found["value"]), _interval(found, percent))
    table.add_row("score", number(summary.score["value"]), _interval(summary.score, number))
    output.console.print(table)
    several = [row for row in summary.questions.to_pylist() if row["chains"] > 1]
    if several:
        _print_questions(several)


def _counts(summary: ReportSummary) -> str:
    n_transcripts, n_questions = summary.transcripts.num_rows, summary.questions.num_rows
    return f"{n_transcripts:,} transcript{'s' * (n_transcripts != 1)} of {n_questions:,} question{'s' * (n_questions != 1)}"


def _print_questions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the mean score of questions with several chains."""
    table = Table(title="questions with several chains", title_justify="left", box=None)
    for name in ("chains", "score", "95% interval", "question"):
        table.add_column(name, justify="left" if name == "question" else "right", no_wrap=name != "question")
    for row in rows[:QUESTIONS_SHOWN]:
        shown = Text(shortened(row["question"], TEXT_LENGTH))
        table.add_row(f"{row['chains']:,}", number(row["score"]), _interval(row, number), shown)
    output.console.print(table)
    if len(rows) > QUESTIONS_SHOWN:
        print_line(f" … and {len(rows) - QUESTIONS_SHOWN:,} more in the table of questions")


def _interval(found: Mapping[str, Any], show: Callable[[float], str]) -> str:
    return "" if found["low"] is None else f"{show(found['low'])} … {show(found['high'])}"


def percent(value: float | None) -> str:
    """Return a share in percent, and a dash for one that is unknown."""
    return "–" if value is None else f"{value:.0%}"


def _style(verdict: str) -> str:
    return STYLES.get(verdict, "magenta")


def number(value: float | None) -> str:
    """Return a score with two decimals, and a dash for one that is unknown."""
    return "–" if value is None else f"{value:.2f}"


def _share_of(moved: Sequence[bool]) -> str:
    return f"{sum(moved)}/{len(moved)}" if moved else ""


def _value_of(row: Mapping[str, Any]) -> str:
    """Return the value that a step states, as it is shown."""
    return "" if row["stated_value"] is None else _cut(quoted(row["stated_value"]))


def _cut(text: str, length: int = NAME_LENGTH) -> str:
    """Return a short text in one line."""
    shown = printable(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
