"""The forward pass with changes: what is held as it was, what responds, and what is written besides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.attention_pattern import AttentionPattern
from cotrace.attribution.models.gemma3 import Gemma3, KVCache, LayerCache, LayerWeights
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.kernels.active import Active, FeatureIndex, difference, look_up, replaced, with_activations, without_zeros
from cotrace.kernels.decode import decode

from .edit_plan import EditedPositions, EditPlan
from .edit_tensors import FeatureEditTensors, error_edit, feature_edit
from .layer_modes import FROZEN, MODEL, TRANSCODERS, LayerMode

TOO_LARGE = "the edits are so large that the model's values are no longer finite; use smaller ones"
NO_PATTERN = AttentionPattern([])  # in the place of one that nothing asks for again


class Activations(NamedTuple):
    """A layer's active features: by themselves, in the pass that gave them (its read side), and with the changes."""

    natural: Active
    seen: LayerCache
    changed: Active
    sites: FeatureIndex | None  # what was changed, to what
    new_n: Tensor | None

    def of(self, sites: FeatureIndex, transcoders: Transcoders, weights: Gemma3) -> Tensor:
        """Activations (n,) of any features, active or not."""
        found_n = transcoders.activations(self.natural, self.seen, weights, sites)
        if self.sites is None or self.new_n is None:
            return found_n
        return look_up(with_activations(self.sites, self.new_n), sites, found_n)


@dataclass
class ForwardOutput:
    """What was read at once: B rows of some positions. Positions of all rows are numbered through, row by row."""

    first: int
    passes: list[LayerCache] = field(default_factory=list)  # of B·P positions; patterns of B rows, where they are held
    active: dict[int, Activations] = field(default_factory=dict)  # by layer, where they were asked for
    errors: dict[int, Tensor] = field(default_factory=dict)  # (B·P, D) of layers that were asked for
    resid_BPD: Tensor = field(default_factory=lambda: torch.empty(0))
    rms_BP: Tensor = field(default_factory=lambda: torch.empty(0))

    def free(self) -> None:
        """Keep only what activations, pre-activations and logits are made of."""
        self.passes = [_read_side(done) for done in self.passes]


def _read_side(done: LayerCache) -> LayerCache:
    """A layer's pass without its pattern, which is most of a long prompt, and without the MLP's output."""
    return done._replace(pattern=NO_PATTERN, mlp_out_PD=done.mlp_out_PD.new_empty(0))


class InterventionRunner:
    """Rows of one length that are read on from where they were left, with changes of their own.

    Anything but `LayerMode()` needs, for every chunk, that of a stream over the same tokens without changes, `reference_runner`.
    `report` are layers whose activations are asked for; `edited_positions` tells where features were changed.
    """

    def __init__(
        self,
        weights: Gemma3,
        transcoders: Transcoders,
        masked: Sequence[int],
        how: Sequence[LayerMode],
        rows: Sequence[EditPlan] = (),
        error_layers: Iterable[int] = (),
        report: Iterable[int] = (),
        keep_patterns: bool = False,
    ):
        self.weights, self.transcoders, self.how, self.rows = weights, transcoders, how, rows
        self.past, self.edited_positions = KVCache(), EditedPositions()
        self.error_layers, self.report, self.keep_patterns = set(error_layers), set(report), keep_patterns
        self._masked = set(masked)

    def forward(self, ids_BP: Tensor, reference: ForwardOutput | None = None) -> ForwardOutput:
        """Read the next positions of every row."""
        return _Reading(self, ids_BP, reference).run()

    def open_positions(self, n_rows: int, first: int, stop: int) -> Tensor:
        """Numbers of the positions that may carry features, ascending."""
        length = stop - first
        kept = [p - first for p in range(first, stop) if p not in self._masked]
        own = torch.tensor(kept, dtype=torch.long, device=self.weights.device)
        return (torch.arange(n_rows, device=own.device)[:, None] * length + own).flatten()


class _Reading:
    """One chunk on its way through the layers."""

    def __init__(self, stream: InterventionRunner, ids_BP: Tensor, reference: ForwardOutput | None):
        self.stream, self.reference, self.ids_BP = stream, reference, ids_BP
        self.weights, self.transcoders = stream.weights, stream.transcoders
        self.first = stream.past.length
        self.stop = self.first + ids_BP.shape[1]
        self.open_p = stream.open_positions(len(ids_BP), self.first, self.stop)
        n_layers = self.weights.architecture.n_layers
        self.added: list[Tensor | None] = [None] * n_layers  # what changes write at each layer, (B·P, D)
        self.natural: list[Tensor | None] = [None] * n_layers  # what features write there without the changes
        self.last_error = max(stream.error_layers, default=-1)
        self.chunk = ForwardOutput(self.first)

    def run(self) -> ForwardOutput:
        weights, chunk, how = self.weights, self.chunk, self.stream.how
        resid_BPD = weights.embed(self.ids_BP)
        for layer in range(weights.architecture.n_layers):
            resid_BPD = self._layer(layer, how[layer], resid_BPD)
            if self.stream.rows and not resid_BPD.square().mean(-1).isfinite().all():  # as norms take it
                raise ArgumentError(TOO_LARGE)
        chunk.resid_BPD = resid_BPD
        frozen = self.reference is not None and all(h.freeze_norms for h in how)
        chunk.rms_BP = self.reference.rms_BP if self.reference and frozen else weights.final_rms(resid_BPD)
        self.stream.past.length = self.stop
        return chunk

    def _layer(self, layer: int, how: LayerMode, resid_BPD: Tensor) -> Tensor:
        weights, w, shape = self.weights, self.weights.layer(layer), resid_BPD.shape[:2]
        ref = None if self.reference is None else self.reference.passes[layer]
        pattern = rms_attn = rms_mlp = None
        if how.freeze_attention:
            assert ref is not None
            pattern = ref.pattern
        if how.freeze_norms:
            assert ref is not None
            rms_attn = ref.rms_attn_in_P.view(shape), ref.rms_attn_out_P.view(shape)
            rms_mlp = ref.rms_mlp_in_P.view(shape)
        resid_BPD, pattern, rms_in, rms_out = weights.attend(layer, w, resid_BPD, self.stream.past, pattern, rms_attn)
        mlp_in_BPD, rms_mlp = weights.rms_norm(resid_BPD, w.norm_mlp_in_D, rms_mlp)
        mlp_in_PD = mlp_in_BPD.flatten(0, 1)
        scales = rms_in.flatten(), rms_out.flatten(), rms_mlp.flatten()
        if how.mlp == MODEL:
            out_PD, rms_mlp_out = weights.mlp(w, mlp_in_PD)
        else:
            assert ref is not None
            out_PD, rms_mlp_out = ref.mlp_out_PD, ref.rms_mlp_out_P
            skip = self.transcoders.skip(layer, mlp_in_PD)
            if skip is not None:
                out_PD = out_PD + (mlp_in_PD - ref.mlp_in_PD) @ skip
        done = self._with_changes(how, LayerCache(layer, NO_PATTERN, *scales, rms_mlp_out, mlp_in_PD, out_PD), w)
        self.chunk.passes.append(done._replace(pattern=pattern) if self.stream.keep_patterns else done)
        return self._along_directions(layer, resid_BPD + done.mlp_out_PD.unflatten(0, shape))

    def _with_changes(self, how: LayerMode, done: LayerCache, w: LayerWeights) -> LayerCache:
        """The layer's pass with what its own and earlier changes write to it."""
        layer, rows = done.layer, self.stream.rows
        edit = feature_edit(rows, layer, self.first, self.stop, done.mlp_in_PD)
        error_PD = None
        if edit or layer in self.stream.report or how.mlp == TRANSCODERS or layer <= self.last_error:
            natural, seen = self._without_changes(how, done)
            if layer <= self.last_error:
                self._write(layer, natural, seen, self.natural)
                error_PD = self._error(how, done)
            done = self._change_features(how, edit, natural, seen, done, w)
        added_PD = self.added[layer]
        out_PD = done.mlp_out_PD if added_PD is None else done.mlp_out_PD + added_PD
        errors = error_edit(rows, layer, self.first, self.stop, out_PD)
        if errors is not None:
            assert error_PD is not None
            moved_nD = errors.change(error_PD)
            if moved_nD.any():
                out_PD = out_PD.index_add(0, errors.position_n, moved_nD)
        return done._replace(mlp_out_PD=out_PD)

    def _without_changes(self, how: LayerMode, done: LayerCache) -> tuple[Active, LayerCache]:
        """Activations that the layer's features have by themselves, and the pass that gave them."""
        if how.mlp == FROZEN:
            assert self.reference is not None
            return self.reference.active[done.layer][:2]
        return self.transcoders.active_at(done, self.weights, self.open_p), _read_side(done)

    def _change_features(
        self,
        how: LayerMode,
        edit: FeatureEditTensors | None,
        natural: Active,
        seen: LayerCache,
        done: LayerCache,
        w: LayerWeights,
    ) -> LayerCache:
        """Change activations, and write the differences: into the MLP's neurons, or at this layer and later ones."""
        activations, moved = Activations(natural, seen, natural, None, None), None
        if edit is not None:
            old_n = self.transcoders.activations(natural, seen, self.weights, edit.sites)
            new_n = edit.apply(old_n)
            changed = replaced(natural, edit.sites, new_n)
            activations = Activations(natural, seen, changed, edit.sites, new_n)
            moved = without_zeros(with_activations(edit.sites, new_n - old_n))
            self._note(done.layer, moved)
        self.chunk.active[done.layer] = activations
        if how.mlp == TRANSCODERS:
            assert self.reference is not None
            moved = difference(activations.changed, self.reference.active[done.layer].natural)
        if moved is None or not len(moved.position_n):
            return done
        if how.mlp == MODEL and self.transcoders.inside:
            added_PM = done.mlp_in_PD.new_zeros(len(done.mlp_in_PD), self.weights.architecture.d_mlp)
            added_PM[moved.position_n, moved.feature_n] = moved.activation_n
            out_PD, rms_out_P = self.weights.mlp(w, done.mlp_in_PD, added_PM)
            return done._replace(mlp_out_PD=out_PD, rms_mlp_out_P=rms_out_P)
        self._write(done.layer, moved, seen, self.added)
        return done

    def _note(self, layer: int, moved: Active) -> None:
        length = self.ids_BP.shape[1]
        for number, feature in zip(moved.position_n.tolist(), moved.feature_n.tolist(), strict=True):
            at = self.stream.edited_positions.setdefault((number // length, layer, feature), set())
            at.add(self.first + number % length)

    def _write(self, layer: int, active: Active, seen: LayerCache, into: list[Tensor | None]) -> None:
        """Add what features write at a layer and each later one."""
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        decoder_UJD = self.transcoders.decoders(layer, feature_U, self.weights)
        scale_n = self.transcoders.write_scale(seen, active.position_n)
        value_n = active.activation_n if scale_n is None else active.activation_n * scale_n
        # All are of one layer: decode takes the later ones as layers without features.
        rest = [Active(*(column[:0] for column in active))] * (decoder_UJD.shape[1] - 1)
        own = active._replace(feature_n=row_n, activation_n=value_n)
        written_JPD = decode([own, *rest], [decoder_UJD, *[decoder_UJD[:0, :1]] * len(rest)], len(seen.mlp_in_PD))
        for j, written_PD in enumerate(written_JPD):
            before_PD = into[layer + j]
            into[layer + j] = written_PD if before_PD is None else before_PD + written_PD

    def _error(self, how: LayerMode, done: LayerCache) -> Tensor | None:
        """The layer's error without changes (B·P, D), where it is asked for."""
        layer = done.layer
        if layer not in self.stream.error_layers:
            return None
        if how.mlp != MODEL:
            assert self.reference is not None
            return self.reference.errors[layer]
        error_PD, natural_PD = done.mlp_out_PD.clone(), self.natural[layer]
        if natural_PD is not None:
            error_PD -= natural_PD
        skip, bias_D = self.transcoders.skip(layer, error_PD), self.transcoders.output_bias(layer, error_PD)
        if skip is not None:
            error_PD -= done.mlp_in_PD @ skip
        if bias_D is not None:
            error_PD[self.open_p] -= bias_D
        self.chunk.errors[layer] = error_PD
        return error_PD

    def _along_directions(self, layer: int, resid_BPD: Tensor) -> Tensor:
        for row, changes in enumerate(self.stream.rows):
            for placed in changes.directions.get(layer, ()):
                at = [p - self.first for p in placed.positions_in(self.first, self.stop, changes.n_prompt)]
                if at:
                    unit_D = placed.node.vector.to(resid_BPD)
                    old_p = resid_BPD[row, at] @ unit_D
                    moved_p = placed.edit.scale * old_p + placed.edit.shift - old_p
                    if moved_p.any():
                        resid_BPD[row, at] += moved_p[:, None] * unit_D
        return resid_BPD
