"""Files of effects: one Arrow IPC file with a row for each node, a column of effects for each target, and metadata."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError, CotraceError, FileError, one_line

from .checksums import CHECKSUMS_KEY, damaged_columns, metadata_is_intact
from .effect_data import NODE_FIELDS, NODE_KINDS, EffectData
from .json_metadata import NUMBER, decode_entries, encode_entries, require_exact, wrong_entries
from .metadata import EFFECTS_KEY
from .metadata import VERSION_KEY as GRAPH_KEY
from .packed import ARROW_MAGIC, PACKED_SUFFIX, read_head
from .segments import parse_segments
from .store import read_table, save_table

FORMAT_VERSION = 1
AGAIN = "compute the effects again"
EFFECT, THROUGH_QK = "effect_", "through_qk_"  # then the row of the ledger
MAX_LAYERS = 10_000  # of any model; a damaged number is mostly larger
ENTRIES: dict[str, Any] = {
    "version": int,
    "targets": [
        {
            "target": int,
            "label": str,
            "kind": str,
            "position": int,
            "probability": (*NUMBER, None),
            "token_ids": [int],
            "avoiding": str,
            "value": NUMBER,
            "bias": NUMBER,
        }
    ],
    "info": {
        "model": {"name": str},
        "transcoders": {"name": str},
        "prompt": str,
        "tokens": [str],
        "token_ids": [int],
        "masked_positions": [int],
        "settings": {},
    },
}


def save_effects(effects: EffectData, path: Path) -> Path:
    """Write effects to a file, atomically, and return its path; errors as `Effects.save`."""
    biases = [float(bias) for bias in effects.bias_K]
    targets = [{**row, "bias": bias} for row, bias in zip(effects.targets, biases, strict=True)]
    entries = {"version": FORMAT_VERSION, "targets": targets, "info": effects.info}
    try:
        require_exact(entries)
        encoded = encode_entries(entries)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"these effects cannot be saved ({error}); undo the edit of their info or targets"
        ) from error
    wrong = wrong_entries(decode_entries(encoded), ENTRIES)
    if wrong:
        raise ArgumentError(f"the {wrong[0]} of these effects lacks an entry or has a wrong one; undo the edit")
    save_table(_as_table(effects).replace_schema_metadata({EFFECTS_KEY: encoded}), path)
    return path


def read_effects(path: Path, verify: bool = True) -> EffectData:
    """Return the effects in a file; errors as `Effects.open`."""
    with _naming(path):
        if not path.is_file():
            raise FileError("it does not exist or is not a file; `cotrace effects` writes files of effects")
        table = read_table(path)
        entries = _entries(table.schema.metadata or {}, verify)
        _check_columns(table, len(entries["targets"]))
        table.validate(full=True)
        if verify and (damaged := damaged_columns(table, table.column_names)):
            raise FileError(f"its columns {', '.join(damaged)} are damaged; copy the file again or {AGAIN}")
        return _from_table(table, entries)


def is_effects_file(path: Path) -> bool:
    """Return whether a file has the metadata of effects; False for every file that cannot be read. Unpacks nothing."""
    try:
        if path.suffix == PACKED_SUFFIX:
            with pa.input_stream(str(path), compression="zstd") as source:
                head, _ = read_head(source)
            found = pa.ipc.open_stream(pa.py_buffer(head[len(ARROW_MAGIC) :])).schema
        else:
            found = read_table(path).schema
    except Exception:  # Arrow raises errors of many kinds for damaged bytes; who opens the file names them
        return False
    return EFFECTS_KEY in (found.metadata or {})


def _as_table(effects: EffectData) -> pa.Table:
    table = effects.nodes
    for prefix, value_KM in ((EFFECT, effects.effect_KM), (THROUGH_QK, effects.through_qk_KM)):
        for k, value_M in enumerate([] if value_KM is None else value_KM):
            values = pa.array(value_M)
            table = table.append_column(pa.field(f"{prefix}{k}", values.type, nullable=False), values)
    return table


def _from_table(table: pa.Table, entries: dict[str, Any]) -> EffectData:
    targets, info = entries["targets"], entries["info"]
    _check_nodes(table, info)

    def values(prefix: str) -> np.ndarray:
        stacked = [table[f"{prefix}{k}"].to_numpy() for k in range(len(targets))]
        if not all(np.isfinite(value_M).all() for value_M in stacked):
            raise FileError(f"it has effects that are not finite; {AGAIN}")
        return np.stack(stacked)

    bias_K = np.array([row.pop("bias") for row in targets], np.float64)
    through_qk_KM = values(THROUGH_QK) if f"{THROUGH_QK}0" in table.column_names else None
    nodes = table.select([field.name for field in NODE_FIELDS]).replace_schema_metadata(None)
    return EffectData(targets, nodes, values(EFFECT), bias_K, info, through_qk_KM)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to errors, and turn those that damaged values cause into FileError."""
    try:
        yield
    except CotraceError as error:
        text = str(error).replace("trace the prompt again", AGAIN)
        raise type(error)(f"cannot open {path}: {text}") from error
    except (pa.ArrowException, ValueError) as error:
        raise FileError(f"cannot open {path}: it is damaged ({one_line(error)}); {AGAIN}") from error


def _entries(metadata: dict[bytes, bytes], verify: bool) -> dict[str, Any]:
    """Return the metadata. Raises FileError for metadata that is damaged, of a newer version, or not of effects."""
    if EFFECTS_KEY not in metadata:
        graph = "it is a graph; open it with cotrace.open, and call its effects()"
        raise FileError(graph if GRAPH_KEY in metadata else "it is an Arrow file, but has no effects of cotrace")
    try:
        entries = decode_entries(metadata[EFFECTS_KEY])
    except ValueError as error:
        raise FileError(f"its metadata is damaged; {AGAIN}") from error
    if type(entries.get("version")) is int and entries["version"] > FORMAT_VERSION:
        raise FileError(
            f"it has format version {entries['version']} and this cotrace reads up to {FORMAT_VERSION}; upgrade cotrace"
        )
    if verify and not (CHECKSUMS_KEY in metadata and metadata_is_intact(metadata)):
        raise FileError(f"its metadata is damaged; copy the file again or {AGAIN}")
    wrong = wrong_entries(entries, ENTRIES)
    if wrong:
        raise FileError(f"its metadata lacks or has a wrong {', '.join(wrong)}; {AGAIN}")
    _check_info(entries["targets"], entries["info"])
    return entries


def _check_info(targets: list[dict[str, Any]], info: dict[str, Any]) -> None:
    """Raise FileError unless targets, tokens and segments fit together."""
    n_positions, numbers = len(info["tokens"]), range(len(targets))
    if n_positions != len(info["token_ids"]):
        raise FileError(f"its tokens do not fit its prompt; {AGAIN}")
    inside = all(row["target"] in numbers and 0 <= row["position"] < n_positions for row in targets)
    if not targets or not inside:
        raise FileError(f"it has no targets, or one outside the prompt; {AGAIN}")
    try:
        parse_segments(info["settings"].get("segments"), n_positions)
    except ArgumentError as error:
        raise FileError(f"its segments are damaged ({error}); {AGAIN}") from error


def _check_columns(table: pa.Table, n_targets: int) -> None:
    """Raise FileError unless a table has the columns of effects, in their order."""
    n_nodes_fields = len(NODE_FIELDS)
    names = [f"{EFFECT}{k}" for k in range(n_targets)]
    if len(table.column_names) > n_nodes_fields + n_targets:
        names += [f"{THROUGH_QK}{k}" for k in range(n_targets)]
    fields = list(table.schema)
    floats = {field.type for field in fields[n_nodes_fields:]}
    if (
        [str(field) for field in fields[:n_nodes_fields]] != [str(field) for field in NODE_FIELDS]
        or table.column_names[n_nodes_fields:] != names
        or not floats <= {pa.float32(), pa.float64()}
    ):
        raise FileError(f"its columns are not those of effects; {AGAIN}")


def _n_layers(info: dict[str, Any]) -> int:
    """Return the number of layers that nodes may be in: sums and pictures need memory for each."""
    recorded = info["model"].get("n_layers")
    return min(recorded, MAX_LAYERS) if type(recorded) is int else MAX_LAYERS


def _check_nodes(table: pa.Table, info: dict[str, Any]) -> None:
    """Raise FileError unless kinds, layers, positions and features are there for the right nodes, and in range."""
    complete = [name for name in table.column_names if name not in ("layer", "feature", "token")]
    kind = table["kind"].chunk(0)
    if any(table[name].null_count for name in complete) or kind.dictionary.to_pylist() != list(NODE_KINDS):
        raise FileError(f"a column that must be complete has nulls, or its kinds are unknown; {AGAIN}")
    code_M, position_M = kind.indices.to_numpy(), table["position"].to_numpy()
    layer_M, feature_M = (table[name].fill_null(-1).to_numpy() for name in ("layer", "feature"))
    is_token_M, is_feature_M = code_M == NODE_KINDS.index("token"), code_M == NODE_KINDS.index("feature")
    if (
        ((layer_M < 0) != is_token_M).any()
        or (layer_M >= _n_layers(info)).any()
        or ((feature_M < 0) == is_feature_M).any()
        or (position_M < 0).any()
        or (position_M >= len(info["tokens"])).any()
    ):
        raise FileError(f"a node lies outside the prompt or the model, or lacks a layer or feature; {AGAIN}")
