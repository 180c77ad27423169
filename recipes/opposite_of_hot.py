"""Is the README's circuit true? Take its strongest features out of the model and see what it predicts.

    python recipes/opposite_of_hot.py [--transcoders SPEC]

Which features speak for the target, and which against it, is what the graph says: signed, along all paths. They
are ablated in the real model, and everything after responds. Features as large, drawn at random, are the control.
"""

import argparse

import numpy as np
import torch

import cotrace
from cotrace.attribution.interventions.runs import run_without_edits
from cotrace.attribution.validation.ablations import active_feature_sizes
from cotrace.graphs.effects import ablation_effects

PROMPT, TARGET = "The opposite of hot is", " cold"
GROUPS, DRAWS = (1, 3, 10, 30), 20


def probabilities_without(model: cotrace.Model, graph: cotrace.Graph, sets: list[list[int]], token: int) -> list[float]:
    """Probability of the next token when some features, by number, are ablated: of each set by itself."""
    changes = [dict.fromkeys(cotrace.nodes_of(graph, nodes), cotrace.ablate()) for nodes in sets]
    return [
        float(result.probabilities()[1][token]) for result in model.intervene_many(graph.info["token_ids"], changes)
    ]


def alike(size_N: np.ndarray, chosen: np.ndarray, random: np.random.Generator) -> list[int]:
    """As many other features, each drawn from the ten nearest in size to one of the chosen."""
    free = np.setdiff1d(np.arange(len(size_N)), chosen)
    drawn: list[int] = []
    for n in chosen:
        nearest = free[np.argsort(np.abs(size_N[free] - size_N[n]))[:10]]
        drawn.append(int(random.choice(nearest)))
        free = free[free != drawn[-1]]
    return drawn


@torch.no_grad()
def main(transcoders: str) -> None:
    """Print the table."""
    model = cotrace.load("gemma-3-270m", transcoders, device="cpu")
    graph = model.trace(PROMPT, [TARGET], progress=False)
    ((token,),) = (target["token_ids"] for target in graph.info["targets"])
    prompt = model._prompt_context(PROMPT, None)
    _, size_N = active_feature_sizes(prompt, run_without_edits(prompt))
    effect_N = -ablation_effects(graph, [[n] for n in range(graph.order.n_features)])[
        :, graph.info["targets"][0]["node"]
    ]
    random = np.random.default_rng(0)
    sides = {"for": np.argsort(-effect_N), "against": np.argsort(effect_N)}
    print(f"{PROMPT!r}: p({TARGET!r}) is {probabilities_without(model, graph, [[]], token)[0]:.3f}")
    for side, order in sides.items():
        for count in GROUPS:
            chosen = order[:count]
            sets = [chosen.tolist(), *(alike(size_N, chosen, random) for _ in range(DRAWS))]
            without, *controls = probabilities_without(model, graph, sets, token)
            print(
                f"without the {count} strongest {side} it: {without:.3f}; without {count} others of their size: "
                f"{np.mean(controls):.3f} (of {DRAWS} draws {min(controls):.3f} to {max(controls):.3f})"
            )
    for side, order in sides.items():
        print(f"the strongest {side} it:")
        for n in order[:8]:
            layer, position, feature = (int(graph.column(name, 0)[n]) for name in ("layer", "position", "feature"))
            print(f"  layer {layer}, {graph.info['tokens'][position]!r}, feature {feature}: {effect_N[n]:+.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transcoders", default="gemma-3-270m-clt")
    main(parser.parse_args().transcoders)
