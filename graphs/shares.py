"""Shares of the influence: how much of it starts at the tokens of each span of the prompt, and at error nodes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError

from .node_sets import NodeSet, weighted_ends
from .order import NodeKind, NodeOrder
from .sampling import LEVEL, Estimate, beyond_rounding, estimate
from .segments import OTHER, parse_segments

if TYPE_CHECKING:
    from .data import GraphData

DEFAULT_SPANS = 5  # of equal length, where the user names none
ERRORS = "errors"  # name of the share of all error nodes


def shares(
    graph: "GraphData",
    spans: Mapping[str, Any] | None = None,
    targets: NodeSet | None = None,
    level: float = LEVEL,
) -> pa.Table:
    """Return the share of all influence that starts at the tokens of each span, and at error nodes.

    Of a sampled graph they are estimates. Without sampling, standard errors are 0, and low and high are certain: they differ by
    the influence that ends at features without a row. With all rows, shares add up to 1.

    Args:
        graph: a graph.
        spans: spans of the prompt by name, as in `Graph.flow`; the other positions are the span "other". None takes the
            segments of a transcript, or else five parts of equal length.
        targets: targets of the graph, or features in it, as in `Graph.flow`; None for all targets of the graph.
        level: share of intervals that cover the true value (Student's t distribution over the replicates).

    Returns:
        A table with the columns name, share, standard_error, low and high.

    Raises:
        ArgumentError: invalid spans, or a name that no node has.
    """
    parsed, (_, weights_M) = spans_of_shares(graph, spans), weighted_ends(graph, targets)
    if graph.draws is None:
        found = _without_draws(graph, parsed, weights_M)
    else:
        found = estimate(share_replicates(graph.influence_replicates(weights_M), graph.order, parsed), level)
        low, high = beyond_rounding(found.low, found.high, graph.csr.weights.dtype)
        found = found._replace(low=low, high=high)
    found = found._replace(low=np.clip(found.low, 0.0, 1.0), high=np.clip(found.high, 0.0, 1.0))
    named = zip(("share", "standard_error", "low", "high"), found, strict=True)
    return pa.table({"name": [*parsed, ERRORS], **{name: pa.array(values) for name, values in named}})


def _without_draws(graph: "GraphData", spans: Mapping[str, Sequence[int]], weights_M: np.ndarray) -> Estimate:
    """Return the shares along the rows of a graph, with certain limits."""
    influence_M = graph.influence_on(weights_M)
    (share_S,) = share_replicates(influence_M[None], graph.order, spans)
    missing = (influence_M + weights_M)[graph.order.has_kind(NodeKind.FEATURE) & ~graph.computed].sum()
    return Estimate(share_S, np.zeros_like(share_S), share_S, share_S + missing)


def spans_of_shares(graph: "GraphData", spans: Mapping[str, Any] | None = None) -> dict[str, tuple[int, ...]]:
    """Return the positions of the spans that `shares` is about. Raises ArgumentError for invalid ones."""
    parsed = covering_spans(graph.order.n_tokens, graph.info.get("segments") if spans is None else spans)
    if ERRORS in parsed:
        raise ArgumentError(f"a span is called {ERRORS!r}, which names all error nodes: give spans other names")
    return parsed


def covering_spans(n_positions: int, spans: Mapping[str, Any] | None = None) -> dict[str, tuple[int, ...]]:
    """Return the positions of spans that cover a prompt: those given and "other", or five parts named `start:stop`.

    Raises ArgumentError for invalid spans.
    """
    if spans is None:
        parts = [part for part in np.array_split(np.arange(n_positions), DEFAULT_SPANS) if len(part)]
        return {f"{part[0]}:{part[-1] + 1}": tuple(part.tolist()) for part in parts}
    parsed = parse_segments(spans, n_positions)
    others = set(range(n_positions)).difference(*parsed.values())
    return parsed | ({OTHER: tuple(sorted(others))} if others else {})


def share_replicates(influence_RM: np.ndarray, order: NodeOrder, spans: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Return the influence that starts in each of S spans, and last at all error nodes, in each replicate, (R, S + 1).

    Args:
        influence_RM: influence of every node in each replicate.
        order: the order of the nodes.
        spans: the positions of each span.
    """
    tokens_RP = influence_RM[:, order.tokens]
    of_spans = [tokens_RP[:, list(positions)].sum(1) for positions in spans.values()]
    return np.stack([*of_spans, influence_RM[:, order.errors].sum(1)], axis=1)
