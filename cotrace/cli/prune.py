"""`cotrace prune`: a smaller graph file from a larger one."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.graphs import open_graph
from cotrace.graphs.prune import PruneConfig, check_threshold, prune_config

from . import graph_part, options


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
    nodes: graph_part.NodesOption = None,
    min_influence: graph_part.MinInfluenceOption = None,
    label: graph_part.LabelOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write. Default: NAME.pruned.arrow beside FILE, with thresholds that are not defaults; of a part that is "
            "not pruned NAME.part.arrow."
        ),
    ] = None,
    force: options.ForceOption = False,
) -> None:
    """Keep the nodes and edges that carry given shares of the influence.

    With --nodes, --min-influence or --label: keep these nodes, tokens, targets and all edges between them; pruned further only
    with a threshold or --keep-errors.
    """
    from cotrace.common.progress import Progress

    from .output_paths import check_file, save_result
    from .report import print_summary, print_written

    for option, value in (("--node-threshold", node_threshold), ("--edge-threshold", edge_threshold)):
        if value is not None:
            check_threshold(option, value)
    graph = open_graph(file)
    part = graph_part.part_of(graph, nodes, min_influence, label)
    is_pruned = part is graph or keep_errors or (node_threshold, edge_threshold) != (None, None)
    config = prune_config(node_threshold, edge_threshold, keep_errors, graph.info["pruning"]) if is_pruned else None
    path = out or pruned_path(file, config)
    check_file(path)
    with Progress().phase("pruning"):
        circuit = part if config is None else part.prune(**vars(config))
    written = save_result(path, circuit.save, force=force, option="--out" if out else "")
    print_summary(circuit)
    print_written(written, path)


def pruned_path(file: Path, config: PruneConfig | None) -> Path:
    """Return where a pruned graph, or a part that is not pruned, is written by default: beside its file.

    The name has the options that are not defaults.
    """
    stem = file.name.partition(".arrow")[0]
    if config is None:
        return file.with_name(f"{stem}.part.arrow")
    defaults = PruneConfig()
    options_given = [
        f"-{letter}{value:g}"
        for letter, value, default in (
            ("n", config.node_threshold, defaults.node_threshold),
            ("e", config.edge_threshold, defaults.edge_threshold),
        )
        if value != default
    ]
    ending = "".join(options_given) + "-errors" * config.keep_errors
    return file.with_name(f"{stem}.pruned{ending}.arrow")
