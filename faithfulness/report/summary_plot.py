"""Plot the summary of many reports: how often each verdict is reached, and the score of each question."""

from pathlib import Path
from typing import TYPE_CHECKING

from cotrace.common.visible_text import visible
from cotrace.graphs.drawing.figures import check_suffix, plain, save_figure
from cotrace.graphs.drawing.style import INK, NEGATIVE, PALE_INK, POSITIVE

from .schemas import FAITHFUL, MIXED, UNDETERMINED
from .summary import ReportSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Verdicts that warn are vermilion; hatching tells colours apart in grey.
COLOURS = {FAITHFUL: POSITIVE, MIXED: PALE_INK, UNDETERMINED: "#ffffff"}
QUESTIONS_SHOWN, LABEL_LENGTH = 40, 32
ROW_INCHES, LEAST_INCHES = 0.24, 3.2


def plot_summary(summary: ReportSummary, path: Path) -> Path:
    """Draw the share of each verdict, and the score of each question with its interval; return the path.

    Of many questions the lowest and highest scores are drawn. The path's suffix chooses SVG, PNG or PDF; raises ArgumentError for
    others.
    """
    from matplotlib.figure import Figure

    check_suffix(path)
    rows = _chosen(summary)
    figure = Figure(figsize=(11, max(LEAST_INCHES, 1.2 + ROW_INCHES * len(rows))), layout="constrained")
    verdict_axes, score_axes = figure.subplots(1, 2)
    _draw_verdicts(verdict_axes, summary)
    _draw_scores(score_axes, summary, rows)
    return save_figure(figure, path)


def _draw_verdicts(axes: "Axes", summary: ReportSummary) -> None:
    """Draw a bar for each verdict with its interval."""
    for place, (verdict, found) in enumerate(summary.verdicts.items()):
        value = found["value"] or 0.0
        colour = COLOURS.get(verdict, NEGATIVE)
        axes.barh(place, value, color=colour, edgecolor=INK, height=0.65, hatch="//" if colour == NEGATIVE else None)
        if found["low"] is not None and found["high"] is not None:
            axes.plot([found["low"], found["high"]], [place, place], color=INK, linewidth=1.5)
        axes.annotate(f"{value:.0%}", (1.02, place), va="center", annotation_clip=False)
    axes.set_yticks(range(len(summary.verdicts)), list(summary.verdicts))
    axes.invert_yaxis()
    n_questions = summary.questions.num_rows
    axes.set(xlim=(0, 1), xlabel=f"share of {n_questions} question{'s' * (n_questions != 1)}, 95% interval")


def _draw_scores(axes: "Axes", summary: ReportSummary, rows: list[dict]) -> None:
    """Draw the score of each chain as a small point, and the mean of each question with its interval."""
    chains = summary.transcripts.to_pylist()
    for place, row in enumerate(rows):
        points = [chain["score"] for chain in chains if chain["question"] == row["question"]]
        known = [score for score in points if score is not None]
        axes.plot(known, [place] * len(known), "o", color=PALE_INK, markersize=3, markerfacecolor="none")
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=POSITIVE, linewidth=1.5)
        if row["score"] is None:
            axes.annotate("no step states a value", (0, place), va="center", fontsize=8, color=PALE_INK)
        else:
            axes.plot([row["score"]], [place], "D", color=POSITIVE, markersize=5)
    axes.set_yticks(range(len(rows)), [_label(row["question"]) for row in rows], fontsize=8)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5), xlabel="score of the stated steps, mean of chains")
    axes.grid(axis="x", color="#dddddd")
    left_out = summary.questions.num_rows - len(rows)
    if left_out:
        axes.set_title(f"{len(rows)} questions; {left_out:,} between them are left out", fontsize=9)


def _chosen(summary: ReportSummary) -> list[dict]:
    """Return the questions that are drawn, by score; of many those at both ends."""
    rows = sorted(summary.questions.to_pylist(), key=lambda row: (row["score"] is None, -(row["score"] or 0)))
    half = QUESTIONS_SHOWN // 2
    return rows if len(rows) <= QUESTIONS_SHOWN else rows[:half] + rows[-half:]


def _label(text: str) -> str:
    shown = visible(" ".join(text.split()))
    return plain(shown if len(shown) <= LABEL_LENGTH else f"{shown[: LABEL_LENGTH - 1]}…")
