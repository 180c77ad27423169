"""A prompt without and with changes, side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import (
    check_logits_memory,
    check_memory,
    free_memory,
    layer_numel,
    patterns_numel,
)
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError
from cotrace.kernels.active import Active, FeatureIndex, look_up

from .edits import EditedPositions, EditPlan, Feature, Intervention, Place
from .forward import HELD, MODEL, TRANSCODERS, ForwardOutput, InterventionRunner, LayerMode

FREEZE = ("none", "attention", "all")
ERRORS = {"recomputed": MODEL, "constant": TRANSCODERS}
AT_ONCE = 1024  # positions of all rows together that are read at once: more gains nothing on a CPU
MEMORY_SHARE = 0.25  # of what is free, for what is kept of these
ACTIVE = 64  # features of a layer and position, for estimates before they are known
INDEX = 8  # bytes of a position or a feature's id
PER_LAYER = 5  # streams of every layer while rows are read: outputs of both runs' MLPs, what is written there


@dataclass(frozen=True)
class InterventionConfig:
    """What responds to a change, and what is held. Raises ValueError for what is neither."""

    freeze: str = "none"
    layers: Iterable[int] | None = None
    errors: str = "recomputed"

    def __post_init__(self) -> None:
        if self.freeze not in FREEZE:
            raise CotraceError(f"freeze={self.freeze!r} is not one of {', '.join(FREEZE)}")
        if self.errors not in ERRORS:
            raise CotraceError(f"errors={self.errors!r} is not one of {', '.join(ERRORS)}")
        if self.layers is not None:
            if not isinstance(self.layers, Iterable):
                raise CotraceError(f"layers={self.layers!r} is not a list of layers; write layers=[…], also for one")
            object.__setattr__(self, "layers", tuple(as_index(layer, "a layer") for layer in self.layers))
        if self.layers is not None and self.freeze == "none":
            raise CotraceError('layers= says where freeze= holds, and freeze is "none"; use "attention" or "all"')

    def how(self, arch: Architecture, transcoders: Transcoders) -> list[LayerMode]:
        """What each layer does."""
        if self.errors == "constant" and transcoders.inside:
            raise CotraceError(
                'errors="constant" is for transcoders: neurons are the MLPs themselves, whose other neurons respond'
            )
        free = LayerMode(mlp=ERRORS[self.errors])
        held = {"none": free, "attention": free._replace(attention=True), "all": LayerMode(True, True, HELD)}[
            self.freeze
        ]
        layers = range(arch.n_layers) if self.layers is None else self._layers(arch)
        return [held if layer in layers else free for layer in range(arch.n_layers)]

    def _layers(self, arch: Architecture) -> set[int]:
        assert self.layers is not None
        layers = set(self.layers)
        outside = [layer for layer in layers if not 0 <= layer < arch.n_layers]
        if outside:
            raise CotraceError(f"the model has no layer {outside[0]}; its layers are 0 … {arch.n_layers - 1}")
        return layers


class ProbabilityChange(NamedTuple):
    """A token whose probability changed."""

    token: int
    text: str
    before: float
    after: float


class PreparedPrompt(NamedTuple):
    """A prompt, and the model that reads it."""

    weights: Gemma3
    transcoders: Transcoders
    tokenizer: PromptTokenizer
    ids_P: Tensor
    masked: MaskedPositions

    @property
    def place(self) -> Place:
        """Where changes of it are made."""
        return Place(self.weights, self.transcoders, len(self.ids_P), self.masked)

    def stream(
        self, how: Sequence[LayerMode] = (), rows: Sequence[EditPlan] = (), **options: Any
    ) -> InterventionRunner:
        """A stream of this prompt from its start; by default as the model is."""
        how = how or [LayerMode()] * self.weights.architecture.n_layers
        return InterventionRunner(self.weights, self.transcoders, self.masked.positions, how, rows, **options)

    def read(self) -> ForwardOutput:
        """The prompt without changes, and all that its features do."""
        return self.stream(report=range(self.weights.architecture.n_layers)).read(self.ids_P[None])

    def reference(self, how: Sequence[LayerMode], error_layers: Iterable[int]) -> InterventionRunner:
        """A stream without changes, which has what a stream that responds as `how` says takes from it."""
        report = [layer for layer, h in enumerate(how) if h.mlp != MODEL]
        return self.stream(error_layers=error_layers, report=report, keep_patterns=any(h.attention for h in how))

    def row_bytes(self, how: Sequence[LayerMode], n_positions: int | None = None) -> tuple[int, int]:
        """What a result keeps of both runs of one row, and about what is needed besides while they are read."""
        arch, size = self.weights.architecture, self.weights.dtype.itemsize
        n_positions = n_positions or len(self.ids_P)
        width = max(self.transcoders.width(layer, self.weights) for layer in range(arch.n_layers))
        stream = n_positions * arch.d_model * size
        active = min(width, ACTIVE) * arch.n_layers * n_positions * (2 * INDEX + 2 * size)
        passing = PER_LAYER * arch.n_layers * stream + size * layer_numel(arch, n_positions)
        if any(h.attention for h in how):
            passing += size * patterns_numel(arch, n_positions)
        if any(h.mlp == TRANSCODERS for h in how):  # decoders of all that is active in a layer
            outputs = arch.n_layers if self.transcoders.kind == "clt" else 1
            passing += min(width, ACTIVE * n_positions) * outputs * arch.d_model * size
        return 2 * ((arch.n_layers + 1) * stream + active), passing

    def rows_at_once(self, how: Sequence[LayerMode]) -> int:
        """How many rows are read together: few enough that both runs fit into a part of the memory."""
        fits = int(MEMORY_SHARE * free_memory(self.weights.device)) // sum(self.row_bytes(how))
        return max(1, min(AT_ONCE // len(self.ids_P), fits))


class InterventionOutcome(NamedTuple):
    """Rows of one prompt without and with changes."""

    before: ForwardOutput
    after: ForwardOutput
    edited_positions: EditedPositions


def outcomes(
    prompt: PreparedPrompt, rows: Sequence[EditPlan], how: Sequence[LayerMode], report: bool = True
) -> InterventionOutcome:
    """Read a prompt with the changes of each row, and as often without, so that both have the same shapes."""
    ids_BP = prompt.ids_P.expand(len(rows), -1)
    error_layers = {layer for changes in rows for layer in changes.errors}
    layers = range(len(how)) if report else ()
    reference, plain = any(h != LayerMode() for h in how), prompt.reference(how, error_layers)
    plain.report |= set(layers)
    before = plain.read(ids_BP)
    changed = prompt.stream(how, rows, error_layers=error_layers, report=layers)
    after = changed.read(ids_BP, before if reference else None)
    before.free()
    after.free()
    return InterventionOutcome(before, after, changed.edited_positions)


class InterventionResult:
    """A prompt without and with changes: logits, and the activation of every feature, before and after."""

    def __init__(
        self,
        prompt: PreparedPrompt,
        outcome: InterventionOutcome,
        row: int,
        how: Sequence[LayerMode],
        changes: EditPlan,
    ):
        self._prompt, self._outcome, self._row, self._how, self._changes = prompt, outcome, row, how, changes

    def __repr__(self) -> str:
        token = self.moved(count=1)[0]
        moved = f"{token.text!r} {token.before:.1%} → {token.after:.1%}"
        return f"<{type(self).__name__} of {len(self.token_ids)} tokens: KL {self.kl():.3g}, {moved}>"

    @property
    def token_ids(self) -> list[int]:
        """Of the prompt."""
        return self._prompt.ids_P.tolist()

    @property
    def idle(self) -> list[Feature]:
        """Features whose change did nothing: not active at any of their places, though they are ablated, say."""
        return self._changes.idle(self._outcome.edited_positions, self._row)

    @cached_property
    def logits_before(self) -> Tensor:
        """The model's logits at every position, (P, V). Raises ValueError if they do not fit into memory."""
        return self._logits(self._outcome.before)

    @cached_property
    def logits(self) -> Tensor:
        """Logits with the changes, (P, V). Raises ValueError if they do not fit into memory."""
        return self._logits(self._outcome.after)

    def probabilities(self, position: int = -1) -> tuple[Tensor, Tensor]:
        """Next-token probabilities (V,) in float64 at a position, before and after."""
        before_V, after_V = (self._logits_at(chunk, position).double().softmax(-1) for chunk in self._both)
        return before_V, after_V

    def kl(self, position: int = -1) -> float:
        """Divergence KL(before ‖ after) of the next-token probabilities at a position, in nats."""
        return divergence(*self.probabilities(position))

    def moved(self, position: int = -1, count: int = 10) -> list[ProbabilityChange]:
        """The tokens whose probabilities moved most at a position, the largest move first."""
        before_V, after_V = self.probabilities(position)
        return top_probability_changes(self._prompt.tokenizer, before_V, after_V, count)

    @cached_property
    def features(self) -> pa.Table:
        """Features that are active before or after, sorted by layer, position and feature.

        Columns: layer, position, feature (int32); activation_before, activation_after; pre_activation_before,
        pre_activation_after, what features read by themselves, null where that makes them inactive. Held features
        keep their activation, and what they read moves: under `freeze="all"` by exactly what edges say.
        """
        layers = [self._features(layer) for layer in range(self._prompt.weights.architecture.n_layers)]
        return pa.concat_tables(layers)

    @property
    def _both(self) -> tuple[ForwardOutput, ForwardOutput]:
        return self._outcome.before, self._outcome.after

    def _logits(self, chunk: ForwardOutput) -> Tensor:
        weights = self._prompt.weights
        check_logits_memory(weights.architecture, len(self.token_ids), weights.dtype, weights.device)
        return weights.logits(chunk.resid_BPD[self._row], chunk.rms_BP[self._row])

    def _logits_at(self, chunk: ForwardOutput, position: int) -> Tensor:
        n, position = len(self._prompt.ids_P), as_index(position, "a position")
        if not -n <= position < n:
            raise CotraceError(f"position {position} is outside the prompt of {n} tokens ({-n} … {n - 1})")
        resid_PD, rms_P = chunk.resid_BPD[self._row], chunk.rms_BP[self._row]
        return self._prompt.weights.logits(resid_PD[[position]], rms_P[[position]])[0]

    def _features(self, layer: int) -> pa.Table:
        n, model = len(self._prompt.ids_P), (self._prompt.transcoders, self._prompt.weights)
        before, after = (_of_row(chunk.active[layer].changed, self._row, n) for chunk in self._both)
        sites = _either(before, after)
        numbered = FeatureIndex(sites.position_n + self._row * n, sites.feature_n)
        columns: dict[str, pa.Array] = {"layer": pa.array([layer] * len(sites.position_n), pa.int32())}
        columns |= {"position": _array(sites.position_n, pa.int32()), "feature": _array(sites.feature_n, pa.int32())}
        for name, chunk in zip(("activation_before", "activation_after"), self._both, strict=True):
            columns[name] = _array(chunk.active[layer].of(numbered, *model))
        pre_before, pre_after = (
            _known(_of_row(chunk.active[layer].natural, self._row, n), sites) for chunk in self._both
        )
        if self._how[layer].mlp == HELD:
            pre_after = pre_before + self._read_besides(layer, numbered)
        for name, values in (("pre_activation_before", pre_before), ("pre_activation_after", pre_after)):
            columns[name] = pa.array(values.cpu().numpy(), mask=values.isnan().cpu().numpy())
        return pa.table(columns)

    def _read_besides(self, layer: int, sites: FeatureIndex) -> Tensor:
        """What features read of the stream's difference, (n,)."""
        before, after = (chunk.passes[layer] for chunk in self._both)
        readers_nD = self._prompt.transcoders.readers(before, self._prompt.weights, sites)
        return ((after.mlp_in_PD - before.mlp_in_PD)[sites.position_n] * readers_nD).sum(-1)


class InterventionBatch(NamedTuple):
    """Interventions on one prompt, checked, before anything is read."""

    prompt: PreparedPrompt
    rows: list[EditPlan]
    how: list[LayerMode]


def prepare(
    prompt: PreparedPrompt, interventions: Sequence[Intervention], setting: InterventionConfig
) -> InterventionBatch:
    """Check interventions. Raises ValueError for those that cannot be made, or are at no position of the prompt."""
    how = setting.how(prompt.weights.architecture, prompt.transcoders)
    rows = [EditPlan(intervention, prompt.place) for intervention in interventions]
    for placed in (placed for changes in rows for placed in changes):
        if not placed.positions:
            raise CotraceError(
                f"{placed.node} is at no position of this prompt, so this would change nothing; model.generate changes "
                "what comes after it"
            )
    return InterventionBatch(prompt, rows, how)


def require_memory(asked: Sequence[InterventionBatch]) -> None:
    """Raise ValueError if all results together, and what it takes to read one, do not fit into memory."""
    if not asked:
        return
    each = [(len(one.rows), *one.prompt.row_bytes(one.how)) for one in asked]
    needed = sum(rows * kept for rows, kept, _ in each) + max(passing for _, _, passing in each)
    count, longest = sum(rows for rows, *_ in each), max(len(one.prompt.ids_P) for one in asked)
    what = f"{count} interventions on up to {longest} tokens" if count > 1 else f"a prompt of {longest} tokens"
    cure = "make fewer at a time, or shorten the prompt" if count > 1 else "shorten the prompt"
    check_memory(needed, free_memory(asked[0].prompt.weights.device), what, cure)


def intervene(prepared: InterventionBatch) -> Iterator[InterventionResult]:
    """The prompt with each intervention by itself, several at once; see `Model.intervene`."""
    prompt, rows, how = prepared
    at_once = prompt.rows_at_once(how)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        outcome = outcomes(prompt, part, how)
        for row, changes in enumerate(part):
            yield InterventionResult(prompt, outcome, row, how, changes)


def divergence(before_V: Tensor, after_V: Tensor) -> float:
    """KL(before ‖ after) of two distributions, in nats."""
    return float(torch.where(before_V > 0, before_V * (before_V / after_V).log(), 0).sum())


def top_probability_changes(
    tokenizer: PromptTokenizer, before_V: Tensor, after_V: Tensor, count: int
) -> list[ProbabilityChange]:
    """The tokens whose probabilities differ most, the largest difference first."""
    if as_index(count, "count") < 1:
        raise CotraceError(f"count is {count}; ask for at least one token")
    top = (after_V - before_V).abs().topk(min(count, len(before_V))).indices.tolist()
    return [ProbabilityChange(t, tokenizer.decode_token(t), float(before_V[t]), float(after_V[t])) for t in top]


def _of_row(active: Active, row: int, n_positions: int) -> Active:
    """A row's own features, at its own positions."""
    mine = slice(
        *torch.searchsorted(active.position_n, torch.tensor([row, row + 1]).to(active.position_n) * n_positions)
    )
    return Active(active.position_n[mine] - row * n_positions, *(column[mine] for column in active[1:]))


def _either(before: Active, after: Active) -> FeatureIndex:
    """Sites of both, sorted, each once."""
    pairs = torch.cat([torch.stack([a.position_n, a.feature_n], 1) for a in (before, after)])
    return FeatureIndex(*pairs.unique(dim=0).T)


def _known(active: Active, sites: FeatureIndex) -> Tensor:
    """Pre-activations (n,), NaN where they are not known."""
    return look_up(active._replace(activation_n=active.pre_activation_n), sites, torch.nan)


def _array(values: Tensor, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values.cpu().numpy(), kind)
