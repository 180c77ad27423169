"""`Model`: a Gemma 3 with transcoders, whose computations can be traced, edited and validated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.effects.attention import AttentionPlace, explain_attention
from cotrace.attribution.effects.baseline import MEAN, baseline_embeddings, describe_baseline
from cotrace.attribution.effects.compute import EffectRequest, check_nodes, compute_effects
from cotrace.attribution.effects.config import EffectFreeze, EffectsConfig, Integrate
from cotrace.attribution.effects.cuts import check_targets, parse_cuts, parse_segments
from cotrace.attribution.effects.effects import EffectSource
from cotrace.attribution.effects.graph_heads import with_heads
from cotrace.attribution.effects.head_requests import EdgeParser, edges_of_graph, head_loadings
from cotrace.attribution.effects.plan import plan_effects, plan_trace_with_effects, saved_bytes
from cotrace.attribution.effects.saved import effects_to_save
from cotrace.attribution.interventions.config import Errors, Freeze, InterventionConfig, SamplingConfig
from cotrace.attribution.interventions.context import PromptContext, PromptTokens
from cotrace.attribution.interventions.edits import ErrorNode, Feature, Intervention, Supernode, Token
from cotrace.attribution.interventions.generate import Generation, PreparedGeneration, generate
from cotrace.attribution.interventions.intervene import intervene, prepare, require_memory
from cotrace.attribution.interventions.patch import PatchResult, patch
from cotrace.attribution.interventions.result import InterventionResult
from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import (
    check_logits_memory,
    out_of_memory,
    release_freed_memory,
)
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.config import RowBudget, SelectBy, TraceConfig
from cotrace.attribution.tracing.plan import TracePlan, allowed_memory, make_plan, run_prompt
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.row_cache import RowCache
from cotrace.attribution.tracing.sampled_rows import check_limits
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.attribution.tracing.trace import forecast, trace
from cotrace.attribution.transcoders import Transcoders
from cotrace.attribution.transcoders.directions import decoder_directions
from cotrace.attribution.validation.config import ValidationConfig
from cotrace.attribution.validation.record import validate
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.faithfulness.comparison.compare import compare
from cotrace.faithfulness.comparison.config import CompareConfig
from cotrace.faithfulness.inputs import MAX_NEW_TOKENS, as_transcript, check_unwritten, generated
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.transcripts import Transcript
from cotrace.features.store.store import FeatureStore
from cotrace.graphs import Graph
from cotrace.graphs.annotations import NodeName, groups_inside
from cotrace.graphs.attention_scores import AttentionScore
from cotrace.graphs.effect_table import Effects
from cotrace.graphs.grouping.config import GroupConfig
from cotrace.graphs.grouping.groups import Groups
from cotrace.graphs.grouping.suggest import suggest_groups
from cotrace.graphs.head_loadings import HeadLoadings
from cotrace.graphs.label_columns import labels_of_features, with_label_texts
from cotrace.graphs.labels import AnyLabel

from .feature_stores import store_of
from .metadata import check_same_model, describe_model, describe_prompt, describe_segments, describe_trace
from .pairing import EditedPrompt, SpanOptions, pair, require_single
from .types import PromptLike, TargetLike, TargetsLike


class Model:
    """A Gemma 3 model with its transcoders. `cotrace.load` makes one.

    Attributes:
        language_model: the model without transcoders; `source`, `weights` and `tokenizer` are its parts.
        transcoders: the transcoders, of every layer.
        row_cache: rows of traced prompts, for prompts that start alike; None if `cotrace.load` was not asked for it.
        feature_store: what the features respond to and promote, and their labels; None if there is no store of them.

    Raises ArgumentError for a feature store of other transcoders.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        transcoders: Transcoders,
        row_cache: RowCache | None = None,
        feature_store: FeatureStore | None = None,
    ):
        self.language_model, self.transcoders, self.row_cache = language_model, transcoders, row_cache
        self.source, self.weights = language_model.source, language_model.weights
        self.tokenizer = language_model.tokenizer
        self.feature_store = store_of(transcoders, self.weights, feature_store)

    @property
    def features(self) -> FeatureStore:
        """The feature store: `model.features["L17#264"]` is the card of a feature.

        Raises ArgumentError if there is no store of the transcoders.
        """
        if self.feature_store is None:
            raise ArgumentError(
                f"there is no feature store of {self.transcoders.name}: write one with `cotrace features build`, and "
                "load the model with features=FOLDER"
            )
        return self.feature_store

    @property
    def _labels(self) -> Mapping[tuple[int, int], AnyLabel]:
        """Labels of features by layer and number; empty without a feature store."""
        return {} if self.feature_store is None else self.feature_store.labels

    @property
    def architecture(self) -> Architecture:
        """Sizes of the model: layers, width, heads, vocabulary."""
        return self.weights.architecture

    def __repr__(self) -> str:
        return f"<cotrace.Model {self.source.name} ({self.architecture}) with {self.transcoders.name}>"

    def describe(self) -> dict[str, Any]:
        """Return what graphs record: names, revisions and SHA-256 hashes of model and transcoders, package versions."""
        return describe_model(self.language_model, self.transcoders)

    def tokenize(self, prompt: PromptLike) -> list[int]:
        """Return the token ids of a text (with one BOS), of a chat, of a transcript, or of ids as given.

        Raises PromptError for an empty prompt, and for ids outside the vocabulary.
        """
        return self.tokenizer.encode(prompt)

    @torch.no_grad()
    @out_of_memory()
    def logits(self, prompt: PromptLike) -> Tensor:
        """Return the model's logits at every position, (P, V), in the compute dtype."""
        ids_P = self._ids(prompt)
        check_logits_memory(self.architecture, len(ids_P), self.weights.dtype, self.weights.device)
        return self.weights.logits(ForwardPass(self.weights, self.weights.embed(ids_P)).run())

    @torch.no_grad()
    @out_of_memory()
    def active_features(self, prompt: PromptLike, *, masked_positions: Sequence[int] | None = None) -> pa.Table:
        """Return a table of the N active features, sorted by layer, position and feature.

        Columns: layer, position, feature (int32), activation, pre_activation.
        """
        config = TraceConfig(masked_positions=masked_positions)
        return self._activations(self._ids(prompt), config).features.table()

    @torch.no_grad()
    @out_of_memory()
    def replacement(
        self, prompt: PromptLike, *, masked_positions: Sequence[int] | None = None, progress: bool | None = False
    ) -> LocalReplacementModel:
        """Return the local replacement model of a prompt; its `forward()` reproduces the logits, (P, V)."""
        config, bars = TraceConfig(masked_positions=masked_positions), Progress(progress)
        activations = self._activations(self._ids(prompt), config, bars)
        plan = make_plan(activations, None, RowBudget(), None, allowed_memory(None, self.weights.device))
        with bars.phase("collecting decoder vectors"):
            return LocalReplacementModel(activations, plan.keep_vectors)

    @torch.no_grad()
    @out_of_memory("shorten the prompt, compute fewer rows with max_features= or coverage=, or set memory=")
    def trace(
        self,
        prompt: PromptLike,
        targets: TargetsLike = None,
        *,
        position: int | Sequence[int] = TraceConfig.position,
        max_targets: int = TraceConfig.max_targets,
        target_mass: float = TraceConfig.target_mass,
        coverage: float = TraceConfig.coverage,
        max_features: int | None = TraceConfig.max_features,
        max_seconds: float | None = TraceConfig.max_seconds,
        masked_positions: Sequence[int] | None = TraceConfig.masked_positions,
        batch_size: int | None = TraceConfig.batch_size,
        memory: int | None = TraceConfig.memory,
        select: SelectBy = TraceConfig.select,
        effects: bool = TraceConfig.effects,
        sampled: bool = TraceConfig.sampled,
        seed: int = TraceConfig.seed,
        standard_error: float | None = TraceConfig.standard_error,
        keep_partial: bool = False,
        progress: bool | None = None,
    ) -> Graph:
        """Trace a prompt: compute the exact direct effect of every active feature, error node and token on the others.

        Args:
            prompt: a text, token ids (list or 1-D tensor), a chat (list of {"role": …, "content": …}), or a `Transcript`.
            targets: what the graph explains: tokens (by text or id), pairs of tokens (the difference of two logits),
                directions (D,) at the unembedding's input, or `Feature(layer, feature, position)` with one position.
                A mapping gives each position its own list.
                "next" takes the token that follows in the prompt itself, with equal weights. None takes the likeliest
                next tokens, at most `max_targets` of them, until they hold `target_mass` of the probability.
            position: position at which targets are read, or several; negative positions count from the end. The targets
                of all positions are traced together.
            max_targets: largest number of likeliest tokens.
            target_mass: probability that the likeliest tokens should hold together.
            coverage: stop when the features whose rows were skipped hold at most `1 - coverage` of the influence. 1
                computes all rows. The graph records the coverage that was reached, and for every node a bound on the
                influence that it may lack.
            max_features: compute the rows of at most this many features, whatever coverage that reaches. Rows of
                features that are targets are always computed.
            max_seconds: stop computing rows after about this time, in seconds. Results then depend on the machine.
            masked_positions: positions without features. None masks position 0, and in a chat the first four. Position
                0 is always masked.
            batch_size: rows per batch; None chooses for speed. Changes results by rounding only.
            memory: limit in bytes for the memory of the process (on a GPU: of the device); None takes what is free. A
                trace that would need more recomputes vectors instead of storing them, and uses smaller batches.
            select: which rows `coverage`, `max_features` and `max_seconds` keep: "influence", those of the most influential
                features; "effect", those of the features with the largest total effects on the targets. `coverage` is
                then the share of the sum of absolute effects.
            effects: save with every node its total effect on each target, and the change of the target that is expected
                when the node is ablated (`Graph.effects_on`). They take two backward passes of each target.
            sampled: draw rows at random with known probabilities, within `max_features`, `max_seconds` or `standard_error`.
                Influences, shares and scores of the graph are then unbiased estimates with standard errors, also for long
                prompts of which few rows are computed (docs/tracing.md, "Sampled rows").
            seed: decides which rows are drawn; graphs of several seeds can be merged (`cotrace.merge`).
            standard_error: draw rows until the largest standard error of a share of `Graph.shares` is expected to be at
                most this. A pilot of few rows decides how many that are.
            keep_partial: with `sampled`, return the graph of the finished rounds of replicates when interrupted (Ctrl-C).
            progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

        Raises:
            CotraceError: invalid arguments, or too little memory or disk space.
        """
        config = TraceConfig(
            position,
            max_targets,
            target_mass,
            coverage,
            max_features,
            max_seconds,
            masked_positions,
            batch_size,
            memory,
            select,
            effects,
            sampled,
            seed,
            standard_error,
        )
        if keep_partial and not sampled:
            raise ArgumentError("keep_partial keeps finished rounds of sampled=True: add it, or omit keep_partial")
        bars = Progress(progress)
        request, activations, plan = self._prepare_trace(prompt, targets, config, bars)
        features = (
            activations.features
        )  # their labels are read now: a damaged store is reported before rows are computed
        labels = labels_of_features(
            self._labels, features.layer_N.numpy(force=True), features.feature_N.numpy(force=True)
        )
        with bars.phase("hashing the weights, once"):
            info = self.describe() | describe_trace(self.language_model, prompt, request, config)
            info |= describe_segments(self.language_model, prompt)
        with bars.phase("collecting decoder vectors"):
            replacement = LocalReplacementModel(activations, plan.keep_vectors)
        resolved = request.resolve(replacement)
        saved = None
        if config.effects:
            with bars.phase("computing effects"):
                source = EffectSource(activations, replacement)
                saved = effects_to_save(source, resolved, plan.effect_columns)
                del source
        del activations  # frees what only the forward pass and effects needed
        release_freed_memory()
        graph = trace(
            replacement,
            resolved,
            info,
            config.row_budget,
            plan,
            row_cache=self.row_cache,
            progress=bars,
            effects=saved,
            keep_partial=keep_partial,
        )
        graph.add_labels(labels)
        return graph

    @torch.no_grad()
    @out_of_memory()
    def plan(
        self,
        prompt: PromptLike,
        targets: TargetsLike = None,
        *,
        position: int | Sequence[int] = TraceConfig.position,
        max_targets: int = TraceConfig.max_targets,
        target_mass: float = TraceConfig.target_mass,
        coverage: float = TraceConfig.coverage,
        max_features: int | None = TraceConfig.max_features,
        max_seconds: float | None = TraceConfig.max_seconds,
        masked_positions: Sequence[int] | None = TraceConfig.masked_positions,
        batch_size: int | None = TraceConfig.batch_size,
        memory: int | None = TraceConfig.memory,
        select: SelectBy = TraceConfig.select,
        effects: bool = TraceConfig.effects,
        sampled: bool = TraceConfig.sampled,
        seed: int = TraceConfig.seed,
        standard_error: float | None = TraceConfig.standard_error,
        progress: bool | None = False,
    ) -> TracePlan:
        """Estimate the memory, disk space, rows and time that `trace` needs with the same arguments.

        Runs the prompt once and computes no rows, except with `sampled`: then a pilot of few rows predicts the standard error
        and the time (`TracePlan.forecast`). Raises CotraceError as `trace` does.
        """
        config = TraceConfig(
            position,
            max_targets,
            target_mass,
            coverage,
            max_features,
            max_seconds,
            masked_positions,
            batch_size,
            memory,
            select,
            effects,
            sampled,
            seed,
            standard_error,
        )
        bars = Progress(progress)
        request, activations, plan = self._prepare_trace(prompt, targets, config, bars)
        if not config.sampled:
            return plan
        with bars.phase("collecting decoder vectors"):
            replacement = LocalReplacementModel(activations, plan.keep_vectors)
        return forecast(
            replacement,
            request.resolve(replacement),
            config.row_budget,
            plan,
            row_cache=self.row_cache,
            progress=bars,
            **describe_segments(self.language_model, prompt),
        )

    @torch.no_grad()
    @out_of_memory("shorten the prompt, give fewer targets or cuts, or set memory=")
    def effects(
        self,
        prompt: PromptLike,
        targets: TargetsLike = None,
        position: int | Sequence[int] = TraceConfig.position,
        *,
        freeze: EffectFreeze = EffectsConfig.freeze,
        avoiding: Any = None,
        segments: Mapping[str, Any] | None = None,
        integrate: Integrate | None = EffectsConfig.integrate,
        integration_steps: int = EffectsConfig.integration_steps,
        baseline: Any = None,
        groups: Mapping[str, Iterable[str | int]] | None = None,
        nodes: Iterable[Feature | ErrorNode | str] | None = None,
        through_qk: bool = EffectsConfig.through_qk,
        max_targets: int = TraceConfig.max_targets,
        target_mass: float = TraceConfig.target_mass,
        masked_positions: Sequence[int] | None = None,
        memory: int | None = TraceConfig.memory,
        progress: bool | None = None,
    ) -> Effects:
        """Return the effects of all features, error nodes and tokens on targets, each summed over all paths.

        An effect is a contribution to the target's value; ablating the node changes the target by minus its effect, exactly
        with `freeze="all"` and everything else frozen, at first order otherwise. One backward pass computes all effects on
        a target, without the rows of a graph. docs/effects.md has the mathematics.

        Args:
            prompt: a text, token ids, a chat, or a `Transcript`.
            targets: as in `trace`, or a mapping from positions to lists of targets.
            position: position at which targets are read, or several, as in `trace`.
            freeze: what is frozen. "all": attention patterns, norm scales and active features; over tokens, error nodes and
                constants, effects then add up to the target. "norms": norm scales and active features; attention responds.
                "attention": attention patterns; norms and the model's own MLPs respond. "none": nothing.
            avoiding: leave out every path that visits some positions: a position, `(start, stop)`, a range, a list of
                positions, or a segment's name; a list of several such cuts computes each, and None in it no cut.
            segments: names of spans, `{"question": (1, 12)}` for the positions 1 … 11. None takes those of a transcript.
            integrate: "inputs" averages the effects of tokens on the way from a baseline to the prompt, so that they add up
                to the target's change between the two. "ablation" averages the effects of `nodes` along their ablation.
            integration_steps: number of points on the way.
            baseline: with "inputs": "mean" for mean embeddings, another prompt of as many tokens, or embeddings, (P, D).
                None is "mean".
            groups: with "mean": lists of tokens by name; each token in a group gets the mean embedding of its group,
                others stay. None takes the mean of the vocabulary for every token that is not masked.
            nodes: with "ablation": the features and error nodes to ablate one by one.
            through_qk: also return, for each node, the effect along paths through attention scores: that with
                `freeze="norms"` minus that with `freeze="all"`.
            max_targets: as in `trace`.
            target_mass: as in `trace`.
            masked_positions: as in `trace`.
            memory: as in `trace`.
            progress: as in `trace`.

        Raises:
            CotraceError: invalid arguments, or too little memory.
        """
        config = EffectsConfig(freeze, integrate, integration_steps, through_qk)
        reading = TraceConfig(position, max_targets, target_mass, masked_positions=masked_positions, memory=memory)
        bars = Progress(progress)
        # 1. Everything that can be refused before the model runs.
        ids_P = self._ids(prompt)
        if segments is None and isinstance(prompt, Transcript):
            segments = prompt.tokenize(self).spans
        if isinstance(baseline, Transcript):
            baseline = self.tokenize(baseline)  # effects record it
        named = parse_segments(segments, len(ids_P))
        cuts = parse_cuts(avoiding, named, len(ids_P))
        request = TargetRequest.parse(targets, reading, ids_P.tolist(), self.tokenizer, self.architecture.d_model)
        request.check_features(self.transcoders, self.weights)
        check_targets(cuts, request.read_positions)
        listed = check_nodes(nodes, config, len(ids_P), self.transcoders, self.weights)
        baseline_PD = self._baseline(ids_P, config, baseline, groups, masked_positions)
        # 2. The prompt's local replacement model.
        activations = self._activations(ids_P, reading, bars)
        activations.check_features(self.transcoders.name)
        request.check_spelling(self.weights, activations.final_resid_PD)
        n_columns = (request.max_rows + request.n_features) * len(cuts)
        passes = config.integration_steps if integrate else 1 + through_qk
        plan = plan_effects(activations, n_columns, config, allowed_memory(memory, self.weights.device), passes)
        with bars.phase("collecting decoder vectors"):
            replacement = LocalReplacementModel(activations, plan.keep_vectors)
        # 3. Effects.
        source = EffectSource(activations, replacement, keep_patterns=freeze == "attention")
        del activations  # frees attention patterns
        release_freed_memory()
        resolved = request.resolve(replacement)
        info = self.describe() | describe_trace(self.language_model, prompt, request, reading)
        info["settings"] |= {**asdict(config), "segments": {name: list(span) for name, span in named.items()}}
        if integrate == "inputs":
            info["settings"] |= describe_baseline(baseline, groups)
        wanted = EffectRequest(config, cuts, baseline_PD, listed, plan.columns_at_once)
        with bars.phase("computing effects"):
            effects = compute_effects(source, resolved, wanted, info)
        effects.nodes = with_label_texts(effects.nodes, self._labels)
        return effects

    def _baseline(
        self,
        ids_P: Tensor,
        config: EffectsConfig,
        baseline: Any,
        groups: Mapping[str, Iterable[str | int]] | None,
        masked_positions: Sequence[int] | None,
    ) -> Tensor | None:
        """Return the embeddings that `integrate="inputs"` starts from; None otherwise."""
        if config.integrate != "inputs":
            if baseline is not None or groups is not None:
                raise ArgumentError(
                    'baseline= and groups= are where inputs start from: use them with integrate="inputs"'
                )
            return None
        given = MEAN if baseline is None else baseline
        masked = self._masked(ids_P, masked_positions)
        return baseline_embeddings(self.weights, self.tokenizer, ids_P, masked, given, groups)

    def intervene(
        self,
        prompt: PromptLike,
        edits: Intervention,
        *,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        segments: Mapping[str, Any] | None = None,
        regenerate: Any = None,
        masked_positions: Sequence[int] | None = None,
    ) -> InterventionResult:
        """Run the model on a prompt without and with edits. The weights are not modified.

        Args:
            prompt: a text, token ids, a chat, or a `Transcript`.
            edits: what to change: a dict `{Feature(12, 345, position=4): ablate(), …}`, a `Swap` or `Donor`, or a list of
                these, which are made in one run. Nodes are `Feature`, `ErrorNode`, `Token`, `Direction` and `Supernode`;
                edits of nodes are `ablate()`, `set_to(x)`, `add(x)`, `multiply(x)` and, of tokens, `replace_with(token)`.
            freeze: what keeps its value from the run without edits. "none": nothing, the model responds. "attention":
                attention patterns. "all": attention patterns, norm scales, error nodes and the activations of all
                features that are not edited; an edit then moves every node by exactly its edges.
            layers: layers in which `freeze` applies; None for all. In the others the model responds.
            errors: how an MLP that is not frozen is computed. "recomputed": by the MLP itself, plus what edited
                features write. "constant": by the transcoders, with the error nodes of the run without edits.
            segments: spans of the prompt by name, as in `effects`, which `Swap`, `Donor` and `regenerate` may name. A
                `Transcript` has its own.
            regenerate: tokens of the prompt that the model with edits chooses anew before the run, each the likeliest after
                the text before it: "later" for all after the first edit that no edit gives, a span, or names of segments.
                None keeps the text. `result.edited_token_ids` has the tokens.
            masked_positions: positions without features, as in `trace`.

        Raises:
            CotraceError: edits that conflict or cannot be made, other invalid arguments, or too little memory.
        """
        require_single("intervene", prompt)
        config = InterventionConfig(freeze, layers, errors)
        spans = SpanOptions(masked_positions, segments, regenerate)
        return self._intervene([EditedPrompt(prompt, [edits])], config, spans)[0]

    def intervene_many(
        self,
        prompts: PromptLike | Sequence[PromptLike],
        edits: Intervention | Sequence[Intervention],
        *,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        segments: Mapping[str, Any] | None = None,
        regenerate: Any = None,
        masked_positions: Sequence[int] | None = None,
    ) -> list[InterventionResult]:
        """Run `intervene` for several edits of one prompt, for several prompts with the same edits, or with one each.

        Edits of one prompt are computed as one batch. Each item of a list of edits is a run; a run of several is a list in
        this list. Other arguments and errors are those of `intervene`.
        """
        config = InterventionConfig(freeze, layers, errors)
        return self._intervene(pair(prompts, edits), config, SpanOptions(masked_positions, segments, regenerate))

    def generate(
        self,
        prompt: PromptLike,
        edits: Intervention | None = None,
        *,
        max_new_tokens: int = SamplingConfig.max_new_tokens,
        temperature: float = SamplingConfig.temperature,
        seed: int = SamplingConfig.seed,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        use_cache: bool = True,
        segments: Mapping[str, Any] | None = None,
        regenerate: Any = None,
        masked_positions: Sequence[int] | None = None,
        progress: bool | None = False,
    ) -> Generation:
        """Generate text, with edits at positions of the prompt and of the new tokens.

        Args:
            prompt: a text, token ids, a chat, or a `Transcript`.
            edits: as in `intervene`; None for none. A node at "all" or "generated" positions is edited at every new
                token too.
            max_new_tokens: stop after this many tokens, or after a token that ends the text or the turn.
            temperature: 0 takes the likeliest token; otherwise tokens are sampled at this temperature.
            seed: seed of the sampling.
            freeze: as in `intervene`. Frozen values come from a run without edits over the same tokens.
            layers: as in `intervene`.
            errors: as in `intervene`.
            segments: as in `intervene`.
            regenerate: as in `intervene`; the text that is continued has the new tokens.
            use_cache: use a KV cache. Without it every token is computed from the start, with the same result up to
                rounding.
            masked_positions: positions without features, as in `trace`.
            progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

        Raises:
            CotraceError: as `intervene`.
        """
        require_single("generate", prompt)
        pairs = [EditedPrompt(prompt, [{} if edits is None else edits])]
        config, sampling = InterventionConfig(freeze, layers, errors), SamplingConfig(max_new_tokens, temperature, seed)
        spans = SpanOptions(masked_positions, segments, regenerate)
        return self._generate(pairs, config, sampling, use_cache, spans, Progress(progress))[0]

    def generate_many(
        self,
        prompts: PromptLike | Sequence[PromptLike],
        edits: Intervention | Sequence[Intervention] | None = None,
        *,
        max_new_tokens: int = SamplingConfig.max_new_tokens,
        temperature: float = SamplingConfig.temperature,
        seed: int = SamplingConfig.seed,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        use_cache: bool = True,
        segments: Mapping[str, Any] | None = None,
        regenerate: Any = None,
        masked_positions: Sequence[int] | None = None,
        progress: bool | None = False,
    ) -> list[Generation]:
        """Run `generate` for several edits of one prompt, for several prompts with the same edits, or with one each.

        The generations are computed one after the other, all with the same seed. Arguments and errors are those of
        `generate`.
        """
        pairs = pair(prompts, {} if edits is None else edits)
        config, sampling = InterventionConfig(freeze, layers, errors), SamplingConfig(max_new_tokens, temperature, seed)
        spans = SpanOptions(masked_positions, segments, regenerate)
        return self._generate(pairs, config, sampling, use_cache, spans, Progress(progress))

    @torch.no_grad()
    @out_of_memory()
    def patch(
        self,
        clean: PromptLike,
        corrupted: PromptLike,
        nodes: Iterable[Feature | ErrorNode | Token | Supernode],
        *,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        masked_positions: Sequence[int] | None = None,
    ) -> PatchResult:
        """Patch activations (Vig et al. 2020; Heimersheim and Nanda 2024) of features, error nodes and tokens.

        Runs the corrupted prompt with `nodes` set to their values in the clean prompt, position by position.
        `result.recovered(token, other)` returns how much of the clean prompt's logit, or logit difference, comes back.
        Other arguments are those of `intervene`. Raises CotraceError as `intervene` does, and for prompts of different
        lengths.
        """
        prepared = [self._prompt_context(prompt, masked_positions) for prompt in (clean, corrupted)]
        return patch(prepared[0], prepared[1], nodes, InterventionConfig(freeze, layers, errors))

    @torch.no_grad()
    @out_of_memory()
    def validate(
        self,
        graph: Graph,
        *,
        nodes: int = ValidationConfig.nodes,
        sample: int = ValidationConfig.sample,
        controls: int = ValidationConfig.controls,
        paths: int = ValidationConfig.paths,
        groups: Mapping[str, Iterable[NodeName]] | None = None,
        freeze: Freeze = InterventionConfig.freeze,
        layers: Iterable[int] | None = InterventionConfig.layers,
        errors: Errors = InterventionConfig.errors,
        seed: int = ValidationConfig.seed,
        progress: bool | None = None,
    ) -> Graph:
        """Ablate the nodes that a graph ranks highest, and compare the model's response with the graph's edges.

        Args:
            graph: a graph of this model with these transcoders, whose targets are tokens, differences or features.
            nodes: number of the most influential features to ablate one by one, besides ten error nodes and ten tokens.
            sample: number of features drawn at random from the whole graph. The most influential features alone cover
                a small part of the range, which weakens correlations.
            controls: number of random sets of active features, of the same size, for each ablated set.
            paths: number of the strongest paths, whose features are ablated together.
            groups: nodes of this graph to ablate together, by name, besides the most influential ones: numbers, labels or
                other names of `Graph.find`. None takes the groups that the graph has.
            freeze: as in `intervene`.
            layers: as in `intervene`.
            errors: as in `intervene`.
            seed: seed of the random draws.
            progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

        Returns the graph with the measurements in `info["validation"]`.

        Raises:
            CotraceError: the graph comes from another model or other transcoders; also as `intervene`.
        """
        config = InterventionConfig(freeze, layers, errors)
        sizes = ValidationConfig(nodes, sample, controls, paths, seed)
        check_same_model(graph, self.language_model, self.transcoders)
        prompt = self._prompt_context(graph.info["token_ids"], graph.info["masked_positions"])
        record = validate(
            prompt, graph, config, sizes, groups_inside(graph) if groups is None else groups, Progress(progress)
        )
        return graph.with_validation(record)

    @torch.no_grad()
    @out_of_memory()
    def suggest_groups(
        self,
        graph: Graph,
        target: int | str | None = GroupConfig.target,
        *,
        similarity: float = GroupConfig.similarity,
        max_size: int = GroupConfig.max_size,
        max_features: int = GroupConfig.max_features,
    ) -> Groups:
        """Suggest groups of features of a graph as `Graph.suggest_groups` does, and compare their decoder vectors too.

        Arguments and errors are those of `Graph.suggest_groups`. A CLT feature's vectors are added up over the layers that it
        writes to. Raises CotraceError also for a graph of another model or other transcoders.
        """
        check_same_model(graph, self.language_model, self.transcoders)
        config = GroupConfig(target, similarity, max_size, max_features)

        def directions(nodes: np.ndarray) -> np.ndarray:
            layer_n, feature_n = (graph.column(name, -1)[nodes].astype(np.int64) for name in ("layer", "feature"))
            sign_n1 = np.sign(graph.column("activation")[nodes])[:, None]  # a neuron's activation can be negative
            return decoder_directions(self.transcoders, self.weights, layer_n, feature_n) * sign_n1

        return suggest_groups(graph, config, directions)

    @torch.no_grad()
    @out_of_memory("shorten the transcript, or set memory=")
    def compare(
        self,
        transcript: Any = None,
        *,
        question: str | None = None,
        reasoning: str | Iterable[str] | None = None,
        answer: str | None = None,
        hint: str | None = None,
        generate: bool = False,
        max_new_tokens: int = MAX_NEW_TOKENS,
        evidence: str = CompareConfig.evidence,
        foil: str | None = CompareConfig.foil,
        alternatives: Any = CompareConfig.alternatives,
        seed: int = CompareConfig.seed,
        max_features: int = CompareConfig.max_features,
        memory: int | None = CompareConfig.memory,
        progress: bool | None = None,
    ) -> Report:
        """Compare stated with internal reasoning: did the stated steps produce the answer, or something else?

        Args:
            transcript: a list of segments, `(role, text)` or `(role, text, value)` with the roles "question", "hint", "step",
                "text" and "answer", whose texts, concatenated as they are, are the prompt; a `Transcript`; or a chat.
            question: the question, instead of `transcript`, with reasoning, answer and hint.
            reasoning: the reasoning: a text that is split into steps, or a list of steps.
            answer: the answer.
            hint: a hint; it may be a part of the question.
            generate: let the model write reasoning and answer after the question.
            max_new_tokens: with `generate`, write at most this many tokens.
            evidence: "none" makes no edit; "quick" makes edits in at most 40 passes over the prompt, "full" in at most 240.
            foil: the other value of the answer's margin; None takes the likeliest alternative.
            alternatives: other values that could stand in place of the stated ones, as a list or by name of the segment; None
                takes values of the same kind.
            seed: seed of the edits.
            max_features: compute the rows of at most this many features for the circuit.
            memory: limit in bytes for the memory of the process (on a GPU: of the device); None takes what is free.
            progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

        Returns the report: score (0 to 1), verdict, tables, and the circuit. Effects in it are in logits.

        Raises:
            CotraceError: invalid arguments, a transcript that cannot be analysed, or too little memory.
        """
        config = CompareConfig(evidence, foil, alternatives, seed, max_features, memory)
        if generate:
            check_unwritten(reasoning, answer)
            given = generated(self, transcript, question=question, hint=hint, max_new_tokens=max_new_tokens)
        else:
            given = as_transcript(transcript, question=question, reasoning=reasoning, answer=answer, hint=hint)
        return compare(self, given, config, progress)

    @torch.no_grad()
    @out_of_memory("shorten the prompt, or set memory=")
    def attention(
        self,
        prompt: PromptLike,
        layer: int,
        head: int,
        query: int,
        key: int | None = None,
        *,
        masked_positions: Sequence[int] | None = None,
        memory: int | None = None,
        progress: bool | None = None,
    ) -> AttentionScore:
        """Compute why a head attends from one position to another: its score, as a sum over pairs of nodes.

        Args:
            prompt: a text, token ids, a chat, or a `Transcript`.
            layer: the layer of the head.
            head: the head, of the query heads of the layer.
            query: the position that attends; negative positions count from the end.
            key: the position that is attended to; None takes the one that the query attends to most.
            masked_positions: positions without features, as in `trace`.
            memory: limit in bytes for the memory of the process (on a GPU: of the device); None takes what is free.
            progress: as in `trace`.

        Raises:
            CotraceError: an unknown layer or head, a key that the query does not see, other invalid arguments, or too
                little memory.
        """
        config = TraceConfig(masked_positions=masked_positions, memory=memory)
        ids_P, bars = self._ids(prompt), Progress(progress)
        place = AttentionPlace.parse(layer, head, query, key, self.architecture, len(ids_P))
        activations = self._activations(ids_P, config, bars)
        plan = make_plan(activations, None, config.row_budget, None, allowed_memory(memory, self.weights.device))
        with bars.phase("hashing the weights, once"):
            info = self.describe() | describe_prompt(self.language_model, prompt, ids_P.tolist())
        info["masked_positions"] = list(activations.masked.positions)
        with bars.phase("collecting decoder vectors"):
            replacement = LocalReplacementModel(activations, plan.keep_vectors)
        score = explain_attention(activations, replacement, place, info, plan.batch_size, memory=memory, progress=bars)
        for side in (score.query_side, score.key_side):
            side.nodes = with_label_texts(side.nodes, self._labels)
        return score

    def heads(
        self,
        prompt: PromptLike | Graph,
        source: NodeName,
        target: NodeName | TargetLike,
        *,
        position: int | None = None,
        masked_positions: Sequence[int] | None = None,
    ) -> HeadLoadings:
        """Return the attention heads that carry the direct edge between two nodes.

        Args:
            prompt: a text, token ids, a chat, a `Transcript`, or a graph of this model with these transcoders.
            source: a `Feature`, `ErrorNode` or `Token` with one position, or its text such as "L17#264@5". In a graph, any
                name of `Graph.find`.
            target: a feature with one position, or its text; or as in `trace` a token, pair of tokens or direction. In a
                graph, any name of `Graph.find`.
            position: position at which a target other than a feature is read; None for the last one. Not for a graph.
            masked_positions: positions without features, as in `trace`. Not for a graph.

        Raises:
            CotraceError: nodes that cannot have an edge, an inactive feature, a name that fits no node or several, a
                target of several tokens, a graph of another model, or too little memory.
        """
        return self.heads_many(prompt, [(source, target)], position=position, masked_positions=masked_positions)[0]

    @torch.no_grad()
    @out_of_memory("give fewer edges, or a shorter prompt")
    def heads_many(
        self,
        prompt: PromptLike | Graph,
        edges: Sequence[tuple[NodeName, NodeName | TargetLike]],
        *,
        position: int | None = None,
        masked_positions: Sequence[int] | None = None,
    ) -> list[HeadLoadings]:
        """Return the head loadings of several edges, given by source and target. Arguments and errors are those of `heads`."""
        if isinstance(prompt, Graph):
            if position is not None or masked_positions is not None:
                raise ArgumentError("position= and masked_positions= of a graph are those of its trace: leave them out")
            check_same_model(prompt, self.language_model, self.transcoders)
            requests = edges_of_graph(prompt, edges)
            return head_loadings(self._replacement_of(prompt), requests)
        ids_P = self._ids(prompt)
        parser = EdgeParser(ids_P.tolist(), position, self.tokenizer, self.transcoders, self.weights)
        requests = [parser.edge(source, target) for source, target in edges]
        activations = self._activations(ids_P, TraceConfig(masked_positions=masked_positions))
        return head_loadings(LocalReplacementModel(activations, keep_vectors=False), requests)

    @torch.no_grad()
    @out_of_memory("prune the graph to fewer edges")
    def add_heads(self, graph: Graph, *, progress: bool | None = None) -> Graph:
        """Return a graph with the attention heads that carry each of its edges, which `graph.heads` returns.

        Args:
            graph: a pruned graph of this model with these transcoders, whose targets are no directions.
            progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

        Raises:
            CotraceError: a graph of another model or other transcoders, or too little memory.
        """
        check_same_model(graph, self.language_model, self.transcoders)
        bars = Progress(progress)
        return with_heads(graph, self._replacement_of(graph, bars), bars)

    def _prepare_trace(
        self,
        prompt: PromptLike,
        targets: TargetsLike,
        config: TraceConfig,
        progress: Progress,
    ) -> tuple[TargetRequest, PromptActivations, TracePlan]:
        ids_P = self._ids(prompt)
        request = TargetRequest.parse(targets, config, ids_P.tolist(), self.tokenizer, self.architecture.d_model)
        request.check_features(self.transcoders, self.weights)
        check_limits(config.row_budget, self.architecture.n_layers, request.n_features)
        activations = self._activations(ids_P, config, progress)
        activations.check_features(self.transcoders.name)
        request.check_spelling(self.weights, activations.final_resid_PD)
        allowed = allowed_memory(config.memory, self.weights.device)
        n_targets = request.max_rows + request.n_features
        saved = saved_bytes(activations, n_targets) if config.effects else 0
        plan = make_plan(activations, request, config.row_budget, config.batch_size, allowed - saved)
        if config.effects:
            plan = plan_trace_with_effects(activations, n_targets, plan, allowed)
        return request, activations, plan

    @torch.no_grad()
    @out_of_memory("give fewer prompts and edits at a time, or shorter prompts")
    def _intervene(
        self, pairs: Sequence[EditedPrompt], config: InterventionConfig, spans: SpanOptions
    ) -> list[InterventionResult]:
        batches = [
            prepare(
                self._prompt_context(prompt, spans.masked_positions, spans.segments), edits, config, spans.regenerate
            )
            for prompt, edits in pairs
        ]
        require_memory(batches)
        return [result for batch in batches for result in intervene(batch)]

    @torch.no_grad()
    @out_of_memory("give fewer or shorter prompts, or lower max_new_tokens=")
    def _generate(
        self,
        pairs: Sequence[EditedPrompt],
        config: InterventionConfig,
        sampling: SamplingConfig,
        use_cache: bool,
        spans: SpanOptions,
        progress: Progress,
    ) -> list[Generation]:
        prepared = [  # all are checked before the first generates
            PreparedGeneration(
                self._prompt_context(prompt, spans.masked_positions, spans.segments),
                each,
                config,
                sampling.max_new_tokens,
                use_cache,
                spans.regenerate,
            )
            for prompt, edits in pairs
            for each in edits
        ]
        return [generate(each, sampling, progress) for each in prepared]

    def _activations(self, ids_P: Tensor, config: TraceConfig, progress: Progress | None = None) -> PromptActivations:
        masked = self._masked(ids_P, config.masked_positions)
        bars = progress or Progress(False)
        return run_prompt(self.weights, self.transcoders, ids_P, masked, config.memory, bars)

    def _replacement_of(self, graph: Graph, progress: Progress | None = None) -> LocalReplacementModel:
        """Return the local replacement model of a graph's prompt, without stored decoder vectors."""
        ids_P = torch.tensor(graph.info["token_ids"], device=self.weights.device)
        config = TraceConfig(masked_positions=graph.info["masked_positions"])
        return LocalReplacementModel(self._activations(ids_P, config, progress), keep_vectors=False)

    def _prompt_context(
        self, prompt: PromptLike, masked_positions: Sequence[int] | None, segments: Mapping[str, Any] | None = None
    ) -> PromptContext:
        tokens = PromptTokens.read(prompt, self.tokenizer, segments)
        ids_P = torch.tensor(tokens.ids, device=self.weights.device)
        masked = self._masked(ids_P, masked_positions)
        return PromptContext(self.weights, self.transcoders, self.tokenizer, ids_P, masked, tokens)

    def _masked(self, ids_P: Tensor, masked_positions: Sequence[int] | None) -> MaskedPositions:
        return MaskedPositions.choose(
            masked_positions, self.tokenizer.constant_prefix_length(ids_P.tolist()), len(ids_P)
        )

    def _ids(self, prompt: PromptLike) -> Tensor:
        return torch.tensor(self.tokenizer.encode(prompt), device=self.weights.device)
