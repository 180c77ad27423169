"""Metadata of a graph file: its version, its entries and their shapes."""

import json
from typing import Any

from cotrace.common.errors import ArgumentError, FileError

from .checksums import CHECKSUMS_KEY, metadata_is_intact
from .migrations import FIRST_VERSION_WITH_CHECKSUMS, OLDEST_VERSION, migrate

FORMAT_VERSION = 3
VERSION_KEY = b"cotrace.format_version"
INFO_KEY = b"cotrace.graph"
MAX_VERSION_DIGITS = 8

NUMBER = (int, float)
MEASURED: dict[str, Any] = {
    **dict.fromkeys(
        ("influence", "direct", "activation", "predicted", "predicted_size", "measured", "size", "kl"), NUMBER
    ),
    **dict.fromkeys(("control_size", "control_kl", "control_length"), (*NUMBER, None)),
}
CORRELATION = (None, {"value": NUMBER, "low": NUMBER, "high": NUMBER})
CORRELATIONS = tuple(f"spearman{suffix}" for suffix in ("", "_kl", "_direct", "_activation", "_predicted", "_signed"))
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
PRUNING: dict[str, Any] = {
    "node_threshold": NUMBER,
    "edge_threshold": NUMBER,
    "keep_errors": bool,
    "certainty?": {"inside": int, "outside": int, "undecided": int},
}
# The expected shape of each entry: a type; a tuple of alternatives; a list with the shape of every item; or a dict with
# the shape of each key, besides which others may exist. A key that ends in `?` may be missing.
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
    "traced": {  # the graph before pruning
        "nodes": int,
        "edges": int,
        "rows?": int,
        "coverage": NUMBER,
        "bound": NUMBER,
        "scores": {"replacement": NUMBER, "completeness": NUMBER},
    },
    "pruning": (None, {**PRUNING, "earlier?": [PRUNING]}),
    "versions": {},
    "validation?": VALIDATION,
    "notes?": str,
    "groups?": [{"name": str, "nodes": [str]}],
}


def metadata_of(info: dict[str, Any]) -> dict[bytes, bytes]:
    """Return the schema metadata of a graph file, in the current format version.

    Raises ArgumentError for entries that JSON cannot hold.
    """
    return {VERSION_KEY: str(FORMAT_VERSION).encode(), INFO_KEY: _encode(info)}


def _encode(info: dict[str, Any]) -> bytes:
    try:
        return json.dumps(info, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        check_entries(info)
        raise


def check_entries(info: dict[str, Any]) -> None:
    """Raise ArgumentError unless a file can hold all entries as they are, and they have their shapes."""
    for key, value in info.items():
        _check_json(key, value)
    wrong = _wrong_entries(json.loads(json.dumps(info)))
    if wrong:
        raise ArgumentError(f"graph.info lacks or has a wrong {', '.join(wrong)}; undo the edit")


def _check_json(key: Any, value: Any) -> None:
    """Raise ArgumentError unless a file can hold an entry of the metadata as it is."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # no infinities, no half characters
        if not _has_text_keys({key: value}):
            raise TypeError("a key is not a text")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"graph.info[{key!r}] cannot be saved ({error}); use texts, finite numbers, lists and dictionaries of them"
        ) from error


def _has_text_keys(value: Any) -> bool:
    """Return whether all keys are texts; JSON would turn others into texts."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_text_keys, value))


def _wrong_entries(info: dict[str, Any]) -> list[str]:
    """Return the entries that are missing or do not have the shape in `INFO`."""
    return [key.rstrip("?") for key, shape in INFO.items() if not _fits(info, {key: shape})]


def decode_info(metadata: dict[bytes, bytes] | None, verify: bool = True) -> dict[str, Any]:
    """Return the entries in a schema's metadata, migrated to the current format version.

    Without `verify` the checksum of the metadata is not compared. Raises FileError for metadata that is damaged, of a
    newer version, or not of a graph.
    """
    if not metadata or VERSION_KEY not in metadata or INFO_KEY not in metadata:
        raise FileError("it is an Arrow file, but not a cotrace graph; trace a prompt to make one")
    version = _version(metadata[VERSION_KEY])
    if version > FORMAT_VERSION:
        raise FileError(
            f"it has format version {version} and this cotrace reads up to {FORMAT_VERSION}; upgrade cotrace to open it"
        )
    has_checksums = CHECKSUMS_KEY in metadata
    if verify and not (metadata_is_intact(metadata) if has_checksums else version < FIRST_VERSION_WITH_CHECKSUMS):
        raise FileError("its metadata is damaged; copy the file again or trace the prompt again")
    info = migrate(_parse(metadata[INFO_KEY]), version)
    wrong = _wrong_entries(info)
    if wrong:
        raise FileError(f"its metadata lacks or has a wrong {', '.join(wrong)}; trace the prompt again")
    return info


def _version(text: bytes) -> int:
    version = text.decode(errors="replace")
    if version.isdecimal() and len(version) <= MAX_VERSION_DIGITS and int(version) >= OLDEST_VERSION:
        return int(version)
    raise FileError("its metadata is damaged; trace the prompt again")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        info = json.loads(text)
        json.dumps(info, allow_nan=False, ensure_ascii=False).encode()  # no infinities, no broken Unicode
    except (ValueError, RecursionError) as error:
        raise FileError("its metadata is damaged; trace the prompt again") from error
    if not isinstance(info, dict):
        raise FileError("its metadata is damaged; trace the prompt again")
    return info


def _fits(value: Any, shape: Any) -> bool:
    """Return whether decoded JSON has a shape as in `INFO`; integers stay below 2^63."""
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
