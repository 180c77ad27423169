"""The model of a graph, for commands that take a graph file and run its model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cotrace.graphs import Graph

if TYPE_CHECKING:  # it imports torch
    from cotrace.model import Model

ModelOption = Annotated[str | None, typer.Option(help="Where the graph's model is. Default: its name in the file.")]
TranscodersOption = Annotated[
    str | None, typer.Option(help="Where the graph's transcoders are. Default: their name in the file.")
]


def load_model(graph: Graph, model: str | None, transcoders: str | None, device: str, dtype: str | None) -> "Model":
    """Return the model of a graph with its transcoders; None takes what the graph records."""
    import cotrace

    spec = transcoders or graph.info["transcoders"]["name"]
    loading: dict[str, Any] = {"device": device, "dtype": dtype or dtype_of(graph)}
    return cotrace.load(model or graph.info["model"]["name"], spec, **loading)


def dtype_of(graph: Graph) -> str:
    """Return the dtype with which to load the model of a graph."""
    return "float64" if graph.info["settings"].get("dtype") == "float64" else "auto"
