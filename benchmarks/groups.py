"""Measure whether the features of a suggested group do the same: ablate each alone in the model, and compare the responses.

    python -m benchmarks.groups [--transcoders SPEC] [--prompts N] [--out FILE]

For each prompt the circuit's features are grouped, then each is ablated on its own in the live model. Its response is the change
of the logits, centred over the vocabulary, of the graph's targets and the 20 likeliest next tokens. Agreement is the mean cosine
of two features' responses within groups minus that between groups. Other partitions of the same features are measured beside it:
k-means of as many groups, and random groups of the same sizes. Writes results/groups.json prompt by prompt, and measures only
what that file lacks.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

import cotrace
from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.layer_modes import layer_modes
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.validation.ablations import AblationRunner
from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
from cotrace.common.versions import package_versions
from cotrace.graphs import Graph
from cotrace.graphs.annotations import node_names
from cotrace.graphs.grouping.config import GroupConfig
from cotrace.graphs.grouping.groups import Groups
from cotrace.graphs.grouping.profiles import WEIGHTS
from cotrace.graphs.schema import EFFECTS

from .cells import Record, markdown
from .measure import machine
from .validate import interval

RESULT = Path(__file__).parent / "results" / "groups.json"
LIKELIEST = 20  # next tokens in a response, besides the targets
KMEANS_SEEDS, RANDOM_SEEDS = 20, 200
OURS = "suggested"
METHODS = {
    OURS: "suggested groups",
    "decoders": "suggested, with decoder vectors",
    "edges": "suggested, by edges alone: a graph without saved effects",
    "kmeans_activations": "k-means on activations",
    "kmeans_effects": "k-means on expected effects",
    "random": "random groups of the same sizes",
    "random_signed": "random groups of the same sizes and signs of effect",
}


def measure_prompt(model: cotrace.Model, prompt: str) -> Record:
    """Return the record of one prompt."""
    circuit = model.trace(prompt, progress=False).prune()
    groups = circuit.suggest_groups()
    response_NR = unit(responses(model, circuit))
    cosine_NN = response_NR @ response_NR.T
    label_N = labels_of(groups)
    record: Record = {"prompt": prompt, "features": circuit.order.n_features, "groups": len(groups)}
    record |= {"grouped": int((label_N >= 0).sum()), "sizes": [len(group.nodes) for group in groups]}
    scores, whole = groups.kept.scores, groups.kept.graph_scores
    record["kept"] = {
        "influence": groups.kept.influence,
        "replacement": scores.replacement / whole.replacement,
        "completeness": scores.completeness / whole.completeness,
    }
    partitions = {OURS: [label_N], "decoders": [labels_of(model.suggest_groups(circuit))]}
    partitions |= {"edges": [labels_of(without_effects(circuit).suggest_groups())], **others(circuit, groups)}
    record["methods"] = {name: agreement(cosine_NN, partitions[name]) for name in METHODS}
    return record


def responses(model: cotrace.Model, graph: Graph) -> np.ndarray:
    """Return the change of each token's centred logit when each feature of a graph is ablated on its own, (N, R)."""
    ids, masked = graph.info["token_ids"], graph.info["masked_positions"]
    likeliest = model.logits(ids)[-1].topk(LIKELIEST).indices.tolist()
    tokens = sorted({*likeliest, *(target["token_ids"][0] for target in graph.info["targets"])})
    target = {"node": -1, "kind": "token", "label": "", "weight": 1 / len(tokens), "position": len(ids) - 1}
    asked = Graph(graph.nodes, {**graph.info, "targets": [{**target, "token_ids": [token]} for token in tokens]})
    positions = MaskedPositions.choose(masked, model.tokenizer.constant_prefix_length(ids), len(ids))
    context = PromptContext(model.weights, model.transcoders, model.tokenizer, torch.tensor(ids), positions)
    modes = layer_modes(InterventionConfig(), model.architecture, model.transcoders)
    with torch.no_grad():
        runner = AblationRunner(context, asked)
        return runner.measure(
            [[node] for node in node_names(graph, range(graph.order.n_features))], modes, features=False
        )[0]


def without_effects(graph: Graph) -> Graph:
    """Return a graph without its saved effects."""
    return Graph(graph.nodes.drop_columns(list(EFFECTS)), graph.info)


def labels_of(groups: Groups) -> np.ndarray:
    """Return the number of each feature's group, (N,), −1 for none."""
    label_N = np.full(groups.graph.order.n_features, -1)
    for number, group in enumerate(groups):
        label_N[list(group.nodes)] = number
    return label_N


def others(graph: Graph, groups: Groups) -> dict[str, list[np.ndarray]]:
    """Return other partitions of the features in groups, each several times with other seeds."""
    label_N = labels_of(groups)
    grouped = np.flatnonzero(label_N >= 0)
    effect_NK = np.array([graph.effects_on(target["node"]) for target in graph.info["targets"]]).T
    sign_N = np.sign([group.effect for group in groups])[label_N]
    vectors = {"kmeans_activations": activations(graph)[grouped], "kmeans_effects": effect_NK[grouped]}
    found = {
        name: [with_labels(label_N, grouped, kmeans(unit(vector), len(groups), seed)) for seed in range(KMEANS_SEEDS)]
        for name, vector in vectors.items()
    }
    found["random"] = [shuffled(label_N, [grouped], seed) for seed in range(RANDOM_SEEDS)]
    signs = [grouped[sign_N[grouped] == sign] for sign in np.unique(sign_N[grouped])]
    found["random_signed"] = [shuffled(label_N, signs, seed) for seed in range(RANDOM_SEEDS)]
    return found


def activations(graph: Graph) -> np.ndarray:
    """Return the activations of each feature at all positions of the prompt, (N, P), as far as they are in the graph."""
    features = graph.order.features
    layer, position, feature = (graph.column(name)[features].astype(int) for name in ("layer", "position", "feature"))
    row_N = np.unique(np.stack([layer, feature]), axis=1, return_inverse=True)[1].reshape(-1)
    activation_FP = np.zeros((row_N.max() + 1, graph.order.n_tokens))
    activation_FP[row_N, position] = graph.column("activation")[features]
    return activation_FP[row_N]


def unit(vectors_NR: np.ndarray) -> np.ndarray:
    """Return vectors of length 1; zero stays zero."""
    length_N1 = np.linalg.norm(vectors_NR, axis=1, keepdims=True)
    return vectors_NR / np.where(length_N1 > 0, length_N1, 1)


def kmeans(vectors_nR: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the cluster of each vector, (n,), from k-means++."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that become empty
        return kmeans2(vectors_nR.astype(np.float64), k, minit="++", seed=seed)[1]


def with_labels(label_N: np.ndarray, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return labels (N,) with other values at some nodes."""
    found = label_N.copy()
    found[nodes] = values
    return found


def shuffled(label_N: np.ndarray, parts: list[np.ndarray], seed: int) -> np.ndarray:
    """Return labels (N,) that are permuted within each part of the nodes."""
    rng = np.random.default_rng(seed)
    for nodes in parts:
        label_N = with_labels(label_N, nodes, rng.permutation(label_N[nodes]))
    return label_N


def agreement(cosine_NN: np.ndarray, partitions: list[np.ndarray]) -> Record:
    """Return the mean cosine of responses within and between groups, means over partitions, and the 95% range of their difference."""
    rows = np.array([within_and_between(cosine_NN, label_N) for label_N in partitions])
    difference = rows[:, 0] - rows[:, 1]
    low, high = np.quantile(difference, (0.025, 0.975)).tolist()
    within, between = rows.mean(0).tolist()
    return {"within": within, "between": between, "difference": float(difference.mean()), "low": low, "high": high}


def within_and_between(cosine_NN: np.ndarray, label_N: np.ndarray) -> tuple[float, float]:
    """Return the mean cosine of pairs of features in one group, and in two groups; features without a group do not count."""
    grouped = np.flatnonzero(label_N >= 0)
    pairs = np.triu_indices(len(grouped), 1)
    cosine, same = cosine_NN[np.ix_(grouped, grouped)][pairs], (label_N[grouped][:, None] == label_N[grouped])[pairs]
    return float(cosine[same].mean()), float(cosine[~same].mean())


def summarize(cases: list[Record]) -> dict[str, Any]:
    """Return means over prompts with bootstrapped 95% intervals, and the prompts in which the suggested groups agree more."""
    found: dict[str, Any] = {}
    for name in METHODS:
        rows = [case["methods"][name] for case in cases]
        ours = [case["methods"][OURS]["difference"] for case in cases]
        found[name] = {part: interval([row[part] for row in rows]) for part in ("within", "between", "difference")}
        found[name]["ahead"] = sum(mine > row["difference"] for mine, row in zip(ours, rows, strict=True))
        found[name]["lead"] = interval([mine - row["difference"] for mine, row in zip(ours, rows, strict=True)])
    kept = {name: interval([case["kept"][name] for case in cases]) for name in cases[0]["kept"]}
    return {"methods": found, "kept": kept}


def groups_table(result: Record) -> str:
    """Return the table of this benchmark: agreement of co-ablation for each way to group."""
    grid = [
        [
            "features of a group",
            "cosine within",
            "cosine between",
            "difference (95% interval)",
            "prompts where suggested leads",
        ]
    ]
    cases, summary = result["cases"], result["summary"]
    for name, row in summary["methods"].items():
        difference = row["difference"]
        interval_text = f"{difference['mean']:.3f} ({difference['low']:.3f} to {difference['high']:.3f})"
        ahead = "" if name == OURS else f"{row['ahead']} of {len(cases)}"
        grid.append(
            [METHODS[name], f"{row['within']['mean']:.3f}", f"{row['between']['mean']:.3f}", interval_text, ahead]
        )
    kept, settings, where = summary["kept"], result["settings"], result["machine"]
    sizes = [size for case in cases for size in case["sizes"]]
    note = (
        f"Measured {result['date']} on {where['cpu']}; `{settings['model']}` with `{settings['transcoders']}`, circuits of "
        f"{len(cases)} prompts with {sum(case['features'] for case in cases):,} features, of which "
        f"{sum(case['grouped'] for case in cases):,} are in {len(sizes):,} groups of 2 to {max(sizes)}. Groups hold "
        f"{kept['influence']['mean']:.1%} of the features' influence, and keep {kept['replacement']['mean']:.1%} of the replacement "
        f"score and {kept['completeness']['mean']:.1%} of the completeness score. Intervals are over prompts; k-means is the mean of "
        f"{KMEANS_SEEDS} runs, random groups of {RANDOM_SEEDS}. The last four rows partition the features of the first one's groups; activations are those of the "
        "feature at the positions in the circuit."
    )
    return f"{markdown(grid)}\n\n{note}"


def settings_of(args: argparse.Namespace, transcoders: str) -> Record:
    """Return the settings that decide the numbers."""
    options = {"weights": WEIGHTS, **asdict(GroupConfig())}
    return {"model": args.model, "transcoders": transcoders, "likeliest": LIKELIEST, **options}


def measure_all(args: argparse.Namespace, report: Callable[[Record], None]) -> None:
    """Measure every prompt that the result file lacks, and write the file after each."""
    model = cotrace.load(args.model, args.transcoders, device="cpu")
    result: Record = {"benchmark": "groups", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"versions": package_versions(), "settings": settings_of(args, model.transcoders.name)}
    old = json.loads(args.out.read_text()) if args.out.exists() and not args.fresh else {}
    same = all(old.get(name) == result[name] for name in ("versions", "settings"))
    cases = {case["prompt"]: case for case in old["cases"]} if same else {}
    for prompt in EVERYDAY_PROMPTS[: args.prompts]:
        if prompt not in cases:
            cases[prompt] = measure_prompt(model, prompt)
            result |= {"summary": summarize(list(cases.values())), "cases": list(cases.values())}
            args.out.write_text(json.dumps(result, indent=1) + "\n")
        report(cases[prompt])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--transcoders")
    parser.add_argument("--prompts", type=int, default=len(EVERYDAY_PROMPTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    measure_all(args, print_case)


def print_case(case: Record) -> None:
    """Print the agreement of one prompt."""
    differences = ", ".join(f"{name} {row['difference']:.3f}" for name, row in case["methods"].items())
    print(f"{case['prompt']!r}: {case['grouped']} of {case['features']} features; {differences}", flush=True)


if __name__ == "__main__":
    main()
