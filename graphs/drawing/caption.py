"""Title, caption and legend of a picture."""

from dataclasses import dataclass
from typing import Any

from cotrace.common.visible_text import visible

from ..subgraph import chosen_by
from .picture_nodes import PictureNode
from .select import PictureSubject
from .style import CAPTION_LINE_PT, LEGEND_LINE_PT, MARGIN_PT
from .text import format_count, format_percent, text_width, wrap

TITLE_CHARACTERS = 400  # of each end of a prompt that a title can show; measuring a whole book would be slow
LEGEND = (
    ("feature", "feature"),
    ("error", "reconstruction error"),
    ("size", "area: {ranked_by}"),
    ("token", "token"),
    ("logit", "target"),
    ("target feature", "target feature"),
    ("positive", "positive"),
    ("negative", "negative edge"),
    ("width", "width: share of input, opacity: influence"),
)


@dataclass(frozen=True)
class LegendEntry:
    """One symbol of the legend and its text; `x` is the left end in points."""

    symbol: str
    text: str
    x: float

    @property
    def symbol_width(self) -> float:
        """Width of the symbol, with the space after it."""
        return {"size": 44.0, "width": 28.0}.get(self.symbol, 22.0)

    @property
    def width(self) -> float:
        """Width of symbol and text, with the space after them."""
        return self.symbol_width + text_width(self.text) + 16


@dataclass(frozen=True)
class PictureText:
    """Title, subtitle, caption and legend."""

    title: str
    subtitle: str
    cut_note: str
    """The number of the graph's nodes that are shown, as text; empty if all are."""
    caption: list[str]
    legend: list[tuple[str, str]]
    """Symbols and their texts."""

    def footer(self, page_width: float) -> float:
        """Return the height of legend and caption on a page of this width."""
        caption, legend = self.caption_lines(page_width), self.legend_lines(page_width)
        return MARGIN_PT + CAPTION_LINE_PT * len(caption) + LEGEND_LINE_PT * len(legend) + 12

    def caption_lines(self, page_width: float) -> list[str]:
        """Return the caption, broken into lines for a page of this width."""
        return wrap(self.caption, page_width - 2 * MARGIN_PT)

    def legend_lines(self, page_width: float) -> list[list[LegendEntry]]:
        """Return the legend, broken into lines for a page of this width."""
        lines: list[list[LegendEntry]] = [[]]
        x = MARGIN_PT
        for symbol, text in self.legend:
            entry = LegendEntry(symbol, text, x)
            if x + entry.width > page_width - MARGIN_PT and lines[-1]:
                lines.append([])
                entry = LegendEntry(symbol, text, MARGIN_PT)
            lines[-1].append(entry)
            x = entry.x + entry.width
        return lines


def picture_text(subject: PictureSubject, nodes: list[PictureNode], n_edges: int, n_candidates: int) -> PictureText:
    """Return the texts of a picture that shows `nodes` and `n_edges` of the `n_candidates` edges between them."""
    info, total = subject.graph.info, subject.graph.order.n_nodes
    model, transcoders = (visible(str(info[key]["name"])) for key in ("model", "transcoders"))
    traced = info["traced"]
    is_cut = len(nodes) < total
    caption = [
        f"Showing {len(nodes):,} of {format_count(total, 'node')}, by {subject.ranked_by}"
        if is_cut
        else format_count(total, "node"),
        f"the strongest {n_edges:,} of {n_candidates:,} edges" if n_edges < n_candidates else format_count(n_edges, "edge"),
        *_target(subject),
        *(f"part of {format_count(step['nodes'], 'node')} ({visible(chosen_by(step))})" for step in info.get("subgraph", [])),
        *([_pruning(info["pruning"])] if info["pruning"] or "subgraph" not in info else []),
        f"traced {format_count(traced['nodes'], 'node')}, {format_count(traced['edges'], 'edge')}",
        *_sampling(traced.get("sampling")),
        *(f"{name} score {_score(traced['scores'], name)} of the traced graph" for name in ("replacement", "completeness")),
        *([visible(" ".join(info["notes"].split()))] if info.get("notes") else []),
    ]  # fmt: skip
    has_target_feature = any(node.is_target and node.kind == "feature" for node in nodes)
    return PictureText(
        title=visible(_both_ends(info["prompt"])),
        subtitle=f"Attribution graph  ·  model {model}  ·  transcoders {transcoders}",
        cut_note=f"showing the strongest {len(nodes):,} of {total:,} nodes" if is_cut else "",
        caption=caption,
        legend=[
            (symbol, text.format(ranked_by=subject.ranked_by))
            for symbol, text in LEGEND
            if symbol != "target feature" or has_target_feature
        ],
    )


def _target(subject: PictureSubject) -> list[str]:
    """Return which target a picture is about, if it does not show all."""
    others = len(subject.graph.info["targets"]) - len(subject.targets)
    return [
        f"influence on {visible(subject.targets[0]['label'])} only, {format_count(others, 'other target')} left out"
    ] * (others > 0)


def _sampling(sampling: dict[str, Any] | None) -> list[str]:
    """Return from how many rows the influence was estimated, if rows were drawn at random."""
    if sampling is None:
        return []
    rows = f"{sampling['rows']:,} of {format_count(sampling['features'], 'row')}, drawn at random"
    error = f"standard error of a span's share at most {sampling['span_error']:.2g}"
    return [f"influence estimated from {rows}", f"± one standard error, {error}"]


def _score(scores: dict[str, Any], name: str) -> str:
    """Return a score with two decimals, and the interval of an estimate."""
    interval = scores.get(f"{name}_interval")
    return f"{scores[name]:.2f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _both_ends(prompt: str) -> str:
    if len(prompt) <= 2 * TITLE_CHARACTERS:
        return prompt
    return f"{prompt[:TITLE_CHARACTERS]}…{prompt[-TITLE_CHARACTERS:]}"


def _pruning(pruning: dict[str, Any] | None) -> str:
    """Return what the graph was pruned to, as shares of the traced graph, and to what before that."""
    if pruning is None:
        return "not pruned"
    errors = ", all error nodes kept" if pruning["keep_errors"] else ""
    last, *before = (_shares(step) for step in (pruning, *reversed(pruning.get("earlier", []))))
    steps = f" (before that to {', '.join(before)})" if before else ""
    return f"pruned to {last} of the traced graph's influence{errors}{steps}"


def _shares(step: dict[str, Any]) -> str:
    return f"{format_percent(step['node_threshold'])} (nodes) and {format_percent(step['edge_threshold'])} (edges)"
