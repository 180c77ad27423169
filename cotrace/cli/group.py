"""`cotrace group`: suggest groups of features that do the same, or name one, in a graph file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, open_graph
from cotrace.graphs.grouping.config import GroupConfig
from cotrace.graphs.grouping.groups import Groups

from . import graph_model, options


def group(
    file: options.GraphArgument,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NODE]…",
            help="With --name: the nodes of your group, as numbers, names such as L17#264@5, or labels that `cotrace show` prints.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Make a group of your own of this name, of each NODE.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Remove the group of this name. Repeatable.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Remove all suggested groups; yours stay.")] = False,
    target: options.TargetOption = None,
    similarity: Annotated[
        float, typer.Option(help="Join parts of at least this mean similarity, above 0 and at most 1.")
    ] = GroupConfig.similarity,
    max_size: Annotated[int, typer.Option(help="The most features of a group.")] = GroupConfig.max_size,
    max_features: Annotated[
        int, typer.Option(help="Compare at most this many features, the most influential ones.")
    ] = GroupConfig.max_features,
    decoders: Annotated[
        bool, typer.Option("--decoders", help="Also compare decoder vectors, for which the model is loaded.")
    ] = False,
    model: graph_model.ModelOption = None,
    transcoders: graph_model.TranscodersOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.GraphDtypeOption = None,
    top: Annotated[int, typer.Option(help="Number of groups to list.", min=0)] = 20,
    out: Annotated[Path | None, typer.Option(help="Where to write the graph. Default: FILE itself.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the groups; write nothing.")] = False,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
) -> None:
    """Suggest groups of features that do the same, and write them into the graph; or make a group of your own.

    Features are alike if they have like effects on the targets, and like edges in and out, with their signs. Features of one
    group raise the target, or lower it, all of them. Suggestions take the place of earlier ones; groups that you made stay, and
    their nodes are left alone. A group's name is a node for `cotrace steer --graph FILE --ablate NAME`, `cotrace validate` and
    pictures.
    """
    from .console import print_json
    from .output_paths import check_file, check_free
    from .report import print_written
    from .report_groups import groups_json, print_changed_groups, print_groups

    config = GroupConfig(target, similarity, max_size, max_features)
    _check_request(nodes or [], name, remove or [], undo)
    graph = open_graph(file)
    path = out or file
    if not dry_run:
        check_file(path)
        if out is not None and out != file:
            check_free(path, "--out", force)
    earlier = dict(graph.groups)
    if name is not None or remove or undo:
        _change_own(graph, nodes or [], name, remove or [], undo)
        found = None
    else:
        found = _suggest(
            graph, config, graph_model.load_model(graph, model, transcoders, device, dtype) if decoders else None
        )
        found.apply()
    if not dry_run:
        graph.save(path)
    if json:
        print_json(groups_json(graph, found) | {"file": None if dry_run else str(path)})
        return
    if found is not None:
        print_groups(graph, found, top)
    else:
        print_changed_groups(earlier, graph.groups)
    if not dry_run:
        print_written(path)


def _check_request(nodes: list[str], name: str | None, remove: list[str], undo: bool) -> None:
    """Raise ArgumentError for options that do not go together."""
    if nodes and name is None:
        raise ArgumentError(f"{nodes[0]!r} is a node of a group without a name; add --name NAME")
    if name is not None and not nodes:
        raise ArgumentError(f"--name {name!r} needs nodes: cotrace group FILE --name {name!r} L17#264@5 L3#812@4")
    if sum([name is not None, bool(remove), undo]) > 1:
        raise ArgumentError("--name, --remove and --undo each change the groups; give one at a time")


def _change_own(graph: Graph, nodes: list[str], name: str | None, remove: list[str], undo: bool) -> None:
    """Make a group of the user, or remove some."""
    if name is not None:
        graph.group(name, nodes)
    for each in remove:
        if each not in graph.groups:
            named = ", ".join(map(repr, graph.groups)) or "none"
            raise ArgumentError(f"--remove {each!r}: the graph has no such group; its groups are: {named}")
        graph.group(each, [])
    if undo:
        graph.remove_suggested_groups()


def _suggest(graph: Graph, config: GroupConfig, loaded: Any) -> Groups:
    """Return suggested groups: of a model, with decoder vectors."""
    options_given = {name: value for name, value in vars(config).items() if name != "target"}
    if loaded is not None:
        return loaded.suggest_groups(graph, config.target, **options_given)
    return graph.suggest_groups(config.target, **options_given)
