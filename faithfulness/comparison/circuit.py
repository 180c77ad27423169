"""The circuit of a transcript: one graph over question, steps and answer, with segments and labels of features."""

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import CotraceWarning
from cotrace.graphs import Graph
from cotrace.graphs.labels import output_label

from ..ledger.prompt import StatedPrompt
from ..model_like import TranscodedModel

TOKENS_SAID = 2  # output tokens in the label of a feature
NAMES_AT_ONCE = 256  # features whose logits are computed together


class TracingModel(TranscodedModel, Protocol):
    """A model whose prompts can be traced: a `cotrace.Model`."""

    @property
    def trace(self) -> Callable[..., Graph]:
        """Return a method that returns the graph of a prompt's targets by position."""


def trace_circuit(model: TracingModel, prompt: StatedPrompt, max_features: int, memory: int | None = None) -> Graph:
    """Return the pruned graph of all stated values, each as the margin over its foil.

    The graph's metadata has `segments`, the positions of each by name. Features that `Model.trace` does not label are labelled by
    their top output tokens (`top_output_tokens`).

    Args:
        model: the model of the prompt.
        prompt: the transcript in the model.
        max_features: compute the rows of at most this many features, those with the largest effects.
        memory: as in `Model.trace`.

    Raises:
        CotraceError: too little memory or disk space.
    """
    targets: dict[int, list[tuple[int, int]]] = {}
    for margin in prompt.margins:
        targets.setdefault(margin.position, []).append((margin.said, margin.foil))
    with warnings.catch_warnings():
        # The targets are the transcript's own tokens: the user did not mistype them.
        warnings.simplefilter("ignore", CotraceWarning)
        graph = model.trace(
            prompt.tokens.token_ids, targets, max_features=max_features, select="effect", memory=memory, progress=False
        ).prune()
    graph.info["segments"] = {name: list(range(*span)) for name, span in prompt.tokens.spans.items()}
    columns = (graph.column(name)[graph.order.features].tolist() for name in ("layer", "feature", "label"))
    features = sorted({(int(layer), int(feature)) for layer, feature, label in zip(*columns, strict=True) if not label})
    said = top_output_tokens(model.transcoders, model.weights, features)
    texts = {feature: [model.tokenizer.decode_token(token) for token in tokens] for feature, tokens in said.items()}
    graph.add_labels({feature: output_label(tokens) for feature, tokens in texts.items()}, "outputs")
    return graph


@torch.no_grad()
def top_output_tokens(
    transcoders: Transcoders, weights: Gemma3, features: Sequence[tuple[int, int]], n_tokens: int = TOKENS_SAID
) -> dict[tuple[int, int], list[int]]:
    """Return the ids of the `n_tokens` tokens whose logits each feature raises most by itself, by (layer, feature).

    A feature's logits are those of its decoder vectors, summed over the layers that it writes to, after the final norm.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for layer in sorted({layer for layer, _ in features}):
        numbers = [feature for each, feature in features if each == layer]
        for start in range(0, len(numbers), NAMES_AT_ONCE):
            some = numbers[start : start + NAMES_AT_ONCE]
            feature_U = torch.tensor(some, device=weights.device)
            written_UD = transcoders.decoders(layer, feature_U, weights).sum(1).to(weights.dtype)
            top_UT = weights.logits(written_UD).topk(n_tokens).indices.tolist()
            found |= {(layer, feature): top for feature, top in zip(some, top_UT, strict=True)}
    return found
