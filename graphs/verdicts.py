"""Whether a graph can be relied on, in one sentence: after a trace without some of its rows, and after a validation."""

from typing import Any

USABLE_COVERAGE = 0.9
SUPPORTED, REFUTED = 0.8, 0.5  # shares of the most influential features that pass a test
CERTAIN_ENOUGH = 0.1  # share of a circuit's nodes for which chance may decide whether they belong to it
LIVE_ESTIMATE = "first_order_none"  # of the live model, in a validation's rows


def coverage_verdict(info: dict[str, Any]) -> str | None:
    """Return whether a graph that was traced without some of its rows can be used; None for one with all rows.

    Of a sampled graph it says how many rows were drawn, and the largest standard error of a span's share.

    Args:
        info: the graph's metadata.
    """
    traced, pruning = info["traced"], info["pruning"] or {}
    if "sampling" in traced:
        return _sampling_verdict(traced["sampling"], pruning.get("sampling"))
    if traced["bound"] <= 0:
        return None
    missing = f"{1 - traced['coverage']:.2%} of the influence ends at features whose rows were not computed"
    undecided = pruning.get("certainty", {}).get("undecided")
    if undecided == 0:
        return f"the circuit can be used: {missing}, which cannot change the nodes above the node threshold"
    if traced["coverage"] >= USABLE_COVERAGE:
        weak = "; which of the weaker nodes belong to it is uncertain" if undecided else ""
        return f"the circuit can be used for its strongest nodes and paths: only {missing}{weak}"
    return (
        f"do not rely on this circuit: {missing}; trace again with coverage {USABLE_COVERAGE} or more, and more features "
        "or seconds"
    )


def _sampling_verdict(sampling: dict[str, Any], pruned: dict[str, Any] | None) -> str:
    """Return how exact a sampled graph is, and whether chance decides which nodes its circuit has."""
    facts = (
        f"influence is estimated from {sampling['rows']:,} of {sampling['features']:,} rows in {sampling['replicates']} "
        f"replicates; the largest standard error of a span's share is {sampling['span_error']:.2g}"
    )
    if sampling["partial"]:
        facts += "; the trace was stopped before it was finished"
    if pruned is None or not pruned["uncertain"]:
        return facts
    chance = (
        f"chance decides whether {pruned['uncertain']:,} of the nodes around the node threshold belong to it "
        f"({pruned['ranked']:,} pass)"
    )
    if pruned["uncertain"] <= CERTAIN_ENOUGH * pruned["ranked"]:
        return f"the circuit can be used: {facts}; {chance}"
    return (
        f"rely on the strongest nodes of this circuit only: {facts}; {chance}: trace with more features or seconds, or merge "
        "graphs of other seeds"
    )


def validation_verdict(record: dict[str, Any]) -> str:
    """Return whether ablations in the model support a graph.

    Two shares of its most influential features decide: those whose ablation changes the targets more than that of
    random features, and those whose effect has the predicted sign.

    Args:
        record: the entry "validation" of the graph's metadata.
    """
    summary = record["summary"]
    larger, signs, count = summary["larger_than_controls"], summary["sign_agreement_top"], summary["features"]
    if larger is None or signs is None:
        return "undetermined: the graph has no features with influence to ablate"
    if min(larger, signs) >= SUPPORTED:
        verdict = "supported"
    elif larger <= REFUTED or signs <= REFUTED:
        verdict = "not supported"
    else:
        verdict = "partly supported"
    return (
        f"{verdict}: of the {count} most influential features, {round(larger * count)} change the targets more than controls "
        f"(random features of the same size), and {round(signs * count)} in the predicted direction"
    )


def parting_nodes(record: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the nodes where estimate and measurement part, the farthest first.

    They are the rows of a validation with the largest difference between the change that the live model's gradients
    predict to first order and the measured one, relative to its size. Nodes with less than the median size are left out:
    there the difference is rounding. Empty for a validation without estimates.

    Args:
        record: the entry "validation" of the graph's metadata.
        count: number of nodes at most.
    """
    rows = [row for row in record["nodes"] if row.get(LIVE_ESTIMATE) is not None and row["size"] > 0]
    middle = sorted(row["size"] for row in rows)[len(rows) // 2] if rows else 0.0
    parting = [row for row in rows if row["size"] >= middle]
    return sorted(parting, key=lambda row: -abs(row[LIVE_ESTIMATE] - row["measured"]) / row["size"])[:count]
