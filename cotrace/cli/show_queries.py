"""Queries of `cotrace show`: paths between nodes, ancestors, descendants, flow between spans, shares of spans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import typer

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, Path, choose_targets, node_label
from cotrace.graphs.flow import Flow
from cotrace.graphs.shares import spans_of_shares

from .effects_syntax import parse_segments
from .graph_part import NODES_SYNTAX

QUERY_PANEL = "Queries"

FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="NODES",
        rich_help_panel=QUERY_PANEL,
        help=f"Only print the strongest paths from these nodes. {NODES_SYNTAX} Default: tokens.",
    ),
]
ToOption = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="NODES",
        rich_help_panel=QUERY_PANEL,
        help="Only print the strongest paths to these nodes. Repeatable. Default: the target.",
    ),
]
AncestorsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NODES",
        rich_help_panel=QUERY_PANEL,
        help="Only print what the input of these nodes comes from. Repeatable.",
    ),
]
DescendantsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NODES", rich_help_panel=QUERY_PANEL, help="Only print what these nodes lead to. Repeatable."),
]
MinShareOption = Annotated[
    float,
    typer.Option(rich_help_panel=QUERY_PANEL, help="Leave out ancestors and descendants of a smaller share, 0 to 1."),
]
FlowOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=START:STOP",
        rich_help_panel=QUERY_PANEL,
        help="Only print what edges carry between spans of the prompt and into the targets. Repeatable.",
    ),
]

SharesOption = Annotated[
    bool,
    typer.Option(
        "--shares",
        rich_help_panel=QUERY_PANEL,
        help="Only print how much of the influence on all targets, or on --target, starts at the tokens of each span of the "
        "prompt, and at error nodes. Spans: --segment, or those of the transcript, or five parts.",
    ),
]
SegmentOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=START:STOP",
        rich_help_panel=QUERY_PANEL,
        help="With --shares: a span of the prompt. Repeatable.",
    ),
]


@dataclass(frozen=True)
class Ancestry:
    """Ancestors or descendants of nodes."""

    of: list[str]
    """Names of the nodes, as they were given."""
    found: pa.Table
    """All of them, largest share first."""


class Shares(NamedTuple):
    """The shares of the influence on some targets, by where it starts."""

    targets: list[dict[str, Any]]
    """Entries of `graph.info["targets"]`."""
    spans: Mapping[str, tuple[int, ...]]
    """Positions by name."""
    found: pa.Table
    """Of `Graph.shares`."""


@dataclass
class Answers:
    """The answers to all queries of one command."""

    paths: list[Path] | None = None
    ancestors: Ancestry | None = None
    descendants: Ancestry | None = None
    flow: Flow | None = None
    shares: Shares | None = None
    targets: list[dict[str, Any]] = field(default_factory=list)


def answer(
    graph: Graph,
    *,
    sources: Sequence[str] | None,
    ends: Sequence[str] | None,
    ancestors: Sequence[str] | None,
    descendants: Sequence[str] | None,
    min_share: float,
    spans: Sequence[str] | None,
    shares: bool,
    segments: Sequence[str] | None,
    target: str | None,
    n_paths: int,
    min_length: int | None,
) -> Answers | None:
    """Return the answers to queries of a graph, None if there are none."""
    if segments and not shares:
        raise ArgumentError("--segment names spans for --shares: add it, or omit --segment")
    if not (sources or ends or ancestors or descendants or spans or shares):
        return None
    answers = Answers(targets=choose_targets(graph, target))
    targets = [each["node"] for each in answers.targets]
    if sources or ends:
        answers.paths = graph.paths(sources or None, ends or targets, n_paths, min_length=min_length or 1)
    if ancestors:
        answers.ancestors = Ancestry(list(ancestors), graph.ancestors(ancestors, min_share))
    if descendants:
        answers.descendants = Ancestry(list(descendants), graph.descendants(descendants, min_share))
    if spans:
        answers.flow = graph.flow(parse_segments(spans, "--flow"), targets)
    if shares:
        answers.shares = find_shares(graph, segments, answers.targets if target else None)
    return answers


def find_shares(
    graph: Graph, segments: Sequence[str] | None = None, targets: list[dict[str, Any]] | None = None
) -> Shares:
    """Return the shares of spans that are written as `question=1:12`, or of the graph's own; None takes all targets."""
    spans = parse_segments(segments) if segments else None
    named = None if targets is None else [target["node"] for target in targets]
    return Shares(targets or graph.info["targets"], spans_of_shares(graph, spans), graph.shares(spans, named))


def answers_json(graph: Graph, answers: Answers, top: int) -> dict[str, Any]:
    """Return answers as values that JSON can hold; of ancestors and descendants, the first `top`."""
    values: dict[str, Any] = {}
    if answers.paths is not None:
        values["paths"] = [path_json(graph, path) for path in answers.paths]
    for name, ancestry in (("ancestors", answers.ancestors), ("descendants", answers.descendants)):
        if ancestry is not None:
            rows = ancestry.found.slice(0, top).to_pylist()
            named = [{"name": node_label(graph, row["node"]), **row} for row in rows]
            values[name] = {"of": ancestry.of, "count": len(ancestry.found), "nodes": named}
    if answers.flow is not None:
        values["flow"] = answers.flow.as_json()
    if answers.shares is not None:
        positions = {name: list(span) for name, span in answers.shares.spans.items()}
        nodes = [target["node"] for target in answers.shares.targets]
        values["shares"] = {
            "targets": nodes,
            "spans": positions,
            "sampled": graph.sampled,
            "rows": answers.shares.found.to_pylist(),
        }
    return values


def path_json(graph: Graph, path: Path) -> dict[str, Any]:
    """Return a path as values that JSON can hold."""
    return {**path._asdict(), "names": [node_label(graph, node) for node in path.nodes]}
