"""What rows drawn at random mean for the numbers of a graph, as text in a terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cotrace.graphs import Graph
from cotrace.graphs.summary import NodeSummary

SMALLEST_ERROR = 0.0001
SCORES = ("replacement", "completeness")


def influences(node: NodeSummary) -> list[str]:
    """Return the influence of a node, of a circuit also that in the traced graph; estimates have errors: `0.1234 ± 0.0021`."""
    shown = f"{node.standard_error:.4f}" if node.standard_error >= SMALLEST_ERROR else f"<{SMALLEST_ERROR}"
    error = f" ± {shown}" if node.standard_error else ""
    if node.traced_influence is None:
        return [f"{node.influence:.4f}{error}"]
    return [f"{node.influence:.4f}", f"{node.traced_influence:.4f}{error}"]


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
