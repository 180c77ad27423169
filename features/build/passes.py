"""The forward passes of a build: active features of every batch, tallied and saved run by run."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.progress import Progress
from cotrace.kernels.workers import Workers, n_workers
from cotrace.training.activations import batch_sequences, to_device, unmasked_positions

from .runs import WorkFolder
from .sequences import markup_positions
from .source import FeatureSource
from .tally import Entries, TallyRules, Tokens, tally_entries

RUN_TOKENS = 65_536  # of a run; a build that is killed repeats at most these
RUN_ENTRIES = 2**25  # active features that are kept in memory, 12 bytes each
RUN_SECONDS = 300.0


class Batch(NamedTuple):
    """Active features of some sequences, by layer, and the sum of the final norm's scales over tokens of text."""

    tokens: Tokens
    layers: list[Entries]
    scale_sum: float


@torch.no_grad()
def run_passes(
    model: LanguageModel, source: FeatureSource, ids_SP: np.ndarray, work: WorkFolder, rules: TallyRules, bars: Progress
) -> None:
    """Run the model over all sequences that no run has yet, and save their runs.

    Ctrl-C saves what was computed before it is raised.
    """
    runs = work.runs()
    start = first = runs[-1].stop if runs else 0
    size = batch_sequences(model, ids_SP.shape[1])
    batches: list[Batch] = []
    began = time.monotonic()
    with bars.phase("reading features", len(ids_SP)) as advance:
        advance(start)
        try:
            while start < len(ids_SP):
                batches.append(run_batch(model, source, ids_SP, slice(start, min(start + size, len(ids_SP)))))
                advance(min(size, len(ids_SP) - start))
                start = min(start + size, len(ids_SP))
                if _is_full(batches) or time.monotonic() - began > RUN_SECONDS:
                    save_run(work, first, start, batches, source, rules)
                    first, batches, began = start, [], time.monotonic()
        finally:
            if batches:
                save_run(work, first, first + size * len(batches), batches, source, rules)


def run_batch(model: LanguageModel, source: FeatureSource, ids_SP: np.ndarray, rows: slice) -> Batch:
    """Return the active features of some sequences at all tokens that are not masked."""
    ids_BP = to_device(model, ids_SP[rows])
    kept_BP = unmasked_positions(model, ids_BP)
    tokens = tokens_of(model, ids_SP[rows], kept_BP.cpu().numpy(), rows.start)
    forward_pass = source.forward_pass(model.weights, model.weights.embed(ids_BP))
    layers = [_entries(layer.active) for layer in source.active(forward_pass, kept_BP)]
    scale_n = model.weights.final_rms(forward_pass.resid_PD[kept_BP]).double().cpu().numpy()
    return Batch(tokens, layers, float(scale_n[~tokens.markup_T].sum()))


def tokens_of(model: LanguageModel, ids_BP: np.ndarray, kept_BP: np.ndarray, first: int) -> Tokens:
    """Return the kept tokens of sequences, of which the first is sequence `first` of the build."""
    markup_BP = markup_positions(ids_BP, model.tokenizer.chat_tokens())
    place_BP = np.arange(first * ids_BP.shape[1], (first + len(ids_BP)) * ids_BP.shape[1]).reshape(ids_BP.shape)
    return Tokens(ids_BP[kept_BP].astype(np.int32), place_BP[kept_BP], markup_BP[kept_BP])


def _entries(active: Sequence[Tensor]) -> Entries:
    position_n, feature_n, activation_n, _ = (column.cpu() for column in active)
    return Entries(feature_n.int().numpy(), position_n.int().numpy(), activation_n.float().numpy())


def _is_full(batches: list[Batch]) -> bool:
    n_entries = sum(len(entries.feature_n) for batch in batches for entries in batch.layers)
    return n_entries >= RUN_ENTRIES or sum(len(batch.tokens.id_T) for batch in batches) >= RUN_TOKENS


def save_run(
    work: WorkFolder, first: int, stop: int, batches: list[Batch], source: FeatureSource, rules: TallyRules
) -> None:
    """Save the run of some batches."""
    with Workers(n_workers()) as workers:
        layers = workers.map(lambda joined: tally_entries(*joined, rules), _joined(batches, source))
        work.add(first, stop, layers, {"scale_sum": sum(batch.scale_sum for batch in batches)})
    work.merge_small(source.widths, rules)


def _joined(batches: list[Batch], source: FeatureSource) -> Iterator[tuple[Entries, Tokens, int, int]]:
    """Yield the entries of each layer over all batches, their tokens, the layer and its width."""
    tokens = Tokens(*map(np.concatenate, zip(*(batch.tokens for batch in batches), strict=True)))
    first_B = np.cumsum([0, *(len(batch.tokens.id_T) for batch in batches[:-1])]).tolist()
    for index, (layer, width) in enumerate(zip(source.layers, source.widths, strict=True)):
        parts = [batch.layers[index] for batch in batches]
        parts = [part._replace(token_n=part.token_n + start) for part, start in zip(parts, first_B, strict=True)]
        yield Entries(*map(np.concatenate, zip(*parts, strict=True))), tokens, layer, width


