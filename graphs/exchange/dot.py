"""Graphs in DOT, all nodes and edges, for Graphviz, Gephi and other readers; `cotrace render` draws pictures in DOT."""

from collections.abc import Iterator
from pathlib import Path

from cotrace.common.files import atomic_write
from cotrace.common.visible_text import visible

from ..data import GraphData
from .tables import names_of_nodes

SHAPES = {"feature": "ellipse", "error": "diamond", "token": "box", "logit": "box"}
COLUMNS = ("layer", "position", "feature", "token", "activation", "influence")
POSITIVE, NEGATIVE = "#1f6fb4", "#c0392b"
MIN_WIDTH, MAX_WIDTH = 0.2, 5.0
EDGES_AT_ONCE = 2**14


def write_dot(graph: GraphData, path: Path) -> None:
    """Write a graph as DOT, atomically.

    Edges have the attribute `effect`, as the `weight` of DOT must be a positive integer; their colour is its sign and their
    width its share of the target's incoming effects. Invisible characters of texts are replaced by signs.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'digraph "{_escaped(graph.info["prompt"])}" {{\nrankdir=BT;\n')
        file.writelines(_nodes(graph))
        file.writelines(_edges(graph))
        file.write("}\n")


def _nodes(graph: GraphData) -> Iterator[str]:
    names, rows = names_of_nodes(graph), graph.nodes.select(["kind", "text", "label", *COLUMNS]).to_pylist()
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        shown = row["text"] if row["kind"] in ("token", "logit") else row["label"] or name
        values = "".join(f" {column}={_number(row[column])}" for column in COLUMNS if row[column] is not None)
        yield (
            f'{number} [label="{_escaped(shown)}" tooltip="{_escaped(name)}" kind={row["kind"]} '
            f"shape={SHAPES[row['kind']]}{values}];\n"
        )


def _edges(graph: GraphData) -> Iterator[str]:
    totals, csr = graph.csr.row_totals(), graph.csr
    target_E = csr.edge_targets()
    for first in range(0, csr.n_edges, EDGES_AT_ONCE):
        part = slice(first, first + EDGES_AT_ONCE)
        columns = csr.indices[part].tolist(), target_E[part].tolist(), csr.weights[part].tolist()
        for source, target, weight in zip(*columns, strict=True):
            share = abs(weight) / totals[target] if totals[target] > 0 else 0.0
            width = MIN_WIDTH + (MAX_WIDTH - MIN_WIDTH) * share
            colour = POSITIVE if weight >= 0 else NEGATIVE
            yield f'{source} -> {target} [effect={_number(weight)} color="{colour}" penwidth={width:.2f}];\n'


def _number(value: float) -> str:
    """Return a number in the syntax of DOT, which knows no exponents outside of quotes."""
    return f'"{value!r}"'


def _escaped(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')
