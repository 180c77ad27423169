"""Graphs as tables of nodes and edges: Arrow, polars, pandas, CSV and Parquet.

The table of nodes has the columns of a graph file but its edges, and first the name of each node. In CSV, and in data
frames, lists are one column for each entry: effects on several targets are `effect_0`, `effect_1`, … in the order of
`info["targets"]`, and the factors of drawn rows `draws_0`, `draws_1`, … by replicate.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv
import pyarrow.parquet

from cotrace.common.errors import DependencyError
from cotrace.common.files import atomic_write

from ..annotations import node_names
from ..data import GraphData
from ..metadata import metadata_of
from ..schema import DRAWS, EFFECTS, HEADS

EDGE_LISTS = ("sources", "weights", HEADS)


class Tables(NamedTuple):
    """The nodes and edges of a graph, as tables of one library."""

    nodes: Any
    edges: Any


def names_of_nodes(graph: GraphData) -> list[str]:
    """Return the name of every node: `L17#264@5`, `L17#error@5`, `token@5`, or the text of a target."""
    editable = [str(node) for node in node_names(graph, range(graph.order.n_editable))]
    return editable + graph.nodes["text"].slice(graph.order.n_editable).to_pylist()


def node_table(graph: GraphData) -> pa.Table:
    """Return the nodes (M rows) with names, and lists as one column for each target or replicate."""
    table = graph.nodes.drop_columns([name for name in EDGE_LISTS if name in graph.nodes.column_names])
    table = table.replace_schema_metadata(None)
    lengths = dict.fromkeys(EFFECTS, len(graph.info["targets"]))
    if graph.draws is not None:
        lengths[DRAWS] = graph.draws.n_replicates
    for name, length in lengths.items():
        if name in table.column_names:
            column = table[name].chunk(0)
            table = table.drop_columns([name])
            for entry in range(length):
                table = table.append_column(f"{name}_{entry}", compute.list_element(column, entry))
    kind = table.schema.get_field_index("kind")
    table = table.set_column(kind, "kind", table["kind"].cast(pa.string()))
    return table.add_column(1, "name", pa.array(names_of_nodes(graph), pa.string()))


def to_polars(graph: GraphData) -> Tables:
    """Return the nodes and edges as polars data frames. Raises DependencyError without polars."""
    polars = _library("polars")
    return Tables(polars.from_arrow(node_table(graph)), polars.from_arrow(graph.edges()))


def to_pandas(graph: GraphData) -> Tables:
    """Return the nodes and edges as pandas data frames; integers that may be missing are `Int32`.

    Raises DependencyError without pandas.
    """
    pandas = _library("pandas")
    nullable = {pa.int32(): pandas.Int32Dtype()}
    nodes = node_table(graph).to_pandas(types_mapper=nullable.get)
    return Tables(nodes, graph.edges().to_pandas())


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"{name} is not installed: pip install {name}; graph.nodes and graph.edges() need none"
        ) from error


def write_csv_nodes(graph: GraphData, path: Path) -> None:
    """Write the nodes as CSV in UTF-8, atomically; what is missing is empty, texts are in quotes."""
    _write_csv(node_table(graph), path)


def write_csv_edges(graph: GraphData, path: Path) -> None:
    """Write the edges as CSV, atomically: the numbers of source and target, and the weight."""
    _write_csv(graph.edges(), path)


def write_parquet_nodes(graph: GraphData, path: Path) -> None:
    """Write the nodes as Parquet, atomically: all columns of a graph file but edges, and its metadata."""
    left_out = [name for name in EDGE_LISTS[:2] if name in graph.nodes.column_names]
    table = graph.nodes.drop_columns(left_out)
    table = table.add_column(1, "name", pa.array(names_of_nodes(graph), pa.string()))
    _write_parquet(table.replace_schema_metadata(metadata_of(graph.info)), path)


def write_parquet_edges(graph: GraphData, path: Path) -> None:
    """Write the edges as Parquet, atomically."""
    _write_parquet(graph.edges(), path)


def _write_csv(table: pa.Table, path: Path) -> None:
    with atomic_write(path) as temporary:
        pyarrow.csv.write_csv(table, temporary)


def _write_parquet(table: pa.Table, path: Path) -> None:
    with atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
