"""The feature store of a graph's transcoders: the one given, or the one that ships."""

from cotrace.common.errors import ArgumentError
from cotrace.graphs.data import GraphData

from .shipped import shipped_feature_store
from .store import FeatureStore


def store_of_graph(graph: GraphData, given: FeatureStore | None = None) -> FeatureStore | None:
    """Return the store that was given, or else the one that ships for the graph's transcoders, or None.

    Raises ArgumentError for a store of other transcoders that was given, FileError for a damaged one that ships.
    """
    if given is not None:
        check_store_of_graph(given, graph)
        return given
    folder = shipped_feature_store(graph.info["transcoders"]["name"])
    shipped = None if folder is None else FeatureStore.open(folder)
    return shipped if shipped is not None and is_store_of_graph(shipped, graph) else None


def check_store_of_graph(store: FeatureStore, graph: GraphData) -> None:
    """Raise ArgumentError for a feature store of other transcoders than those of a graph."""
    if not is_store_of_graph(store, graph):
        raise ArgumentError(
            f"the feature store {store.path} is of {store.name} ({store.info['dictionary']['kind']}), and the graph was "
            f"traced with {graph.info['transcoders']['name']}; give the store of these transcoders, or write one with "
            "`cotrace features build`"
        )


def is_store_of_graph(store: FeatureStore, graph: GraphData) -> bool:
    """Return whether a feature store can be of the transcoders of a graph, by all that the graph says of them."""
    traced, stored = graph.info["transcoders"], store.info["dictionary"]
    differ = any(traced.get(name) and stored[name] and traced[name] != stored[name] for name in ("kind", "sha256"))
    layers, widest = graph.column("layer", -1)[graph.order.features], max(store.widths.values(), default=0)
    return not differ and set(layers) <= {*store.widths} and graph.column("feature", -1).max() < widest
