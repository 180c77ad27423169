"""The result of an intervention: logits, probabilities and features of a prompt without and with edits."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.models.memory import check_logits_memory
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted
from cotrace.graphs.nodes import Feature, resolve_position
from cotrace.kernels.active import Active, FeatureIndex, look_up

from .context import PromptContext
from .edit_plan import EditPlan
from .forward import ForwardOutput, pre_activation_changes
from .html import MAX_ROWS, table_html
from .layer_modes import FROZEN, LayerMode
from .runs import InterventionOutcome


class ProbabilityChange(NamedTuple):
    """The probability of one token, before and after an intervention."""

    token: int
    text: str
    before: float
    after: float


class InterventionResult:
    """A prompt without and with edits. `Model.intervene` returns it.

    Positions count from 0; negative ones count from the end of the prompt.
    """

    def __init__(
        self,
        context: PromptContext,
        outcome: InterventionOutcome,
        row: int,
        modes: Sequence[LayerMode],
        plan: EditPlan,
    ):
        self._context, self._outcome, self._row, self._modes, self._plan = context, outcome, row, modes, plan

    def __repr__(self) -> str:
        top = self.top_changes(count=1)[0]
        change = f"{quoted(top.text)} {top.before:.1%} → {top.after:.1%}"
        if top.before == top.after:
            return f"<{type(self).__name__} of {len(self.token_ids)} tokens: no probability changed>"
        return f"<{type(self).__name__} of {len(self.token_ids)} tokens: KL {self.kl():.3g}, {change}>"

    def _repr_html_(self) -> str:
        tokens = [(quoted(c.text), c.before, c.after, c.after - c.before) for c in self.top_changes()]
        title = f"Next token: KL(before ‖ after) = {self.kl():.3g} nats"
        probabilities = table_html(title, ("token", "before", "after", "change"), tokens)
        features = [(str(feature), before, after) for feature, before, after in self._top_feature_changes()]
        title = "Features whose activation changes most"
        return probabilities + table_html(title, ("feature", "before", "after"), features)

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the prompt."""
        return self._context.ids_P.tolist()

    @property
    def edited_token_ids(self) -> list[int]:
        """Token ids of the prompt after swaps and with regenerated tokens."""
        return self._outcome.ids_BP[self._row].tolist()

    @property
    def edited_text(self) -> str:
        """The prompt after swaps and with regenerated tokens, as text."""
        return self._context.tokenizer.decode(self.edited_token_ids)

    @property
    def idle(self) -> list[Feature]:
        """Edited features whose activation did not change at any position: ablated but not active, for example."""
        return self._plan.idle(self._outcome.edited_positions, self._row)

    @cached_property
    def logits_before(self) -> Tensor:
        """Logits (P, V) without edits. Raises ResourceError if they do not fit into memory."""
        return self._logits(self._outcome.before)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (P, V) with edits. Raises ResourceError if they do not fit into memory."""
        return self._logits(self._outcome.after)

    def probabilities(self, position: int = -1) -> tuple[Tensor, Tensor]:
        """Return next-token probabilities (V,) in float64 at a position, before and after.

        Raises ArgumentError for a position outside the prompt.
        """
        before_V, after_V = (self._logits_at(output, position).double().softmax(-1) for output in self._both)
        return before_V, after_V

    def kl(self, position: int = -1) -> float:
        """Return the divergence KL(before ‖ after) of the next-token probabilities at a position, in nats.

        Raises ArgumentError for a position outside the prompt.
        """
        return float(divergence(*(self._logits_at(output, position).double().log_softmax(-1) for output in self._both)))

    def top_changes(self, position: int = -1, count: int = 10) -> list[ProbabilityChange]:
        """Return the `count` tokens whose probabilities change most at a position, the largest change first.

        Raises ArgumentError for a position outside the prompt, and for a count below 1.
        """
        before_V, after_V = self.probabilities(position)
        return top_probability_changes(self._context.tokenizer, before_V, after_V, count)

    @cached_property
    def features(self) -> pa.Table:
        """Features that are active before or after, sorted by layer, position and feature.

        Columns: layer, position, feature (int32); activation_before, activation_after; pre_activation_before,
        pre_activation_after. A pre-activation is what a feature's encoder computes from the stream, before any edit of
        the feature itself; it is null where the feature is not active by itself. Frozen features keep their activation
        while their pre-activation changes: with `freeze="all"` by exactly the weights of the edges.
        """
        return pa.concat_tables([self._features(layer) for layer in range(self._context.n_layers)])

    @property
    def _both(self) -> tuple[ForwardOutput, ForwardOutput]:
        return self._outcome.before, self._outcome.after

    def _logits(self, output: ForwardOutput) -> Tensor:
        weights = self._context.weights
        check_logits_memory(weights.architecture, self._context.n_positions, weights.dtype, weights.device)
        return weights.logits(output.resid_BPD[self._row], output.rms_BP[self._row])

    def _logits_at(self, output: ForwardOutput, position: int) -> Tensor:
        position = resolve_position(position, self._context.n_positions)
        resid_PD, rms_P = output.resid_BPD[self._row], output.rms_BP[self._row]
        return self._context.weights.logits(resid_PD[[position]], rms_P[[position]])[0]

    def _features(self, layer: int) -> pa.Table:
        """Return one layer's part of `features`."""
        n, model = self._context.n_positions, (self._context.transcoders, self._context.weights)
        before, after = (_of_row(output.active[layer].edited, self._row, n) for output in self._both)
        index = _union(before, after)
        batch_index = FeatureIndex(index.position_n + self._row * n, index.feature_n)
        columns: dict[str, pa.Array] = {"layer": pa.array([layer] * len(index.position_n), pa.int32())}
        columns |= {"position": _array(index.position_n, pa.int32()), "feature": _array(index.feature_n, pa.int32())}
        for name, output in zip(("activation_before", "activation_after"), self._both, strict=True):
            columns[name] = _array(output.active[layer].look_up(batch_index, *model))
        pre_before, pre_after = (
            _pre_activations(_of_row(output.active[layer].computed, self._row, n), index) for output in self._both
        )
        if self._modes[layer].mlp == FROZEN:
            cache_before, cache_after = (output.layer_caches[layer] for output in self._both)
            pre_after = pre_before + pre_activation_changes(*model, cache_before, cache_after, batch_index)
        for name, values in (("pre_activation_before", pre_before), ("pre_activation_after", pre_after)):
            columns[name] = pa.array(values.cpu().numpy(), mask=values.isnan().cpu().numpy())
        return pa.table(columns)

    def _top_feature_changes(self) -> list[tuple[Feature, float, float]]:
        """Return the features whose activations change most, with both activations."""
        before, after = (self.features[f"activation_{side}"].to_numpy() for side in ("before", "after"))
        size = abs(after - before)
        rows = [int(row) for row in (-size).argsort(kind="stable")[:MAX_ROWS] if size[row] > 0]
        layer, position, feature = (self.features[name].to_numpy() for name in ("layer", "position", "feature"))
        return [
            (Feature(int(layer[n]), int(feature[n]), int(position[n])), float(before[n]), float(after[n])) for n in rows
        ]


def divergence(before: Tensor, after: Tensor) -> Tensor:
    """Return KL(before ‖ after) of distributions, in nats, (…), given their log-probabilities (…, V)."""
    return torch.where(before > -torch.inf, before.exp() * (before - after), 0).sum(-1)


def top_probability_changes(
    tokenizer: PromptTokenizer, before_V: Tensor, after_V: Tensor, count: int
) -> list[ProbabilityChange]:
    """Return the tokens whose probabilities differ most, the largest difference first.

    Raises ArgumentError for a count below 1.
    """
    if as_index(count, "count") < 1:
        raise ArgumentError(f"count is {count}; ask for at least one token")
    top = (after_V - before_V).abs().topk(min(count, len(before_V))).indices.tolist()
    return [ProbabilityChange(t, tokenizer.decode_token(t), float(before_V[t]), float(after_V[t])) for t in top]


def _of_row(active: Active, row: int, n_positions: int) -> Active:
    """Return one row's features, with positions counted from the start of the row."""
    bounds = torch.tensor([row, row + 1]).to(active.position_n) * n_positions
    own = slice(*torch.searchsorted(active.position_n, bounds))
    return Active(active.position_n[own] - row * n_positions, *(column[own] for column in active[1:]))


def _union(before: Active, after: Active) -> FeatureIndex:
    """Return the features that are active before or after, sorted, each once."""
    pairs = torch.cat([torch.stack([active.position_n, active.feature_n], 1) for active in (before, after)])
    return FeatureIndex(*pairs.unique(dim=0).T)


def _pre_activations(active: Active, index: FeatureIndex) -> Tensor:
    """Return pre-activations (n,), NaN where a feature is not active."""
    return look_up(active._replace(activation_n=active.pre_activation_n), index, torch.nan)


def _array(values: Tensor, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values.cpu().numpy(), kind)
