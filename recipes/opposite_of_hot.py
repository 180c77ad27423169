"""Check the README's circuit: ablate its strongest features in the model and print the new probability of the target.

    python recipes/opposite_of_hot.py [--transcoders SPEC]

The graph predicts which features raise the target's logit and which lower it, summed with signs over all paths. These
features are ablated in the real model, and everything after them responds. The controls are random features of similar
size. At the end, the strongest feature is traced as a target itself.
"""

import argparse

import numpy as np
import torch

import cotrace
from cotrace.attribution.interventions.runs import run_without_edits
from cotrace.attribution.validation.ablations import active_feature_sizes
from cotrace.graphs.effects import ablation_effects

PROMPT, TARGET = "The opposite of hot is", " cold"
GROUP_SIZES, N_CONTROLS = (1, 3, 10, 30), 20
N_NEAREST = 10  # a control is drawn from this many features of the nearest size
N_LISTED = 8


def ablated_probabilities(model: cotrace.Model, graph: cotrace.Graph, sets: list[list[int]], token: int) -> list[float]:
    """Return the probability of a next token for each set of ablated features, given as node numbers."""
    edits = [dict.fromkeys(cotrace.nodes_of(graph, nodes), cotrace.ablate()) for nodes in sets]
    return [float(result.probabilities()[1][token]) for result in model.intervene_many(graph.info["token_ids"], edits)]


def draw_controls(size_N: np.ndarray, features: np.ndarray, random: np.random.Generator) -> list[int]:
    """Return one random other feature of similar size for each of the features."""
    remaining = np.setdiff1d(np.arange(len(size_N)), features)
    controls: list[int] = []
    for n in features:
        nearest = remaining[np.argsort(np.abs(size_N[remaining] - size_N[n]))[:N_NEAREST]]
        controls.append(int(random.choice(nearest)))
        remaining = remaining[remaining != controls[-1]]
    return controls


def predicted_effects(graph: cotrace.Graph) -> np.ndarray:
    """Return the effect of each feature on the target's logit, summed over all paths, (N,)."""
    features = [[n] for n in range(graph.order.n_features)]
    return -ablation_effects(graph, features)[:, graph.info["targets"][0]["node"]]


def feature_of(graph: cotrace.Graph, n: int) -> cotrace.Feature:
    """Return the feature of a node number."""
    layer, position, feature = (int(graph.column(name, 0)[n]) for name in ("layer", "position", "feature"))
    return cotrace.Feature(layer, feature, position=position)


@torch.no_grad()
def main(transcoders: str) -> None:
    """Print the table."""
    model = cotrace.load("gemma-3-270m", transcoders, device="cpu")
    graph = model.trace(PROMPT, [TARGET], progress=False)
    ((token,),) = (target["token_ids"] for target in graph.info["targets"])
    prompt = model.generate(PROMPT, max_new_tokens=1).prompt
    _, size_N = active_feature_sizes(prompt, run_without_edits(prompt))
    effect_N = predicted_effects(graph)
    random = np.random.default_rng(0)
    sides = {"raise": np.argsort(-effect_N), "lower": np.argsort(effect_N)}
    print(f"{PROMPT!r}: p({TARGET!r}) = {ablated_probabilities(model, graph, [[]], token)[0]:.3f}")
    for verb, order in sides.items():
        for count in GROUP_SIZES:
            sets = [order[:count].tolist(), *(draw_controls(size_N, order[:count], random) for _ in range(N_CONTROLS))]
            ablated, *controls = ablated_probabilities(model, graph, sets, token)
            print(
                f"without the {count} features that {verb} it most: {ablated:.3f}; without {count} controls: "
                f"{np.mean(controls):.3f} ({N_CONTROLS} draws, {min(controls):.3f} to {max(controls):.3f})"
            )
    for verb, order in sides.items():
        print(f"features that {verb} it most:")
        for n in order[:N_LISTED]:
            feature = feature_of(graph, n)
            print(f"  {feature} at {graph.info['tokens'][feature.position]!r}: {effect_N[n]:+.2f}")
    strongest = feature_of(graph, int(sides["raise"][0]))
    upstream = model.trace(PROMPT, [strongest], progress=False)
    print(f"the graph of {strongest} has {upstream.order.n_features} features and {upstream.n_edges} edges")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transcoders", default="gemma-3-270m-clt")
    main(parser.parse_args().transcoders)
