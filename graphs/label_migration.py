"""The columns of labels for tables of format versions before 5, which kept labels in the column `text`.

Version 4 kept the top output tokens of features in the metadata, as `feature_names`.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import FileError

from .json_metadata import wrong_entries
from .labels import output_label
from .nodes import Feature
from .order import KINDS
from .schema import KIND_TYPE, LABELS

FIRST_VERSION_WITH_LABELS = 5
FEATURE_NAMES = "feature_names"
_NEEDED = {"kind": KIND_TYPE, "text": pa.string(), "layer": pa.int32(), "feature": pa.int32()}


def with_label_columns(table: pa.Table, info: dict[str, Any]) -> pa.Table:
    """Return an older table with the columns of labels, and remove what they replace from its metadata `info`.

    Texts of features and error nodes become the user's labels; names of other features, labels from outputs. A table
    without the columns that this needs is returned as it is, for a check of its columns.

    Raises FileError for damaged names of features, ArrowException for damaged columns.
    """
    if any(name not in table.column_names or table.schema.field(name).type != _NEEDED[name] for name in _NEEDED):
        return table
    for name in _NEEDED:
        table[name].validate(full=True)
    if wrong_entries(info, {f"{FEATURE_NAMES}?": {"*": [str]}}):
        raise FileError(f"its metadata has a wrong {FEATURE_NAMES}; trace the prompt again")
    kinds = table["kind"].combine_chunks()
    is_labelled = np.isin(kinds.dictionary_decode().to_numpy(zero_copy_only=False), KINDS[:2])
    texts = table["text"].to_numpy()
    label = np.where(is_labelled, texts, "")
    source = np.where(label != "", "user", "").astype(object)
    _add_names(label, source, table, info.pop(FEATURE_NAMES, {}))
    index = table.schema.get_field_index("text")
    columns = {"text": np.where(is_labelled, "", texts), "label": label, "label_source": source}
    table = table.remove_column(index)
    for place, name in enumerate(("text", *LABELS)):
        table = table.add_column(index + place, pa.field(name, pa.string(), nullable=False), pa.array(columns[name]))
    return table


def _add_names(label: np.ndarray, source: np.ndarray, table: pa.Table, names: dict[str, list[str]]) -> None:
    """Label the features that have a name and no label."""
    for node, (layer, feature) in enumerate(
        zip(*(table[name].to_pylist() for name in ("layer", "feature")), strict=True)
    ):
        tokens = None if feature is None or label[node] else names.get(str(Feature(layer, feature)))
        if tokens:
            label[node], source[node] = output_label(tokens), "outputs"
