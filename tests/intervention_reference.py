"""Interventions in float64 with dense decoders. It shares no code with the package.

A plain forward pass over the Hugging Face modules, in which nodes are edited as the definitions say:

- Layers that respond, errors recomputed: `y_l = MLP(x'_l) + sum over s <= l of (a'_s - a_s(x'_s)) @ dec_s[l]`, with `a'` the
  changed activations. The error of a layer is `MLP(x'_l) - T_l`, with `T_l` what unedited activations write.
- Errors constant: `y_l = T_l(a', x') + e_l`, with `e_l` the error of the run without edits.
- Frozen layers: the same, with `a'` the edited activations of the run without edits.
- Neurons are changed inside the MLP, before its last projection and norm.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from helpers.linear_reference import attention_heads, norm_scale
from torch import Tensor

CHANGES = {
    "ablate": lambda old, _: torch.zeros_like(old),
    "set_to": lambda old, value: torch.zeros_like(old) + value,
    "add": lambda old, value: old + value,
    "multiply": lambda old, value: old * value,
}


class Edit(NamedTuple):
    """One edit of one node at one position."""

    kind: str  # "feature", "error", "direction" or "token"
    layer: int | None  # None for a token
    position: int
    what: Any  # the feature's number, or the direction (D,)
    change: str
    value: Any = None

    def of(self, old: Tensor) -> Tensor:
        return CHANGES[self.change](old, self.value)


class Dense(NamedTuple):
    """One layer's transcoder."""

    w_enc: Tensor  # (D, F)
    b_enc: Tensor
    threshold: Tensor
    w_dec: Tensor  # (F, J, D)
    b_dec: Tensor
    skip: Tensor  # (D, D)


def dense_layers(transcoders, width: int, n_layers: int) -> list[Dense] | None:
    """Return all layers, with zeros for tensors that the files lack; None for neurons."""
    if transcoders.kind == "neurons":
        return None
    layers = []
    for layer in range(n_layers):
        t = transcoders.tensors(layer)
        skip = torch.zeros(width, width) if t.skip_DD is None else t.skip_DD
        threshold = torch.zeros_like(t.b_enc_F) if t.threshold_F is None else t.threshold_F
        small = t.w_enc_DF, t.b_enc_F, threshold, t.w_dec_FJD, t.b_dec_D, skip
        layers.append(Dense(*(tensor.double() for tensor in small)))
    return layers


@dataclass
class ReferenceRun:
    """Values of one pass, one list entry for each layer."""

    heads: list = field(default_factory=list)
    scales: list = field(default_factory=list)
    mlp_in: list[Tensor] = field(default_factory=list)
    computed: list[Tensor] = field(default_factory=list)  # (P, F) activations at the edited stream, before edits
    change: list[Tensor] = field(default_factory=list)  # (P, F) change of the activations that edits make
    rest: list[Tensor] = field(default_factory=list)  # (P, D) MLP output that features do not write
    errors: list[Tensor] = field(default_factory=list)  # (P, D) error nodes
    final_scale: Tensor | None = None
    logits: Tensor | None = None


class Reference:
    """A model with its transcoders on one prompt. `strongest` is how many neurons are nodes."""

    def __init__(self, hf_model, dense: list[Dense] | None, ids: list[int], masked: Iterable[int], strongest: int = 0):
        self.hf_model, self.dense, self.ids, self.strongest = hf_model, dense, ids, strongest
        self.open = torch.ones(len(ids), 1, dtype=torch.float64)
        self.open[list(masked)] = 0
        self.plain: ReferenceRun | None = None
        self.plain = self.run()

    def run(
        self,
        edits: Sequence[Edit] = (),
        freeze: str = "none",
        layers: Iterable[int] | None = None,
        errors: str = "recomputed",
    ) -> ReferenceRun:
        """Run the model with edits; return all values."""
        config, text, plain, done = self.hf_model.config, self.hf_model.model, self.plain, ReferenceRun()
        n_layers = config.num_hidden_layers
        frozen = set() if freeze == "none" else set(range(n_layers) if layers is None else layers)
        resid = self.embeddings(self.ids)
        for edit in edits:
            if edit.kind == "token":
                resid[edit.position] = edit.of(resid[edit.position])
        for index, block in enumerate(text.layers):
            here = [edit for edit in edits if edit.layer == index]
            is_frozen = freeze == "all" and index in frozen
            fixed = plain.scales[index] if is_frozen else [None] * 4
            scale_in = norm_scale(resid, block.input_layernorm, config) if fixed[0] is None else fixed[0]
            heads = plain.heads if index in frozen else None
            heads = heads[index] if heads else attention_heads(block.self_attn, resid * scale_in, index, text, config)
            out = sum(p @ (resid * scale_in) @ vo for p, vo in heads)
            scale_out = norm_scale(out, block.post_attention_layernorm, config) if fixed[1] is None else fixed[1]
            resid = resid + out * scale_out
            scale_mlp = norm_scale(resid, block.pre_feedforward_layernorm, config) if fixed[2] is None else fixed[2]
            done.heads.append(heads)
            x = resid * scale_mlp
            done.mlp_in.append(x)
            y, scale_mlp_out = self._mlp(index, block, x, here, done, is_frozen, errors)
            done.scales.append((scale_in, scale_out, scale_mlp, scale_mlp_out))
            resid = resid + y
            for edit in here:
                if edit.kind == "direction":
                    unit = edit.what.double() / edit.what.double().norm()
                    old = resid[edit.position] @ unit
                    resid[edit.position] += (edit.of(old) - old) * unit
        all_frozen = freeze == "all" and len(frozen) == n_layers
        done.final_scale = plain.final_scale if all_frozen else norm_scale(resid, text.norm, config)
        done.logits = (resid * done.final_scale) @ self.hf_model.lm_head.weight.double().T
        return done

    def embeddings(self, ids: list[int]) -> Tensor:
        """Return the embeddings (P, D) of token ids as they enter the residual stream."""
        return self.hf_model.model.embed_tokens.weight[ids].double() * self.hf_model.config.hidden_size**0.5

    def _mlp(self, index: int, block, x: Tensor, here: list[Edit], done: ReferenceRun, is_frozen: bool, errors: str):
        """Return the MLP's output (P, D) with edits, and the scale of its norm."""
        plain, responds = self.plain, not is_frozen and errors == "recomputed"
        real, hidden, scale = self._real(block, x)
        own = plain.computed[index] if is_frozen else self._activations(index, x, hidden)
        changed = own.clone()
        for edit in here:
            if edit.kind == "feature":
                changed[edit.position, edit.what] = edit.of(own[edit.position, edit.what])
        done.computed.append(own)
        # The output of a responding MLP includes that of its unedited features.
        done.change.append(changed - (own if responds else plain.computed[index]))
        if not responds:
            scale, error = plain.scales[index][3], plain.errors[index]
            activations = [before + change for before, change in zip(plain.computed, done.change, strict=False)]
            y = self._reconstruct(index, activations, x, block, scale) + plain.rest[index]
        elif self.dense is None:
            y = self._real(block, x, changed)[0]
            error = real - self._reconstruct(index, [self._nodes(own, block)], x, block, scale)
            done.rest.append(real - self._reconstruct(index, [own], x, block, scale))
        else:
            y = real + sum(self._decoded(source, index, change) for source, change in enumerate(done.change))
            error = real - self._reconstruct(index, done.computed, x, block, scale)
            done.rest.append(error)
        done.errors.append(error)
        for edit in here:
            if edit.kind == "error":
                y[edit.position] += edit.of(error[edit.position]) - error[edit.position]
        return y, scale

    def _real(self, block, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Run the MLP; return its output after the norm, the hidden neurons, and the scale of the norm."""
        if hidden is None:
            gate = torch.nn.functional.gelu(x @ block.mlp.gate_proj.weight.double().T, approximate="tanh")
            hidden = gate * (x @ block.mlp.up_proj.weight.double().T)
        raw = hidden @ block.mlp.down_proj.weight.double().T
        scale = norm_scale(raw, block.post_feedforward_layernorm, self.hf_model.config)
        return raw * scale, hidden, scale

    def _activations(self, index: int, x: Tensor, hidden: Tensor) -> Tensor:
        """Return activations of all features (P, F), zero at masked positions; of all neurons at every position."""
        if self.dense is None:
            return hidden
        layer = self.dense[index]
        z = x @ layer.w_enc + layer.b_enc
        return z * (z > layer.threshold) * (z > 0) * self.open

    def _nodes(self, hidden: Tensor, block) -> Tensor:
        """Return the neurons that are nodes (P, M): the strongest at unmasked positions, zero for others."""
        factor = 1 + block.post_feedforward_layernorm.weight.double()
        length = (block.mlp.down_proj.weight.double().T * factor).norm(dim=1)
        best = (hidden.abs() * length).topk(self.strongest, dim=1).indices
        return torch.zeros_like(hidden).scatter(1, best, hidden.gather(1, best)) * self.open

    def _reconstruct(self, index: int, activations: list[Tensor], x: Tensor, block, scale: Tensor) -> Tensor:
        """Return the output of features at a layer, with its bias and skip, (P, D)."""
        if self.dense is None:
            return activations[-1] @ block.mlp.down_proj.weight.double().T * scale
        layer = self.dense[index]
        y = x @ layer.skip + self.open * layer.b_dec
        for source in range(index + 1):
            y = y + self._decoded(source, index, activations[source])
        return y

    def _decoded(self, source: int, index: int, activations: Tensor) -> Tensor | float:
        """Return the output of one layer's features at a layer; zero at other layers for per-layer features."""
        decoder, j = self.dense[source].w_dec, index - source
        return activations @ decoder[:, j] if j < decoder.shape[1] else 0.0
