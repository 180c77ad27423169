"""Run prompts with edits: one forward pass of the model in which layers are frozen, replaced and edited."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.attention_pattern import NO_PATTERN
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer, LayerCache, model_mlp
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights
from cotrace.attribution.models.kv_cache import KVCache
from cotrace.attribution.models.sites import Site
from cotrace.attribution.transcoders import DecodedOutputs, Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.kernels.active import (
    Active,
    FeatureIndex,
    difference,
    look_up,
    replace_activations,
    with_activations,
    without_zeros,
)

from .context import PromptContext
from .donors import DonorActivations, DonorEdits
from .edit_plan import EditedPositions, EditPlan
from .edit_tensors import FeatureEditTensors, error_edit, feature_edit, token_edit
from .layer_modes import FROZEN, MODEL, TRANSCODERS, LayerMode

TOO_LARGE = "the edits are so large that the model's values are no longer finite; use smaller ones"


class LayerActivations(NamedTuple):
    """Active features of one layer, computed and edited.

    `computed` are the activations that the transcoders give for the input in `source`; `edited` are those after
    edits, which set the features of `edited_index` to `edited_n`.
    """

    computed: Active
    source: LayerCache
    edited: Active
    edited_index: FeatureIndex | None
    edited_n: Tensor | None

    def look_up(self, index: FeatureIndex, transcoders: Transcoders, weights: Gemma3) -> Tensor:
        """Return the activations (n,) of any features after edits, zero where they are not active."""
        computed_n = transcoders.activations(self.computed, self.source, weights, index)
        if self.edited_index is None or self.edited_n is None:
            return computed_n
        return look_up(with_activations(self.edited_index, self.edited_n), index, computed_n)


@dataclass
class ForwardOutput:
    """Activations of one forward pass over B rows of P positions.

    The B·P positions of all rows are numbered together, row by row.

    Attributes:
        first: the position in each row at which the pass started.
        layer_caches: each layer's activations (B·P, …); patterns are empty unless the runner keeps them.
        active: active features of the runner's `feature_layers`, and of layers where they were needed.
        errors: error nodes (B·P, D) of the runner's `error_layers`.
        resid_BPD: final residual streams.
        rms_BP: reciprocal RMS of the final norm.
    """

    first: int
    layer_caches: list[LayerCache] = field(default_factory=list)
    active: dict[int, LayerActivations] = field(default_factory=dict)
    errors: dict[int, Tensor] = field(default_factory=dict)
    resid_BPD: Tensor = field(default_factory=lambda: torch.empty(0))
    rms_BP: Tensor = field(default_factory=lambda: torch.empty(0))

    def free(self) -> None:
        """Free patterns and MLP outputs, which activations, pre-activations and logits do not need."""
        self.layer_caches = [_without_outputs(layer_cache) for layer_cache in self.layer_caches]


def _without_outputs(layer_cache: LayerCache) -> LayerCache:
    return layer_cache._replace(pattern=NO_PATTERN, mlp_out_PD=layer_cache.mlp_out_PD.new_empty(0))


def pre_activation_changes(
    transcoders: Transcoders, weights: Gemma3, before: LayerCache, after: LayerCache, index: FeatureIndex
) -> Tensor:
    """Return the changes of pre-activations between two passes, (n,): encoders times the change of the MLP's input."""
    encoders_nD = transcoders.encoders(before, weights, index)
    return ((after.mlp_in_PD - before.mlp_in_PD)[index.position_n] * encoders_nD).sum(-1)


class InterventionRunner:
    """Runs B rows of tokens with edits, several positions at a time; keys and values are cached between calls.

    Args:
        context: the model, and the prompt with which every row begins.
        modes: the mode of each layer; by default nothing is frozen.
        plans: the edits of each row; without plans, the rows run without edits.
        donors: recorded values of the donors of each row.
        error_layers: layers whose error nodes are in the output.
        feature_layers: layers whose active features are in the output.
        keep_patterns: whether the output has attention patterns, for a runner that freezes them.
    """

    def __init__(
        self,
        context: PromptContext,
        modes: Sequence[LayerMode] = (),
        plans: Sequence[EditPlan] = (),
        *,
        donors: Sequence[Sequence[DonorActivations]] = (),
        error_layers: Iterable[int] = (),
        feature_layers: Iterable[int] = (),
        keep_patterns: bool = False,
    ):
        self.weights, self.transcoders = context.weights, context.transcoders
        self.modes, self.plans = modes or [LayerMode()] * context.n_layers, plans
        self.donors = DonorEdits(donors)
        self.kv_cache, self.edited_positions = KVCache(), EditedPositions()
        self.error_layers, self.feature_layers = set(error_layers), set(feature_layers)
        self.keep_patterns = keep_patterns
        self._masked = set(context.masked.positions)

    def forward(self, ids_BP: Tensor, reference: ForwardOutput | None = None) -> ForwardOutput:
        """Run the next positions of every row.

        Args:
            ids_BP: token ids, with those of swaps.
            reference: the output for the tokens without edits; needed if a layer freezes anything.
        """
        return _EditedPass(self, ids_BP, reference).run()

    def open_positions(self, n_rows: int, first: int, stop: int) -> Tensor:
        """Return the numbers, ascending, of the unmasked positions from `first` up to `stop` in every row."""
        length = stop - first
        open_p = [p - first for p in range(first, stop) if p not in self._masked]
        row_p = torch.tensor(open_p, dtype=torch.long, device=self.weights.device)
        return (torch.arange(n_rows, device=row_p.device)[:, None] * length + row_p).flatten()


class _EditedPass:
    """One forward pass of a runner.

    Transcoders and edits number the positions of all rows together, so a layer's activations are flattened to
    (B·P, …) before its MLP.
    """

    def __init__(self, runner: InterventionRunner, ids_BP: Tensor, reference: ForwardOutput | None):
        self.runner, self.reference, self.ids_BP = runner, reference, ids_BP
        self.weights, self.transcoders = runner.weights, runner.transcoders
        self.first = runner.kv_cache.length
        self.stop = self.first + ids_BP.shape[1]
        self.open_p = runner.open_positions(len(ids_BP), self.first, self.stop)
        self.model_mlp = model_mlp(self.weights)
        n_layers = self.weights.architecture.n_layers
        self.changes = DecodedOutputs(n_layers)  # what edits add to each MLP's output, (B·P, D)
        self.computed = DecodedOutputs(n_layers)  # decoded features without edits, for error nodes
        self.last_error = max(runner.error_layers, default=-1)
        self.output = ForwardOutput(self.first)

    def run(self) -> ForwardOutput:
        weights, output, modes = self.weights, self.output, self.runner.modes
        forward_pass = ForwardPass(
            weights,
            self._embeddings(),
            kv_cache=self.runner.kv_cache,
            frozen=[self._frozen(layer, mode) for layer, mode in enumerate(modes)],
            mlp=self._mlp,
            attention_edit=self.runner.donors.attention_edit(self.first),
            heads_edit=self._edit_heads if any(plan.edits_site("attn_out") for plan in self.runner.plans) else None,
        )
        for layer_cache in forward_pass:
            self._edit_directions("resid_post", layer_cache.layer, forward_pass.resid_PD)
            self.runner.donors.replace_residual(layer_cache.layer, forward_pass.resid_PD, self.first)
            # norms square the stream
            if self.runner.plans and not forward_pass.resid_PD.square().mean(-1).isfinite().all():
                raise ArgumentError(TOO_LARGE)
        output.resid_BPD = forward_pass.resid_PD
        frozen = self.reference is not None and all(mode.freeze_norms for mode in modes)
        output.rms_BP = self.reference.rms_BP if self.reference and frozen else weights.final_rms(output.resid_BPD)
        return output

    def _embeddings(self) -> Tensor:
        """Return the embeddings (B, P, D) of the pass, with the edits of tokens."""
        embedding_BPD = self.weights.embed(self.ids_BP)
        flat_PD = embedding_BPD.flatten(0, 1)
        edit = token_edit(self.runner.plans, self.first, self.stop, flat_PD)
        if edit is None:
            return embedding_BPD
        return flat_PD.index_copy(0, edit.position_n, edit.apply(flat_PD)).view_as(embedding_BPD)

    def _frozen(self, layer: int, mode: LayerMode) -> FrozenLayer:
        frozen = FrozenLayer()
        if mode.freeze_attention:
            frozen = frozen._replace(pattern=self._reference(layer).pattern)
        if mode.freeze_norms:
            names = ("rms_attn_in_P", "rms_attn_out_P", "rms_mlp_in_P")
            rms = {name: getattr(self._reference(layer), name).view(self.ids_BP.shape) for name in names}
            frozen = frozen._replace(**rms)
        return frozen

    def _reference(self, layer: int) -> LayerCache:
        assert self.reference is not None, "a layer that freezes anything needs a run without edits"
        return self.reference.layer_caches[layer]

    def _mlp(self, before: LayerCache, w: LayerWeights) -> LayerCache:
        """Compute a layer's MLP output with the edits of this layer and of earlier ones."""
        mode, shape = self.runner.modes[before.layer], self.ids_BP.shape
        flat = before._replace(
            pattern=before.pattern if self.runner.keep_patterns else NO_PATTERN,
            rms_attn_in_P=before.rms_attn_in_P.flatten(),
            rms_attn_out_P=before.rms_attn_out_P.flatten(),
            rms_mlp_in_P=before.rms_mlp_in_P.flatten(),
            mlp_in_PD=before.mlp_in_PD.flatten(0, 1),
        )
        flat = self.model_mlp(flat, w) if mode.mlp == MODEL else self._reference_mlp(flat)
        flat = self._edit_errors(*self._edit_features(mode, flat, w))
        if any(plan.edits_site("mlp_out") for plan in self.runner.plans):
            flat = flat._replace(mlp_out_PD=flat.mlp_out_PD.clone())
            self._edit_directions("mlp_out", flat.layer, flat.mlp_out_PD.unflatten(0, shape))
        self.output.layer_caches.append(flat)
        return flat._replace(
            mlp_out_PD=flat.mlp_out_PD.unflatten(0, shape), rms_mlp_out_P=flat.rms_mlp_out_P.unflatten(0, shape)
        )

    def _reference_mlp(self, flat: LayerCache) -> LayerCache:
        """Take the MLP output without edits; a skip connection responds to the edited input."""
        reference = self._reference(flat.layer)
        out_PD = reference.mlp_out_PD
        skip = self.transcoders.skip(flat.layer, flat.mlp_in_PD)
        if skip is not None:
            out_PD = out_PD + (flat.mlp_in_PD - reference.mlp_in_PD) @ skip
        return flat._replace(mlp_out_PD=out_PD, rms_mlp_out_P=reference.rms_mlp_out_P)

    def _edit_features(self, mode: LayerMode, flat: LayerCache, w: LayerWeights) -> tuple[LayerCache, Tensor | None]:
        """Apply the layer's feature edits; return the layer and, for `error_layers`, its error node (B·P, D)."""
        layer, runner = flat.layer, self.runner
        edit = feature_edit(runner.plans, layer, self.first, self.stop, flat.mlp_in_PD)
        if not (edit or layer in runner.feature_layers or mode.mlp == TRANSCODERS or layer <= self.last_error):
            return flat, None
        error_PD, (computed, source) = None, self._computed_features(mode, flat)
        if layer <= self.last_error:
            self._decode(layer, computed, source, self.computed)
            error_PD = self._error(mode, flat)
        activations, change = self._edited_features(layer, computed, source, edit)
        self.output.active[layer] = activations
        if mode.mlp == TRANSCODERS:
            assert self.reference is not None
            change = difference(activations.edited, self.reference.active[layer].computed)
        if change is not None and len(change.position_n):
            flat = self._add_change(mode, change, source, flat, w)
        return flat, error_PD

    def _computed_features(self, mode: LayerMode, flat: LayerCache) -> tuple[Active, LayerCache]:
        """Return the layer's active features before its edits, and the activations they were computed from."""
        if mode.mlp == FROZEN:
            assert self.reference is not None
            return self.reference.active[flat.layer][:2]
        return self.transcoders.active_at(flat, self.weights, self.open_p), _without_outputs(flat)

    def _edited_features(
        self, layer: int, computed: Active, source: LayerCache, edit: FeatureEditTensors | None
    ) -> tuple[LayerActivations, Active | None]:
        """Return the layer's activations before and after its edits, and their change."""
        if edit is None:
            return LayerActivations(computed, source, computed, None, None), None
        old_n = self.transcoders.activations(computed, source, self.weights, edit.features)
        new_n = edit.apply(old_n)
        change = without_zeros(with_activations(edit.features, new_n - old_n))
        self._note_positions(layer, change)
        edited = replace_activations(computed, edit.features, new_n)
        return LayerActivations(computed, source, edited, edit.features, new_n), change

    def _add_change(
        self, mode: LayerMode, change: Active, source: LayerCache, flat: LayerCache, w: LayerWeights
    ) -> LayerCache:
        """Add a change of activations to the MLP's neurons, or decode it at this layer and later ones."""
        if mode.mlp != MODEL or not self.transcoders.part_of_mlp:
            self._decode(flat.layer, change, source, self.changes)
            return flat
        added_PM = flat.mlp_in_PD.new_zeros(len(flat.mlp_in_PD), self.weights.architecture.d_mlp)
        added_PM[change.position_n, change.feature_n] = change.activation_n
        out_PD, rms_out_P = self.weights.mlp(w, flat.mlp_in_PD, added_PM)
        return flat._replace(mlp_out_PD=out_PD, rms_mlp_out_P=rms_out_P)

    def _note_positions(self, layer: int, change: Active) -> None:
        length = self.ids_BP.shape[1]
        for number, feature in zip(change.position_n.tolist(), change.feature_n.tolist(), strict=True):
            positions = self.runner.edited_positions.setdefault((number // length, layer, feature), set())
            positions.add(self.first + number % length)

    def _decode(self, layer: int, active: Active, source: LayerCache, into: DecodedOutputs) -> None:
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        decoder_UJD = self.transcoders.decoders(layer, feature_U, self.weights)
        scale_n = self.transcoders.write_scale(source, active.position_n)
        if scale_n is not None:
            active = active._replace(activation_n=active.activation_n * scale_n)
        into.add(layer, active, row_n, decoder_UJD, len(source.mlp_in_PD))

    def _error(self, mode: LayerMode, flat: LayerCache) -> Tensor | None:
        """Return the layer's error node without edits (B·P, D); None unless the layer is in `error_layers`."""
        layer = flat.layer
        if layer not in self.runner.error_layers:
            return None
        if mode.mlp != MODEL:
            assert self.reference is not None
            return self.reference.errors[layer]
        skip = self.transcoders.skip(layer, flat.mlp_out_PD)
        error_PD, _ = self.transcoders.remainder(flat, self.computed[layer], skip, self.open_p)
        self.output.errors[layer] = error_PD
        return error_PD

    def _edit_errors(self, flat: LayerCache, error_PD: Tensor | None) -> LayerCache:
        """Add the decoded changes to the MLP's output, and apply the layer's edits of error nodes."""
        change_PD = self.changes[flat.layer]
        out_PD = flat.mlp_out_PD if change_PD is None else flat.mlp_out_PD + change_PD
        edit = error_edit(self.runner.plans, flat.layer, self.first, self.stop, out_PD)
        if edit is not None:
            assert error_PD is not None
            change_nD = edit.apply(error_PD) - error_PD[edit.position_n]
            if change_nD.any():
                out_PD = out_PD.index_add(0, edit.position_n, change_nD)
        return flat._replace(mlp_out_PD=out_PD)

    def _edit_heads(self, layer: int, mixed_BPE: Tensor) -> Tensor:
        """Return the heads' outputs (B, P, H * d) with the layer's edits of their directions."""
        edited_BPE = mixed_BPE.clone()
        self._edit_directions("attn_out", layer, edited_BPE)
        return edited_BPE

    def _edit_directions(self, site: Site, layer: int, x_BPX: Tensor) -> None:
        """Apply the edits of directions at a layer's site, in place: nothing else may have saved its values."""
        for row, plan in enumerate(self.runner.plans):
            for resolved in plan.directions.get(layer, ()):
                positions = [p - self.first for p in resolved.positions_in(self.first, self.stop, plan.n_prompt)]
                if positions and resolved.node.site == site:
                    unit_X = resolved.node.vector.to(x_BPX)
                    old_p = x_BPX[row, positions] @ unit_X
                    change_p = resolved.edit.scale * old_p + resolved.edit.shift - old_p
                    if change_p.any():
                        x_BPX[row, positions] += change_p[:, None] * unit_X
