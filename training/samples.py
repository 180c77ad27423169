"""Text that the model writes itself: what it was trained on, as far as it remembers."""

from pathlib import Path

import numpy as np
import torch

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress

AT_ONCE = 128  # sequences


def sampled(
    model: LanguageModel, n_sequences: int, bos_id: int, context: int, seed: int, folder: Path, bars: Progress
) -> np.ndarray:
    """Sequences (n, context) from BOS at temperature 1, over the whole vocabulary.

    Kept in `folder` batch by batch: what was written before an interruption is not written again.
    """
    n_batches, batches = -(-n_sequences // AT_ONCE), []
    with bars.phase("the model writes samples", n_batches) as step:
        for number in range(n_batches):
            path = folder / f"{number:05}.npy"
            if not path.is_file():
                generator = torch.Generator(model.weights.device).manual_seed((seed << 32) + number)
                ids_BP = model.weights.sample(AT_ONCE, context, bos_id, generator)
                with atomic_write(path) as temporary, temporary.open("wb") as file:
                    np.save(file, ids_BP.cpu().numpy().astype(np.int32))
            batches.append(np.load(path))
            step()
    return np.concatenate(batches)[:n_sequences]
