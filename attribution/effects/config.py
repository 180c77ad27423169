"""The options of effects: each default exists here and nowhere else. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

EffectFreeze = Literal["all", "norms", "attention", "none"]
Integrate = Literal["inputs", "ablation"]
FREEZE_CHOICES: tuple[EffectFreeze, ...] = get_args(EffectFreeze)
INTEGRATE_CHOICES: tuple[Integrate, ...] = get_args(Integrate)


@dataclass(frozen=True)
class EffectsConfig:
    """Options of `Model.effects`, with their defaults.

    Attributes:
        freeze: what is frozen; the rest is differentiated. "all": attention patterns, norm scales and the set of active
            features; effects are then exact and add up to the target. "norms": norm scales and active features;
            attention patterns respond. "attention": attention patterns; norms and the model's own MLPs respond. "none":
            nothing.
        integrate: None takes gradients at the prompt. "inputs" averages the effects of tokens along the straight path from
            a baseline to the prompt. "ablation" averages the effects of given nodes along their ablation.
        integration_steps: number of points on that path.
        through_qk: also compute the credit through attention scores: effects with `freeze="norms"` minus those with
            `freeze="all"`.

    Raises:
        ArgumentError: an unknown choice, a number out of range, or options that exclude each other.
    """

    freeze: EffectFreeze = "all"
    integrate: Integrate | None = None
    integration_steps: int = 8
    through_qk: bool = False

    def __post_init__(self) -> None:
        if self.freeze not in FREEZE_CHOICES:
            raise ArgumentError(f"freeze={self.freeze!r} is not one of {', '.join(FREEZE_CHOICES)}")
        if self.integrate not in (None, *INTEGRATE_CHOICES):
            raise ArgumentError(f"integrate={self.integrate!r} is not one of {', '.join(INTEGRATE_CHOICES)}, or None")
        object.__setattr__(self, "integration_steps", as_index(self.integration_steps, "integration_steps"))
        if self.integration_steps < 1:
            raise ArgumentError(f"integration_steps is {self.integration_steps}: it must be at least 1")
        if self.through_qk and (self.freeze != "all" or self.integrate is not None):
            raise ArgumentError(
                'through_qk=True compares freeze="norms" with freeze="all": leave freeze= and integrate= out'
            )
        if self.integrate == "ablation" and self.freeze in ("all", "norms"):
            raise ArgumentError(
                'integrate="ablation" follows nodes that the model responds to: use it with freeze="none" or "attention"'
            )

    @property
    def attention_responds(self) -> bool:
        """True if attention patterns are differentiated."""
        return self.freeze in ("norms", "none")

    @property
    def mlps_respond(self) -> bool:
        """True if norm scales and the model's own MLPs are differentiated, instead of the active features."""
        return self.freeze in ("attention", "none")


# Of all estimates at one backward pass, the first order in the model as it is agrees best with ablations.
SAVED_EFFECTS = EffectsConfig(freeze="none")
