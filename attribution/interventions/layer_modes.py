"""Modes of layers in a run with edits: the values that a layer freezes, and the computation of its MLP."""

from collections.abc import Sequence
from typing import NamedTuple

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError

from .config import InterventionConfig

MODEL, TRANSCODERS, FROZEN = "model", "transcoders", "frozen"
MLP_MODES = {"recomputed": MODEL, "constant": TRANSCODERS}


class LayerMode(NamedTuple):
    """The values that one layer freezes, and the computation of its MLP's output.

    Attributes:
        freeze_attention: keep the attention patterns of the run without edits.
        freeze_norms: keep the norm scales of the run without edits.
        mlp: `MODEL`: the MLP itself, so that error nodes are recomputed. `TRANSCODERS`: the transcoder applied to the
            edited residual stream, plus the error nodes of the run without edits. `FROZEN`: the activations and the
            error nodes of the run without edits.
    """

    freeze_attention: bool = False
    freeze_norms: bool = False
    mlp: str = MODEL


def layer_modes(config: InterventionConfig, arch: Architecture, transcoders: Transcoders) -> list[LayerMode]:
    """Return the mode of every layer.

    Raises ArgumentError for layers that the model does not have, and for constant errors with neurons as features.
    """
    if config.errors == "constant" and transcoders.part_of_mlp:
        raise ArgumentError(
            'errors="constant" needs transcoders: neurons are the MLP itself, whose other neurons respond; use '
            'errors="recomputed"'
        )
    responding = LayerMode(mlp=MLP_MODES[config.errors])
    frozen = {
        "none": responding,
        "attention": responding._replace(freeze_attention=True),
        "all": LayerMode(True, True, FROZEN),
    }[config.freeze]
    layers = set(range(arch.n_layers) if config.layers is None else config.layers)
    outside = [layer for layer in layers if not 0 <= layer < arch.n_layers]
    if outside:
        raise ArgumentError(f"the model has no layer {outside[0]}; its layers are 0 … {arch.n_layers - 1}")
    return [frozen if layer in layers else responding for layer in range(arch.n_layers)]


def any_frozen(modes: Sequence[LayerMode]) -> bool:
    """Return whether a layer needs values of the run without edits."""
    return any(mode != LayerMode() for mode in modes)
