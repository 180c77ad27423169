"""How well what a graph says and what ablations do agree."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from cotrace.graphs import Graph
from cotrace.graphs.effects import pair_influence

DISTANCES = ((1, 1), (2, 2), (3, 3), (4, 6), (7, 99))  # layers between what is ablated and what is looked at
LEAST_FEATURES = 3  # of which a cosine says something
RESAMPLES, RESAMPLES_OF_PAIRS = 1000, 200
FEWEST = 10  # values of which a correlation says something
TINY = 1e-30  # of controls that do nothing
COLUMNS = ("influence", "direct", "activation", "size", "kl", "predicted", "predicted_size", "measured")
CORRELATIONS = {  # what is said, and what is measured
    "spearman": ("influence", "size"),
    "spearman_kl": ("influence", "kl"),
    "spearman_direct": ("direct", "size"),
    "spearman_activation": ("activation", "size"),
    "spearman_predicted": ("predicted_size", "size"),
    "spearman_signed": ("predicted", "measured"),
}


def later(
    graph: Graph, nodes: Sequence[int], measured_KN: np.ndarray, predicted_KN: np.ndarray
) -> list[dict[str, Any]]:
    """How activations of later features change when each of K nodes is ablated, against predictions, by distance in layers.

    The cosine is a mean over nodes; `signs` is the share of the predicted change that has the right sign.
    """
    layer_M = graph.column("layer", -1)
    layer_N, found = layer_M[graph.order.features], []
    for least, most in DISTANCES:
        cosines, right, total = [], 0.0, 0.0
        for node, measured_N, predicted_N in zip(nodes, measured_KN, predicted_KN, strict=True):
            distance = layer_N - layer_M[node]
            mine = (distance >= least) & (distance <= most)
            measured, predicted = measured_N[mine], predicted_N[mine]
            right += np.abs(predicted[np.sign(predicted) == np.sign(measured)]).sum()
            total += np.abs(predicted).sum()
            lengths = np.linalg.norm(predicted) * np.linalg.norm(measured)
            if mine.sum() >= LEAST_FEATURES and lengths > 0:
                cosines.append(float(predicted @ measured / lengths))
        if cosines:
            agree = {"cosine": float(np.mean(cosines)), "signs": float(right / total) if total else 0.0}
            found.append({"least": least, "most": most, "nodes": len(cosines), **agree})
    return found


def pairs(graph: Graph, sources: Sequence[int], moved_KN: np.ndarray) -> dict[str, float] | None:
    """Influence of K features on each later one against the relative change of that when they are ablated.

    Spearman's correlation over all pairs with any influence, with a 95% interval over resampled sources; None of too
    few. Ameisen et al. 2025, "Validating Feature-to-feature Influence".
    """
    features = graph.order.features
    influence_KN = pair_influence(graph, sources)[:, features]
    activation_N = np.abs(graph.column("activation")[features])
    each = zip(influence_KN, np.abs(moved_KN) / activation_N, strict=True)
    reached = [(influence[mine], effect[mine]) for influence, effect in each if (mine := influence > 0).any()]

    def over(chosen: Iterable[int]) -> float:
        influence, effect = (np.concatenate(column) for column in zip(*(reached[n] for n in chosen), strict=True))
        return float(spearmanr(influence, effect).statistic) if np.ptp(influence) and np.ptp(effect) else np.nan

    if sum(len(influence) for influence, _ in reached) < FEWEST or np.isnan(value := over(range(len(reached)))):
        return None
    drawn = np.random.default_rng(0).integers(0, len(reached), (RESAMPLES_OF_PAIRS, len(reached)))
    low, high = np.nanquantile([over(one) for one in drawn], (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high)}


def summary(top: list[dict[str, Any]], sample: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The numbers that say whether a graph is right, of the most influential features and of a random sample of all.

    Besides influence, what is simpler is held to effects: the size of edges to the targets, and activations; and sizes
    that are predicted along all edges, where what cancels is gone.
    """
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {"features": len(top), "sample": len(sample)}
    for suffix, rows in (("", sample), ("_top", top)):
        values = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
        for name, (said, done) in CORRELATIONS.items():
            found[name + suffix] = correlation(values[said], values[done], random)
        right = np.sign(values["predicted"]) == np.sign(values["measured"])
        found[f"sign_agreement{suffix}"] = float(right.mean()) if rows else None
    size, control, length = (
        np.array([row[name] for row in top]) for name in ("size", "control_size", "control_length")
    )
    found["larger_than_controls"] = float((size > control).mean()) if top else None
    found["times_controls"] = float(np.median(size / np.maximum(control, TINY))) if top else None
    found["control_length"] = float(np.median(length)) if top else None
    return found


def correlation(a: np.ndarray, b: np.ndarray, random: np.random.Generator) -> dict[str, float] | None:
    """Spearman's rank correlation with a 95% interval over resampled nodes; None of too few, or equal ones."""
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    drawn = random.integers(0, len(a), (RESAMPLES, len(a)))
    again = [float(spearmanr(a[i], b[i]).statistic) for i in drawn if np.ptp(a[i]) > 0 and np.ptp(b[i]) > 0]
    low, high = np.quantile(again, (0.025, 0.975))
    return {"value": float(spearmanr(a, b).statistic), "low": float(low), "high": float(high)}
