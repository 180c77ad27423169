"""Sums of effects: the ledger of each target, and effects by segment, position or layer.

Tokens and error nodes are leaves: with constants they add up to a target. Features lie on the way, so that their effects
stand beside those of leaves and are never added to them.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .order import NodeKind

LEDGER_KEYS = ("target", "label", "avoiding", "position")


class EffectSums(NamedTuple):
    """Sums of effects over groups of nodes, by kind of node, each (K, G)."""

    tokens: np.ndarray
    errors: np.ndarray
    features: np.ndarray


def ledger(targets: list[dict[str, Any]], effect_KM: np.ndarray, bias_K: np.ndarray, kind_M: np.ndarray) -> pa.Table:
    """Return the ledger of K targets; `kind_M` are codes of `NodeKind`. See `Effects.ledger`."""
    one_group_M = np.zeros(len(kind_M), np.int64)
    sums = sums_by_group(effect_KM, kind_M, one_group_M, 1)
    tokens_K, errors_K = sums.tokens[:, 0], sums.errors[:, 0]
    leaves_M = kind_M != NodeKind.FEATURE
    size_K = np.array([np.abs(effect_M[leaves_M]).sum(dtype=np.float64) for effect_M in effect_KM])
    value_K, constant_K = np.array([row["value"] for row in targets], np.float64), np.asarray(bias_K, np.float64)
    ratios = [float(size / abs(net)) if net else None for size, net in zip(size_K, tokens_K + errors_K, strict=True)]
    return pa.table(
        {
            **{key: pa.array([row[key] for row in targets]) for key in LEDGER_KEYS},
            "value": value_K,
            "tokens": tokens_K,
            "errors": errors_K,
            "bias": constant_K,
            "remainder": value_K - tokens_K - errors_K - constant_K,
            "cancellation": pa.array(ratios, pa.float64()),
        }
    )


def sums_by_group(effect_KM: np.ndarray, kind_M: np.ndarray, group_M: np.ndarray, n_groups: int) -> EffectSums:
    """Return the sums of effects over groups 0 … n_groups − 1, in float64."""

    def of_kind(kind: NodeKind) -> np.ndarray:
        chosen_M = kind_M == kind
        group_S = group_M[chosen_M]
        sums = [np.bincount(group_S, effect_M[chosen_M], minlength=n_groups) for effect_M in effect_KM]
        return np.array(sums, np.float64).reshape(len(effect_KM), n_groups)

    return EffectSums(of_kind(NodeKind.TOKEN), of_kind(NodeKind.ERROR), of_kind(NodeKind.FEATURE))
