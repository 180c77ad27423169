"""Columns, types and metadata of a graph file (ARCHITECTURE.md, "A graph on disk")."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import CotraceError

from .order import KINDS, NodeOrder

FORMAT_VERSION = 1
VERSION_KEY = b"cotrace.format_version"
INFO_KEY = b"cotrace.graph"

KIND_TYPE = pa.dictionary(pa.int8(), pa.string())
INTEGERS = ("layer", "position", "feature", "token")
NULLABLE_VALUES = ("activation", "pre_activation", "bias", "probability")
VALUES = ("influence", "influence_bound", "dropped")
NUMBER = (int, float)
MEASURED: dict[str, Any] = {
    **dict.fromkeys(
        ("influence", "direct", "activation", "predicted", "predicted_size", "measured", "size", "kl"), NUMBER
    ),
    **dict.fromkeys(("control_size", "control_kl", "control_length"), (*NUMBER, None)),
}
CORRELATION = (None, {"value": NUMBER, "low": NUMBER, "high": NUMBER})
CORRELATIONS = tuple(f"spearman{what}" for what in ("", "_kl", "_direct", "_activation", "_predicted", "_signed"))
SHARES = ("sign_agreement", "sign_agreement_top", "larger_than_controls", "times_controls", "control_length")
VALIDATION: dict[str, Any] = {
    "settings": {"freeze": str, "errors": str},
    "nodes": [{"node": int, "label": str, "sampled": bool, **MEASURED}],
    "groups": [{"name": str, "nodes": [int], **MEASURED}],
    "paths": [{"label": str, "nodes": [int], "kept_predicted": NUMBER, "kept_measured": NUMBER, **MEASURED}],
    "later": [{"least": int, "most": int, "nodes": int, "cosine": NUMBER, "signs": NUMBER}],
    "summary": {
        "features": int,
        "sample": int,
        **{f"{name}{of}": CORRELATION for name in CORRELATIONS for of in ("", "_top")},
        "spearman_pairs": CORRELATION,
        "spearman_pairs_clamped": CORRELATION,
        **dict.fromkeys(SHARES, (*NUMBER, None)),
    },
}
# Shape of the metadata: a type, (either, or), [of each item] or {of each key, among others; `?` if it is there}.
INFO: dict[str, Any] = {
    "model": {"name": str, "n_layers": int},
    "transcoders": {"name": str},
    "prompt": str,
    "token_ids": [int],
    "tokens": [str],
    "position": int,
    "masked_positions": [int],
    "targets": [
        {"node": int, "kind": str, "label": str, "weight": NUMBER, "probability": (*NUMBER, None), "position?": int}
    ],
    "settings": {},
    "coverage": NUMBER,
    "bound": NUMBER,
    "scores": {"replacement": NUMBER, "completeness": NUMBER},
    "traced": {"nodes": int, "edges": int, "rows?": int},
    "pruning": (
        None,
        {
            "node_threshold": NUMBER,
            "edge_threshold": NUMBER,
            "keep_errors": bool,
            "certainty?": {"inside": int, "outside": int, "undecided": int},
        },
    ),
    "versions": {},
    "validation?": VALIDATION,
}


def schema(value_type: pa.DataType | None = None, large: bool = False) -> pa.Schema:
    """Arrow schema of the node table.

    `value_type` is float32, or float64 for a graph that was traced in float64; `large` switches the
    edge lists to 64-bit offsets, for 2^31 edges and more.
    """
    value = value_type or pa.float32()
    lists = pa.large_list if large else pa.list_
    return pa.schema(
        [
            pa.field("node", pa.int32(), nullable=False),
            pa.field("kind", KIND_TYPE, nullable=False),
            *(pa.field(name, pa.int32()) for name in INTEGERS),
            pa.field("text", pa.string(), nullable=False),
            *(pa.field(name, value) for name in NULLABLE_VALUES),
            *(pa.field(name, value, nullable=False) for name in VALUES),
            pa.field("computed", pa.bool_(), nullable=False),
            pa.field("sources", lists(pa.field("item", pa.int32(), nullable=False)), nullable=False),
            pa.field("weights", lists(pa.field("item", value, nullable=False)), nullable=False),
        ]
    )


def build_table(
    order: NodeOrder,
    columns: dict[str, Any],
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    info: dict[str, Any],
) -> pa.Table:
    """Assemble the one-batch node table from columns and CSR arrays.

    `columns` holds arrays of length M for every column but `node`, `kind`, `sources` and `weights`;
    a masked array's masked entries become nulls. The CSR arrays (row = target) are not copied:
    indptr (M+1,), indices (E,) int32, weights (E,) float32 or float64.
    """
    large = len(indices) >= 2**31
    target = schema(pa.from_numpy_dtype(weights.dtype), large)
    offsets = pa.array(indptr.astype(np.int64 if large else np.int32))
    lists = pa.LargeListArray if large else pa.ListArray
    codes = pa.array(order.kind_codes())
    arrays: dict[str, Any] = {
        "node": np.arange(order.n_nodes, dtype=np.int32),
        "kind": pa.DictionaryArray.from_arrays(codes, pa.array(KINDS)),
        "sources": lists.from_arrays(offsets, pa.array(indices), type=target.field("sources").type),
        "weights": lists.from_arrays(offsets, pa.array(weights), type=target.field("weights").type),
        **columns,
    }
    data = [_to_arrow(arrays[field.name], field.type) for field in target]
    return pa.Table.from_arrays(data, schema=target.with_metadata(metadata_of(info)))


def metadata_of(info: dict[str, Any]) -> dict[bytes, bytes]:
    """Schema metadata of a graph file."""
    return {VERSION_KEY: str(FORMAT_VERSION).encode(), INFO_KEY: _encode(info)}


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.filled(0), type=kind, mask=np.ma.getmaskarray(values))
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind)


def _encode(info: dict[str, Any]) -> bytes:
    missing = [key for key in INFO if key not in info and not key.endswith("?")]
    assert not missing, f"graph metadata lacks {missing}"
    return json.dumps(info, sort_keys=True, allow_nan=False).encode()


def decode_info(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Read the metadata of a schema. Raises ValueError for a foreign, newer or damaged one."""
    if not metadata or VERSION_KEY not in metadata or INFO_KEY not in metadata:
        raise CotraceError("it is an Arrow file, but not a cotrace graph; trace a prompt to make one")
    version = metadata[VERSION_KEY].decode(errors="replace")
    if version.isdecimal() and len(version) < 9 and int(version) > FORMAT_VERSION:
        raise CotraceError(
            f"it has format version {version} and this cotrace reads up to {FORMAT_VERSION}; upgrade cotrace to open it"
        )
    try:
        info = json.loads(metadata[INFO_KEY])
        json.dumps(info, allow_nan=False, ensure_ascii=False).encode()  # no infinities, no broken Unicode
    except (ValueError, RecursionError) as error:
        raise CotraceError("its metadata is damaged; trace the prompt again") from error
    if version != str(FORMAT_VERSION) or not isinstance(info, dict):
        raise CotraceError("its metadata is damaged; trace the prompt again")
    wrong = [key.rstrip("?") for key, shape in INFO.items() if not _fits(info, {key: shape})]
    if wrong:
        raise CotraceError(f"its metadata lacks or has a wrong {', '.join(wrong)}; trace the prompt again")
    return info


def _fits(value: Any, shape: Any) -> bool:
    """Whether decoded JSON has a shape written as in `INFO`; integers stay below 2^63."""
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            _fits(value[name], inner) if (name := key.rstrip("?")) in value else key.endswith("?")
            for key, inner in shape.items()
        )
    return value is shape if shape is None else type(value) is shape and (shape is not int or abs(value) < 2**63)
