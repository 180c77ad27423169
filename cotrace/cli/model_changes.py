"""What edits of a graph's model change: distributions, texts and targets, beside what the graph predicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.interventions.edits import Edit, TokenReplacement, ablate, multiply, set_to
from cotrace.attribution.interventions.generate import Generation
from cotrace.attribution.interventions.result import InterventionResult
from cotrace.common.progress import Progress
from cotrace.graphs import Graph
from cotrace.graphs.annotations import nodes_at
from cotrace.graphs.effects import changed_values
from cotrace.graphs.nodes import ErrorNode, Feature, Token
from cotrace.graphs.saved_effects import has_effects, saved_effects
from cotrace.metadata import check_same_model
from cotrace.model import Model
from cotrace.viewer.server.edits import ChangeRequest, NodeEdit

from .comparison import as_json, compare
from .edit_syntax import parse_replacement

LIKELIEST = 10  # tokens of each distribution that are shown


def changes_of(model: Model, graph: Graph, request: ChangeRequest) -> dict[str, Any]:
    """Return what edits change in the model of a graph.

    Returns texts and tokens without and with edits, as `cotrace steer` writes them, with three more entries: `likeliest`,
    probabilities of the next token; `targets`, measured and expected changes; and `expected_by`, how the latter were computed:
    "effects" (gradients of the model, saved in the graph), "edges" of the graph, or null.

    Raises CotraceError for a graph of another model, and edits that cannot be made.
    """
    progress = Progress(False)  # the server watches it
    with progress.phase("comparing the model with that of the graph"):
        check_same_model(graph, model.language_model, model.transcoders)
    edits = edits_of(request)
    run: dict[str, Any] = {"prompt": graph.info["token_ids"], "masked_positions": graph.info["masked_positions"]}
    run["freeze"] = request.freeze
    with progress.phase("running the prompt"):
        result = model.intervene(edits=edits, **run)
    plain, edited = (model.generate(edits=each, max_new_tokens=request.max_new_tokens, **run) for each in (None, edits))
    expected_by, expected_T = expected_changes(graph, request)
    measured = [measured_change(result, graph, target, request.freeze) for target in graph.info["targets"]]
    return {
        **as_json(compare(plain, edited)),
        "likeliest": likeliest(plain, edited),
        "expected_by": expected_by,
        "targets": [
            {"label": target["label"], **values, "expected": None if expected_T is None else float(expected_T[number])}
            for number, (target, values) in enumerate(zip(graph.info["targets"], measured, strict=True))
        ],
    }


# --- edits --------------------------------------------------------------------------------------


def edits_of(request: ChangeRequest) -> dict[Any, Edit | TokenReplacement]:
    """Return the edits in the form of `Model.intervene`. Raises ArgumentError for an invalid text of a token."""
    return {
        _everywhere(node) if request.everywhere else node: _edit(edit) for edit in request.edits for node in edit.nodes
    }


def _edit(edit: NodeEdit) -> Edit | TokenReplacement:
    if edit.kind == "ablate":
        return ablate()
    if isinstance(edit.value, str):
        return parse_replacement(edit.value)
    assert edit.value is not None
    return multiply(edit.value) if edit.kind == "multiply" else set_to(edit.value)


def _everywhere(node: Feature | ErrorNode | Token) -> Feature | ErrorNode | Token:
    if isinstance(node, Feature):
        return Feature(node.layer, node.feature)
    return ErrorNode(node.layer) if isinstance(node, ErrorNode) else node


# --- expected -----------------------------------------------------------------------------------


def expected_changes(graph: Graph, request: ChangeRequest) -> tuple[str | None, np.ndarray | None]:
    """Return how the change of each target is predicted, and the prediction (T,); None where a graph predicts nothing.

    Saved effects are first-order responses of the live model, added up over the nodes: they are used where nothing is frozen.
    """
    shares = None if request.everywhere else _shares(graph, request)
    if not shares:
        return None, None
    targets = graph.info["targets"]
    if has_effects(graph) and request.freeze == "none":
        nodes = list(shares)
        expected_TM = saved_effects(graph, targets)
        return "effects", -expected_TM[:, nodes].astype(np.float64) @ np.array([shares[node] for node in nodes])
    return "edges", changed_values(graph, shares, others_respond=request.freeze != "all")[
        [each["node"] for each in targets]
    ]


def _shares(graph: Graph, request: ChangeRequest) -> dict[int, float] | None:
    """Return by which share of itself each node changes: -1 where it is ablated. None if a node is not in the graph."""
    shares: dict[int, float] = {}
    activation_M = graph.column("activation")
    for edit in request.edits:
        if isinstance(edit.value, str):
            return None  # another token changes the whole prompt
        for node in edit.nodes:
            numbers = nodes_at(graph, node)
            if not numbers:
                return None
            for number in numbers:
                shares[number] = _share(edit, float(activation_M[number]))
    return shares


def _share(edit: NodeEdit, activation: float) -> float:
    if edit.kind == "ablate":
        return -1.0
    assert isinstance(edit.value, float)
    return edit.value - 1.0 if edit.kind == "multiply" else edit.value / activation - 1.0


# --- measured -----------------------------------------------------------------------------------


def measured_change(result: InterventionResult, graph: Graph, target: Mapping[str, Any], freeze: str) -> dict[str, Any]:
    """Return the change of a target in units of what it reads, and its probability before and after if it is a token.

    A token's value is its logit minus the mean logit. The change is null for a direction, which files do not store.
    """
    position, ids = target.get("position", graph.info["position"]), target.get("token_ids", [])
    if target["kind"] == "feature":
        return {"measured": _feature_change(result, graph, target["node"], freeze)}
    if target["kind"] not in ("token", "difference") or not ids:
        return {"measured": None}
    before_V, after_V = result.probabilities(position)
    change = _value(after_V, ids) - _value(before_V, ids)
    found: dict[str, Any] = {"measured": change}
    if target["kind"] == "token":
        found |= {"probability_before": float(before_V[ids[0]]), "probability_after": float(after_V[ids[0]])}
    return found


def _value(probability_V: Tensor, ids: list[int]) -> float:
    """Return the value of a target, given the probabilities of the vocabulary: differences of logits are those of logarithms."""
    log_V = probability_V.clamp(min=torch.finfo(probability_V.dtype).tiny).log()
    return float(log_V[ids[0]] - (log_V[ids[1]] if len(ids) > 1 else log_V.mean()))


def _feature_change(result: InterventionResult, graph: Graph, node: int, freeze: str) -> float:
    """Return the change of a feature's activation; where activations are frozen, of its pre-activation."""
    place = {name: int(graph.column(name, -1)[node]) for name in ("layer", "position", "feature")}
    name = "pre_activation" if freeze == "all" else "activation"
    for row in result.features.to_pylist():
        if all(row[key] == value for key, value in place.items()):
            return (row[f"{name}_after"] or 0.0) - (row[f"{name}_before"] or 0.0)
    return 0.0


def likeliest(plain: Generation, edited: Generation) -> list[dict[str, Any]]:
    """Return the likeliest first new tokens of both distributions, with both probabilities, likeliest before the edits first."""
    before_V, after_V = (generation.next_probabilities(0) for generation in (plain, edited))
    count = min(LIKELIEST, len(before_V))
    ids = {token for each in (before_V, after_V) for token in each.topk(count).indices.tolist()}
    decode = plain.prompt.tokenizer.decode_token
    rows = [{"token": t, "text": decode(t), "before": float(before_V[t]), "after": float(after_V[t])} for t in ids]
    return sorted(rows, key=lambda row: (-row["before"], -row["after"], row["token"]))
