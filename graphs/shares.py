"""Shares of the influence: how much of it starts at the tokens of each span of the prompt, and at error nodes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .order import NodeOrder
from .sampling import LEVEL, estimate
from .segments import OTHER, parse_segments

if TYPE_CHECKING:
    from .data import GraphData

DEFAULT_SPANS = 5  # of equal length, where the user names none
ERRORS = "errors"  # name of the share of all error nodes


def shares(graph: "GraphData", spans: Mapping[str, Any] | None = None, level: float = LEVEL) -> pa.Table:
    """Return the share of all influence that starts at the tokens of each span, and at error nodes.

    Of a sampled graph they are estimates; of another one, standard errors are 0. With all rows, shares add up to 1.

    Args:
        graph: a graph.
        spans: spans of the prompt by name, as in `Graph.flow`; the other positions are the span "other". None takes
            five parts of equal length.
        level: share of intervals that cover the true value (Student's t distribution over the replicates).

    Returns:
        A table with the columns name, share, standard_error, low and high.

    Raises:
        ArgumentError: invalid spans.
    """
    n_positions = graph.order.n_tokens
    parsed = default_spans(n_positions) if spans is None else parse_segments(spans, n_positions)
    others = set(range(n_positions)).difference(*parsed.values())
    if others:
        parsed[OTHER] = tuple(sorted(others))
    influence_RM = graph.influence()[None] if graph.draws is None else graph.influence_replicates()
    shares_RS = share_replicates(influence_RM, graph.order, parsed)
    exact = shares_RS[0], np.zeros_like(shares_RS[0]), shares_RS[0], shares_RS[0]
    columns = exact if graph.draws is None else estimate(shares_RS, level)
    named = zip(("share", "standard_error", "low", "high"), columns, strict=True)
    return pa.table({"name": [*parsed, ERRORS], **{name: pa.array(values) for name, values in named}})


def default_spans(n_positions: int) -> dict[str, tuple[int, ...]]:
    """Return five spans of about equal length that cover a prompt of P tokens, named `start:stop`."""
    parts = [part for part in np.array_split(np.arange(n_positions), DEFAULT_SPANS) if len(part)]
    return {f"{part[0]}:{part[-1] + 1}": tuple(part.tolist()) for part in parts}


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
