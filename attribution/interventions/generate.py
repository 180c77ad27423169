"""What a model writes while it is steered."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Real

import torch
from torch import Tensor

from cotrace.attribution.models.memory import check_memory, free_memory, kv_cache_numel
from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress

from .edits import EditedPositions, EditPlan, Feature, Intervention
from .forward import ForwardOutput, LayerMode
from .intervene import InterventionConfig, PreparedPrompt

LEAST_TEMPERATURE = 1e-3  # below, nothing but the likeliest token is drawn


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and how many. Raises ValueError for numbers that make no sense."""

    max_new_tokens: int = 40
    temperature: float = 0.0  # 0 takes the likeliest
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_new_tokens", as_index(self.max_new_tokens, "max_new_tokens"))
        object.__setattr__(self, "seed", as_index(self.seed, "seed"))
        if self.max_new_tokens < 1:
            raise CotraceError(f"max_new_tokens is {self.max_new_tokens}; ask for at least 1")
        is_number = isinstance(self.temperature, Real) and not isinstance(self.temperature, bool)
        if not is_number or not (self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < math.inf):
            raise CotraceError(
                f"temperature is {self.temperature!r}; use 0 for the likeliest token, or at least {LEAST_TEMPERATURE}"
            )
        if not 0 <= self.seed < 2**63:
            raise CotraceError(f"seed is {self.seed}; it is an integer from 0 to 2^63 - 1")


@dataclass
class Generation:
    """What a model wrote: tokens, and the probability that each had, at a temperature of 1."""

    prompt: PreparedPrompt
    token_ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    ended: bool = False  # by a token that ends a text or a turn, which is the last of token_ids
    idle: list[Feature] = field(default_factory=list)  # features whose change did nothing, wherever they are changed
    _states: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The new tokens as text."""
        return self.prompt.tokenizer.decode(self.token_ids)

    @torch.no_grad()
    def next_probabilities(self, step: int) -> Tensor:
        """Probabilities (V,) in float64, at a temperature of 1, of what may be new token `step`."""
        step, n = as_index(step, "a step"), len(self._states)
        if not -n <= step < n:
            raise CotraceError(f"step {step} is outside the {n} tokens that were written ({-n} … {n - 1})")
        resid_1D, rms_1 = self._states[step]
        return self.prompt.weights.logits(resid_1D, rms_1)[0].double().softmax(-1)

    def __repr__(self) -> str:
        return f"<Generation of {len(self.token_ids)} tokens: {self.text!r}>"


class Reader:
    """The stream with changes, and where something of it is held, one without over the same tokens.

    Raises ValueError for changes that cannot be made, before anything is read, and for too little memory.
    """

    def __init__(
        self,
        prompt: PreparedPrompt,
        intervention: Intervention,
        setting: InterventionConfig,
        max_new_tokens: int,
        use_cache: bool = True,
    ):
        self.prompt, self.changes, self.use_cache = prompt, EditPlan(intervention, prompt.place), use_cache
        self.how = setting.how(prompt.weights.architecture, prompt.transcoders)
        self._require_memory(max_new_tokens)
        self.start()

    def start(self) -> None:
        """Begin again at the first token."""
        held, errors = any(how != LayerMode() for how in self.how), self.changes.errors.keys()
        self.plain = self.prompt.reference(self.how, errors) if held else None
        self.steered = self.prompt.stream(self.how, [self.changes], error_layers=errors)

    def read(self, ids_P: Tensor) -> ForwardOutput:
        """Read what was not read yet; without a cache all."""
        if not self.use_cache:
            self.start()
        new_BP = ids_P[None, self.steered.past.length :]
        return self.steered.read(new_BP, self.plain.read(new_BP) if self.plain else None)

    def _require_memory(self, max_new_tokens: int) -> None:
        weights, n_prompt = self.prompt.weights, len(self.prompt.ids_P)
        runs = 2 if any(how != LayerMode() for how in self.how) else 1
        past = kv_cache_numel(weights.architecture, n_prompt + max_new_tokens) * weights.dtype.itemsize
        kept, passing = self.prompt.row_bytes(self.how, n_prompt + (0 if self.use_cache else max_new_tokens))
        what = f"{max_new_tokens} new tokens after {n_prompt}"
        cure = "lower max_new_tokens or shorten the prompt"
        check_memory(runs * past + kept + passing, free_memory(weights.device), what, cure)


def generate(reader: Reader, sampling: Sampling, progress: Progress) -> Generation:
    """Go on with a prompt, with changes; see `Model.generate`."""
    prompt = reader.prompt
    generator = torch.Generator(device=prompt.weights.device).manual_seed(sampling.seed)
    result, ends, ids_P = Generation(prompt), prompt.tokenizer.end_token_ids(), prompt.ids_P
    edited_positions: EditedPositions = {}
    with progress.phase("generating", sampling.max_new_tokens) as step:
        while len(result.token_ids) < sampling.max_new_tokens and not result.ended:
            chunk = reader.read(ids_P)
            edited_positions |= reader.steered.edited_positions
            result._states.append(
                (chunk.resid_BPD[0, -1:].clone(), chunk.rms_BP[0, -1:].clone())
            )  # no view of the whole
            probability_V = result.next_probabilities(-1)
            token = choose(probability_V, sampling.temperature, generator)
            result.token_ids.append(token)
            result.probabilities.append(float(probability_V[token]))
            result.ended = token in ends
            ids_P = torch.cat([ids_P, ids_P.new_tensor([token])])
            step()
    result.idle = reader.changes.idle(edited_positions)
    return result


def choose(probability_V: Tensor, temperature: float, generator: torch.Generator) -> int:
    """The likeliest token, or one drawn at a temperature."""
    if temperature == 0:
        return int(probability_V.argmax())
    cumulative_V = (probability_V.log() / temperature).softmax(-1).cumsum(-1)
    uniform = torch.rand(1, generator=generator, device=cumulative_V.device, dtype=cumulative_V.dtype)
    return int(
        torch.searchsorted(cumulative_V, uniform * cumulative_V[-1], right=True).clamp_(max=len(cumulative_V) - 1)
    )


def first_divergence(one: Generation, other: Generation) -> int | None:
    """The first step at which two generations differ; None where neither goes on differently."""
    both: Iterator[tuple[int, int]] = zip(one.token_ids, other.token_ids, strict=False)
    return next((step for step, (a, b) in enumerate(both) if a != b), None)
