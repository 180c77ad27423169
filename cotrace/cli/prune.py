"""`cotrace prune`: a smaller graph file from a larger one."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.graphs.prune import PruneConfig, check_threshold

from . import options


def prune(
    file: options.GraphArgument,
    node_threshold: options.NodeThresholdOption = PruneConfig.node_threshold,
    edge_threshold: options.EdgeThresholdOption = PruneConfig.edge_threshold,
    keep_errors: options.KeepErrorsOption = PruneConfig.keep_errors,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: NAME.pruned.arrow beside FILE.")] = None,
) -> None:
    """Keep the nodes and edges that carry given shares of the influence."""
    import cotrace
    from cotrace.common.progress import Progress

    from .output_paths import check_file
    from .report import print_summary, print_written

    check_threshold("--node-threshold", node_threshold)
    check_threshold("--edge-threshold", edge_threshold)
    graph = cotrace.open(file)
    path = out or file.with_name(f"{file.name.partition('.arrow')[0]}.pruned.arrow")
    check_file(path)
    with Progress().phase("pruning"):
        circuit = graph.prune(node_threshold, edge_threshold, keep_errors)
    circuit.save(path)
    print_summary(circuit)
    print_written(path)
