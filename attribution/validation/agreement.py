"""Measure how well a graph's predictions and the effects of ablations agree."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from cotrace.attribution.effects.config import FREEZE_CHOICES
from cotrace.graphs import Graph
from cotrace.graphs.effects import pair_influence

from .estimates import NULLS

LAYER_DISTANCES = ((1, 1), (2, 2), (3, 3), (4, 6), (7, 99))  # least and most, from the ablated node to a later feature
MIN_FEATURES = 3  # fewer make a meaningless cosine
MIN_VALUES = 10  # fewer make a meaningless correlation
RESAMPLES, PAIR_RESAMPLES = 1000, 200
INTERVAL = (0.025, 0.975)
SMALLEST_EFFECT = 1e-30  # of controls without effect
COLUMNS = ("influence", "direct", "activation", "size", "kl", "predicted", "predicted_size", "measured")
FIRST_ORDER = tuple(f"first_order_{freeze}" for freeze in FREEZE_CHOICES)
CORRELATIONS = {  # name: columns of the prediction and of the effect
    "spearman": ("influence", "size"),
    "spearman_kl": ("influence", "kl"),
    "spearman_direct": ("direct", "size"),
    "spearman_activation": ("activation", "size"),
    "spearman_predicted": ("predicted_size", "size"),
    "spearman_signed": ("predicted", "measured"),
}


def downstream_agreement(
    graph: Graph, nodes: Sequence[int], measured_KN: np.ndarray, predicted_KN: np.ndarray
) -> list[dict[str, Any]]:
    """Compare measured and predicted changes of later features when each of K nodes is ablated.

    Returns one row for each distance in layers: `cosine` is the mean over nodes; `signs` is the share of the predicted
    change that has the right sign.
    """
    layer_M = graph.column("layer", -1)
    layer_N, rows = layer_M[graph.order.features], []
    for least, most in LAYER_DISTANCES:
        cosines, right, total = [], 0.0, 0.0
        for node, measured_N, predicted_N in zip(nodes, measured_KN, predicted_KN, strict=True):
            distance = layer_N - layer_M[node]
            within = (distance >= least) & (distance <= most)
            measured, predicted = measured_N[within], predicted_N[within]
            right += np.abs(predicted[np.sign(predicted) == np.sign(measured)]).sum()
            total += np.abs(predicted).sum()
            lengths = np.linalg.norm(predicted) * np.linalg.norm(measured)
            if within.sum() >= MIN_FEATURES and lengths > 0:
                cosines.append(float(predicted @ measured / lengths))
        if cosines:
            agreement = {"cosine": float(np.mean(cosines)), "signs": float(right / total) if total else 0.0}
            rows.append({"least": least, "most": most, "nodes": len(cosines), **agreement})
    return rows


def pair_correlation(graph: Graph, sources: Sequence[int], change_KN: np.ndarray) -> dict[str, float] | None:
    """Correlate the influence of K features on each later one with its relative change when they are ablated.

    Returns Spearman's correlation over all pairs with any influence, with a 95% interval over resampled sources; None
    for too few pairs. Ameisen et al. 2025, "Validating Feature-to-feature Influence".
    """
    features = graph.order.features
    influence_KN = pair_influence(graph, sources)[:, features]
    activation_N = np.abs(graph.column("activation")[features])
    rows = zip(influence_KN, np.abs(change_KN) / activation_N, strict=True)
    reached = [(influence[mask], effect[mask]) for influence, effect in rows if (mask := influence > 0).any()]

    def resampled(indices: Iterable[int]) -> float:
        influence, effect = (np.concatenate(column) for column in zip(*(reached[n] for n in indices), strict=True))
        return float(spearman(influence, effect))

    n_pairs = sum(len(influence) for influence, _ in reached)
    if n_pairs < MIN_VALUES or np.isnan(value := resampled(range(len(reached)))):
        return None
    resamples = np.random.default_rng(0).integers(0, len(reached), (PAIR_RESAMPLES, len(reached)))
    low, high = np.nanquantile([resampled(indices) for indices in resamples], INTERVAL)
    return {"value": value, "low": float(low), "high": float(high)}


def summarize(top: list[dict[str, Any]], sample: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Summarize the rows of the most influential features and of a random sample of all.

    Besides influence, simpler predictions are correlated with the effects: direct edges to the targets, activations,
    and effects predicted along all edges, where opposite contributions cancel.
    """
    random = np.random.default_rng(seed)
    summary: dict[str, Any] = {"features": len(top), "sample": len(sample)}
    for suffix, rows in (("", sample), ("_top", top)):
        values = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
        for name, (prediction, effect) in CORRELATIONS.items():
            summary[name + suffix] = correlation(values[prediction], values[effect], random)
        right = np.sign(values["predicted"]) == np.sign(values["measured"])
        summary[f"sign_agreement{suffix}"] = float(right.mean()) if rows else None
    size, control, length = (
        np.array([row[name] for row in top]) for name in ("size", "control_size", "control_length")
    )
    summary["larger_than_controls"] = float((size > control).mean()) if top else None
    summary["times_controls"] = float(np.median(size / np.maximum(control, SMALLEST_EFFECT))) if top else None
    summary["control_length"] = float(np.median(length)) if top else None
    return summary


def summarize_estimates(top: list[dict[str, Any]], sample: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Summarize the estimates in the rows of the most influential features and of a random sample of all.

    For each estimate: the correlation of its size with that of the effect, and the share of right signs. For each null:
    the same for its first-order estimate, and by how many times features have a larger effect (median).
    """
    random, summary = np.random.default_rng(seed), dict[str, Any]()
    for suffix, rows, names in (("", sample, FIRST_ORDER), ("_top", top, (*FIRST_ORDER, "integrated"))):
        for name in names:
            summary |= _agreement_of(f"{name}{suffix}", rows, name, "measured", "size", random)
    for null in NULLS:
        name, size = f"null_{null}", f"null_{null}_size"
        summary |= _agreement_of(f"{name}_top", top, f"{name}_first_order", name, size, random)
        times = [row["size"] / max(row[size], SMALLEST_EFFECT) for row in top]
        summary[f"times_{name}"] = float(np.median(times)) if times else None
    return summary


def _agreement_of(
    name: str, rows: list[dict[str, Any]], estimate: str, measured: str, size: str, random: np.random.Generator
) -> dict[str, Any]:
    """Return the correlation of sizes and the share of right signs of an estimate."""
    estimated, effects = (np.array([row[column] for row in rows]) for column in (f"{estimate}_size", size))
    right = [np.sign(row[estimate]) == np.sign(row[measured]) for row in rows]
    return {
        f"spearman_{name}": correlation(estimated, effects, random),
        f"signs_{name}": float(np.mean(right)) if rows else None,
    }


def correlation(a: np.ndarray, b: np.ndarray, random: np.random.Generator) -> dict[str, float] | None:
    """Return Spearman's rank correlation with a 95% interval over resampled nodes; None for too few or equal values."""
    if len(a) < MIN_VALUES or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    resamples = random.integers(0, len(a), (RESAMPLES, len(a)))
    low, high = np.nanquantile(spearman(a[resamples], b[resamples]), INTERVAL)
    return {"value": float(spearman(a, b)), "low": float(low), "high": float(high)}


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation along the last axis; NaN where all values are equal."""
    ranks = (rankdata(values, axis=-1) for values in (a, b))
    a, b = (values - values.mean(-1, keepdims=True) for values in ranks)
    with np.errstate(invalid="ignore"):
        return np.clip((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)), -1, 1)
