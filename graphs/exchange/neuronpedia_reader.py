"""Graphs in the JSON of Neuronpedia and circuit-tracer, read in all known variants."""

import itertools
import math
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.common.errors import FileError

from ..graph import Graph
from ..json_metadata import require_exact, wrong_entries
from ..labels import LABEL_SOURCES
from ..metadata import INFO
from ..nodes import ErrorNode, Feature, Token
from ..order import NodeKind
from .assemble import assemble
from .foreign_nodes import NONE, ForeignEdges, ForeignNodes, listed
from .json_stream import read_entries
from .neuronpedia_nodes import OWN_ENTRIES, OWN_KEY, JsonNode, as_name, newest_id, read_node

LISTS = ("nodes", "links")
NEURONPEDIA = "neuronpedia"


def read_neuronpedia(path: Path) -> Graph:
    """Return the graph in a JSON file of Neuronpedia, circuit-tracer, or a tool that writes their layout.

    Influence is computed from the edges; the influence in the file, and all that a graph has no place for, is in
    `info["imported"]`. Labels have the source "neuronpedia". Positions without an embedding get a token node. With nodes
    of attention (`lorsa`), layers are counted in halves: 2 L is the attention of layer L, 2 L + 1 its MLP.

    Raises FileError, with ids of nodes, for duplicates, unknown kinds, links to missing nodes, and damage.
    """
    parts, raw_nodes, links = _read_parts(path)
    metadata = _object(parts, "metadata")
    tokens = _tokens(metadata)
    found = _read_nodes(raw_nodes, metadata.get("schema_version"), len(tokens))
    edges = links.edges({node.name: place for place, node in enumerate(found)})
    nodes, scale = _foreign_nodes(found, tokens), _LayerScale(found)
    nodes.integers["layer"] = [scale.layer(node) for node in found] + [NONE] * (len(nodes) - len(found))
    info = _info(metadata, parts, found, nodes, scale)
    _restore_own(info, metadata.get(OWN_KEY), nodes)
    if not info["targets"]:  # those of a graph of cotrace may be features
        raise FileError("it has no node of the kind 'logit': there is nothing that the graph explains")
    return assemble(nodes, edges, info, _computed(nodes, edges, info))


def _computed(nodes: ForeignNodes, edges: ForeignEdges, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return which rows were computed: in a graph of cotrace without all of them, those of features that have edges."""
    if not info.get("traced", {}).get("bound", 0) > 0:
        return {}
    kinds = np.array(nodes.kinds, np.int64)
    has_edges = np.bincount(edges.target, minlength=len(nodes)) > 0
    return {"computed": (kinds == NodeKind.LOGIT) | ((kinds == NodeKind.FEATURE) & has_edges)}


def _read_parts(path: Path) -> tuple[dict[str, Any], list[Any], "_Links"]:
    """Return the file's entries but its nodes and links, the nodes, and the links."""
    parts: dict[str, Any] = {}
    nodes: list[Any] = []
    links, lists = _Links(), set()
    for key, value in read_entries(path, LISTS):
        if key in LISTS:
            lists.add(key)
        if key == "nodes":
            nodes.extend(value)
        elif key == "links":
            links.extend(value)
        else:
            parts[key] = value
    missing = [key for key in ("metadata", *LISTS) if key not in parts and key not in lists]
    if "graphs" in parts and missing:
        raise FileError("it is a list of graphs; import one of the graph files beside it")
    if missing:
        raise FileError(f"it lacks {', '.join(missing)}: it is not a graph of Neuronpedia or circuit-tracer")
    try:
        require_exact(parts)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(f"a text in it is not valid Unicode ({error}); export it again") from error
    return parts, nodes, links


class _Links:
    """Links, with ids as numbers: a file may have a million of them, and may have them before its nodes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._source, self._target, self._weight = array("i"), array("i"), array("d")

    def extend(self, links: Iterable[Any]) -> None:
        """Take links. Raises FileError for one that lacks an end or a finite weight."""
        numbers, source, target, weights = self._numbers, self._source, self._target, self._weight
        for link in links:
            try:
                ends, weight = (link["source"], link["target"]), link["weight"]
            except (KeyError, TypeError) as error:
                raise FileError(
                    f"a link lacks source, target or weight ({str(link)[:60]!a}); export it again"
                ) from error
            if not (type(ends[0]) is type(ends[1]) is str and type(weight) in (int, float)):
                raise FileError(f"the link from {ends[0]!a} to {ends[1]!a} has no ids or no weight; export it again")
            source.append(numbers.setdefault(ends[0], len(numbers)))
            target.append(numbers.setdefault(ends[1], len(numbers)))
            weights.append(_finite(weight, ends))

    def edges(self, place_of: Mapping[str, int]) -> ForeignEdges:
        """Return the links as edges between places of nodes. Raises FileError for links to missing nodes."""
        places = np.array([place_of.get(name, NONE) for name in self._numbers], np.int64)
        missing = [name for name, place in zip(self._numbers, places.tolist(), strict=True) if place == NONE]
        if missing:
            raise FileError(f"its links name nodes that it lacks: {listed(missing)}; export it again with these nodes")
        source, target = (np.array(ends, np.int64) for ends in (self._source, self._target))
        return ForeignEdges(places[source], places[target], np.array(self._weight, np.float64))


def _finite(weight: float, ends: tuple[str, str]) -> float:
    try:
        if math.isfinite(weight):
            return float(weight)
    except OverflowError:
        pass
    raise FileError(f"the link from {ends[0]!r} to {ends[1]!r} has a weight that is not finite; export it again")


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    tokens = metadata.get("prompt_tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise FileError("its metadata has no list of texts `prompt_tokens`; export it again")
    return tokens


def _object(parts: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parts.get(key)
    if not isinstance(value, dict):
        raise FileError(f"its {key} is not a JSON object; export it again")
    return value


def _read_nodes(raw_nodes: list[Any], version: Any, n_tokens: int) -> list[JsonNode]:
    """Return the nodes in the order of the file. Raises FileError for ids that occur twice and places outside the prompt."""
    found = [read_node(entry, version if isinstance(version, int) else None) for entry in raw_nodes]
    raw_nodes.clear()
    seen: set[str] = set()
    twice = [node.name for node in found if node.name in seen or seen.add(node.name)]  # type: ignore[func-returns-value]
    if twice:
        raise FileError(f"several of its nodes have the same id: {listed(twice)}; links to them are ambiguous")
    outside = [node.name for node in found if node.position >= n_tokens]
    if outside:
        raise FileError(f"the ctx_idx of {listed(outside)} lies outside the prompt of {n_tokens} tokens")
    return found


class _LayerScale:
    """Layers of a graph: those of the file, or half layers if it has nodes of attention."""

    def __init__(self, found: list[JsonNode]):
        self._sites = [node for node in found if node.kind in (NodeKind.FEATURE, NodeKind.ERROR)]
        self._logits = [node.layer for node in found if node.kind is NodeKind.LOGIT]
        parts = any(node.of_attention for node in self._sites)
        done = all(node.layer % 2 == (not node.of_attention) for node in self._sites)  # the file has half layers
        self.halves = parts and not done

    def layer(self, node: JsonNode) -> int:
        """Return the layer of a node in the graph; `NONE` for tokens and targets."""
        if node.kind not in (NodeKind.FEATURE, NodeKind.ERROR):
            return NONE
        return 2 * node.layer + (not node.of_attention) if self.halves else node.layer

    def n_layers(self, metadata: Mapping[str, Any]) -> int:
        """Return the number of layers: as the metadata has it, else at least those of nodes below the targets.

        A target's layer is the number of layers or one more, by tool; so it says only that there are not fewer.
        """
        stated = metadata.get("n_layers")
        scale = 2 if self.halves else 1
        least = 1 + max([self.layer(node) for node in self._sites], default=0)
        if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0:
            return max(least, scale * stated)
        return max(least, scale * (max(self._logits, default=0) - 1))


def _foreign_nodes(found: list[JsonNode], tokens: list[str]) -> ForeignNodes:
    """Return the nodes, and after them a token node for every position that has none."""
    nodes = ForeignNodes()
    for node in found:
        text = tokens[node.position] if node.kind is NodeKind.TOKEN else node.text
        nodes.add(
            node.name,
            node.kind,
            position=node.position,
            feature=node.feature,
            token=node.token,
            text=text,
            label=node.label,
            label_source=NEURONPEDIA if node.label else "",
            activation=node.activation,
            probability=node.probability,
        )
    present = {node.position for node in found if node.kind is NodeKind.TOKEN}
    for position in sorted(set(range(len(tokens))) - present):
        nodes.add(f"token@{position}", NodeKind.TOKEN, position=position, text=tokens[position])
    return nodes


def our_names(nodes: ForeignNodes) -> dict[str, str]:
    """Return our name of every node that is not a target, by its name in the file."""
    columns = (nodes.integers[name] for name in ("layer", "position", "feature"))
    found = {}
    for name, kind, layer, position, feature in zip(nodes.names, nodes.kinds, *columns, strict=True):
        if kind is NodeKind.FEATURE:
            found[name] = str(Feature(layer, feature, position))
        elif kind is not NodeKind.LOGIT:
            found[name] = str(ErrorNode(layer, position) if kind is NodeKind.ERROR else Token(position))
    return found


def _info(
    metadata: dict[str, Any],
    parts: dict[str, Any],
    found: list[JsonNode],
    nodes: ForeignNodes,
    scale: _LayerScale,
) -> dict[str, Any]:
    tokens = metadata["prompt_tokens"]
    names = our_names(nodes)
    token_ids = [NONE] * len(tokens)
    for kind, position, token in zip(nodes.kinds, nodes.integers["position"], nodes.integers["token"], strict=True):
        if kind is NodeKind.TOKEN:
            token_ids[position] = token
    targets = _targets(found)
    q_params = parts["qParams"] if isinstance(parts.get("qParams"), dict) else {}
    groups = _groups(q_params.get("supernodes"), names)
    prompt = metadata.get("prompt")
    return {
        "model": {"name": _word(metadata.get("scan")), "n_layers": scale.n_layers(metadata)},
        "transcoders": {"name": _transcoders(metadata)},
        "prompt": prompt if isinstance(prompt, str) else "".join(tokens),
        "token_ids": token_ids,
        "tokens": tokens,
        "position": max([target["position"] for target in targets], default=len(tokens) - 1),
        "masked_positions": [],
        "targets": targets,
        "settings": {},
        "pruning": None,
        "versions": {},
        "imported": {
            "format": NEURONPEDIA,
            "metadata": {key: value for key, value in metadata.items() if key != OWN_KEY},
            "qParams": q_params,
            "influence": {
                names[node.name]: node.influence
                for node in found
                if node.name in names and not math.isnan(node.influence)
            },
            "ids": {
                names[node.name]: node.name for node in found if node.name in names and node.name != newest_id(node)
            },
            "half_layers": scale.halves,
            "nodes": {names.get(node.name, node.name): node.extra for node in found if node.extra},
            "tables": {key: value for key, value in parts.items() if key not in ("metadata", "qParams")},
        },
        **({"groups": groups} if groups else {}),
    }


def _targets(found: list[JsonNode]) -> list[dict[str, Any]]:
    """Return the targets, weighted by probability; equally if the file has none."""
    logits = [(place, node) for place, node in enumerate(found) if node.kind is NodeKind.LOGIT]
    sizes = np.nan_to_num([node.probability for _, node in logits])
    weights = sizes / sizes.sum() if sizes.sum() > 0 else np.full(len(sizes), 1 / max(len(sizes), 1))
    return [
        {
            "node": place,
            "kind": "token",
            "label": node.text,
            "weight": weight,
            "probability": None if math.isnan(node.probability) else node.probability,
            "position": node.position,
            **({"token_ids": [node.token]} if node.token != NONE else {}),
        }
        for (place, node), weight in zip(logits, weights.tolist(), strict=True)
    ]


def _groups(supernodes: Any, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return their supernodes as groups: with the nodes that are in the graph and no targets, under names of their own."""
    groups: dict[str, list[str]] = {}
    for entry in supernodes if isinstance(supernodes, list) else []:
        if not isinstance(entry, list) or not entry or not all(isinstance(each, str) for each in entry):
            raise FileError("a supernode in its qParams is not a list of texts; export it again")
        members = list(dict.fromkeys(names[member] for member in entry[1:] if member in names))
        if members:
            groups[_unused(as_name(entry[0]) if entry[0].strip() else "group", groups)] = members
    return [{"name": name, "nodes": members} for name, members in groups.items()]


def _unused(wanted: str, taken: Mapping[str, Any]) -> str:
    """Return a name that is not taken: the wanted one, or with a number after it."""
    numbered = (f"{wanted} ({number})" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], numbered) if name not in taken)


def _transcoders(metadata: Mapping[str, Any]) -> str:
    """Return the name of the transcoders, which tools put into different entries."""
    inner = {key: metadata.get(key) for key in ("feature_details", "info")}
    details, info = (value if isinstance(value, dict) else {} for value in inner.values())
    several = metadata.get("transcoder_list")
    for name in (details.get("neuronpedia_source_set"), info.get("transcoder_set"), info.get("neuronpedia_source_set")):
        if isinstance(name, str) and name:
            return name
    return " ".join(map(str, several)) if isinstance(several, list) and several else "unknown"


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else "unknown"


def _restore_own(info: dict[str, Any], own: Any, nodes: ForeignNodes) -> None:
    """Put back what cotrace wrote into a file beside what the layout holds, where the nodes are still there."""
    if not isinstance(own, dict):
        return
    found = {key: own[key] for key in OWN_ENTRIES if key in own}
    places = {name: place for place, name in enumerate(nodes.names)}
    targets = own.get("targets")
    if isinstance(targets, list) and all(
        isinstance(each, dict) and str(each.get("node")) in places for each in targets
    ):
        found["targets"] = [{**each, "node": places[str(each["node"])]} for each in targets]
        for target in found["targets"]:
            token = target.pop("token", None)
            nodes.integers["token"][target["node"]] = token if type(token) is int else NONE
    wrong = set(wrong_entries(info | found, INFO)) & found.keys()
    if wrong:
        raise FileError(
            f"the entry {OWN_KEY!r} of its metadata has a wrong {', '.join(sorted(wrong))}; export it again"
        )
    info |= found
    sources = own.get("label_sources")
    for name, source in sources.items() if isinstance(sources, dict) else ():
        if name in places and nodes.texts["label"][places[name]] and source in LABEL_SOURCES:
            nodes.texts["label_source"][places[name]] = source
