"""Train the cross-layer transcoder that ships for Gemma 3 270M, and the per-layer ones it is compared with.

    python recipes/texts.py TEXTS
    python recipes/gemma_3_270m.py TEXTS RUN

Both are trained on the same tokens, side by side, since the model's activations cost as much as the
training. Stop it at any moment; the same command goes on from the last checkpoint.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

import cotrace
from cotrace.attribution.transcoders import FileTranscoders, Transcoders, load_transcoders
from cotrace.common.progress import Progress
from cotrace.training import checkpoints
from cotrace.training.activations import Examples, examples
from cotrace.training.config import Config
from cotrace.training.data import sequences
from cotrace.training.run import finish
from cotrace.training.trainer import Trainer, train

CLT = Config(
    kind="clt",
    width=832,
    target_l0=20,
    tokens=2_000_000,
    batch_tokens=1024,
    learning_rate=6e-3,
    decay=0.5,
    fit_tokens=32_768,
    buffer_tokens=32_768,
    held_out=0.015,
)
# As many parameters: a feature of the CLT has 640 * (1 + 9.5) of them on average, one of these 640 * 2.
PER_LAYER = replace(CLT, kind="skip-transcoder", width=4368)
SAMPLES = 256  # sequences that the model writes itself
CALIBRATION = 33  # sequences from which thresholds are raised


def main(texts: str, run: str) -> None:
    """Train both, or go on."""
    model = cotrace.load("gemma-3-270m", "neurons")
    arch, data = model.architecture, (texts, f"samples:{SAMPLES}")
    folders = [Path(run, "clt"), Path(run, "per-layer")]
    trainers = []
    for config, folder in zip((CLT, PER_LAYER), folders, strict=True):
        trainer = Trainer(replace(config, data=data), arch.n_layers, arch.d_model, model.weights.device)
        if checkpoints.has_state(folder):
            checkpoints.restore(trainer, folder)
        trainers.append(trainer)
        checkpoints.begin_run(folder, trainer.config)
    train(trainers, model, folders, Progress(True))
    found = examples(
        model, sequences(trainers[0].config, model, folders[0], Progress(True))[:CALIBRATION], "transcoder"
    )
    for trainer, folder in zip(trainers, folders, strict=True):
        raise_thresholds(trainer, load_transcoders(finish(trainer, model, folder), arch), found)
        print(finish(trainer, model, folder))


def raise_thresholds(trainer: Trainer, transcoders: Transcoders, found: Examples) -> None:
    """Let 1% fewer features be active than asked for, on text that was trained on: on other text a few more are."""
    assert isinstance(transcoders, FileTranscoders)
    over = []
    for layer, x_PD in enumerate(found.x_LND):
        active = transcoders.active(layer, x_PD).active
        over.append(active.activation_n / transcoders.tensors(layer).threshold_F[active.feature_n])
    n_layers, n_tokens, _ = found.x_LND.shape
    wanted = round(0.99 * trainer.config.target_l0 * n_layers * n_tokens)
    over_n = torch.cat(over).sort(descending=True).values
    if len(over_n) > wanted:
        trainer.least_L *= over_n[wanted]


if __name__ == "__main__":
    main(*sys.argv[1:])
