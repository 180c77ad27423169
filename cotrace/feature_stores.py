"""The feature store of a model's transcoders: the one given, or the one that ships."""

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.features.store.shipped import shipped_feature_store
from cotrace.features.store.store import FeatureStore


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
