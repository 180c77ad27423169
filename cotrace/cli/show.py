"""`cotrace show`: a graph file as text."""

from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError

from . import options


def show(
    file: options.GraphArgument,
    target: Annotated[str | None, typer.Option(help="Show paths to this target only: its text or node number.")] = None,
    top: Annotated[int, typer.Option(help="Number of nodes to show.", min=0)] = 10,
    paths: Annotated[int, typer.Option(help="Number of paths to show.", min=0)] = 5,
) -> None:
    """Summarize a graph: tokens, targets, scores, most influential nodes, strongest paths to the targets."""
    import cotrace

    from .report import print_paths, print_summary, print_top_nodes
    from .report_validation import print_validation

    graph = cotrace.open(file)
    node = None if target is None else find_target(graph.info["targets"], target)
    print_summary(graph)
    print_top_nodes(graph, top)
    print_paths(graph, paths, node)
    if "validation" in graph.info:
        print_validation(graph)


def find_target(targets: list[dict], name: str) -> int:
    """Return the node number of a target given by text or number.

    Raises ArgumentError, which lists the targets, for an unknown one and for a text that several have.
    """
    named = [t["node"] for t in targets if name in (t["label"], t["label"].strip())]
    matches = [t["node"] for t in targets if name == str(t["node"])] or named
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(f"{target['label']!r} ({target['node']})" for target in targets)
    if matches:
        raise ArgumentError(f"several targets are {name!r}; give the number of one: {names}")
    raise ArgumentError(f"the graph has no target {name!r}; its targets are {names}")
