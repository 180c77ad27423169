"""Train the cross-layer transcoder that ships for Gemma 3 270M, and the per-layer ones it is compared with.

    python recipes/texts.py TEXTS
    python recipes/gemma_3_270m.py TEXTS RUN

Both are trained on the same tokens, side by side, since the model's activations cost as much as the
training. Stop it at any moment; the same command goes on from the last checkpoint.
"""

import sys
from dataclasses import replace
from pathlib import Path

import cotrace
from cotrace.attribution.progress import Progress
from cotrace.training import checkpoints
from cotrace.training.config import Config
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
    for trainer, folder in zip(trainers, folders, strict=True):
        print(finish(trainer, model, folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
