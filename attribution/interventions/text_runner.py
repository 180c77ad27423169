"""Run a text that grows token by token, with edits."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .context import PromptContext
from .donors import DonorActivations
from .edit_plan import EditPlan
from .forward import ForwardOutput, InterventionRunner
from .layer_modes import MODEL, LayerMode, any_frozen


def reference_runner(
    context: PromptContext, modes: Sequence[LayerMode], error_layers: Iterable[int], feature_layers: Iterable[int] = ()
) -> InterventionRunner:
    """Return a runner without edits whose output has all values that a runner with `modes` freezes."""
    needed = {layer for layer, mode in enumerate(modes) if mode.mlp != MODEL}
    patterns = any(mode.freeze_attention for mode in modes)
    return InterventionRunner(
        context, error_layers=error_layers, feature_layers=needed | set(feature_layers), keep_patterns=patterns
    )


class TextRunner:
    """Runs a growing text with edits, several rows at a time, and without edits what its frozen layers need.

    Keys and values are cached; without `use_cache`, every call runs all positions again.
    """

    def __init__(
        self,
        context: PromptContext,
        plans: Sequence[EditPlan],
        modes: Sequence[LayerMode],
        donors: Sequence[Sequence[DonorActivations]],
        use_cache: bool = True,
    ):
        self.context, self.plans, self.modes, self.donors, self.use_cache = context, plans, modes, donors, use_cache
        self.restart()

    def restart(self) -> None:
        """Drop all cached keys and values, and start again at the first token."""
        errors = {layer for plan in self.plans for layer in plan.errors}
        self.plain = reference_runner(self.context, self.modes, errors) if any_frozen(self.modes) else None
        self.edited = InterventionRunner(self.context, self.modes, self.plans, donors=self.donors, error_layers=errors)

    def forward(self, ids_BP: Tensor) -> ForwardOutput:
        """Run the tokens that have not run yet, given the whole text with edits; without a cache, all of them.

        The run without edits has the prompt's own tokens, and reads the same tokens after it.
        """
        if not self.use_cache:
            self.restart()
        plain_BP = ids_BP.clone()
        plain_BP[:, : self.context.n_positions] = self.context.ids_P[: ids_BP.shape[1]]
        new = slice(self.edited.kv_cache.length, None)
        return self.edited.forward(ids_BP[:, new], self.plain.forward(plain_BP[:, new]) if self.plain else None)


def edited_ids(context: PromptContext, plans: Sequence[EditPlan]) -> Tensor:
    """Return the token ids (B, P) of every row, with those of its swaps."""
    return torch.tensor([plan.token_ids for plan in plans], device=context.ids_P.device)
