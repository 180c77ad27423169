"""What the page shows of the difference of two graphs, as JSON can hold it."""

from typing import Any

from cotrace.graphs.diff.diff import GraphDiff


def diff_entries(diff: GraphDiff) -> dict[str, Any]:
    """Return the tables of a difference by column, and what a reader should know about it. Numbers of nodes are the graphs'."""
    tables = {"nodes": diff.nodes, "edges": diff.edges, "similarity": diff.similarity}
    facts = {"match": diff.match, "min_change": diff.min_change, "cautions": diff.cautions}
    return {**{name: table.to_pydict() for name, table in tables.items()}, **facts}
