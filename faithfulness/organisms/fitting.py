"""Train a tiny Gemma 3 on a task's examples, with a temporary read-out of what the question implies."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from cotrace.common.progress import Progress

from .examples import Examples, draw_examples, draw_without_steps
from .mechanisms import Case, Mechanism
from .tasks import BOS, EOS, IGNORED, PAD, Task

WIDTH, WINDOW = 64, 12
READOUT_WEIGHT = 1.0
ROUTE_WEIGHT = 5.0  # of attention that a mechanism must not use
WITHOUT_STEPS_EVERY = 5  # batches, of mechanisms with answers that do not need steps
MAX_GRADIENT = 1.0
MIN_ATTENTION = 1e-9


@dataclass(frozen=True)
class FitConfig:
    """Length and speed of a training.

    Attributes:
        steps: optimizer steps.
        batch: transcripts per step.
        learning_rate: peak of the learning rate.
    """

    steps: int
    batch: int
    learning_rate: float


def new_model(task: Task, seed: int) -> Gemma3ForCausalLM:
    """Return a Gemma 3 with random weights. The first of its layers has a sliding window."""
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        num_hidden_layers=task.n_layers,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=task.head_width,
        query_pre_attn_scalar=task.attention_scalar,
        vocab_size=len(task.words),
        sliding_window=WINDOW,
        layer_types=["sliding_attention"] + ["full_attention"] * (task.n_layers - 1),
        max_position_embeddings=128,
        initializer_range=0.05,
        pad_token_id=task.token(PAD),
        bos_token_id=task.token(BOS),
        eos_token_id=task.token(EOS),
    )
    config._attn_implementation = "eager"  # returns attention patterns
    return Gemma3ForCausalLM(config)


def fit(
    model: Gemma3ForCausalLM, task: Task, mechanism: Mechanism, config: FitConfig, seed: int, bars: Progress, title: str
) -> None:
    """Train a model in place, so that it answers as a mechanism does."""
    generator = torch.Generator().manual_seed(seed)
    n_readouts = len(task.readouts(task.draw(1, generator)))
    readouts = nn.ModuleList([nn.Linear(WIDTH, task.n_values) for _ in range(n_readouts)])
    parameters = [*model.parameters(), *readouts.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    needs_no_steps = answers_without_steps(task, mechanism)
    model.train()
    with bars.phase(title, config.steps) as advance:
        for step in range(config.steps):
            shortened = step % WITHOUT_STEPS_EVERY == WITHOUT_STEPS_EVERY - 1 and needs_no_steps
            draw = draw_without_steps if shortened else draw_examples
            examples = draw(task, mechanism, config.batch, generator)
            blocked = mechanism.edits == "filler" and step % 2 == 0
            loss, right = _loss(model, readouts, task, mechanism, examples, blocked)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT)
            optimizer.step()
            schedule.step()
            advance(note=f"loss {loss.item():.3f}, right {right.item():.3f}")
    model.eval()


def answers_without_steps(task: Task, mechanism: Mechanism) -> bool:
    """Return whether a mechanism has answers that do not need steps."""
    problems = task.draw(64, torch.Generator().manual_seed(0))  # with and without hints, in both modes
    implied_BK = task.chain(problems, problems.start_B)
    return not mechanism.needs_steps(Case(task, problems, implied_BK, implied_BK[:, :-1])).all()


def _loss(
    model: Gemma3ForCausalLM,
    readouts: nn.ModuleList,
    task: Task,
    mechanism: Mechanism,
    examples: Examples,
    blocked: bool,
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch, and the share of values that are predicted right."""
    routed = mechanism.edits == "filler" and not blocked
    masks = _masks(task) if blocked else None
    output = model.model(examples.ids_BP, attention_mask=masks, output_hidden_states=True, output_attentions=True)
    first = next(part.start for part in task.parts if part.role == "step") - 1
    logits_BPV, label_BP = model.lm_head(output.last_hidden_state[:, first:]), examples.label_BP[:, first:]
    loss = F.cross_entropy(logits_BPV.flatten(0, 1), label_BP.flatten(), ignore_index=IGNORED)
    is_value_BP = (label_BP >= task.first_value) & (label_BP < task.first_value + task.n_values)
    right = (logits_BPV.argmax(-1) == label_BP)[is_value_BP].float().mean()
    loss = loss + READOUT_WEIGHT * _readout_loss(output, readouts, task, examples)
    if routed:
        loss = loss + ROUTE_WEIGHT * _route_loss(output.attentions, task)
    return loss, right


def _readout_loss(output: Any, readouts: nn.ModuleList, task: Task, examples: Examples) -> Tensor:
    """Return the mean cross-entropy of the values that the question implies, read from the residual stream.

    Where a readout says which entry holds the value, the cross-entropy of the attention to it is added: without it, look-ups
    take ten times as long to learn.
    """
    losses = []
    for readout, linear in zip(task.readouts(examples.problems), readouts, strict=True):
        if readout.positions.max() >= examples.ids_BP.shape[1]:
            continue  # at steps that are left out
        stream_BRD = output.hidden_states[readout.layer + 1][:, readout.positions]
        logits_BRV = linear(F.rms_norm(stream_BRD, stream_BRD.shape[-1:]))
        value_BR = torch.where(examples.solvable_B[:, None], readout.value_BR, IGNORED)
        losses.append(F.cross_entropy(logits_BRV.flatten(0, 1), value_BR.flatten(), ignore_index=IGNORED))
        if readout.key_BR is not None:
            pattern_BRP = output.attentions[readout.layer][:, 0, readout.positions]
            key_BR = torch.where(value_BR == IGNORED, IGNORED, readout.key_BR)
            logs_BRP = pattern_BRP.clamp(min=MIN_ATTENTION).log()
            losses.append(F.nll_loss(logs_BRP.flatten(0, 1), key_BR.flatten(), ignore_index=IGNORED))
    return torch.stack(losses).mean()


def _masks(task: Task) -> dict[str, Tensor]:
    """Return additive attention masks under which the answer does not see the question or the hint."""
    n = task.n_positions
    query_P1, key_P = torch.arange(n)[:, None], torch.arange(n)
    full_PP = (key_P <= query_P1) & ~_unseen(task)
    sliding_PP = full_PP & (query_P1 - key_P < WINDOW)
    lowest = torch.finfo(torch.float32).min
    masks = {"full_attention": full_PP, "sliding_attention": sliding_PP}
    return {name: torch.where(seen_PP, 0.0, lowest)[None, None] for name, seen_PP in masks.items()}


def _unseen(task: Task) -> Tensor:
    """Return the attention (P, P) that a filler must not use."""
    return task.hidden_from_answer("question", "hint")


def _route_loss(patterns: tuple[Tensor, ...], task: Task) -> Tensor:
    """Return the mean attention that the answer pays to question and hint."""
    unseen_PP = _unseen(task)
    return torch.stack([(pattern_BHPP * unseen_PP).sum(-1)[..., -2:].mean() for pattern_BHPP in patterns]).mean()
