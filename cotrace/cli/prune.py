"""`cotrace prune`: a smaller graph file from a larger one."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.graphs.prune import PruneConfig, check_threshold

from . import options


def prune(
    file: options.GraphArgument,
    node_threshold: Annotated[
        float | None,
        typer.Option(
            help="Keep the most influential nodes that hold this share of the traced graph's influence, 0 to 1; of a pruned "
            "graph at most what it holds.",
            show_default=str(PruneConfig.node_threshold),
        ),
    ] = None,
    edge_threshold: Annotated[
        float | None,
        typer.Option(
            help="Keep the strongest edges that carry this share of the influence, in the same way.",
            show_default=str(PruneConfig.edge_threshold),
        ),
    ] = None,
    keep_errors: options.KeepErrorsOption = PruneConfig.keep_errors,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: NAME.pruned.arrow beside FILE.")] = None,
) -> None:
    """Keep the nodes and edges that carry given shares of the influence."""
    import cotrace
    from cotrace.common.progress import Progress

    from .output_paths import check_file
    from .report import print_summary, print_written

    for option, value in (("--node-threshold", node_threshold), ("--edge-threshold", edge_threshold)):
        if value is not None:
            check_threshold(option, value)
    graph = cotrace.open(file)
    path = out or file.with_name(f"{file.name.partition('.arrow')[0]}.pruned.arrow")
    check_file(path)
    with Progress().phase("pruning"):
        circuit = graph.prune(node_threshold, edge_threshold, keep_errors)
    circuit.save(path)
    print_summary(circuit)
    print_written(path)
