"""Time queries, groups and differences on a graph of 10,000 nodes and 1,000,000 edges, without a model.

    python -m benchmarks.graphs [--repeats N] [--only WORD] [--out FILE]

Every call gets a new `Graph`, as after `cotrace.open`, so that nothing is kept from an earlier call; the first call, which
compiles, is not counted. Writes results/graphs.json, from which `benchmarks.tables` makes the table. A new row is a function
with the decorator `case`.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cotrace.common.versions import package_versions
from cotrace.graphs import Graph, strongest_paths

from .cells import Record, duration, markdown
from .measure import busy_seconds, machine
from .synthetic_graphs import GraphSize, synthetic_graph

RESULT = Path(__file__).parent / "results" / "graphs.json"
CHANGED = 0.2  # share of the second graph's features that the first one lacks
QUERY_SECONDS, GROUP_SECONDS, DIFF_SECONDS = 0.1, 5.0, 2.0


@dataclass(frozen=True)
class Case:
    """A call that is timed, and the most seconds that it may take."""

    title: str
    most: float
    call: Callable[[Graph, Graph], Any]
    """Takes the graph and one that differs from it; only the second is kept between calls."""


CASES: list[Case] = []


def case(title: str, most: float = QUERY_SECONDS) -> Callable[[Callable[[Graph, Graph], Any]], None]:
    """Return a decorator that adds a function of two graphs to the table."""
    return lambda call: CASES.append(Case(title, most, call))


@case("influence of every node")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.influence()


@case("scores of the graph")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.scores()


@case("the 10 strongest paths to any target")
def _(graph: Graph, _other: Graph) -> Any:
    return strongest_paths(graph, count=10)


@case("the 10 strongest paths from a span to one of 50 features")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.paths("@2:8", range(9_000, 9_050), 10)


@case("the 1,000 strongest paths through two features or more")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.paths(n=1_000, min_length=3)


@case("ancestors of a target")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.ancestors(graph.order.logits.start)


@case("descendants of a token")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.descendants("token@1")


@case("flow between 25 spans and 10 targets")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.flow({f"span {p}": [p] for p in range(graph.order.n_tokens)})


@case("subgraph of the nodes of some influence")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.subgraph(min_influence=1e-4)


@case("subgraph of the features with a label, and its scores")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.subgraph(label="cluster 7").scores()


@case("scores of every second node as a subgraph")
def _(graph: Graph, _other: Graph) -> Any:
    return graph.scores(range(0, graph.order.n_nodes, 2))


# --- groups ---------------------------------------------------------------------------------


@case("groups of features, suggested", GROUP_SECONDS)
def _(graph: Graph, _other: Graph) -> Any:
    return graph.suggest_groups()


# --- differences ----------------------------------------------------------------------------


@case("difference of two graphs: nodes, edges, similarity", most=DIFF_SECONDS)
def _(graph: Graph, other: Graph) -> Any:
    diff = graph.diff(other)
    return diff.nodes, diff.edges, diff.similarity


@case("difference of two graphs: picture", most=DIFF_SECONDS)
def _(graph: Graph, other: Graph) -> Any:
    return graph.diff(other)._repr_html_()


def measure(one: Case, graph: Graph, other: Graph, repeats: int) -> Record:
    """Return the seconds of a call: the median, and the fastest and slowest."""
    one.call(_fresh(graph), other)
    seconds, busy, began = [], busy_seconds(), time.perf_counter()
    for _ in range(repeats):
        fresh = _fresh(graph)
        start = time.perf_counter()
        one.call(fresh, other)
        seconds.append(time.perf_counter() - start)
    cores = (busy_seconds() - busy) / (time.perf_counter() - began)
    times = {"median": median(seconds), "least": min(seconds), "most": max(seconds)}
    return {"title": one.title, "limit": one.most, "busy_cores": cores, **times}


def _fresh(graph: Graph) -> Graph:
    """Return the graph as it is after opening: without anything that was computed from it."""
    return Graph(graph.nodes, graph.info)


def graphs_table(result: Record) -> str:
    """Return the table of this benchmark: the time of each call beside its limit."""
    grid = [["", "median", "slowest", "limit"]]
    grid += [[row["title"], *(duration(row[name]) for name in ("median", "most", "limit"))] for row in result["rows"]]
    size, where = result["size"], result["machine"]
    note = (
        f"A synthetic graph of {size['nodes']:,} nodes and {size['edges']:,} edges, newly opened for every call; "
        f"{result['repeats']} calls after the first, which compiles. Measured {result['date']} on {where['cpu']}, "
        f"{where['cores']} cores, of which up to {max(row['busy_cores'] for row in result['rows']):.1f} were busy."
    )
    return f"{markdown(grid)}\n\n{note}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--only", default="", help="time only rows whose title has this word")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    graph, other = synthetic_graph(), synthetic_graph(changed=CHANGED)
    rows = []
    for one in CASES:
        if args.only in one.title:
            rows.append(measure(one, graph, other, args.repeats))
            print(f"{one.title}: {duration(rows[-1]['median'])} (at most {duration(one.most)})", flush=True)
    if args.only:
        return
    result = {"benchmark": "graphs", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"versions": package_versions(), "size": vars(GraphSize()), "repeats": args.repeats, "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
