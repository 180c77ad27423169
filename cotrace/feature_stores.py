"""The feature store of a model's transcoders: the one given, or the one that ships."""

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.features.store.shipped import shipped_feature_store
from cotrace.features.store.store import FeatureStore
from cotrace.graphs import Graph


def store_of(transcoders: Transcoders, weights: Gemma3, given: FeatureStore | None = None) -> FeatureStore | None:
    """Return the store that was given, or else the one that ships for the transcoders, or None.

    Raises ArgumentError for a store of other transcoders, FileError for a shipped store that is damaged.
    """
    if given is None:
        folder = shipped_feature_store(transcoders.name)
        return None if folder is None else FeatureStore.open(folder)
    widths = {layer: transcoders.width(layer, weights) for layer in range(weights.architecture.n_layers)}
    other_widths = given.widths.items() - widths.items()
    if other_widths or given.info["dictionary"]["kind"] != transcoders.kind:
        raise ArgumentError(
            f"the feature store {given.path} is of {given.name} ({given.info['dictionary']['kind']}), not of "
            f"{transcoders.name} ({transcoders.kind}); give the store of these transcoders, or write one with "
            "`cotrace features build`"
        )
    return given


def check_store_of_graph(store: FeatureStore, graph: Graph) -> None:
    """Raise ArgumentError for a feature store of other transcoders than those of a graph."""
    traced, stored = graph.info["transcoders"], store.info["dictionary"]
    differ = any(traced.get(name) and stored[name] and traced[name] != stored[name] for name in ("kind", "sha256"))
    features = graph.order.features
    widest = max(store.widths.values(), default=0)
    if (
        differ
        or not set(graph.column("layer", -1)[features]) <= {*store.widths}
        or graph.column("feature", -1).max() >= widest
    ):
        raise ArgumentError(
            f"the feature store {store.path} is of {store.name} ({stored['kind']}), and the graph was traced with "
            f"{traced['name']}; give the store of these transcoders, or write one with `cotrace features build`"
        )
