"""`cotrace show`: a graph file as text."""

import pathlib
from typing import Annotated, Any

import typer

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.report.report import Report
from cotrace.graphs import Graph, GraphSummary, node_label, open_graph
from cotrace.graphs.schema import LABELS
from cotrace.graphs.summary import ShownKind
from cotrace.graphs.verdicts import coverage_verdict

from . import graph_part, options, show_queries
from .show_queries import path_json


def show(
    file: options.GraphArgument,
    target: options.TargetOption = None,
    kind: Annotated[ShownKind, typer.Option(help="The kind of nodes to list.")] = ShownKind.FEATURE,
    top: Annotated[int, typer.Option(help="Number of nodes to list.", min=0)] = 10,
    paths: Annotated[int, typer.Option(help="Number of paths to show.", min=0)] = 5,
    min_length: Annotated[
        int | None,
        typer.Option(
            help="Show paths of at least this many edges: 2 for paths through a feature, 1 for direct edges too. Default: 2; with "
            "--from or --to 1.",
            min=1,
        ),
    ] = None,
    from_nodes: show_queries.FromOption = None,
    to_nodes: show_queries.ToOption = None,
    ancestors: show_queries.AncestorsOption = None,
    descendants: show_queries.DescendantsOption = None,
    min_share: show_queries.MinShareOption = 0.0,
    flow: show_queries.FlowOption = None,
    shares: show_queries.SharesOption = False,
    segment: show_queries.SegmentOption = None,
    nodes: graph_part.NodesOption = None,
    min_influence: graph_part.MinInfluenceOption = None,
    label: graph_part.LabelOption = None,
    full: options.FullOption = False,
    circuit: options.CircuitOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare everything in the file with its checksums.")
    ] = False,
    json: options.JsonOption = False,
) -> None:
    """Summarize a graph or a report.

    Of a report that `cotrace compare` wrote: the verdict, steps, sources of the answer and links; with --full the evidence too.

    Of a graph: tokens, targets, scores, the features that matter most and the strongest paths through them. With --from, --to,
    --ancestors, --descendants, --flow or --shares: only the answers to these. With --nodes, --min-influence or --label, all of this is about
    a part of the graph, whose scores count what it lacks as error.

    Features are ranked by the change of the target that is expected when they are ablated ("if ablated"), to first order in
    the model as it is; of several targets, by its mean size. A graph without these is ranked by influence. Influence is the share of all paths' absolute weight that passes through a node. An effect is signed: the sum over
    all paths from the node to a target, in units of what the target reads (logits). Ablating the node changes the target
    by minus that, as long as attention and norms stay as they are. The usual activation of a feature is the mean over the
    positions of the graph at which it is active: choose the sizes of edits as multiples of it.

    Of a graph whose rows were drawn at random, influences are estimates: ± their standard error; scores have 95% intervals.
    """
    if check:
        return print_check(file)
    import cotrace
    from cotrace.graphs import summarize

    from .console import print_json
    from .report import print_annotations, print_answer, print_summary
    from .report_queries import print_answers
    from .report_validation import print_validation

    graph = open_graph(file) if circuit else cotrace.open(file)
    if isinstance(graph, Report):
        if (
            any((from_nodes, to_nodes, ancestors, descendants, flow, shares, segment, nodes, label))
            or min_influence is not None
        ):
            raise ArgumentError(f"{file} is a report, and queries are about graphs: add --circuit for its circuit")
        return show_report(graph, full=full, json=json)
    graph = graph_part.part_of(graph, nodes, min_influence, label)
    answers = show_queries.answer(
        graph,
        sources=from_nodes,
        ends=to_nodes,
        ancestors=ancestors,
        descendants=descendants,
        min_share=min_share,
        spans=flow,
        shares=shares,
        segments=segment,
        target=target,
        n_paths=paths,
        min_length=min_length,
    )
    if answers is not None:
        as_values = show_queries.answers_json(graph, answers, top)
        return print_json(as_values) if json else print_answers(graph, answers, top)
    summary = summarize(graph, target, kind=kind, n_nodes=top, n_paths=paths, min_length=min_length or 2)
    if json:
        print_json(as_json(graph, summary))
        return
    print_summary(graph, full=full)
    print_annotations(graph)
    print_answer(graph, summary)
    if "validation" in graph.info:
        print_validation(graph, full=full)


def show_report(report: Report, *, full: bool, json: bool) -> None:
    """Print a report."""
    from .console import print_json
    from .report_compare import print_report

    print_json(report.to_dict()) if json else print_report(report, full=full)


def print_check(file: pathlib.Path) -> None:
    """Check a graph file completely and print the result in one line."""
    from cotrace.graphs.reader import check_file

    from .report import print_line

    n_columns = check_file(file)
    if n_columns:
        print_line(f"{file} is intact: its metadata and {n_columns} columns match their checksums")
    else:
        print_line(f"{file} is a valid graph without checksums, of an older format version; save it again to add them")


def as_json(graph: Graph, summary: GraphSummary) -> dict[str, Any]:
    """Return what the command prints, with the metadata of the file as `info`, as values that JSON can hold."""
    features, errors, tokens, targets = graph.order.counts
    last = summary.last_steps
    return {
        "info": dict(graph.info),
        "coverage_verdict": coverage_verdict(graph.info),
        "counts": {
            "features": features,
            "errors": errors,
            "tokens": tokens,
            "targets": targets,
            "edges": graph.n_edges,
        },
        "targets": summary.targets,
        "last_steps": {
            "features": last.features,
            "tokens": last.tokens,
            "errors": last.errors,
            "strongest_tokens": [path_json(graph, path) for path in last.strongest_tokens],
        },
        "ranked_by": summary.ranked_by,
        "nodes": [{**_names(graph, node.node), **vars(node)} for node in summary.nodes],
        "paths": [path_json(graph, path) for path in summary.paths],
    }


def _names(graph: Graph, node: int) -> dict[str, str]:
    """Return the name of a node, and its label with its source."""
    return {"name": node_label(graph, node)} | {name: graph.nodes[name][node].as_py() for name in LABELS}
