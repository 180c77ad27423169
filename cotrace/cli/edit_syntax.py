"""Changes of a model as users write them on the command line, read as `Model.intervene` takes them."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cotrace.attribution.interventions.edits import Direction, Edit, Supernode, ablate, add, multiply, set_to
from cotrace.common.errors import CotraceError
from cotrace.graphs.nodes import ErrorNode, Feature, parse_integers, parse_node, parse_position

WITH_A_NUMBER: dict[str, Callable[[float], Edit]] = {"set": set_to, "add": add, "multiply": multiply}
DIRECTION = re.compile(
    r"L(?P<layer>[0-9]{1,6})\s*:\s*(?P<file>.+\.(?:npy|safetensors))\s*(?:@(?P<position>.+))?", re.DOTALL
)
NEXT_MEMBER = re.compile(r"\s*\+\s*(?=L[0-9])")


def parse_changes(given: Mapping[str, Sequence[str]]) -> dict[Any, Edit]:
    """Read the texts of --ablate, --set, --add and --multiply, by these names without dashes; files are read too.

    Raises ValueError for a text that names no node, number or readable direction, for a node that is named twice,
    and where nothing is given.
    """
    changes: dict[Any, Edit] = {}
    members: set[Any] = set()
    for option, texts in given.items():
        for text in texts:
            try:
                key, change = _parse(option, text)
                for member in _members(key):
                    if member in members:
                        raise CotraceError(f"{member} is named twice; name each node once, with one change")
                    members.add(member)
            except ValueError as error:
                raise CotraceError(f"--{option} {text!r}: {error}") from error
            changes[key] = change
    if not changes:
        raise CotraceError("there is nothing to change; name a node with --ablate, --set, --add or --multiply")
    return changes


def parse_layers(texts: Sequence[str]) -> list[int] | None:
    """Read --layer: numbers and FIRST:STOP; None where it is not given. Raises ValueError for anything else."""
    if not texts:
        return None
    try:
        return list(parse_integers(",".join(texts)))
    except ValueError as error:
        raise CotraceError(f"--layer {error}") from error


def _parse(option: str, text: str) -> tuple[Any, Edit]:
    """One node or supernode, and what becomes of it."""
    if option == "ablate":
        return parse_edited(text), ablate()
    name, equals, number = text.rpartition("=")
    if not equals:
        raise CotraceError("there is no '='; write NODE=NUMBER, such as L5#123@4=2.5")
    change = WITH_A_NUMBER[option](_number(number))
    node = parse_edited(name)
    if change.shift and any(isinstance(member, ErrorNode) for member in _members(node)):
        raise CotraceError("an error node is a vector, not a number; use --ablate or --multiply for it")
    return node, change


def _members(key: Any) -> Sequence[Any]:
    return key.members if isinstance(key, Supernode) else (key,)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise CotraceError(f"{text!r} is not a number; write NODE=NUMBER, such as L5#123@4=2.5") from None
    if not math.isfinite(number):
        raise CotraceError(f"{text.strip()} is not finite; give a finite number")
    return number


def parse_edited(text: str) -> Feature | ErrorNode | Direction | Supernode:
    """Return the node that a text names: `L5#123@4`, `L5#error@4`, `L12:FILE.npy`, or several joined with `+`.

    Raises CotraceError for anything else, and for a file that does not hold one direction.
    """
    nodes = [_single(part) for part in NEXT_MEMBER.split(text.strip())]
    if len(nodes) == 1:
        return nodes[0]
    members = [node for node in nodes if not isinstance(node, Direction)]
    if len(members) < len(nodes):
        raise CotraceError("a direction cannot be joined to other nodes with +; give it a separate option")
    return Supernode(members)


def _single(text: str) -> Feature | ErrorNode | Direction:
    match = DIRECTION.fullmatch(text)
    if match is None:
        return parse_node(text)
    path = os.path.expanduser(match["file"])
    position = "all" if match["position"] is None else parse_position(match["position"])
    return Direction(int(match["layer"]), read_direction(path), position, name=os.path.basename(path))


def read_direction(path: str | os.PathLike) -> Tensor:
    """The one 1-D tensor of a .npy or .safetensors file, in float64; nothing is unpickled.

    Raises ValueError for a file that is missing or damaged, or holds anything else.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):  # unlike pathlib's, false for names that are too long
        raise CotraceError(f"{path!r} is not a file; name one with a direction")
    vector_D = _read_numpy(path) if path.endswith(".npy") else _read_safetensors(path)
    if not vector_D.isfinite().all() or not vector_D.any():
        raise CotraceError(f"{path!r} is zero, or has NaN or infinite values; give a finite direction")
    return vector_D


def _read_numpy(path: str) -> Tensor:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a header cannot ask for memory
    except Exception as error:  # numpy raises whatever comes up when it parses a damaged header
        raise CotraceError(
            f"{path!r} is not a .npy file of numbers; write one with numpy.save(FILE, vector, allow_pickle=False)"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise CotraceError(f"{path!r} is an archive of arrays; write one array with numpy.save")
    _check_vector(path, array.dtype.kind == "f", str(array.dtype), array.shape)
    return torch.from_numpy(array.astype(np.float64))


def _read_safetensors(path: str) -> Tensor:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise CotraceError(f"{path!r} holds {len(names)} tensors; write one that holds only the direction")
            tensor = file.get_tensor(names[0])
    except (SafetensorError, OSError) as error:
        raise CotraceError(f"{path!r} is truncated or not a safetensors file ({error}); write it again") from error
    _check_vector(path, tensor.is_floating_point(), str(tensor.dtype), tensor.shape)
    return tensor.double()


def _check_vector(path: str, is_float: bool, dtype: str, shape: Sequence[int]) -> None:
    if not is_float or len(shape) != 1:
        raise CotraceError(f"{path!r} holds {dtype} of shape {tuple(shape)}; a direction is a vector (D,) of floats")
