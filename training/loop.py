"""The training loop: buffers of activations, batches, metrics and checkpoints."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import CotraceError, FileError
from cotrace.common.progress import Progress

from .activations import MLPActivations, collect_activations
from .checkpoints import save_checkpoints
from .config import TrainingConfig
from .data import buffer_slice, fit_slice, prepare_sequences
from .trainer import Trainer

SAVE_SECONDS = 300.0  # at least, between two checkpoints
PROGRESS_METRICS = {"loss": "loss", "fvu": "FVU", "l0": "L0", "dead": "dead"}


def train(trainers: Sequence[Trainer], model: LanguageModel, folders: Sequence[Path], bars: Progress) -> None:
    """Train one or more dictionaries side by side on the same tokens, each with a folder for its checkpoints.

    The data settings of all trainers must be equal: the model's activations are computed once for all. Training
    continues from the step that the trainers have.

    Raises:
        FileError: the trainers' checkpoints are from different steps, or the text is of other settings.
        CotraceError: the loss is not finite, or the text is too short.
    """
    config, shard = trainers[0].config, trainers[0].shard
    _check_same_step(trainers)
    ids_SP = prepare_sequences(config, model, folders[0], bars, shard)
    # 1. Fit the normalization and initialize the features, unless a checkpoint was restored.
    if trainers[0].normalization is None:
        with bars.phase("fitting the normalization and the affine map"):
            activations = _collect(model, ids_SP[fit_slice(config)], config)
            for trainer in trainers:
                trainer.initialize(activations)
            del activations
    saved_at = time.monotonic()
    with bars.phase("training", config.n_steps) as advance:
        advance(trainers[0].step)
        for buffer in range(trainers[0].step // config.steps_per_buffer, config.n_buffers):
            # 2. Run the model to fill a buffer of activations.
            activations = _collect(model, ids_SP[buffer_slice(config, buffer)], config)
            # 3. Train on its tokens in random order.
            for token_P in shuffled_batches(config, buffer, activations.x_LND.shape[1]):
                _train_step(trainers, activations, token_P)
                advance(note=_progress_note(trainers[0].history[-1]))
            # 4. Save at the end and every few minutes, by the clock of the first process.
            last = buffer == config.n_buffers - 1
            due = shard.rank == 0 and time.monotonic() - saved_at > SAVE_SECONDS
            if shard.any(last or due, activations.x_LND.device):
                save_checkpoints(trainers, folders)
                saved_at = time.monotonic()


def shuffled_batches(config: TrainingConfig, buffer: int, n_tokens: int) -> list[Tensor]:
    """Return the token indices of each batch of a buffer, in a new random order for each pass.

    Every batch is full: where BOS and masked positions leave fewer tokens than the steps need, the buffer is passed over
    again. Raises CotraceError for a buffer without tokens.
    """
    if not n_tokens:
        raise CotraceError("the text has no tokens besides BOS and masked positions: add data")
    generator = torch.Generator().manual_seed((config.seed << 32) + (1 << 31) + buffer)
    size = config.batch_tokens
    n_passes = max(config.passes, -(-size * config.steps_per_buffer // n_tokens))
    order = torch.cat([torch.randperm(n_tokens, generator=generator) for _ in range(n_passes)])
    return [order[step * size : (step + 1) * size] for step in range(config.steps_per_buffer)]


def _check_same_step(trainers: Sequence[Trainer]) -> None:
    shard = trainers[0].shard
    gathered = [shard.gather(trainer.idle_tokens_LF.new_tensor([trainer.step])) for trainer in trainers]
    steps = sorted({int(step) for steps in gathered for step in steps})
    if len(steps) > 1:
        raise FileError(f"the checkpoints are from different steps ({steps}): remove them and train from the start")


def _collect(model: LanguageModel, sequences_SP: np.ndarray, config: TrainingConfig) -> MLPActivations:
    bfloat16 = config.uses_bfloat16(model.weights.device.type)
    return collect_activations(model, sequences_SP, config.kind, bfloat16=bfloat16)


def _train_step(trainers: Sequence[Trainer], activations: MLPActivations, token_P: Tensor) -> None:
    index_P = token_P.to(activations.x_LND.device)
    x_LPD, y_LPD = activations.x_LND[:, index_P], activations.y_LND[:, index_P]
    for trainer in trainers:
        trainer.history.append(trainer.train_step(x_LPD, y_LPD))


def _progress_note(metrics: dict[str, float]) -> str:
    return ", ".join(f"{title} {metrics[name]:.3g}" for name, title in PROGRESS_METRICS.items())
