"""`cotrace label`: labels of a graph's features, from a feature store, a file or the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cotrace.common.errors import ArgumentError, DependencyError
from cotrace.graphs import Graph, node_label, open_graph

from . import options

if TYPE_CHECKING:
    from cotrace.features.store.store import FeatureStore

DEFAULT_STORE = "default"


def label(
    file: options.GraphArgument,
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE",
            help="A feature or error node: L17#264 at all its positions, L17#264@5 at one; or a node number, a group, or a "
            "label to change.",
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Its label. '' removes the one that it has.")
    ] = None,
    labels: options.LabelsOption = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Add the labels of a feature store: a folder that `cotrace features build` wrote, or "
            f"{DEFAULT_STORE} for the store that comes with cotrace for the graph's transcoders.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: into FILE.")] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
) -> None:
    """Label features and error nodes of a graph, or list its labels.

    Without NODE, --labels and --features: list the labels and their sources. A label replaces those of its own source and of
    weaker ones: yours (NODE TEXT) the others, those of a file those of Neuronpedia and of a feature store. All are kept in the file,
    and are names wherever a node is named.
    """
    from .console import print_json
    from .output_paths import check_file, save_result
    from .report import label_counts, print_line, print_written

    if (node is None) != (text is None):
        raise ArgumentError("give NODE and TEXT: cotrace label FILE 'L17#264' 'not cold'")
    graph = open_graph(file)
    if node is None and not labels and features is None:
        if out is not None:
            raise ArgumentError("--out is where labels are written; give NODE TEXT, --labels or --features too")
        print_json(as_json(graph)) if json else print_labels(graph)
        return
    path = out or file
    check_file(path)
    changed = add_labels(graph, node, text, labels or (), features)
    written = save_result(path, graph.save, force=force or out is None, option="--out")
    if json:
        print_json({"file": str(written), "changed": changed, **as_json(graph)})
        return
    hint = "" if changed else " (labels of a stronger source stay)"
    total = graph.order.errors.stop
    print_line(f"changed {changed:,} of {total:,} features and error nodes{hint}; labels now: {label_counts(graph)}")
    print_written(written)


def add_labels(graph: Graph, node: str | None, text: str | None, labels: Sequence[Path], features: str | None) -> int:
    """Label a graph from a feature store, files and the command line; return the number of nodes whose label is new."""
    from cotrace.features.store.label_files import read_label_file

    before = graph.column("label"), graph.column("label_source")
    if features is not None:
        found = graph.add_labels(open_store(graph, features).labels)
        if not found and not (before[1] != "").any():
            raise ArgumentError(
                "the feature store has no labels of these features; make some: cotrace features label --features STORE --automatic"
            )
    for path in labels:
        graph.add_labels(read_label_file(path))
    if node is not None and text is not None:
        graph.label(node, text)
    changed = (graph.column("label") != before[0]) | (graph.column("label_source") != before[1])
    return int(changed.sum())


def open_store(graph: Graph, features: str) -> "FeatureStore":
    """Open a feature store, and check that it is of a graph's transcoders.

    Raises ArgumentError for a store of others, DependencyError where no store comes with cotrace, FileError for a damaged one.
    """
    from cotrace.features.store.of_graph import check_store_of_graph
    from cotrace.features.store.shipped import shipped_feature_store
    from cotrace.features.store.store import FeatureStore

    name = graph.info["transcoders"]["name"]
    folder = shipped_feature_store(name) if features == DEFAULT_STORE else Path(features)
    if folder is None:
        raise DependencyError(
            f"no feature store of {name} is installed: write one with `cotrace features build`, and give its folder"
        )
    store = FeatureStore.open(folder)
    check_store_of_graph(store, graph)
    return store


def rows_of(graph: Graph) -> list[dict[str, Any]]:
    """Return the labelled nodes, in the order of the graph: node, name, label and source."""
    texts, sources = graph.column("label"), graph.column("label_source")
    names = {node: node_label(graph, node) for node, text in enumerate(texts) if text}
    return [{"node": n, "name": name, "label": texts[n], "source": sources[n]} for n, name in names.items()]


def as_json(graph: Graph) -> dict[str, Any]:
    """Return what the command lists, as values that JSON can hold."""
    return {"labels": rows_of(graph)}


def print_labels(graph: Graph) -> None:
    """Print the labels of a graph and their sources."""
    from rich.table import Table
    from rich.text import Text

    from cotrace.common.visible_text import visible

    from .report import console, label_counts, print_line

    rows = rows_of(graph)
    if rows:
        table = Table("node", "name", "label", "source", box=None)
        for row in rows:
            name = row["name"].partition(" ")[0]
            table.add_row(str(row["node"]), Text(name), Text(visible(row["label"])), row["source"])
        console.print(table)
    print_line(
        f"labels of {len(rows):,} of {graph.order.errors.stop:,} features and error nodes: {label_counts(graph)}"
    )
