"""Opening a graph file: everything a corrupt, edited or hostile file could get wrong is checked."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from .graph import Graph
from .order import KINDS
from .schema import decode_info, schema
from .store import read_table


def open_graph(path: str | os.PathLike) -> Graph:
    """Memory-map a graph file and check everything a corrupt or hostile file could get wrong.

    Raises:
        ValueError: the file is missing, truncated, edited, of a newer format or no graph at all.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is not a file; `cotrace trace` writes graph files")
    try:
        graph = _read(path)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"cannot open {path}: {reason}") from error
    return graph


def _read(path: Path) -> Graph:
    table = read_table(path)
    info = decode_info(table.schema.metadata)
    _check_types(table.schema)
    table.validate(full=True)
    graph = Graph(table, info)
    _check_nodes(graph)
    _check_info(graph)
    _check_edges(graph)
    return graph


def _check_types(found: pa.Schema) -> None:
    weights = found.field("weights").type if "weights" in found.names else pa.null()
    if not (pa.types.is_list(weights) or pa.types.is_large_list(weights)):
        raise ValueError("its column 'weights' is missing or no list; it was edited, trace the prompt again")
    expected = schema(weights.value_type, pa.types.is_large_list(weights))
    if weights.value_type not in (pa.float32(), pa.float64()) or not found.equals(expected):
        wrong = [f.name for f in expected if f.name not in found.names or not found.field(f.name).equals(f)]
        raise ValueError(f"its columns are not those of a graph ({', '.join(wrong) or 'extra columns'}); trace again")


def _check_nodes(graph: Graph) -> None:
    nodes, order = graph.nodes, graph.order
    if any(nodes[name].null_count for name in nodes.column_names if not nodes.schema.field(name).nullable):
        raise ValueError("a column that must be complete has nulls; trace the prompt again")
    if nodes["kind"].chunk(0).dictionary.to_pylist() != list(KINDS):
        raise ValueError("its node kinds are not those of a graph; trace the prompt again")
    codes = nodes["kind"].chunk(0).indices.to_numpy()
    if not np.array_equal(codes, order.kind_codes()):
        raise ValueError("its nodes are not in the order features, errors, tokens, logits; trace the prompt again")
    if not np.array_equal(nodes["node"].to_numpy(), np.arange(order.n_nodes)):
        raise ValueError("its node numbers are not 0, 1, 2, …; trace the prompt again")
    _check_sites(graph)


def _check_sites(graph: Graph) -> None:
    """Layers, positions and features are present where they must be, in range and sorted."""
    n_layers, n_positions = graph.info["model"]["n_layers"], len(graph.info["token_ids"])
    needs = {"layer": (0, 1), "position": (0, 1, 2, 3), "feature": (0,)}
    sites = {name: graph.column(name, missing=-1) for name in needs}
    codes = graph.order.kind_codes()
    for name, kinds in needs.items():
        if not np.array_equal(sites[name] >= 0, np.isin(codes, kinds)):
            raise ValueError(f"its column {name!r} has values where none belong, or lacks some; trace again")
    if (sites["layer"] >= n_layers).any() or (sites["position"] >= n_positions).any():
        raise ValueError("a node lies outside the model's layers or the prompt; trace the prompt again")
    for part in (graph.order.features, graph.order.errors, graph.order.tokens):
        keys = [sites[name][part] for name in ("feature", "position", "layer")]
        if not np.array_equal(np.lexsort(keys), np.arange(part.stop - part.start)):
            raise ValueError("its nodes are not sorted by layer, position and feature; trace the prompt again")


def _check_info(graph: Graph) -> None:
    info = graph.info
    if len(info["tokens"]) != len(info["token_ids"]) or not info["targets"]:
        raise ValueError("its metadata does not fit its nodes; trace the prompt again")
    for target in info["targets"]:
        if not (isinstance(target["node"], int) and 0 <= target["node"] < graph.order.n_nodes):
            raise ValueError("a target is not a node of the graph; trace the prompt again")
    weights = np.array([target["weight"] for target in info["targets"]], float)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and abs(weights.sum() - 1) < 1e-3):
        raise ValueError("its target weights are not shares that sum to 1; trace the prompt again")


def _check_edges(graph: Graph) -> None:
    layers = graph.column("layer", missing=-1).astype(np.int64)
    layers[graph.order.logits] = graph.info["model"]["n_layers"]
    codes = graph.order.kind_codes()
    problem = _edge_problem(graph.indptr, graph.indices, graph.weights, layers, codes)
    lengths = np.diff(graph.indptr), np.diff(graph.list_offsets("weights"))
    if problem or not np.array_equal(*lengths):
        raise ValueError(f"its edges are damaged ({problem or 'sources and weights differ'}); trace the prompt again")


@njit(cache=True)
def _edge_problem(indptr, indices, weights, layers, codes):
    """First thing wrong with the edges, or an empty string."""
    if len(indices) != len(weights) or indptr[-1] != len(indices):
        return "sources and weights differ in length"
    for row in range(len(indptr) - 1):
        last = -1
        if indptr[row] != indptr[row + 1] and (codes[row] == 1 or codes[row] == 2):
            return "an error or token has incoming edges"
        for edge in range(indptr[row], indptr[row + 1]):
            source = indices[edge]
            if source <= last or source >= len(layers):
                return "sources are not ascending node numbers"
            last = source
            if codes[source] == 3 or (codes[source] != 2 and layers[source] >= layers[row]):
                return "an edge does not run from a lower to a higher layer"
            if not np.isfinite(weights[edge]):
                return "a weight is not finite"
    return ""
