"""Is the README's circuit true? Take its strongest features out of the model and see what it predicts.

    python recipes/opposite_of_hot.py [--transcoders SPEC]

Which features speak for the target, and which against it, is what the graph says. What they wrote, at their
own layer and every later one, is subtracted from the MLPs' outputs of the real model, and everything after
responds. Features as large, drawn at random, are the control.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import cotrace
from cotrace import Graph
from cotrace.attribution.model import Model
from cotrace.attribution.options import Options
from cotrace.attribution.progress import Progress
from cotrace.attribution.replacement import Survey

PROMPT, TARGET = "The opposite of hot is", " cold"
GROUPS, DRAWS = (1, 3, 10, 30), 20


def probability_without(model: Model, survey: Survey, removed_n: Sequence[int], token_id: int) -> float:
    """Probability of the next token when some active features, by number, write nothing."""
    taken_LPD = torch.zeros(model.architecture.n_layers, len(survey.token_ids_P), model.architecture.d_model)
    removed = set(removed_n)
    first = 0
    for layer, encoded in enumerate(survey.encoded):
        mine = [n - first for n in range(first, first + len(encoded.position_n)) if n in removed]
        first += len(encoded.position_n)
        for j in range(encoded.decoder_UJD.shape[1]):
            taken_LPD[layer + j].index_add_(0, encoded.position_n[mine], encoded.written(j)[mine])

    def take(layer: int, x_BPD: Tensor, y_BPD: Tensor) -> Tensor:
        return y_BPD - taken_LPD[layer]

    normed_BPD = model.weights.run_library(survey.token_ids_P[None], take)
    return float(model.weights.logits_of_normed(normed_BPD[0, -1]).softmax(-1)[token_id])


def sizes(survey: Survey) -> np.ndarray:
    """Length of all that each active feature writes, (N,)."""
    squares = [sum(e.written(j).square().sum(1) for j in range(e.decoder_UJD.shape[1])) for e in survey.encoded]
    return torch.cat(squares).sqrt().numpy()


def alike(size_N: np.ndarray, chosen: np.ndarray, random: np.random.Generator) -> list[int]:
    """As many other features, each drawn from the ten nearest in size to one of the chosen."""
    free = np.setdiff1d(np.arange(len(size_N)), chosen)
    drawn: list[int] = []
    for n in chosen:
        nearest = free[np.argsort(np.abs(size_N[free] - size_N[n]))[:10]]
        drawn.append(int(random.choice(nearest)))
        free = free[free != drawn[-1]]
    return drawn


def effects(graph: Graph) -> np.ndarray:
    """What each feature adds to the target's logit along all paths, (N,), by the graph: signed, unlike influence.

    A change of a feature's pre-activation changes what it writes in proportion to its activation.
    """
    adjacency = graph.adjacency()
    effect_M = adjacency[[graph.info["targets"][0]["node"]]].toarray()[0].astype(np.float64)
    activation_N = graph.column("activation")
    for n in reversed(range(graph.order.n_features)):  # node order is by layer: what n affects is done
        row = slice(*adjacency.indptr[n : n + 2])
        effect_M[adjacency.indices[row]] += effect_M[n] / activation_N[n] * adjacency.data[row]
    return effect_M[: graph.order.n_features]


@torch.no_grad()
def main(transcoders: str) -> None:
    """Print the table."""
    model = cotrace.load("gemma-3-270m", transcoders, device="cpu")
    graph = model.trace(PROMPT, [TARGET], progress=False)
    (token_id,) = graph.info["targets"][0]["token_ids"]
    survey = model._survey(torch.tensor(graph.info["token_ids"]), Options(), Progress(False))
    size_N, effect_N, random = sizes(survey), effects(graph), np.random.default_rng(0)
    sides = {"for": np.argsort(-effect_N), "against": np.argsort(effect_N)}
    print(f"{PROMPT!r}: p({TARGET!r}) is {probability_without(model, survey, [], token_id):.3f}")
    for side, order in sides.items():
        for count in GROUPS:
            chosen = order[:count]
            without = probability_without(model, survey, chosen.tolist(), token_id)
            controls = [
                probability_without(model, survey, alike(size_N, chosen, random), token_id) for _ in range(DRAWS)
            ]
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
