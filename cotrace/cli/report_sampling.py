"""What rows drawn at random mean for the numbers of a graph, as text in a terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cotrace.graphs import Graph

SCORES = ("replacement", "completeness")


def with_error(value: float, standard_error: float | None, digits: int = 4) -> str:
    """Return a number, and its standard error if it is an estimate: `0.1234 ± 0.0021`."""
    shown = f"{value:.{digits}f}"
    return shown if not standard_error else f"{shown} ± {standard_error:.{digits}f}"


def scores_text(scores: dict[str, Any]) -> str:
    """Return both scores in the metadata of a graph, with their intervals if they are estimates."""
    named = [f"{name} {scores[name]:.3f}{_interval(scores.get(f'{name}_interval'))}" for name in SCORES]
    has_intervals = any(f"{name}_interval" in scores for name in SCORES)
    return ", ".join(named) + "; 95% intervals" * has_intervals


def sampling_lines(graph: Graph) -> list[str]:
    """Return what `--full` adds about an estimated graph."""
    traced, sampling = graph.info["traced"], graph.info["traced"]["sampling"]
    seeds = ", ".join(map(str, sampling["seeds"]))
    added = f", {sampling['rows_added']:,} of them only for the circuit" if sampling["rows_added"] else ""
    kinds = Counter(graph.influence_kind()[graph.column("influence") > 0].tolist())
    return [
        f"{traced['rows']:,} rows were computed{added}; seed{'s' * (len(sampling['seeds']) > 1)} {seeds}",
        f"for certain, the computed rows hold {traced['coverage']:.2%} of the influence, and each node's influence is at most "
        f"{traced['bound']:.3g} above what passes along them",
        f"influence of nodes: {kinds['exact']:,} are exact, {kinds['certified']:,} better known by these limits, "
        f"{kinds['estimate']:,} by their estimates",
    ]


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
