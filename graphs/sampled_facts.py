"""What a file of a sampled graph says about influence: columns of its node table, and entries of its metadata."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .csr import CSR
from .influence import rounded_up
from .order import NodeOrder
from .sampling import Draws, estimate, replicate_influence, sampled_scores
from .shares import covering_spans, share_replicates


class SampledFacts(NamedTuple):
    """What follows from the rows and draws of a sampled graph."""

    columns: dict[str, Any]
    """Columns of the node table: influence, standard_error, certified, inclusion, draws."""
    traced: dict[str, Any]
    """Entries of `info["traced"]`: scores and sampling."""


def sampled_facts(
    order: NodeOrder,
    csr: CSR,
    target_weights: np.ndarray,
    draws: Draws,
    inclusion_N: np.ndarray,
    *,
    certified_M: np.ndarray,
    computed_M: np.ndarray,
    seeds: Sequence[int],
    partial: bool = False,
    segments: Mapping[str, Any] | None = None,
) -> SampledFacts:
    """Return the columns and the metadata of a sampled graph.

    Args:
        order: counts of the nodes of each kind.
        csr: the edges of all rows that are in the graph, drawn or added.
        target_weights: weight of every node as a target, (M,).
        draws: the factors of R replicates.
        inclusion_N: probability with which a replicate draws each feature's row, the mean over replicates, (N,).
        certified_M: influence of every node along the rows, (M,).
        computed_M: mask of the nodes whose rows are in the graph, (M,).
        seeds: the seeds of the replicates.
        partial: whether the trace was stopped before it was finished.
        segments: those of the prompt, if it has named ones.
    """
    dtype, influence_RM = csr.weights.dtype, replicate_influence(csr, target_weights, draws)
    influence = estimate(influence_RM)
    inclusion_M = np.ma.masked_all(order.n_nodes, np.float64)
    inclusion_M[order.features] = inclusion_N
    columns = {
        "influence": influence.value.astype(dtype),
        "standard_error": rounded_up(influence.standard_error, dtype),
        "certified": certified_M.astype(dtype),
        "inclusion": inclusion_M,
        "draws": draws,
    }
    shares = estimate(share_replicates(influence_RM, order, covering_spans(order.n_tokens, segments)))
    sampling = {
        "replicates": draws.n_replicates,
        "seeds": list(seeds),
        "rows": len(draws.row_D),
        "rows_added": int(computed_M[order.features].sum()) - len(draws.row_D),
        "partial": partial,
        "features": order.n_features,
        "span_error": float(shares.standard_error.max()),
    }
    scores = sampled_scores(order, csr, target_weights, draws, influence_RM=influence_RM)
    return SampledFacts(columns, {"scores": scores.entries(), "sampling": sampling})
