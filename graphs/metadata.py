"""Metadata of a graph file: its version, its entries and their shapes."""

import json
from typing import Any

from cotrace.common.errors import ArgumentError, FileError

from .checksums import CHECKSUMS_KEY, metadata_is_intact
from .json_metadata import NUMBER, decode_entries, encode_entries, require_exact, wrong_entries
from .migrations import FIRST_VERSION_WITH_CHECKSUMS, OLDEST_VERSION, migrate

FORMAT_VERSION = 5
VERSION_KEY = b"cotrace.format_version"
INFO_KEY = b"cotrace.graph"
EFFECTS_KEY = b"cotrace.effects"  # of files of effects, which are no graphs
MAX_VERSION_DIGITS = 8
GROUP_TEXTS = ("source", "reason", "label")  # optional texts of a group

# Estimates of effects from gradients, since effects of nodes exist; None where a set has none.
FIRST_ORDER = tuple(f"first_order_{freeze}" for freeze in ("all", "norms", "attention", "none"))
NULLS = ("null_directions", "null_signs")
ESTIMATED = [*FIRST_ORDER, "integrated", *(f"{null}{of}" for null in NULLS for of in ("", "_first_order"))]
MEASURED: dict[str, Any] = {
    **dict.fromkeys(
        ("influence", "direct", "activation", "predicted", "predicted_size", "measured", "size", "kl"), NUMBER
    ),
    **dict.fromkeys(("control_size", "control_kl", "control_length"), (*NUMBER, None)),
    **{f"{name}{of}?": (*NUMBER, None) for name in ESTIMATED for of in ("", "_size")},
}
CORRELATION = (None, {"value": NUMBER, "low": NUMBER, "high": NUMBER})
CORRELATIONS = tuple(f"spearman{suffix}" for suffix in ("", "_kl", "_direct", "_activation", "_predicted", "_signed"))
AGREEING = [*(f"{name}{of}" for name in FIRST_ORDER for of in ("", "_top")), "integrated_top"]
AGREEING += [f"{null}_top" for null in NULLS]  # with measured effects: the estimates of a summary
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
        **{f"spearman_{name}?": CORRELATION for name in AGREEING},
        **{f"signs_{name}?": (*NUMBER, None) for name in AGREEING},
        **{f"times_{null}?": (*NUMBER, None) for null in NULLS},
    },
}
PRUNING: dict[str, Any] = {
    "node_threshold": NUMBER,
    "edge_threshold": NUMBER,
    "keep_errors": bool,
    "certainty?": {"inside": int, "outside": int, "undecided": int},
    "sampling?": {"ranked": int, "uncertain": int, "gap": NUMBER, "half_width": NUMBER},
}
# The expected shape of each entry, as in `json_metadata`.
INFO: dict[str, Any] = {
    "model": {"name": str, "n_layers": int},
    "transcoders": {"name": str},
    "prompt": str,
    "token_ids": [int],
    "tokens": [str],
    "segments?": {"*": [int]},  # positions of each segment, of a prompt that has named ones
    "position": int,
    "masked_positions": [int],
    "targets": [
        {"node": int, "kind": str, "label": str, "weight": NUMBER, "probability": (*NUMBER, None), "position?": int}
    ],
    "settings": {},
    "traced": {  # the graph before pruning
        "nodes": int,
        "edges": int,
        "rows?": int,
        "coverage": NUMBER,
        "bound": NUMBER,
        "effect_coverage?": NUMBER,
        "scores": {
            "replacement": NUMBER,
            "completeness": NUMBER,
            "replacement_interval?": [NUMBER],
            "completeness_interval?": [NUMBER],
        },
        "sampling?": {  # of a graph from sampled rows: graphs/sampling.py
            "replicates": int,
            "seeds": [int],
            "rows": int,
            "rows_added": int,
            "partial": bool,
            "features": int,
            "span_error": NUMBER,
        },
    },
    "pruning": (None, {**PRUNING, "earlier?": [PRUNING]}),
    "subgraph?": [
        {"nodes": int, "edges": int, "named?": int, "min_influence?": NUMBER, "label?": str}
    ],  # what was chosen from
    "versions": {},
    "validation?": VALIDATION,
    "notes?": str,
    "heads?": {"per_layer": int},
    "groups?": [{"name": str, "nodes": [str], **{f"{text}?": str for text in GROUP_TEXTS}}],
    "page?": {},  # how the interactive page was left: viewer/js/state/state.js
    "imported?": {  # of a graph that another tool traced: what its file had beside the graph
        "format": str,
        "metadata": {},
        "qParams": {},
        "influence": {"*": NUMBER},
        "ids": {"*": str},
        "half_layers": bool,
        "nodes": {},
        "tables": {},
    },
    "report?": {
        "verdict": str,
        "reason": str,
        "cost": {},
        "settings": {},
    },  # faithfulness/report/files.py checks the rest
}


def metadata_of(info: dict[str, Any]) -> dict[bytes, bytes]:
    """Return the schema metadata of a graph file, in the current format version.

    Raises ArgumentError for entries that JSON cannot hold.
    """
    return {VERSION_KEY: str(FORMAT_VERSION).encode(), INFO_KEY: _encode(info)}


def _encode(info: dict[str, Any]) -> bytes:
    try:
        return encode_entries(info)
    except (TypeError, ValueError, RecursionError):
        check_entries(info)
        raise


def check_entries(info: dict[str, Any]) -> None:
    """Raise ArgumentError unless a file can hold all entries as they are, and they have their shapes."""
    for key, value in info.items():
        _check_json(key, value)
    wrong = wrong_entries(json.loads(json.dumps(info)), INFO)
    if wrong:
        raise ArgumentError(f"graph.info lacks or has a wrong {', '.join(wrong)}; undo the edit")


def _check_json(key: Any, value: Any) -> None:
    """Raise ArgumentError unless a file can hold an entry of the metadata as it is."""
    try:
        require_exact({key: value})
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"graph.info[{key!r}] cannot be saved ({error}); use texts, finite numbers, lists and dictionaries of them"
        ) from error


def decode_info(metadata: dict[bytes, bytes] | None, verify: bool = True) -> dict[str, Any]:
    """Return the entries in a schema's metadata, migrated to the current format version.

    Without `verify` the checksum of the metadata is not compared. Raises FileError for metadata that is damaged, of a
    newer version, or not of a graph.
    """
    if metadata and EFFECTS_KEY in metadata:
        raise FileError("it is a file of effects; open it with cotrace.Effects.open, or `cotrace effects FILE`")
    if not metadata or VERSION_KEY not in metadata or INFO_KEY not in metadata:
        raise FileError("it is an Arrow file, but not a cotrace graph; trace a prompt to make one")
    version = format_version(metadata)
    if version > FORMAT_VERSION:
        raise FileError(
            f"it has format version {version} and this cotrace reads up to {FORMAT_VERSION}; upgrade cotrace to open it"
        )
    has_checksums = CHECKSUMS_KEY in metadata
    if verify and not (metadata_is_intact(metadata) if has_checksums else version < FIRST_VERSION_WITH_CHECKSUMS):
        raise FileError("its metadata is damaged; copy the file again or trace the prompt again")
    info = migrate(_parse(metadata[INFO_KEY]), version)
    wrong = wrong_entries(info, INFO)
    if wrong:
        raise FileError(f"its metadata lacks or has a wrong {', '.join(wrong)}; trace the prompt again")
    return info


def format_version(metadata: dict[bytes, bytes]) -> int:
    """Return the format version in the metadata of a graph file. Raises FileError for a damaged one."""
    version = metadata[VERSION_KEY].decode(errors="replace")
    if version.isdecimal() and len(version) <= MAX_VERSION_DIGITS and int(version) >= OLDEST_VERSION:
        return int(version)
    raise FileError("its metadata is damaged; trace the prompt again")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return decode_entries(text)
    except ValueError as error:
        raise FileError("its metadata is damaged; trace the prompt again") from error
