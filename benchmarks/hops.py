"""Compare the paths of per-layer transcoders with those of a cross-layer transcoder, on ten everyday prompts.

    python -m benchmarks.hops CLT PER_LAYER [--model MODEL] [--prompts N] [--note TEXT]

A cross-layer transcoder can write to all later layers, so that it can learn short cuts for what per-layer transcoders need
several hops for. For the strongest paths of each per-layer graph that pass at least two features, the script looks up the
feature of the cross-layer transcoder at the same layer and position that reads the most similar direction as the path's
first feature, and asks whether its direct edge to the target outweighs all its longer paths. Writes results/hops.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import cotrace
from cotrace.attribution.transcoders import FileTranscoders
from cotrace.common.versions import package_versions
from cotrace.graphs.effects import total_effects
from cotrace.graphs.paths import strongest_paths

from .coverage import PROMPTS
from .measure import machine

RESULT = Path(__file__).parent / "results" / "hops.json"
PATHS = 300  # strongest ones that are searched
SIMILAR = 0.3  # cosine of two encoders, from which features count as counterparts


def compare(per_layer: cotrace.Model, clt: cotrace.Model, prompt: str) -> dict[str, Any]:
    """Trace one prompt with both sets; return the record."""
    graphs = {"per_layer": per_layer.trace(prompt, progress=False), "clt": clt.trace(prompt, progress=False)}
    record: dict[str, Any] = {"prompt": prompt}
    for name, graph in graphs.items():
        scores = graph.info["traced"]["scores"]
        lengths = {f"{by}_length": path_length(graph, by) for by in ("effect", "influence")}
        record[name] = {"features": graph.order.n_features, "replacement": scores["replacement"], **lengths}
    paths, record["share"] = feature_paths(graphs["per_layer"])
    own, other = DirectShares(graphs["per_layer"]), DirectShares(graphs["clt"])
    several = [nodes for nodes in paths if len(nodes) > 2]
    matches = [counterpart(per_layer, clt, graphs["per_layer"], graphs["clt"], nodes[0]) for nodes in several]
    single = [
        found is not None and other.mostly_direct(found, nodes[-1])
        for found, nodes in zip(matches, several, strict=True)
    ]
    record |= {"paths": len(paths), "several_hops": len(several), "matched": sum(m is not None for m in matches)}
    record["single_hop"] = sum(single)
    record["direct_there_too"] = sum(
        own.mostly_direct(nodes[0], nodes[-1])
        for nodes, found in zip(several, matches, strict=True)
        if found is not None
    )
    return record


def feature_paths(graph: cotrace.Graph) -> tuple[list[tuple[int, ...]], float]:
    """Return the features and the target of each of the strongest paths, each once, and their share of the influence.

    The target is its number in `graph.info["targets"]`; paths without features are left out.
    """
    number = {target["node"]: t for t, target in enumerate(graph.info["targets"])}
    found, share = dict[tuple[int, ...], None](), 0.0
    for path in strongest_paths(graph, count=PATHS, through_errors=True, min_length=2):
        features = tuple(n for n in path.nodes[:-1] if n < graph.order.n_features)
        if features:
            found[*features, number[path.nodes[-1]]] = None
            share += path.strength
    return list(found), share


class DirectShares:
    """Effects of a graph's nodes on its targets: those of direct edges, and all."""

    def __init__(self, graph: cotrace.Graph):
        rows = [target["node"] for target in graph.info["targets"]]
        self.total_TM = total_effects(graph, rows)
        self.direct_TM = graph.adjacency()[rows].toarray()

    def mostly_direct(self, node: int, target: int) -> bool:
        """Return whether the direct edge of a node to a target outweighs all its longer paths together."""
        direct = self.direct_TM[target, node]
        return bool(abs(direct) > abs(self.total_TM[target, node] - direct))


def counterpart(
    one: cotrace.Model, other: cotrace.Model, graph: cotrace.Graph, in_graph: cotrace.Graph, node: int
) -> int | None:
    """Return the feature of another graph at a feature's layer and position whose encoder is the most similar.

    None if none has a cosine of at least `SIMILAR`.
    """
    layer, position, feature = (int(graph.column(name, -1)[node]) for name in ("layer", "position", "feature"))
    here = (in_graph.column("layer", -1) == layer) & (in_graph.column("position", -1) == position)
    candidates = np.flatnonzero(here[: in_graph.order.n_features])
    if not len(candidates):
        return None
    own_D = encoders(one, layer)[feature]
    cosine_C = encoders(other, layer)[in_graph.column("feature", -1)[candidates]] @ own_D
    best = int(cosine_C.argmax())
    return int(candidates[best]) if cosine_C[best] >= SIMILAR else None


def encoders(model: cotrace.Model, layer: int) -> np.ndarray:
    """Return the encoder vectors of a layer's features, scaled to length 1, (F, D)."""
    assert isinstance(model.transcoders, FileTranscoders)
    w_enc_FD = model.transcoders.tensors(layer).w_enc_DF.T.float().numpy()
    return w_enc_FD / np.linalg.norm(w_enc_FD, axis=1, keepdims=True).clip(1e-30)


def path_length(graph: cotrace.Graph, by: str) -> float:
    """Return the mean number of hops of all paths from tokens and error nodes to targets.

    Args:
        graph: the graph.
        by: "effect" weights a path by its absolute effect, "influence" by its share of the influence.
    """
    activation_M = np.abs(np.nan_to_num(graph.column("activation")).astype(np.float64))
    totals, n_features = graph.csr.row_totals(), graph.order.n_features
    mass_M, hops_M = np.ones(graph.order.n_nodes), np.zeros(graph.order.n_nodes)  # leaves: one path without hops
    for node in [*range(n_features), *(target["node"] for target in graph.info["targets"])]:
        sources, weights = graph.csr.row(node)
        scale_n = np.ones(len(sources))
        if by == "influence":
            scale_n /= max(totals[node], 1e-30)
        else:
            inside = sources < n_features
            scale_n[inside] = 1 / np.maximum(activation_M[sources[inside]], 1e-30)
        gain_n = np.abs(weights) * scale_n
        mass_M[node] = gain_n @ mass_M[sources]
        hops_M[node] = gain_n @ (hops_M[sources] + mass_M[sources])
    weight_T = [target["weight"] for target in graph.info["targets"]]
    nodes = [target["node"] for target in graph.info["targets"]]
    return float((hops_M[nodes] @ weight_T) / (mass_M[nodes] @ weight_T))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clt", help="folder of the cross-layer transcoder")
    parser.add_argument("per_layer", help="folder of the per-layer transcoders")
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--note", default="", help="how both were trained, for the page")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    clt, per_layer = (cotrace.load(args.model, spec, device="cpu") for spec in (args.clt, args.per_layer))
    cases = []
    for prompt in PROMPTS[: args.prompts]:
        cases.append(compare(per_layer, clt, prompt))
        print(json.dumps(cases[-1]), flush=True)
    result = {
        "benchmark": "hops",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": package_versions(),
    }
    result |= {"settings": {"paths": PATHS, "similar": SIMILAR, "note": args.note}, "cases": cases}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
