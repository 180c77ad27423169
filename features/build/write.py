"""Write the files of a store from the runs of a build, one layer after another and in blocks of features."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.files import atomic_write
from cotrace.common.progress import Step
from cotrace.features.store.files import ROW_GROUP, part_writer, write_part
from cotrace.features.store.schema import EXAMPLES, FEATURES, SEQUENCES, SEQUENCES_FILE, TOKENS, TOKENS_FILE, file_of

from .columns import Columns, empty_lists, example_columns, feature_columns, neighbour_column, written_column
from .config import BuildConfig
from .neighbours import Vectors, decoder_vectors, encoder_vectors
from .outputs import FrozenReadout
from .runs import TallyRun, merged
from .source import FeatureSource
from .tally import Tally, TallyRules

BLOCK_FEATURES = 4096  # so that 4,096 × 18 decoder vectors of width 640 take 190 MB
SUM_TOKENS, LAYER_TOKENS = (10, 5), (5, 3)  # top and bottom output tokens of all written layers together, and of each
ALL_LAYERS = -1


class StoreWriter:
    """Writes the files of a store.

    Args:
        out: the folder of the store.
        source: the features.
        config: settings, without "auto".
        rules: of the tallies.
        readout: for output tokens.
    """

    def __init__(self, out: Path, source: FeatureSource, config: BuildConfig, rules: TallyRules, readout: FrozenReadout):
        self.out, self.source, self.config, self.rules, self.readout = out, source, config, rules, readout
        self.sequences: set[int] = set()  # that have an example
        self.tokens: set[int] = set()  # that occur in the files
        self._compared = self._all_vectors() if config.neighbours == "all" else None

    @torch.no_grad()
    def write_layer(self, index: int, runs: Sequence[TallyRun], advance: Step) -> None:
        """Write the features of a layer and their examples."""
        layer, width = self.source.layers[index], self.source.widths[index]
        compared = self._vectors(layer)
        paths = [self.out / file_of(part, layer) for part in ("features", "examples")]
        with atomic_write(paths[0]) as first, atomic_write(paths[1]) as second:
            with part_writer(first, FEATURES) as features, part_writer(second, EXAMPLES) as examples:
                for block in blocks(width):
                    tally = merged(runs, index, block, self.rules)
                    columns = self._columns(layer, block, tally) | _nearest(compared, layer, block)
                    features.write_table(table(columns, FEATURES), ROW_GROUP)
                    examples.write_table(self._examples(block, tally), ROW_GROUP)
                    advance(block.stop - block.start)

    def _columns(self, layer: int, block: slice, tally: Tally) -> Columns:
        columns = feature_columns(layer, block.start, tally, self.rules, self.config.fires_on)
        self.tokens.update(columns["fires_on"].flatten().field("token").to_numpy().tolist())
        columns["written"] = self._written(layer, block)
        return columns

    def _written(self, layer: int, block: slice) -> pa.Array:
        """Return the output tokens of some features."""
        if self.config.outputs == "none":
            return empty_lists("written", block.stop - block.start)
        rows_FJD = self.source.decoder_rows(layer, torch.arange(block.start, block.stop))
        sides = {ALL_LAYERS: (rows_FJD.sum(1), SUM_TOKENS)}
        if rows_FJD.shape[1] > 1:
            wanted = LAYER_TOKENS if self.config.outputs == "layers" else (0, 0)
            sides |= {
                written: (rows_FJD[:, j], wanted) for j, written in enumerate(self.source.written_layers(layer))
            }
        found = {
            written: (*self.readout.extremes(vectors_FD, *wanted), vectors_FD.norm(dim=1).numpy())
            for written, (vectors_FD, wanted) in sides.items()
        }
        for top, bottom, _ in found.values():
            self.tokens.update(np.unique(top.token_nk).tolist(), np.unique(bottom.token_nk).tolist())
        return written_column(found)

    def _examples(self, block: slice, tally: Tally) -> pa.Table:
        columns = example_columns(block.start, tally, self.rules.length)
        self.sequences.update(np.unique(columns["sequence"]).tolist())
        return table(columns, EXAMPLES)

    def _vectors(self, layer: int) -> dict[str, Vectors]:
        """Return the vectors that features of a layer are compared with, by column."""
        if self._compared is not None or self.config.neighbours == "none":
            return self._compared or {}
        return self._all_vectors((layer,))

    def _all_vectors(self, layers: tuple[int, ...] = ()) -> dict[str, Vectors]:
        layers = layers or self.source.layers
        return {
            "near_encoder": encoder_vectors(self.source, layers),
            "near_decoder": decoder_vectors(self.source, layers),
        }

    def write_sequences(self, ids_SP: np.ndarray) -> None:
        """Write the sequences that have an example."""
        rows = sorted(self.sequences)
        self.tokens.update(np.unique(ids_SP[rows]).tolist())
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * ids_SP.shape[1]
        kind = SEQUENCES.field("token_ids").type
        lists = pa.ListArray.from_arrays(offsets, pa.array(ids_SP[rows].ravel(), pa.int32()), type=kind)
        content = table({"sequence": np.array(rows, np.int32), "token_ids": lists}, SEQUENCES)
        write_part(self.out / SEQUENCES_FILE, content)

    def write_tokens(self, model: LanguageModel, count_V: np.ndarray) -> None:
        """Write the tokens that occur in the other files, with their counts in the text."""
        ids = np.array(sorted(self.tokens), np.int32)
        texts = [model.tokenizer.decode_token(token) for token in ids.tolist()]
        write_part(self.out / TOKENS_FILE, table({"token": ids, "text": texts, "count": count_V[ids]}, TOKENS))


def _nearest(compared: dict[str, Vectors], layer: int, block: slice) -> Columns:
    """Return the columns of neighbours of some features."""
    if not compared:
        return {name: empty_lists(name, block.stop - block.start) for name in ("near_encoder", "near_decoder")}
    return {name: neighbour_column(name, vectors.nearest(layer, block)) for name, vectors in compared.items()}


def blocks(width: int) -> Iterator[slice]:
    """Yield the blocks of a layer's features."""
    for start in range(0, width, BLOCK_FEATURES):
        yield slice(start, min(start + BLOCK_FEATURES, width))


def table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Return a table of a schema from its columns in any order."""
    arrays = [
        column if isinstance(column := columns[field.name], pa.Array) else pa.array(column, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)

