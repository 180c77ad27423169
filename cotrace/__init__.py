"""cotrace: trace what a Gemma 3 model says it is thinking, and what it computes.

    import cotrace
    model = cotrace.load("gemma-3-270m")
    graph = model.trace("The opposite of hot is")
    graph.prune().render("circuit.svg")
    cotrace.trace_many("prompts.jsonl", "traces", model=model)

Opening and drawing graphs needs no torch: it is imported by `load` and `trace_many`, not before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cotrace.graphs import Graph, open_graph

if TYPE_CHECKING:
    from cotrace.attribution import Model, load
    from cotrace.many import trace_many

__version__ = "0.1.0"
__all__ = ["Graph", "Model", "__version__", "load", "open", "trace_many"]


def open(path: str | os.PathLike) -> Graph:
    """Memory-map a graph file and validate it; raises ValueError for anything that is not one."""
    return open_graph(path)


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name in ("Model", "load"):
        import cotrace.attribution

        return getattr(cotrace.attribution, name)
    if name == "trace_many":
        from cotrace.many import trace_many

        return trace_many
    raise AttributeError(f"module 'cotrace' has no attribute {name!r}")
