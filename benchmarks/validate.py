"""Validate graphs of everyday prompts by ablation in the model.

    python -m benchmarks.validate [--bases gemma-3-270m-clt neurons] [--prompts N] [--out FILE]

For each prompt and basis (transcoders or neurons) the whole graph is traced. Then random features, the most influential
features, groups, paths, and controls of the same sizes are ablated. The live model is compared with modes in which more
is frozen, which show where a prediction fails. Estimates by gradients are compared in the first mode. Writes results/validation.json prompt by prompt, and measures only what
that file lacks.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import cotrace
from cotrace.attribution.validation.config import ValidationConfig
from cotrace.common.versions import package_versions

from .coverage import PROMPTS
from .estimates import has_estimates, summarize_estimates
from .measure import machine

RESULT = Path(__file__).parent / "results" / "validation.json"
PUBLISHED = {  # Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness": an 18-layer cross-layer transcoder
    "spearman_pairs_clamped": 0.72,  # influence of a feature on a later one, and the relative effect of ablating it
    "cosine": {"least": 1, "most": 1, "value": 0.8},  # between perturbations in the model and in its replacement
}
MODES: dict[str, dict[str, Any]] = {  # the first one is the main result; paths are measured there only
    "live model": {"freeze": "none", "errors": "recomputed", "paths": 5},
    "live, errors constant": {"freeze": "none", "errors": "constant", "paths": 0},
    "all frozen": {"freeze": "all", "errors": "recomputed", "paths": 0},
}
RESAMPLES = 10_000


def validate_graph(model: cotrace.Model, graph: cotrace.Graph, mode: str) -> dict[str, Any]:
    """Validate the graph of one prompt; return the record."""
    record = model.validate(graph, **MODES[mode], progress=False).info["validation"]
    kept = {name: record[name] for name in ("summary", "groups", "paths", "later")}
    errors = range(graph.order.errors.start, graph.order.errors.stop)
    kept["errors"] = [row for row in record["nodes"] if row["node"] in errors]
    return {"prompt": graph.info["prompt"], "mode": mode, "features": graph.order.n_features, **kept}


def summarize(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over prompts for each basis and mode, with bootstrapped 95% intervals."""
    rows = []
    for basis, mode in dict.fromkeys((case["basis"], case["mode"]) for case in cases):
        mine = [case for case in cases if (case["basis"], case["mode"]) == (basis, mode)]
        row: dict[str, Any] = {"basis": basis, "mode": mode, "prompts": len(mine)}
        for name in dict.fromkeys(name for case in mine for name in case["summary"]):
            values = [case["summary"].get(name) for case in mine]
            values = [v["value"] if isinstance(v, dict) else v for v in values if v is not None]
            row[name] = interval(values) if values else None
        row["later"] = later_layers(mine)
        rows.append(row)
    return rows


def later_layers(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the agreement of activations by distance in layers, means over prompts."""
    distances = sorted({(row["least"], row["most"]) for case in cases for row in case["later"]})
    found = []
    for least, most in distances:
        rows = [row for case in cases for row in case["later"] if (row["least"], row["most"]) == (least, most)]
        both = {name: interval([row[name] for row in rows]) for name in ("cosine", "signs")}
        found.append({"least": least, "most": most, **both})
    return found


def interval(values: list[float]) -> dict[str, float]:
    """Return a mean and its bootstrapped 95% interval."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def read_cases(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the cases in the result file if settings and versions are the same; the live model's with estimates."""
    result = json.loads(args.out.read_text())
    if (result["settings"], result["versions"]) != (settings(args), package_versions()):
        return []
    return [case for case in result["cases"] if case["mode"] != next(iter(MODES)) or has_estimates(case)]


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that decide the numbers."""
    return {"model": args.model, "modes": MODES, "plan": asdict(ValidationConfig())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--bases", nargs="+", default=["gemma-3-270m-clt", "neurons"])
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    args = parser.parse_args()
    old = read_cases(args) if args.out.exists() and not args.fresh else []
    cases = {(case["basis"], case["mode"], case["prompt"]): case for case in old}
    for basis in args.bases:
        # Neurons are the MLPs: there are no errors that could be constant.
        modes = [mode for mode in MODES if not (basis.startswith("neurons") and MODES[mode]["errors"] == "constant")]
        model = cotrace.load(args.model, basis, device="cpu")
        for prompt in PROMPTS[: args.prompts]:
            missing = [mode for mode in modes if (basis, mode, prompt) not in cases]
            graph = model.trace(prompt, progress=False) if missing else None
            for mode in missing:
                cases[basis, mode, prompt] = {"basis": basis, **validate_graph(model, graph, mode)}
                write(args, list(cases.values()))
            for mode in modes:
                print(f"{basis} {mode} {prompt!r}: {cases[basis, mode, prompt]['summary']['spearman']}", flush=True)


def write(args: argparse.Namespace, cases: list[dict[str, Any]]) -> None:
    """Write the result file."""
    result = {
        "benchmark": "validation",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": package_versions(),
    }
    result |= {"settings": settings(args), "published": PUBLISHED}
    result |= {"summary": summarize(cases), "estimates": summarize_estimates(cases, interval), "cases": cases}
    result["estimates_date"] = result["date"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
