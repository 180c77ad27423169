"""Do circuits do what they say? Graphs of everyday prompts, validated by ablation in the model.

    python -m benchmarks.validate [--bases gemma-3-270m-clt neurons] [--prompts N] [--out FILE]

For each prompt and basis the whole graph is traced and validated: features drawn at random from all active
ones, the most influential ones, groups, paths and controls of their sizes are ablated. Beside the model that
responds freely, the same with less that responds, which says where a prediction fails. Writes
results/validation.json, prompt by prompt; what is there already is not measured again.
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
from .measure import machine

RESULT = Path(__file__).parent / "results" / "validation.json"
PUBLISHED = {  # Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness": an 18-layer cross-layer transcoder
    "spearman_pairs_clamped": 0.72,  # influence of a feature on a later one, and relative effect of ablating it
    "cosine": {"least": 1, "most": 1, "value": 0.8},  # of perturbations, in the model and in its replacement
}
MODES: dict[str, dict[str, Any]] = {  # first the one that counts; paths are asked of it only
    "responds": {"freeze": "none", "errors": "recomputed", "paths": 5},
    "transcoders respond": {"freeze": "none", "errors": "constant", "paths": 0},
    "all held": {"freeze": "all", "errors": "recomputed", "paths": 0},
}
RESAMPLES = 10_000


def measured(model: cotrace.Model, graph: cotrace.Graph, mode: str) -> dict[str, Any]:
    """One prompt's graph, validated."""
    record = model.validate(graph, **MODES[mode], progress=False).info["validation"]
    kept = {name: record[name] for name in ("summary", "groups", "paths", "later")}
    return {"prompt": graph.info["prompt"], "mode": mode, "features": graph.order.n_features, **kept}


def overall(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over prompts, by basis and mode, with 95% intervals over resampled prompts."""
    rows = []
    for basis, mode in dict.fromkeys((case["basis"], case["mode"]) for case in cases):
        mine = [case for case in cases if (case["basis"], case["mode"]) == (basis, mode)]
        row: dict[str, Any] = {"basis": basis, "mode": mode, "prompts": len(mine)}
        for name in mine[0]["summary"]:
            values = [case["summary"][name] for case in mine]
            values = [v["value"] if isinstance(v, dict) else v for v in values if v is not None]
            row[name] = interval(values) if values else None
        row["later"] = later(mine)
        rows.append(row)
    return rows


def later(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agreement of activations by distance in layers, means over prompts."""
    distances = sorted({(row["least"], row["most"]) for case in cases for row in case["later"]})
    found = []
    for least, most in distances:
        rows = [row for case in cases for row in case["later"] if (row["least"], row["most"]) == (least, most)]
        both = {name: interval([row[name] for row in rows]) for name in ("cosine", "signs")}
        found.append({"least": least, "most": most, **both})
    return found


def interval(values: list[float]) -> dict[str, float]:
    """A mean and its 95% interval by bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def measured_before(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What the file has of the same settings and versions."""
    result = json.loads(args.out.read_text())
    return result["cases"] if (result["settings"], result["versions"]) == (settings(args), package_versions()) else []


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the numbers."""
    return {"model": args.model, "modes": MODES, "plan": asdict(ValidationConfig())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--bases", nargs="+", default=["gemma-3-270m-clt", "neurons"])
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="measure again what the file has")
    args = parser.parse_args()
    old = measured_before(args) if args.out.exists() and not args.fresh else []
    cases = {(case["basis"], case["mode"], case["prompt"]): case for case in old}
    for basis in args.bases:
        # Neurons are the MLPs themselves: nothing else can respond in their place.
        modes = [mode for mode in MODES if not (basis.startswith("neurons") and MODES[mode]["errors"] == "constant")]
        model = cotrace.load(args.model, basis, device="cpu")
        for prompt in PROMPTS[: args.prompts]:
            missing = [mode for mode in modes if (basis, mode, prompt) not in cases]
            graph = model.trace(prompt, progress=False) if missing else None
            for mode in missing:
                cases[basis, mode, prompt] = {"basis": basis, **measured(model, graph, mode)}
                write(args, list(cases.values()))
            for mode in modes:
                print(f"{basis} {mode} {prompt!r}: {cases[basis, mode, prompt]['summary']['spearman']}", flush=True)


def write(args: argparse.Namespace, cases: list[dict[str, Any]]) -> None:
    """The result file, whole."""
    result = {
        "benchmark": "validation",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": package_versions(),
    }
    result |= {"settings": settings(args), "published": PUBLISHED}
    result |= {"summary": overall(cases), "cases": cases}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
