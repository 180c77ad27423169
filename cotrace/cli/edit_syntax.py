"""Parse edits on the command line into the arguments of `Model.intervene`."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cotrace.attribution.interventions.edits import (
    Direction,
    Edit,
    Supernode,
    TokenReplacement,
    ablate,
    add,
    multiply,
    replace_with,
    set_to,
)
from cotrace.common.errors import ArgumentError, CotraceError, FileError
from cotrace.dictionary import FeatureDictionary
from cotrace.graphs import Graph
from cotrace.graphs.annotations import node_names
from cotrace.graphs.nodes import ErrorNode, Feature, Token, parse_node, parse_position
from cotrace.target_syntax import parse_token

EDITS_WITH_NUMBER: dict[str, Callable[[float], Edit]] = {"set": set_to, "add": add, "multiply": multiply}
DIRECTION = re.compile(
    r"L(?P<layer>[0-9]{1,6})\s*:\s*(?P<file>.+\.(?:npy|safetensors))\s*(?:@(?P<position>.+))?", re.DOTALL
)
OF_DICTIONARY = re.compile(r"\s*dictionary\s*:(.+)", re.DOTALL)
NEXT_MEMBER = re.compile(r"\s*\+\s*(?=L[0-9]|token\s*(?:[@+]|\Z))")
OF_TOKEN = re.compile(r"\s*token\s*(?:[@+=]|\Z)")
TIMES_USUAL = re.compile(r"\s*([+-]?[0-9.]+)\s*[x×]\s*")
OTHER_POSITION = re.compile(r"\s*token\s*@")
LIKE_A_NODE = re.compile(r"\s*(?:L?[0-9]|token\s*@|token\s*\Z)")


@dataclass(frozen=True)
class DictionaryFeature:
    """A feature of the SAE or crosscoder that --dictionary names: `dictionary:L9#123@4`."""

    feature: Feature

    def __str__(self) -> str:
        return f"dictionary:{self.feature}"


def parse_edits(given: Mapping[str, Sequence[str]], graph: Graph | None = None) -> dict[Any, Edit | TokenReplacement]:
    """Return the edits that the texts of --ablate, --set, --add and --multiply name, by these names without dashes.

    Reads the files of directions. With a graph, its labels, groups and node numbers are names too.

    Raises ArgumentError for a text that names no node or value, for a node that is
    named twice, and if nothing is given; FileError for a file without a direction.
    """
    edits: dict[Any, Edit | TokenReplacement] = {}
    members: set[Any] = set()
    for option, texts in given.items():
        for text in texts:
            try:
                node, edit = _parse(option, text, graph)
                _require_new(node, members)
            except CotraceError as error:
                raise type(error)(f"--{option} {text!r}: {error}") from error
            edits[node] = edit
    if not edits:
        raise ArgumentError("nothing to edit; name a node with --ablate, --set, --add or --multiply")
    return edits


def check_dictionary(edits: Mapping[Any, Any], dictionary: str | None) -> None:
    """Raise ArgumentError for edits of a dictionary's features without a dictionary, or for one without such edits."""
    named = [node for node in edits if isinstance(node, DictionaryFeature)]
    if named and dictionary is None:
        raise ArgumentError(f"{named[0]} is a feature of an SAE or crosscoder: name that with --dictionary")
    if dictionary is not None and not named:
        raise ArgumentError("--dictionary is used by no edit: name a feature of it, such as --add dictionary:L9#123=40")


def with_directions(edits: Mapping[Any, Any], dictionary: FeatureDictionary | None) -> dict[Any, Any]:
    """Return edits with those of a dictionary's features as edits of its directions.

    Raises ArgumentError for a feature that the dictionary does not have.
    """
    expanded: dict[Any, Any] = {}
    for node, edit in edits.items():
        if isinstance(node, DictionaryFeature):
            assert dictionary is not None, "check_dictionary comes first"
            expanded |= dictionary.edit(node.feature, edit)
        else:
            expanded[node] = edit
    return expanded


def _require_new(node: Any, members: set[Any]) -> None:
    """Raise ArgumentError if a node, or a member of a supernode, is in `members`; adds it otherwise."""
    for member in _members(node):
        if member in members:
            raise ArgumentError(f"{member} is named twice; name each node once, with one edit")
        members.add(member)


def _parse(option: str, text: str, graph: Graph | None) -> tuple[Any, Edit | TokenReplacement]:
    if option == "ablate":
        return parse_edited_node(text, graph), ablate()
    # The text of a token can contain "=", and so can the name of a direction's file, which comes before it.
    name, equals, value = text.partition("=") if OF_TOKEN.match(text) else text.rpartition("=")
    if not equals:
        raise ArgumentError("there is no '='; write NODE=NUMBER, such as L5#123@4=2.5, or token@4=TEXT")
    node = parse_edited_node(name, graph)
    members = _members(node)
    if option == "set" and all(isinstance(member, Token) for member in members):
        return node, parse_replacement(value)
    edit = EDITS_WITH_NUMBER[option](_size(option, value, members, graph))
    if edit.shift and any(isinstance(member, ErrorNode) for member in members):
        raise ArgumentError("an error node is a vector, not a number; use --ablate or --multiply for it")
    if edit.shift and any(isinstance(member, Token) for member in members):
        raise ArgumentError("a token is a vector, not a number; use --set token@4=TEXT, --ablate or --multiply for it")
    return node, edit


def _size(option: str, value: str, members: Sequence[Any], graph: Graph | None) -> float:
    """Return the number in the value of an edit: `2.5`, or `3x` for three times the feature's usual activation."""
    times = TIMES_USUAL.fullmatch(value)
    if times is None or option == "multiply":
        return _number(value)
    if graph is None or len(members) != 1 or not isinstance(members[0], Feature):
        raise ArgumentError(
            f"{value!r} is a multiple of the usual activation of one feature in a graph; name it with --graph"
        )
    return _number(times[1]) * graph.usual_activation(members[0])


def parse_replacement(text: str) -> TokenReplacement:
    """Return the replacement of a token that a text names: the mean of the tokens between its bars.

    Each is the exact text of a token (` cold`), `id:1234`, or `token@2` for the embedding at another position. Raises
    ArgumentError for an empty one.
    """
    names = text.split("|")
    if not all(names):
        raise ArgumentError("a token is empty; write token@4=TEXT, or several: token@4= cold| warm")
    return replace_with(*map(_replacing, names))


def _replacing(name: str) -> str | int | Token:
    node = parse_node(name) if OTHER_POSITION.match(name) else None
    return node if isinstance(node, Token) else parse_token(name)


def _members(node: Any) -> Sequence[Any]:
    return node.members if isinstance(node, Supernode) else (node,)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ArgumentError(f"{text!r} is not a number; write NODE=NUMBER, such as L5#123@4=2.5") from None
    if not math.isfinite(number):
        raise ArgumentError(f"{text.strip()} is not finite; give a finite number")
    return number


def parse_edited_node(text: str, graph: Graph | None = None) -> Any:
    """Return the node that a text names: `L5#123@4`, `L5#error@4`, `token@4`, `L12:FILE.npy`, or several joined with `+`.

    `dictionary:L9#123@4` is a `DictionaryFeature`.

    With a graph, a label, group or node number names its nodes too. Raises ArgumentError for anything else, and FileError
    for a file that does not hold one direction.
    """
    if graph is not None and (named := _named(text.strip(), graph)):
        return named[0] if len(named) == 1 else Supernode(named, text.strip())
    nodes = [node for part in NEXT_MEMBER.split(text.strip()) for node in _single(part, graph)]
    if len(nodes) == 1:
        return nodes[0]
    members = [node for node in nodes if not isinstance(node, Direction)]
    if len(members) < len(nodes) or any(isinstance(node, DictionaryFeature) for node in nodes):
        raise ArgumentError("a direction cannot be joined to other nodes with +; give it a separate option")
    return Supernode(members)


def _single(text: str, graph: Graph | None) -> Sequence[Any]:
    if match := OF_DICTIONARY.fullmatch(text):
        return [DictionaryFeature(Feature.parse(match[1]))]
    match = DIRECTION.fullmatch(text)
    if match is None:
        return [parse_node(text)] if graph is None else _of_graph(text, graph)
    path = os.path.expanduser(match["file"])
    position = "all" if match["position"] is None else parse_position(match["position"])
    return [Direction(int(match["layer"]), read_direction(path), position, name=os.path.basename(path))]


def _of_graph(text: str, graph: Graph) -> Sequence[Any]:
    """Return the nodes that a text names with the help of a graph, whose error for an unknown name suggests another."""
    if named := _named(text, graph):
        return named
    return [parse_node(text)] if LIKE_A_NODE.match(text) else node_names(graph, graph.find(text))


def _named(text: str, graph: Graph) -> list[Feature | ErrorNode | Token]:
    """Return the nodes that have a label, group or number in a graph; none for a node's own text form."""
    is_name = text.isdecimal() or text in graph.groups or text in graph.labels.values()
    return node_names(graph, graph.find(text)) if is_name else []


def read_direction(path: str | os.PathLike) -> Tensor:
    """Return the single 1-D tensor of a .npy or .safetensors file, in float64. Nothing is unpickled.

    Raises FileError for a file that is missing or damaged, or contains anything else.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):  # pathlib's raises for names that are too long
        raise FileError(f"{path!r} is not a file; name a file with a direction")
    vector_D = _read_numpy(path) if path.endswith(".npy") else _read_safetensors(path)
    if not vector_D.isfinite().all() or not vector_D.any():
        raise FileError(f"{path!r} is zero, or has NaN or infinite values; give a finite direction")
    return vector_D


def _read_numpy(path: str) -> Tensor:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header cannot make it allocate memory
    except Exception as error:  # numpy raises errors of many kinds for a damaged header
        raise FileError(
            f"{path!r} is not a .npy file of numbers; write one with numpy.save(FILE, vector, allow_pickle=False)"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise FileError(f"{path!r} is an archive of arrays; write one array with numpy.save")
    _check_vector(path, array.dtype.kind == "f", str(array.dtype), array.shape)
    return torch.from_numpy(array.astype(np.float64))


def _read_safetensors(path: str) -> Tensor:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise FileError(f"{path!r} has {len(names)} tensors; write one with the direction only")
            tensor = file.get_tensor(names[0])
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path!r} is truncated or not a safetensors file ({error}); write it again") from error
    _check_vector(path, tensor.is_floating_point(), str(tensor.dtype), tensor.shape)
    return tensor.double()


def _check_vector(path: str, is_float: bool, dtype: str, shape: Sequence[int]) -> None:
    if not is_float or len(shape) != 1:
        raise FileError(f"{path!r} has {dtype} of shape {tuple(shape)}; a direction is a vector (D,) of floats")
