"""The table of a prompt's nodes, as results name them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from cotrace.attribution.tracing.replacement import LocalReplacementModel


def node_table(replacement: LocalReplacementModel, tokens: Sequence[str]) -> pa.Table:
    """Return layer, position, feature and token of all features, error nodes and tokens, in node order."""
    features, n_positions = replacement.features.table(), replacement.n_positions
    sites = np.indices((replacement.n_layers, n_positions)).reshape(2, -1).astype(np.int32)
    counts = len(features), sites.shape[1], n_positions
    none = [pa.nulls(count, pa.int32()) for count in counts]
    positions = pa.array(np.arange(n_positions, dtype=np.int32))
    return pa.table(
        {
            "kind": pa.concat_arrays(
                [pa.array([kind] * count) for kind, count in zip(("feature", "error", "token"), counts, strict=True)]
            ),
            "layer": _joined(features["layer"], pa.array(sites[0]), none[2]),
            "position": _joined(features["position"], pa.array(sites[1]), positions),
            "feature": _joined(features["feature"], none[1], none[2]),
            "token": _joined(none[0], none[1], pa.array(replacement.token_ids_P.cpu().numpy(), pa.int32())),
            "text": pa.array([""] * (counts[0] + counts[1]) + list(tokens)),
        }
    )


def _joined(*parts: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in parts])
