"""cotrace: trace what a Gemma 3 model says it is thinking, and what it computes.

    import cotrace
    model = cotrace.load("gemma-3-270m")
    graph = model.trace("The opposite of hot is")
    graph.prune().render("circuit.svg")
    cotrace.trace_many("prompts.jsonl", "traces", model=model)
    model.intervene("The opposite of hot is", {cotrace.Feature(12, 345, position=4): cotrace.ablate()})

Opening and drawing graphs needs no torch: it is imported when something that needs it is asked for, not before.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cotrace.graphs import Graph, open_graph
from cotrace.graphs.nodes import ErrorNode, Feature

if TYPE_CHECKING:
    from cotrace.attribution.interventions.edits import (
        Direction,
        Edit,
        Supernode,
        ablate,
        add,
        multiply,
        nodes_of,
        set_to,
    )
    from cotrace.batch import trace_many
    from cotrace.evaluation import evaluate_transcoders
    from cotrace.model import Model, load

__version__ = "0.1.0"
__all__ = [
    "Direction",
    "Edit",
    "ErrorNode",
    "Feature",
    "Graph",
    "Model",
    "Supernode",
    "__version__",
    "ablate",
    "add",
    "evaluate_transcoders",
    "load",
    "multiply",
    "nodes_of",
    "open",
    "set_to",
    "trace_many",
]


def open(path: str | os.PathLike) -> Graph:
    """Memory-map a graph file and validate it; raises ValueError for anything that is not one."""
    return open_graph(path)


EDITS = "cotrace.attribution.interventions.edits"
ROOMS = {
    "Model": "cotrace.model",
    "load": "cotrace.model",
    "trace_many": "cotrace.batch",
    "evaluate_transcoders": "cotrace.evaluation",
    **dict.fromkeys(("Direction", "Supernode", "Edit", "nodes_of"), EDITS),
    **dict.fromkeys(("ablate", "set_to", "add", "multiply"), EDITS),
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    room = ROOMS.get(name)
    if room is not None:
        return getattr(import_module(room), name)
    raise AttributeError(f"module 'cotrace' has no attribute {name!r}")
