"""Edits of the model of a graph, for the page of `cotrace view`. Imports torch when the first is made."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cotrace.common.errors import CotraceError
from cotrace.graphs import Graph
from cotrace.viewer.server.edits import ChangeRequest

from .graph_model import dtype_of

if TYPE_CHECKING:
    from cotrace.model import Model


class GraphModelEditor:
    """Runs the models of graphs with edits; the last model stays in memory.

    Args:
        model: where the model is; None takes the name that a graph records.
        transcoders: the same for transcoders.
        device: as in `cotrace.load`.
        dtype: as in `cotrace.load`; None takes that of the graph.
    """

    def __init__(self, model: str | None, transcoders: str | None, device: str, dtype: str | None):
        self._model, self._transcoders, self._device, self._dtype = model, transcoders, device, dtype
        self._load = lru_cache(1)(self._load_uncached)

    def obstacle(self, graph: Graph) -> str | None:
        """Return why the model of a graph cannot be run, or None. Loads no weights."""
        from cotrace.attribution.models.model_source import find_config
        from cotrace.attribution.transcoders import find_transcoders

        if "imported" in graph.info:
            return f"the graph comes from {graph.info['imported']['format']}, whose transcoders are not in cotrace"
        try:
            find_config(self._model or graph.info["model"]["name"])
            find_transcoders(self._transcoders or graph.info["transcoders"]["name"])
        except CotraceError as error:
            return str(error)
        return None

    def change(self, graph: Graph, request: ChangeRequest) -> dict[str, Any]:
        """Return what edits change: see `changes_of`. Raises CotraceError as `cotrace.load` and `Model.intervene`."""
        from .model_changes import changes_of

        names = graph.info["model"]["name"], graph.info["transcoders"]["name"]
        return changes_of(self._load(*names, self._dtype or dtype_of(graph)), graph, request)

    def _load_uncached(self, model: str, transcoders: str, dtype: str) -> "Model":
        import cotrace

        return cotrace.load(self._model or model, self._transcoders or transcoders, device=self._device, dtype=dtype)  # type: ignore[arg-type]
