"""Summaries of estimated effects over the prompts of `benchmarks.validate`, and their tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from .cells import markdown

Cases = list[dict[str, Any]]
LIVE = "first_order_none"
FREEZES = ("all", "norms", "attention", "none")
GROWN = {"norms": "attention", "attention": "MLPs and norms", "none": "all of them"}  # freeze: what responds
KINDS = {"errors": "error nodes", "groups": "groups", "paths": "paths"}
ESTIMATES = {"predicted": "along all edges", LIVE: "live first order", "integrated": "integrated"}
RESAMPLES = 2_000


def summarize_estimates(cases: Cases, interval: Callable[[list[float]], dict[str, float]]) -> list[dict[str, Any]]:
    """Return, for each basis with estimates: gains by what responds, and agreement for errors, groups and paths.

    Args:
        cases: the cases of all bases and modes.
        interval: returns the mean of values and its 95% interval.
    """
    found = []
    for basis in dict.fromkeys(case["basis"] for case in cases):
        mine = [case for case in cases if case["basis"] == basis and has_estimates(case)]
        if mine:
            kinds = {kind: kind_agreement([case[kind] for case in mine]) for kind in KINDS}
            found.append({"basis": basis, "prompts": len(mine), "gains": gains(mine, interval), "kinds": kinds})
    return found


def has_estimates(case: dict[str, Any]) -> bool:
    """Return whether a case has estimates by gradients."""
    return f"spearman_{LIVE}" in case["summary"]


def gains(cases: Cases, interval: Callable[[list[float]], dict[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the correlation that is gained by unfreezing components: paired differences from `freeze="all"`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for freeze in GROWN:
        found[freeze] = {}
        for of, suffix in (("top", "_top"), ("all", "")):
            ends = [[_value(case, f"spearman_first_order_{f}{suffix}") for f in (freeze, "all")] for case in cases]
            found[freeze][of] = interval([end - start for end, start in ends])
    return found


def _value(case: dict[str, Any], name: str) -> float:
    return case["summary"][name]["value"]


def kind_agreement(rows_by_prompt: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the agreement of each estimate with what is measured, over the rows of all prompts together.

    Spearman's correlation of sizes and the share of right signs, with 95% intervals (bootstrap over prompts).
    """
    found: dict[str, Any] = {"rows": sum(map(len, rows_by_prompt))}
    random = np.random.default_rng(0)
    draws = random.integers(0, len(rows_by_prompt), (RESAMPLES, len(rows_by_prompt)))
    for name in ESTIMATES:
        kept = [[row for row in rows if row[name] is not None] for rows in rows_by_prompt]
        parts = [_columns(rows, name) for rows in kept]
        whole = _agreement(parts, range(len(parts)))
        low, high = np.nanquantile([_agreement(parts, draw) for draw in draws], (0.025, 0.975), axis=0)
        for n, measure in enumerate(("spearman", "signs")):
            found[f"{measure}_{name}"] = {"mean": float(whole[n]), "low": float(low[n]), "high": float(high[n])}
    return found


def _columns(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Return sizes estimated and measured, and whether signs are equal, (3, number of rows)."""
    right = [float(np.sign(row[name]) == np.sign(row["measured"])) for row in rows]
    return np.array([[row[f"{name}_size"] for row in rows], [row["size"] for row in rows], right])


def _agreement(parts: list[np.ndarray], chosen: Any) -> tuple[float, float]:
    estimated, measured, right = np.concatenate([parts[n] for n in chosen], axis=1)
    return float(spearmanr(estimated, measured).statistic), float(right.mean())


def estimates_table(result: dict[str, Any]) -> str:
    """Return the tables of estimates: agreement, gain by what responds, other nodes, and nulls."""
    columns = {row["basis"]: row for row in result["summary"] if f"spearman_{LIVE}" in row}
    bases = [row["basis"] for row in result["estimates"]]
    prompts = ", ".join(f"{row['prompts']} for `{row['basis']}`" for row in result["estimates"])
    note = (
        f"Means over prompts ({prompts}) with 95% intervals (bootstrap over prompts); measured {result['estimates_date']}; "
        f"`{result['settings']['model']}`, ablations in the live model."
    )
    parts = [_agreement_table(columns, bases), _gains_table(result), _kinds_table(result), _nulls_table(columns, bases)]
    return "\n\n".join([*parts, note])


def _agreement_table(columns: dict[str, Any], bases: list[str]) -> str:
    rows = {
        "influence in the graph": ("spearman", None),
        "predicted along all edges": ("spearman_predicted", "sign_agreement"),
    }
    titles = ("total effect, all frozen", "first order, attention responds", "first order, MLPs and norms respond")
    for freeze, title in zip(FREEZES, (*titles, "**first order, the model responds**"), strict=True):
        rows[title] = f"spearman_first_order_{freeze}", f"signs_first_order_{freeze}"
    rows["integrated along the ablation, 4 points"] = "spearman_integrated", "signs_integrated"
    heading = ["Spearman, 60 most influential", "correct signs", "Spearman, all features", "correct signs"]
    grid = [["basis", "estimate of the effect", *heading]]
    for basis in bases:
        for title, (spearman, signs) in rows.items():
            names = [f"{spearman}_top", f"{signs}_top", spearman, signs]
            grid.append([basis, title, *(interval_text(columns[basis].get(name)) for name in names)])
    return markdown(grid)


def _gains_table(result: dict[str, Any]) -> str:
    grid = [["basis", "what responds, besides nothing", "Spearman gained, 60 most influential", "all features"]]
    for row in result["estimates"]:
        for freeze, title in GROWN.items():
            gained = row["gains"][freeze]
            grid.append([row["basis"], title, *(interval_text(gained[of], "+.2f") for of in ("top", "all"))])
    return markdown(grid)


def _kinds_table(result: dict[str, Any]) -> str:
    heading = [f"{measure}, {title}" for title in ESTIMATES.values() for measure in ("Spearman", "signs")]
    grid = [["basis", "ablated", "number", *heading]]
    for row in result["estimates"]:
        for kind, title in KINDS.items():
            found = row["kinds"][kind]
            cells = [
                interval_text(found[f"{measure}_{name}"]) for name in ESTIMATES for measure in ("spearman", "signs")
            ]
            grid.append([row["basis"], title, str(found["rows"]), *cells])
    return markdown(grid)


def _nulls_table(columns: dict[str, Any], bases: list[str]) -> str:
    grid = [
        ["basis", "random vectors of the same lengths", "effect of a feature over theirs, median", "Spearman", "signs"]
    ]
    for basis in bases:
        for null, title in (("directions", "random directions"), ("signs", "the feature's, with random signs")):
            names = (f"times_null_{null}", f"spearman_null_{null}_top", f"signs_null_{null}_top")
            grid.append([basis, title, *(interval_text(columns[basis][name]) for name in names)])
    return markdown(grid)


def interval_text(found: dict[str, float] | None, form: str = ".2f") -> str:
    """Return a mean with its interval; nothing where nothing was measured."""
    return "" if found is None else f"{found['mean']:{form}} ({found['low']:{form}} to {found['high']:{form}})"
