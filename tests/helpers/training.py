"""Training runs on token sequences that need no tokenizer."""

from pathlib import Path

import numpy as np
import tiny

from cotrace.training import TrainingConfig, data

FEATURES, BATCH_TOKENS = 24, 17
CONFIG = TrainingConfig(
    width=FEATURES,
    target_l0=3,
    batch_tokens=BATCH_TOKENS,
    buffer_tokens=4 * BATCH_TOKENS,
    tokens=8 * BATCH_TOKENS,
    fit_tokens=40,
    context=9,
)


def write_tokens(folder: Path, config: TrainingConfig) -> None:
    """Write a run's sequences of random tokens; some hold a second BOS, where a document would end."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (data.n_sequences(config), config.context)
    ids_SP = np.random.default_rng(0).integers(3, tiny.VOCABULARY, shape, dtype=np.int32)
    ids_SP[:, 0] = 2
    ids_SP[:, 4] = np.where(ids_SP[:, 4] < 12, 2, ids_SP[:, 4])
    data.save_sequences(folder / data.TOKENS_FILE, ids_SP, config)
