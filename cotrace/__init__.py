"""cotrace: trace what a Gemma 3 model says it is thinking, and what it computes.

    import cotrace
    model = cotrace.load("gemma-3-270m")
    graph = model.trace("The opposite of hot is")
    graph.prune().render("circuit.svg")

Opening and drawing graphs needs no torch: it is imported by `load`, not before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cotrace.graphs import Graph

if TYPE_CHECKING:
    from cotrace.attribution import Model

__version__ = "0.1.0"
__all__ = ["Graph", "__version__", "load", "open"]


def load(
    model: str | os.PathLike = "gemma-3-270m",
    transcoders: str | os.PathLike = "neurons",
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool | None = None,
) -> Model:
    """Load a Gemma 3 model with its transcoders; see `cotrace.attribution.load`."""
    from cotrace.attribution import load as load_model

    return load_model(model, transcoders, device=device, dtype=dtype, progress=progress)


def open(path: str | os.PathLike) -> Graph:
    """Memory-map a graph file and validate it; raises ValueError for anything that is not one."""
    from cotrace.graphs import open_graph

    return open_graph(path)
