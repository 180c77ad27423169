"""The largest difference between the edges of a graph of ours and of circuit-tracer's.

Every row (target) is compared with its own largest entry. The peer forgets that Gemma 3 scales its
embeddings by sqrt(d_model), so its token columns are multiplied by that first.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.graphs import Graph, open_graph

ROWS_AT_ONCE = 256


def compare(graph: Graph, folder: Path) -> dict[str, Any]:
    """Compare all rows of the nodes that both graphs have; nodes that only one has are counted."""
    theirs = np.load(folder / "adjacency.npy", mmap_mode="r")
    names = np.load(folder / "nodes.npz")
    rows, peer_rows = match(own_names(graph), peer_names(names))
    differences = relative_differences(graph.adjacency(), rows, theirs, peer_rows, peer_scale(names))
    return {
        "largest_edge_difference": float(differences.max()),
        "median_row_difference": float(np.median(differences[differences > 0])) if differences.any() else 0.0,
        "nodes_compared": len(rows),
        "nodes_only_ours": graph.order.n_nodes - len(rows),
        "nodes_only_theirs": len(theirs) - len(peer_rows),
    }


def own_names(graph: Graph) -> np.ndarray:
    """(M, 4): kind, layer, position, and feature or token id; -1 where none. A token is known by its position."""
    columns = [graph.column(name, missing=-1).astype(np.int64) for name in ("layer", "position", "feature", "token")]
    layer, position, feature, token = columns
    order = graph.order
    last = feature.copy()
    last[order.logits] = token[order.logits]
    layer[order.tokens], layer[order.logits] = -1, -1
    position[order.logits] = -1
    return np.stack([order.kind_codes().astype(np.int64), layer, position, last], axis=1)


def peer_names(names: Any) -> np.ndarray:
    """The same for the peer's node order: features, errors by (layer, position), tokens, logits."""
    length, n_layers = len(names["token_ids"]), int(names["n_layers"])
    errors = [(1, layer, position, -1) for layer in range(n_layers) for position in range(length)]
    tokens = [(2, -1, position, -1) for position in range(length)]
    logits = [(3, -1, -1, token) for token in names["logits"]]
    features = np.insert(names["features"], 0, 0, axis=1)
    return np.concatenate([features, errors, tokens, logits]).astype(np.int64)


def match(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the nodes both have, in our order."""
    known = {tuple(name): row for row, name in enumerate(theirs.tolist())}
    pairs = [(row, known[tuple(name)]) for row, name in enumerate(ours.tolist()) if tuple(name) in known]
    rows, peer_rows = np.array(pairs).T
    return rows, peer_rows


def peer_scale(names: Any) -> np.ndarray:
    """What each of the peer's columns has to be multiplied by."""
    length, n_logits = len(names["token_ids"]), len(names["logits"])
    before = len(names["features"]) + int(names["n_layers"]) * length
    scale = np.ones(before + length + n_logits, dtype=np.float32)
    scale[before : before + length] = np.sqrt(int(names["d_model"]))
    return scale


def relative_differences(own: Any, rows: np.ndarray, peer: np.ndarray, peer_rows: np.ndarray, scale: np.ndarray):
    """Largest |difference| of every row over that row's largest |entry|; rows without edges give 0."""
    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        ours = own[rows[part]].toarray()[:, rows]
        theirs = (peer[peer_rows[part]] * scale)[:, peer_rows]
        size = np.abs(theirs).max(axis=1)
        difference = np.abs(ours - theirs).max(axis=1)
        found.append(difference / np.where(size > 0, size, 1))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True, help="our graph file")
    parser.add_argument("--peer", type=Path, required=True, help="folder with the peer's exported arrays")
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    args.report.write_text(json.dumps(compare(open_graph(args.graph), args.peer)))


if __name__ == "__main__":
    main()
