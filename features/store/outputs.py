"""Nested columns of a store as flat arrays: one entry for each token of each feature."""

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .card_data import ALL_LAYERS


class FeatureTokens(NamedTuple):
    """Tokens of features, in the order of the features: entry by entry the feature, the token's id and its weight."""

    feature: np.ndarray
    token: np.ndarray
    weight: np.ndarray


def output_tokens(written: pa.ChunkedArray, end: Literal["top", "bottom"] = "top") -> FeatureTokens:
    """Return the tokens that features promote over all layers together, with their logits, or with "bottom" suppress."""
    column = _one(written)
    parent, outputs = pc.list_parent_indices(column), column.flatten()
    everywhere = pc.equal(outputs.field("layer"), ALL_LAYERS)
    return _flat(outputs.field(end).filter(everywhere), parent.filter(everywhere).to_numpy(), "logit")


def fired_tokens(fires_on: pa.ChunkedArray) -> FeatureTokens:
    """Return the tokens that each feature is active at most often, with how often, most often first."""
    column = _one(fires_on)
    return _flat(column, np.arange(len(column)), "count")


def _flat(column: pa.ListArray, feature: np.ndarray, weight: str) -> FeatureTokens:
    parent, entries = pc.list_parent_indices(column).to_numpy(), column.flatten()
    return FeatureTokens(feature[parent], entries.field("token").to_numpy(), entries.field(weight).to_numpy())


def _one(column: pa.ChunkedArray) -> pa.ListArray:
    """Return a column as one array, also where it has no rows."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
