"""Measure the time that a coverage saves, and the part of the circuit that it keeps, on everyday prompts.

    python -m benchmarks.coverage [--transcoders SPEC] [--coverage 0.9 0.95 0.98] [--prompts N]

Every prompt is traced whole, then with each coverage. The pruned circuits are compared by their Jaccard index: nodes in
both over nodes in either, without tokens and targets. Writes results/coverage.json.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

import cotrace
from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
from cotrace.common.versions import package_versions

from .measure import machine

RESULT = Path(__file__).parent / "results" / "coverage.json"
PROMPTS = (
    *EVERYDAY_PROMPTS,
    "The doctor told the patient to take the",
    "A triangle has three sides and a square has",
    "Water boils at a temperature of one hundred",
    "The cat sat on the mat and looked at the",
    "When the train arrived at the station, the passengers",
    "The first president of the United States was George",
    "If you mix blue and yellow paint, you get",
    "She has lived in London for ten years and speaks fluent",
    "The recipe needs two eggs, a cup of sugar and a spoon of",
    "After a long day at work he went home to",
)


def compare_coverages(model: cotrace.Model, prompt: str, coverages: list[float]) -> dict[str, Any]:
    """Trace one prompt whole and with every coverage; return the record."""
    whole, seconds = timed_trace(model, prompt)
    true = whole.influence()
    kept, record = circuit(whole), {"prompt": prompt, "tokens": whole.order.n_tokens, "rows": whole.order.n_features}
    record |= {"seconds": seconds, "parts": []}
    for coverage in coverages:
        part, seconds = timed_trace(model, prompt, coverage=coverage)
        mine, bound = circuit(part), part.column("influence_bound")
        record["parts"].append(
            {
                "coverage": coverage,
                "reached": part.info["traced"]["coverage"],
                "rows": int(part.column("computed")[part.order.features].sum()),
                "seconds": seconds,
                "jaccard": len(mine & kept) / len(mine | kept),
                "largest_bound": float(bound.max()),
                "largest_lack": float((true - part.influence()).max()),
                "certainty": part.certainty().counts(),
            }
        )
    return record


def timed_trace(model: cotrace.Model, prompt: str, **limits: float) -> tuple[cotrace.Graph, float]:
    """Trace a prompt; return the graph and the seconds."""
    start = time.perf_counter()
    graph = model.trace(prompt, progress=False, **limits)
    return graph, time.perf_counter() - start


def circuit(graph: cotrace.Graph) -> set[int]:
    """Return the node numbers of features and errors that pruning keeps; they are the same in every graph of a prompt."""
    return set(np.flatnonzero(graph.select().nodes[: graph.order.tokens.start]).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--transcoders")
    parser.add_argument("--coverage", type=float, nargs="+", default=[0.9, 0.95, 0.98])
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    model = cotrace.load(args.model, args.transcoders, device="cpu")
    model.trace(PROMPTS[0], coverage=0.5, progress=False)  # compiles the kernels
    cases = []
    for prompt in PROMPTS[: args.prompts]:
        cases.append(compare_coverages(model, prompt, args.coverage))
        print(
            f"{prompt!r}: " + ", ".join(f"{p['coverage']}: {p['jaccard']:.3f}" for p in cases[-1]["parts"]), flush=True
        )
    settings = {"model": args.model, "transcoders": model.transcoders.name}
    result = {
        "benchmark": "coverage",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": package_versions(),
    }
    result |= {"settings": settings, "summary": summary(cases), "cases": cases}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def summary(cases: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the summary of each coverage over all prompts."""
    rows = []
    for parts in zip(*(case["parts"] for case in cases), strict=True):
        jaccards = [part["jaccard"] for part in parts]
        of = list(zip(parts, cases, strict=True))
        rows.append(
            {
                "coverage": parts[0]["coverage"],
                "rows": sum(part["rows"] for part in parts) / sum(case["rows"] for case in cases),
                "time": median(part["seconds"] / case["seconds"] for part, case in of),
                "jaccard": mean(jaccards),
                "jaccard_least": min(jaccards),
                "bound": max(part["largest_bound"] for part in parts),
                "lack": max(part["largest_lack"] for part in parts),
            }
        )
    return rows


if __name__ == "__main__":
    main()
