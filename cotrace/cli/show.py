"""`cotrace show`: a graph file in words."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import CotraceError


def show(
    file: Annotated[Path, typer.Argument(help="A graph file, *.arrow.")],
    target: Annotated[str | None, typer.Option(help="Paths to this target only: its text or node number.")] = None,
    top: Annotated[int, typer.Option(help="How many nodes to list.", min=0)] = 10,
    paths: Annotated[int, typer.Option(help="How many paths to list.", min=0)] = 5,
) -> None:
    """Summarise a graph: tokens, targets, scores, top nodes, strongest paths to a target."""
    import cotrace

    from .report import print_paths, print_summary, print_top_nodes, print_validation

    graph = cotrace.open(file)
    node = None if target is None else find_target(graph.info["targets"], target)
    print_summary(graph)
    print_top_nodes(graph, top)
    print_paths(graph, paths, node)
    if "validation" in graph.info:
        print_validation(graph)


def find_target(targets: list[dict], wanted: str) -> int:
    """Node number of a target given by text or number; ValueError lists those that exist, and for a text of several."""
    named = [t["node"] for t in targets if wanted in (t["label"], t["label"].strip())]
    found = [t["node"] for t in targets if wanted == str(t["node"])] or named
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{target['label']!r} ({target['node']})" for target in targets)
    if found:
        raise CotraceError(f"several targets are {wanted!r}; name one by its number: {names}")
    raise CotraceError(f"the graph has no target {wanted!r}; its targets are {names}")
