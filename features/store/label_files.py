"""Labels from files: tables of features and labels, and explanations of features as Neuronpedia exports them.

A file is JSON, JSON lines, CSV or TSV, or one of these in gzip. Its records name a feature and a label:

- `{"L17#264": "not cold"}`, a JSON object of labels by feature;
- records or rows with `feature` (`L17#264`) and `label`, or `layer`, `feature` and `label`;
- Neuronpedia's explanations (`modelId`, `layer` such as `17-gemmascope-2-clt-16k`, `index`, `description`), its features
  (with a list `explanations`), and the nodes of its graphs (`node_id`, `clerp`).

CSV and TSV may have no header: then a row is a feature and a label.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError, FileError, one_line
from cotrace.graphs.labels import Label
from cotrace.graphs.nodes import Feature

TEXT_KEYS = ("label", "description", "explanation", "text", "clerp")
FEATURE_KEYS = ("feature", "node", "name", "node_id")
NUMBER_KEYS = ("feature", "index", "feature_index")
LIST_KEYS = ("explanations", "features", "labels", "nodes")
NEURONPEDIA_KEYS = ("modelId", "explanations", "node_id")
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
LINES = (".jsonl", ".ndjson")
CURE = "expected records with a feature such as L17#264 and a label; see the page on features in the documentation"

_LAYER = re.compile(r"\s*(?:[Ll]|layer[ _]?)?([0-9]{1,6})(?:-.*)?\s*")  # 17, L17, 17-gemmascope-2-clt-16k
_NODE_ID = re.compile(r"([0-9]{1,6})_([0-9]{1,9})_[0-9]{1,6}")


def read_label_file(path: str | Path) -> dict[tuple[int, int], Label]:
    """Return the labels in a file by (layer, feature); their source is "neuronpedia" or "file".

    Of several explanations of a feature by Neuronpedia, the first one is taken. Records without a label are skipped, and of a
    graph all nodes that are not features.

    Raises FileError if the file cannot be read, is not of a known layout, has no labels, or labels a feature twice.
    """
    file = Path(path)
    labels: dict[tuple[int, int], Label] = {}
    for number, record in enumerate(_records(file), 1):
        try:
            found = _label_of(record)
        except ArgumentError as error:
            raise FileError(f"{file}, record {number}: {error}") from error
        if found is None:
            continue
        key, label = found
        if key in labels and label.source != "neuronpedia" and labels[key].text != label.text:
            raise FileError(
                f"{file}, record {number}: L{key[0]}#{key[1]} has two labels, {labels[key].text!r} and {label.text!r}; "
                "keep one"
            )
        labels.setdefault(key, label)
    if not labels:
        raise FileError(f"{file} has no labels of features: {CURE}")
    return labels


def _label_of(record: Any) -> tuple[tuple[int, int], Label] | None:
    """Return the feature and the label of a record, None if it has no label. Raises ArgumentError for another record."""
    if not isinstance(record, Mapping):
        raise ArgumentError(f"{str(record)[:40]!r} is not a record; {CURE}")
    text = _text_of(record)
    key = _feature_of(record)
    if key is None or not text:
        return None
    return key, Label(text, "neuronpedia" if any(name in record for name in NEURONPEDIA_KEYS) else "file")


def _text_of(record: Mapping[str, Any]) -> str:
    explanations = record.get("explanations")
    if isinstance(explanations, list):
        record = next((each for each in explanations if isinstance(each, Mapping) and _text_of(each)), {})
        return _text_of(record)
    given = next((record[name] for name in TEXT_KEYS if record.get(name) is not None), "")
    if not isinstance(given, str):
        raise ArgumentError(f"the label {given!r} is not a text")
    check_unicode(given, "write the label again")
    return " ".join(given.split())


def _feature_of(record: Mapping[str, Any]) -> tuple[int, int] | None:
    if "node_id" in record and "clerp" in record:
        match = _NODE_ID.fullmatch(str(record["node_id"]))
        return (int(match[1]), int(match[2])) if match else None
    number = next((record[name] for name in NUMBER_KEYS if record.get(name) is not None), None)
    if record.get("layer") is not None and number is not None:
        layer = _LAYER.fullmatch(str(record["layer"]))
        if layer is not None and re.fullmatch(r"\s*#?[0-9]{1,9}\s*", str(number)):
            return int(layer[1]), int(str(number).strip().removeprefix("#"))
        raise ArgumentError(f"layer {record['layer']!r} and feature {number!r} are not numbers; {CURE}")
    name = next((record[name] for name in FEATURE_KEYS if isinstance(record.get(name), str)), None)
    if name is None:
        raise ArgumentError(f"it names no feature ({', '.join(map(str, list(record)[:5])) or 'empty'}); {CURE}")
    feature = Feature.parse(name)
    return feature.layer, feature.feature


def _records(path: Path) -> Iterator[Any]:
    text, suffix = _read(path)
    try:
        if suffix in DELIMITERS:
            yield from _rows(text, DELIMITERS[suffix])
        elif suffix in LINES:
            yield from (_decoded(line) for line in text.splitlines() if line.strip())
        elif suffix == ".json" or text.lstrip()[:1] in ("{", "["):
            yield from _listed(_decoded(text))
        else:
            raise FileError(f"{path} is not a file of labels: use .json, .jsonl, .csv or .tsv")
    except FileError:
        raise
    except (ValueError, csv.Error, RecursionError) as error:  # ValueError: not JSON, or a number of thousands of digits
        raise FileError(f"{path} is damaged ({one_line(error)}); write it again") from error


def _decoded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError if it has a key twice: of two labels of a feature, one would be lost."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is in it twice")
    return entries


def _read(path: Path) -> tuple[str, str]:
    """Return the text of a file and the ending that names its layout."""
    packed = path.suffix == ".gz"
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if packed else content).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist; check the path of the labels") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"cannot read {path}: {one_line(error)}; check the path of the labels") from error
    return text, (path.with_suffix("") if packed else path).suffix.lower()


def _listed(value: Any) -> Iterable[Any]:
    """Return the records of decoded JSON."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    listed = next((value[name] for name in LIST_KEYS if isinstance(value.get(name), list | dict)), None)
    if listed is not None and "index" not in value:
        return _listed(listed)
    if any(name in value for name in (*NEURONPEDIA_KEYS, *TEXT_KEYS)):
        return [value]
    return [{"feature": name, **(each if isinstance(each, dict) else {"label": each})} for name, each in value.items()]


def _rows(text: str, delimiter: str) -> Iterator[dict[str, str]]:
    """Return the rows of a table; without a header, the first column is the feature and the second the label."""
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    if not rows:
        return
    header = [name.strip() for name in rows[0]]
    if not {name.casefold() for name in header} & set(TEXT_KEYS):
        header, rows = ["feature", "label"], [[], *rows]
    names = {name.casefold(): name.casefold() for name in header} | {"modelid": "modelId"}
    for row in rows[1:]:
        if len(row) > len(header):
            shown = delimiter.join(row)[:40]
            raise csv.Error(f"more columns than the header in {shown!r}: put labels with commas in quotes")
        yield {names[name.casefold()]: value for name, value in zip(header, row, strict=False)}
