"""Graphs as NetworkX graphs, which all of NetworkX's writers take: GraphML, GML, GEXF, JSON, Pajek and others."""

import json
import re
from collections.abc import Iterator
from typing import Any

import networkx as nx

from cotrace.graphs.data import GraphData
from cotrace.graphs.saved_heads import has_heads
from cotrace.graphs.schema import HEADS

# Characters that XML 1.0 cannot hold, and carriage returns, which its readers turn into line feeds.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")


def to_networkx(graph: GraphData) -> nx.DiGraph:
    """Return a DiGraph whose edges run from source to target with attribute `weight`.

    Nodes are node numbers with the columns of the node table as attributes, which are texts, numbers and booleans; nulls
    are left out. The column `label` is the attribute `node_label`, since GML and GEXF take `label` for the node's name.
    Effects on several targets are `effect_0`, `effect_1`, … in the order of `info["targets"]`, and the factors of a row that was
    drawn `draws_0`, `draws_1`, … by replicate. `.graph` has the texts
    `prompt`, `model` and `transcoders`, and all of the graph's metadata as JSON in `info`. In texts, characters that XML
    cannot hold are replaced by �.
    """
    info = graph.info
    result: nx.DiGraph = nx.DiGraph(
        prompt=storable(info["prompt"]),
        model=storable(info["model"]["name"]),
        transcoders=storable(info["transcoders"]["name"]),
        info=json.dumps(info),
    )
    attributes = graph.nodes.drop_columns(["sources", "weights", *([HEADS] if has_heads(graph) else [])])
    for row in attributes.to_pylist():
        result.add_node(row["node"], **{name: storable(value) for name, value in _scalars(row) if value is not None})
    edges = graph.edges()
    result.add_weighted_edges_from(
        zip(edges["source"].to_pylist(), edges["target"].to_pylist(), edges["weight"].to_pylist(), strict=True)
    )
    return result


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a node's attributes, with lists in numbered parts: most formats hold no lists."""
    for name, value in row.items():
        if isinstance(value, list):
            yield from ((f"{name}_{k}", each) for k, each in enumerate(value))
        else:
            yield "node_label" if name == "label" else name, value


def storable(value: Any) -> Any:
    """Return a value with characters that XML cannot hold replaced by �."""
    return _NOT_IN_XML.sub("\ufffd", value) if isinstance(value, str) else value
