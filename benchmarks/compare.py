"""Compare the edges of a graph by cotrace with those of a graph by circuit-tracer.

Differences are relative to the largest entry of each row (target). circuit-tracer leaves out Gemma 3's embedding scale
sqrt(d_model), so its token columns are multiplied by it first.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.graphs import Graph, open_graph

BATCH_ROWS = 256


def compare(graph: Graph, folder: Path) -> dict[str, Any]:
    """Compare all rows of the nodes that both graphs have; count the nodes that only one has."""
    peer = np.load(folder / "adjacency.npy", mmap_mode="r")
    names = np.load(folder / "nodes.npz")
    rows, peer_rows = match(own_names(graph), peer_names(names))
    differences = relative_differences(graph.adjacency(), rows, peer, peer_rows, peer_scale(names))
    return {
        "largest_edge_difference": float(differences.max()),
        "median_row_difference": float(np.median(differences[differences > 0])) if differences.any() else 0.0,
        "nodes_compared": len(rows),
        "nodes_only_cotrace": graph.order.n_nodes - len(rows),
        "nodes_only_circuit_tracer": len(peer) - len(peer_rows),
    }


def own_names(graph: Graph) -> np.ndarray:
    """Return the nodes of a graph, (M, 4): kind, layer, position, and feature or token id; -1 where there is none.

    An input token is identified by its position alone.
    """
    columns = [graph.column(name, missing=-1).astype(np.int64) for name in ("layer", "position", "feature", "token")]
    layer, position, feature, token = columns
    order = graph.order
    last = feature.copy()
    last[order.logits] = token[order.logits]
    layer[order.tokens], layer[order.logits] = -1, -1
    position[order.logits] = -1
    return np.stack([order.kind_codes().astype(np.int64), layer, position, last], axis=1)


def peer_names(names: Any) -> np.ndarray:
    """Return circuit-tracer's nodes in the same form, in its order: features, errors by (layer, position), tokens, logits."""
    length, n_layers = len(names["token_ids"]), int(names["n_layers"])
    errors = [(1, layer, position, -1) for layer in range(n_layers) for position in range(length)]
    tokens = [(2, -1, position, -1) for position in range(length)]
    logits = [(3, -1, -1, token) for token in names["logits"]]
    features = np.insert(names["features"], 0, 0, axis=1)
    return np.concatenate([features, errors, tokens, logits]).astype(np.int64)


def match(own: np.ndarray, peer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of the common nodes in both graphs, in the order of the first."""
    known = {tuple(name): row for row, name in enumerate(peer.tolist())}
    pairs = [(row, known[tuple(name)]) for row, name in enumerate(own.tolist()) if tuple(name) in known]
    rows, peer_rows = np.array(pairs).T
    return rows, peer_rows


def peer_scale(names: Any) -> np.ndarray:
    """Return the factor of each of circuit-tracer's columns."""
    length, n_logits = len(names["token_ids"]), len(names["logits"])
    before = len(names["features"]) + int(names["n_layers"]) * length
    scale = np.ones(before + length + n_logits, dtype=np.float32)
    scale[before : before + length] = np.sqrt(int(names["d_model"]))
    return scale


def relative_differences(
    own: Any, rows: np.ndarray, peer: np.ndarray, peer_rows: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return the largest |difference| of each row over its largest |entry|; 0 for rows without edges."""
    found = []
    for start in range(0, len(rows), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        own_rows = own[rows[part]].toarray()[:, rows]
        scaled_rows = (peer[peer_rows[part]] * scale)[:, peer_rows]
        size = np.abs(scaled_rows).max(axis=1)
        difference = np.abs(own_rows - scaled_rows).max(axis=1)
        found.append(difference / np.where(size > 0, size, 1))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True, help="graph file of cotrace")
    parser.add_argument(
        "--peer", type=Path, required=True, help="folder with the arrays that circuit-tracer's step `export` wrote"
    )
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    args.report.write_text(json.dumps(compare(open_graph(args.graph), args.peer)))


if __name__ == "__main__":
    main()
