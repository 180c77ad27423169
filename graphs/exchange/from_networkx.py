"""Graphs from NetworkX graphs: those that `to_networkx` made, also after a file of NetworkX's, and others with its attributes."""

import itertools
import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from cotrace.common.errors import ArgumentError, CotraceError, FileError, one_line

from ..graph import Graph
from ..json_metadata import wrong_entries
from ..metadata import INFO
from ..order import KINDS, NodeKind
from ..schema import DRAWS, EFFECTS, INTEGERS, LEFT_OUT, NULLABLE_VALUES, SAMPLED
from .assemble import assemble
from .foreign_nodes import NONE, ForeignEdges, ForeignNodes

NAMES = {name: NodeKind(code) for code, name in enumerate(KINDS)}
TEXT_ATTRIBUTES = {"text": "text", "label": "node_label", "label_source": "label_source"}
KEPT = ("influence", "influence_bound")
NEEDED = "layer, position and feature as integers, kind, text and token as `Graph.to_networkx` writes them"


def from_networkx(graph: nx.DiGraph) -> Graph:
    """Return the graph that a NetworkX graph with the attributes of `to_networkx` is.

    Nodes need `kind`, and by kind `layer`, `position` and `feature`; edges need `weight`. Other attributes are columns of
    the node table; those that are missing are empty, and influence is then computed from the edges. The text `info` of
    `.graph` is the metadata; without it, tokens and targets are those of the nodes. Nodes may have been removed: tokens
    that are missing come back, and weights of targets that are left are scaled to sum to 1.

    Raises ArgumentError, with names of nodes, for graphs that are not directed, for attributes that are missing or of
    another type, and for edges that no graph has.
    """
    if not isinstance(graph, nx.Graph) or not graph.is_directed():
        raise ArgumentError(
            "it is not a directed NetworkX graph; use networkx.DiGraph, with edges from source to target"
        )
    try:
        return _converted(graph)
    except CotraceError as error:
        raise ArgumentError(f"cannot convert this NetworkX graph: {error}") from error


def read_graphml(path: Path) -> Graph:
    """Return the graph in a GraphML file that `cotrace export` wrote. Raises FileError for other files."""
    try:
        graph: Any = nx.read_graphml(path)
        return from_networkx(graph)
    except CotraceError as error:
        raise FileError(str(error)) from error
    except Exception as error:  # NetworkX and the XML parser raise errors of many kinds
        raise FileError(f"it is no GraphML that NetworkX can read ({one_line(error)}); export it again") from error


def _converted(graph: nx.DiGraph) -> Graph:
    nodes, attributes = ForeignNodes(), dict(graph.nodes(data=True))
    for name, entries in attributes.items():
        _add(nodes, name, entries)
    places = {name: place for place, name in enumerate(attributes)}
    numbers = {entries.get("node", name): places[name] for name, entries in attributes.items()}
    info = _given_info(graph)
    if info is None:
        info, numbers = _info_of(nodes), {place: place for place in places.values()}
    _restore_tokens(nodes, info)
    info["targets"] = _targets(info["targets"], numbers)
    if len(info["targets"]) < len(graph) or numbers != {number: number for number in range(len(nodes))}:
        info.pop("validation", None)  # it uses the old node numbers
    info.pop("heads", None)
    columns = _columns(nodes, list(attributes.values()), len(info["targets"]))
    columns |= _sampled_columns(graph, nodes, info.get("traced", {}))
    return assemble(nodes, _edges(graph, places), info, columns)


def _add(nodes: ForeignNodes, name: Any, entries: Mapping[str, Any]) -> None:
    kind = NAMES.get(entries.get("kind", ""))
    if kind is None:
        raise FileError(f"node {name!r} is of the unknown kind {entries.get('kind')!r}; known are {', '.join(KINDS)}")
    required = {"position"} | ({"layer"} if kind <= NodeKind.ERROR else set())
    required |= {"feature"} if kind is NodeKind.FEATURE else set()
    integers = {key: _integer(name, key, entries.get(key), key in required) for key in INTEGERS}
    values = {key: _value(name, key, entries.get(key)) for key in (*NULLABLE_VALUES, "dropped")}
    texts = {column: str(entries.get(key, "")) for column, key in TEXT_ATTRIBUTES.items()}
    nodes.add(str(name), kind, **integers, **values, **texts)


def _integer(name: Any, key: str, value: Any, required: bool) -> int:
    if value is None and not required:
        return NONE
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if not whole or isinstance(value, bool) or value < 0:
        raise FileError(f"{key} of node {name!r} is {value!r}; nodes need {NEEDED}")
    return int(value)


def _value(name: Any, key: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise FileError(f"{key} of node {name!r} is {value!r}; it must be a finite number")
    return float(value)


def _edges(graph: nx.DiGraph, places: Mapping[Any, int]) -> ForeignEdges:
    ends: list[tuple[int, int]] = []
    weights: list[float] = []
    weight: Any
    for source, target, weight in graph.edges(data="weight"):
        ends.append((places[source], places[target]))
        if isinstance(weight, bool) or not isinstance(weight, Real):
            raise FileError(f"the edge from {source!r} to {target!r} has the weight {weight!r}; it must be a number")
        weights.append(float(weight))
    source_target = np.array(ends, np.int64).reshape(-1, 2)
    return ForeignEdges(source_target[:, 0], source_target[:, 1], np.array(weights, np.float64))


def _given_info(graph: nx.DiGraph) -> dict[str, Any] | None:
    """Return the metadata in the graph's attribute `info`, None without it."""
    text = graph.graph.get("info")
    if text is None:
        return None
    try:
        info = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(
            f"its attribute `info` is not the metadata of a graph ({one_line(error)}); remove it"
        ) from error
    wrong = wrong_entries(info, INFO) if isinstance(info, dict) else ["JSON object"]
    if wrong or len(info["tokens"]) != len(info["token_ids"]):
        raise FileError(f"its attribute `info` lacks or has a wrong {', '.join(wrong) or 'token_ids'}; remove it")
    return info


def _info_of(nodes: ForeignNodes) -> dict[str, Any]:
    """Return metadata for a graph without any: tokens and targets from its nodes."""
    rows = list(zip(nodes.kinds, nodes.integers["position"], nodes.integers["token"], nodes.texts["text"], strict=True))
    length = 1 + max([position for _, position, _, _ in rows], default=0)
    tokens, token_ids = [""] * length, [NONE] * length
    for kind, position, token, text in rows:
        if kind is NodeKind.TOKEN:
            tokens[position], token_ids[position] = text, token
    places = [place for place, row in enumerate(rows) if row[0] is NodeKind.LOGIT]
    if not places:
        raise FileError("it has no node of the kind 'logit': there are no targets that the graph explains")
    probabilities = np.nan_to_num([nodes.values["probability"][place] for place in places])
    weights = probabilities if probabilities.sum() > 0 else np.ones(len(places))
    return {
        "model": {"name": "unknown", "n_layers": 1 + max(nodes.integers["layer"], default=0)},
        "transcoders": {"name": "unknown"},
        "prompt": "".join(tokens),
        "token_ids": token_ids,
        "tokens": tokens,
        "position": max(rows[place][1] for place in places),
        "masked_positions": [],
        "targets": [
            {"node": place, "kind": "token", "label": rows[place][3], "weight": weight, "probability": probability}
            for place, weight, probability in zip(
                places, (weights / weights.sum()).tolist(), probabilities.tolist(), strict=True
            )
        ],
        "settings": {},
        "pruning": None,
        "versions": {},
    }


def _restore_tokens(nodes: ForeignNodes, info: Mapping[str, Any]) -> None:
    """Give tokens their texts from the metadata, which holds every character, and add those that are missing."""
    present = set()
    for place, (kind, position) in enumerate(zip(nodes.kinds, nodes.integers["position"], strict=True)):
        if kind is NodeKind.TOKEN and position < len(info["tokens"]):
            present.add(position)
            nodes.texts["text"][place] = info["tokens"][position]
    for position in sorted(set(range(len(info["tokens"]))) - present):
        token = {"token": info["token_ids"][position], "text": info["tokens"][position]}
        nodes.add(f"token@{position}", NodeKind.TOKEN, position=position, **token)


def _targets(targets: list[dict[str, Any]], numbers: Mapping[Any, int]) -> list[dict[str, Any]]:
    """Return the targets whose nodes are left, by place, with weights that sum to 1."""
    left = [{**each, "node": numbers[each["node"]]} for each in targets if each["node"] in numbers]
    total = sum(each["weight"] for each in left)
    if not left or not total > 0:
        raise FileError("none of its targets is left; keep a node of the kind 'logit'")
    return left if len(left) == len(targets) else [{**each, "weight": each["weight"] / total} for each in left]


def _sampled_columns(graph: nx.DiGraph, nodes: ForeignNodes, traced: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the columns of a graph from sampled rows; draws are for the whole graph only, as in every smaller graph."""

    def numbers(name: str) -> list[float]:
        return [_value(node, name, entries.get(name)) for node, entries in graph.nodes.items()]

    values = {name: np.array(numbers(name), np.float64) for name in SAMPLED}
    complete = [np.isfinite(values[name]).all() for name in SAMPLED if name != "inclusion"]
    if "sampling" not in traced or len(nodes) > len(graph) or not all(complete):
        return {}
    if (traced["nodes"], traced["edges"]) == (len(graph), graph.number_of_edges()):
        present = {key for entries in graph.nodes.values() for key in entries}
        keys = itertools.takewhile(present.__contains__, (f"{DRAWS}_{replicate}" for replicate in itertools.count()))
        values[DRAWS] = np.array([numbers(key) for key in keys], np.float64).reshape(-1, len(graph))
    return values


def _columns(nodes: ForeignNodes, attributes: list[Mapping[str, Any]], n_targets: int) -> dict[str, np.ndarray]:
    """Return columns that are kept as they are if every node has them: influence, whether computed, effects."""
    added = len(nodes) - len(attributes)  # tokens
    found: dict[str, np.ndarray] = {}
    if not added and all(isinstance(entries.get(name), Real) for entries in attributes for name in KEPT):
        found |= {name: np.array([entries[name] for entries in attributes], np.float64) for name in KEPT}
        if all(entries.get("computed") in (False, True) for entries in attributes):  # GML writes 0 and 1
            found["computed"] = np.array([entries["computed"] for entries in attributes], np.bool_)
    if not added and all(isinstance(entries.get(LEFT_OUT), Real) for entries in attributes):
        found[LEFT_OUT] = np.array([entries[LEFT_OUT] for entries in attributes], np.float64)
    editable = [entries for entries in attributes if entries["kind"] != KINDS[NodeKind.LOGIT]]
    for effect in EFFECTS:
        keys = [f"{effect}_{number}" for number in range(n_targets)]
        if not added and all(isinstance(entries.get(key), Real) for entries in editable for key in keys):
            found[effect] = np.array([[entries.get(key, 0.0) for entries in attributes] for key in keys], np.float64)
    return found
