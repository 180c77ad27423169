"""Graphs as NetworkX graphs."""

import networkx as nx

from cotrace.graphs.data import GraphData


def to_networkx(graph: GraphData) -> nx.DiGraph:
    """Return a DiGraph whose edges run from source to target with attribute `weight`.

    Nodes are node numbers with the columns of the node table as attributes (nulls are left out);
    the graph's metadata is in `.graph`.
    """
    result: nx.DiGraph = nx.DiGraph()
    result.graph.update(graph.info)
    attributes = graph.nodes.drop_columns(["sources", "weights"])
    for row in attributes.to_pylist():
        result.add_node(row["node"], **{name: value for name, value in row.items() if value is not None})
    edges = graph.edges()
    result.add_weighted_edges_from(
        zip(edges["source"].to_pylist(), edges["target"].to_pylist(), edges["weight"].to_pylist(), strict=True)
    )
    return result
