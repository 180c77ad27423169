"""Write labels to the files of a store."""

from collections.abc import Mapping

import pyarrow as pa

from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError
from cotrace.graphs.labels import LABEL_SOURCES, RANKS, Label, LabelSource

from .files import write_part
from .label import LABEL_COLUMNS, FeatureLabel
from .parts import StoreParts
from .schema import FEATURES, file_of

Row = dict[str, str | float | None]


def add_labels(store: StoreParts, labels: Mapping[tuple[int, int], str | Label], source: LabelSource) -> int:
    """Write labels by (layer, feature) to a store, except where one of a stronger source is; return the number of changes.

    An empty text removes a label. Raises ArgumentError for an unknown source, and for a label that is not a text.
    """
    given = {key: _checked(key, label, source) for key, label in labels.items()}
    changed = 0
    for layer in sorted({layer for layer, _ in given}):
        rows = store.features(layer, LABEL_COLUMNS).to_pylist()
        before = changed
        for (at, feature), label in given.items():
            if at == layer and RANKS[label.source] >= RANKS[rows[feature]["label_source"]]:
                rows[feature] = as_row(FeatureLabel(*label))
                changed += 1
        if changed > before:
            write_label_columns(store, layer, rows)
    return changed


def _checked(key: tuple[int, int], label: str | Label, source: LabelSource) -> Label:
    text, origin = label if isinstance(label, tuple) else (label, source)
    if origin not in LABEL_SOURCES:
        raise ArgumentError(f"invalid source {origin!r}: expected one of {', '.join(LABEL_SOURCES)}")
    if not isinstance(text, str):
        raise ArgumentError(f"invalid label {text!r} of L{key[0]}#{key[1]}: expected a text")
    check_unicode(text, "write the label again")
    return Label(text.strip(), origin)


def as_row(label: FeatureLabel | None) -> Row:
    """Return a label as the columns of a store; None, and a label without text, as columns without one."""
    if label is None or not label.text:
        return {"label": "", "label_source": "", "label_score": None, "label_null": None}
    return dict(zip(LABEL_COLUMNS, label, strict=True))


def write_label_columns(store: StoreParts, layer: int, rows: list[Row]) -> None:
    """Replace the labels of all features of a layer. Raises FileError or ResourceError where they cannot be written."""
    table = store.features(layer)
    for name in LABEL_COLUMNS:
        field = FEATURES.field(name)
        table = table.set_column(
            FEATURES.get_field_index(name), field, pa.array([row[name] for row in rows], field.type)
        )
    write_part(store.path / file_of("features", layer), table)
