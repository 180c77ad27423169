"""Sample training text from the model."""

from pathlib import Path

import numpy as np
import torch

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.models.sampling import sample_from_bos
from cotrace.common.errors import FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress

BATCH_SEQUENCES = 128


def sample_sequences(
    model: LanguageModel, n_sequences: int, bos_id: int, context: int, seed: int, folder: Path, bars: Progress
) -> np.ndarray:
    """Return sequences (n_sequences, context) sampled from BOS at temperature 1 over the whole vocabulary.

    Each batch is saved in `folder`; after an interruption the finished batches are read from there.
    """
    n_batches, batches = -(-n_sequences // BATCH_SEQUENCES), []
    with bars.phase("sampling text from the model", n_batches) as advance:
        for number in range(n_batches):
            path = folder / f"{number:05}.npy"
            if not path.is_file():
                generator = torch.Generator(model.weights.device).manual_seed((seed << 32) + number)
                ids_BP = sample_from_bos(model.weights, BATCH_SEQUENCES, context, bos_id, generator)
                with atomic_write(path) as temporary, temporary.open("wb") as file:
                    np.save(file, ids_BP.cpu().numpy().astype(np.int32))
            batches.append(_read_batch(path, context))
            advance()
    return np.concatenate(batches)[:n_sequences]


def _read_batch(path: Path, context: int) -> np.ndarray:
    try:
        ids_BP = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises errors of many kinds for a damaged header
        raise FileError(f"{path} is damaged ({one_line(error)}): remove it") from error
    if not isinstance(ids_BP, np.ndarray) or ids_BP.dtype != np.int32 or ids_BP.shape != (BATCH_SEQUENCES, context):
        raise FileError(f"{path} is damaged (not an array of token ids): remove it")
    return ids_BP
