"""One node of a Neuronpedia or circuit-tracer graph: which node of ours an object of their JSON is.

Tools write different things into the same fields; `docs/exchange.md` lists them. A feature's index comes from its id where
that fits its layer and position, since ids are what links use, and else from the number in `feature`.
"""

import math
import re
from typing import Any, NamedTuple

from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError, FileError

from ..nodes import parse_node
from ..order import NodeKind
from .foreign_nodes import NONE

FEATURE_TYPE, ERROR_TYPE, TOKEN_TYPE, LOGIT_TYPE = (
    "cross layer transcoder",  # written for per-layer transcoders too
    "mlp reconstruction error",
    "embedding",
    "logit",
)
ATTENTION_TYPES = {"lorsa": NodeKind.FEATURE, "lorsa error": NodeKind.ERROR}
KIND_OF_TYPE = {
    FEATURE_TYPE: NodeKind.FEATURE,
    "unexplored node": NodeKind.FEATURE,
    ERROR_TYPE: NodeKind.ERROR,
    TOKEN_TYPE: NodeKind.TOKEN,
    LOGIT_TYPE: NodeKind.LOGIT,
    **ATTENTION_TYPES,
}
SCHEMA_VERSION = 1
"""The version in which `feature` is a Cantor pair; files without a version have digits, or the index alone."""
OLD_INDEX_DIGITS = 5
OWN_KEY = "cotrace"
"""The entry of their metadata in which cotrace writes its own."""
OWN_ENTRIES = (
    "model",
    "transcoders",
    "settings",
    "traced",
    "pruning",
    "versions",
    "masked_positions",
    "notes",
    "segments",
)
FIELDS = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "token_prob", "is_target_logit", "run_idx"}
FIELDS |= {"reverse_ctx_idx", "jsNodeId", "clerp", "influence", "activation"}

_FEATURE_IDS = (  # circuit-tracer; llamascopium, such as 3_cro_17_5; attribute
    re.compile(r"(?P<layer>\d+)_(?P<index>\d+)_(?P<position>\d+)"),
    re.compile(r"(?P<layer>\d+)_[a-z]{3}_(?P<index>\d+)_(?P<position>\d+)"),
    re.compile(r"intermediate_(?P<position>\d+)_(?P<layer>\d+)_(?P<index>\d+)"),
)
_TOKEN_ID = re.compile(r"E_(?P<token>\d+)_(?P<position>\d+)")
_LOGIT_ID = re.compile(r"(?:-?\d+|L)_(?P<token>\d+)_(?P<position>\d+)")
_LOGIT_TEXT = re.compile(
    r"(?:output|logit)\s*:?\s*([\"'])(?P<text>.*)\1\s*k?\s*\(p=(?P<probability>[-+0-9.eE]+)\)\s*", re.DOTALL | re.I
)
_PLACEHOLDERS = re.compile(r"\s*(F#?\d+|(Err|Emb): .*)?\s*", re.DOTALL)


class JsonNode(NamedTuple):
    """A node as its file has it; `NONE` and NaN mark what it lacks."""

    name: str
    kind: NodeKind
    of_attention: bool
    """True for features and errors of attention, which stand before those of the layer's MLP."""
    layer: int
    position: int
    feature: int
    token: int
    text: str
    """The token of a target."""
    label: str
    activation: float
    probability: float
    influence: float
    extra: dict[str, Any]
    """Entries that are not among `FIELDS`."""


def read_node(entry: Any, schema_version: int | None) -> JsonNode:
    """Return the node of a JSON object. Raises FileError, with its id, for one of an unknown kind or with wrong values."""
    name = node_id(entry)
    kind_text = entry.get("feature_type")
    if not isinstance(kind_text, str) or kind_text not in KIND_OF_TYPE:
        raise FileError(f"node {name!r} is of the unknown kind {kind_text!r}; known are {', '.join(KIND_OF_TYPE)}")
    kind, position = KIND_OF_TYPE[kind_text], _integer(entry, name, "ctx_idx")
    in_mlp = kind in (NodeKind.FEATURE, NodeKind.ERROR)
    layer = _layer(entry, name, required=in_mlp)
    feature = _feature_index(entry, name, layer, position, schema_version) if kind is NodeKind.FEATURE else NONE
    clerp, probability = _text(entry, name, "clerp"), _number(entry, name, "token_prob")
    token, text = NONE, ""
    if kind is NodeKind.TOKEN:
        token = _token_of_id(_TOKEN_ID, name, position)
    elif kind is NodeKind.LOGIT:
        token = _logit_token(entry, name, position)
        text, probability = _logit_text(entry, name, clerp, token, probability)
    return JsonNode(
        name=name,
        kind=kind,
        of_attention=kind_text in ATTENTION_TYPES,
        layer=layer,
        position=position,
        feature=feature,
        token=token,
        text=text,
        label=label_of(clerp) if in_mlp else "",
        activation=_number(entry, name, "activation") if kind is NodeKind.FEATURE else math.nan,
        probability=probability if kind is NodeKind.LOGIT else math.nan,
        influence=_number(entry, name, "influence"),
        extra={key: value for key, value in entry.items() if key not in FIELDS},
    )


def node_id(entry: Any) -> str:
    """Return the id of a JSON object. Raises FileError for anything but an object with a text as id."""
    name = entry.get("node_id") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise FileError(f"a node has no text as `node_id` ({str(entry)[:60]!a}); export it again")
    check_unicode(name, "export it again", FileError)
    return name


def label_of(clerp: str) -> str:
    """Return the label that a node's `clerp` is: empty for placeholders, in quotes if it would read as a node."""
    if _PLACEHOLDERS.fullmatch(clerp):
        return ""
    return as_name(clerp)


def as_name(text: str) -> str:
    """Return a text as a name of nodes: in quotes if it would read as a node."""
    return f'"{text}"' if _reads_as_node(text) else text


def clerp_of(label: str) -> str:
    """Return the `clerp` of a label; the inverse of `label_of`."""
    inner = label[1:-1] if len(label) > 2 and label[0] == label[-1] == '"' else label
    return inner if _reads_as_node(inner) else label


def newest_id(node: JsonNode) -> str:
    """Return the id that the newest circuit-tracer gives a feature, an error node or a token."""
    if node.kind is NodeKind.TOKEN:
        return f"E_{node.token}_{node.position}"
    return f"{node.layer}_{node.feature}_{node.position}"  # an error node has the feature -1


def _reads_as_node(text: str) -> bool:
    if text.strip().isdecimal():
        return True
    try:
        parse_node(text)
    except ArgumentError:
        return False
    return True


def cantor_pair(layer: int, index: int) -> int:
    """Return the Cantor pair of a layer and a feature's index: `(l + i)(l + i + 1) / 2 + i`."""
    return (layer + index) * (layer + index + 1) // 2 + index


def cantor_unpair(pair: int) -> tuple[int, int]:
    """Return the layer and the index whose Cantor pair a number is, exactly for numbers of any size."""
    total = (math.isqrt(8 * pair + 1) - 1) // 2
    index = pair - total * (total + 1) // 2
    return total - index, index


def _feature_index(entry: dict[str, Any], name: str, layer: int, position: int, version: int | None) -> int:
    for pattern in _FEATURE_IDS:
        match = pattern.fullmatch(name)
        if match and int(match["layer"]) == layer and int(match["position"]) == position:
            return int(match["index"])
    number = entry.get("feature")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise FileError(f"the feature of node {name!r} is {number!r}, no number of a feature; export it again")
    if cantor_unpair(number)[0] == layer:
        return cantor_unpair(number)[1]
    if version == SCHEMA_VERSION:
        raise FileError(f"the feature of node {name!r} is no Cantor pair of its layer {layer}; export it again")
    first, index = divmod(number, 10**OLD_INDEX_DIGITS)
    return index if first == layer else number


def _layer(entry: dict[str, Any], name: str, *, required: bool) -> int:
    """Return the layer, which is a number or its digits; `NONE` for words such as E where it is not required."""
    layer = entry.get("layer")
    if isinstance(layer, str) and layer.isdecimal() and len(layer) < 10:
        return int(layer)
    if isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0:
        return layer
    if required:
        raise FileError(f"the layer of node {name!r} is {layer!r}, no number of a layer; export it again")
    return NONE


def _logit_token(entry: dict[str, Any], name: str, position: int) -> int:
    number = entry.get("feature")
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        return number
    return _token_of_id(_LOGIT_ID, name, position)


def _token_of_id(pattern: re.Pattern[str], name: str, position: int) -> int:
    match = pattern.fullmatch(name)
    return int(match["token"]) if match and int(match["position"]) == position else NONE


def _logit_text(entry: dict[str, Any], name: str, clerp: str, token: int, probability: float) -> tuple[str, float]:
    """Return the token of a target and its probability, from their own fields or from its description."""
    match = _LOGIT_TEXT.fullmatch(clerp)
    if match and (math.isnan(probability) or probability == 0):
        try:
            probability = float(match["probability"])
        except ValueError:
            probability = math.nan
    if probability < 0 or math.isinf(probability):
        raise FileError(f"the probability of node {name!r} is {probability}; export it again")
    text = _text(entry, name, "token") or (match["text"] if match else clerp)
    return text or (f"token {token}" if token != NONE else name), probability


def _text(entry: dict[str, Any], name: str, key: str) -> str:
    text = entry.get(key)
    if text is not None and not isinstance(text, str):
        raise FileError(f"{key} of node {name!r} is not a text; export it again")
    check_unicode(text or "", f"correct {key} of node {name!r}", FileError)
    return text or ""


def _integer(entry: dict[str, Any], name: str, key: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FileError(f"{key} of node {name!r} is {value!r}; it must be a number of a token; export it again")
    return value


def _number(entry: dict[str, Any], name: str, key: str) -> float:
    """Return a number; NaN for one that is missing or null."""
    value = entry.get(key)
    if value is None:
        return math.nan
    try:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise FileError(f"{key} of node {name!r} is {value!r}; it must be a finite number; export it again")
    except OverflowError as error:
        raise FileError(f"{key} of node {name!r} is too large; export it again") from error
    return float(value)
