"""`cotrace prune`: a smaller graph file from a larger one."""

from pathlib import Path
from typing import Annotated

import typer


def prune(
    file: Annotated[Path, typer.Argument(help="A graph file, *.arrow.")],
    node_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept nodes hold.")] = 0.8,
    edge_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept edges hold.")] = 0.98,
    keep_errors: Annotated[bool, typer.Option(help="Keep every error node.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default FILE with .pruned.arrow.")] = None,
) -> None:
    """Keep the nodes and edges that carry the stated shares of the influence."""
    import cotrace
    from cotrace.graphs.prune import check_threshold

    from .output_paths import check_target
    from .report import console, print_summary, say_written

    check_threshold("--node-threshold", node_threshold)
    check_threshold("--edge-threshold", edge_threshold)
    graph = cotrace.open(file)
    path = out or file.with_name(f"{file.stem}.pruned.arrow")
    check_target(path)
    with console.status("pruning"):
        circuit = graph.prune(node_threshold, edge_threshold, keep_errors)
    circuit.save(path)
    print_summary(circuit)
    say_written(path)
