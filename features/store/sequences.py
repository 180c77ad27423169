"""The token sequences that examples are in, and the context of an example."""

import numpy as np
import pyarrow as pa

from cotrace.common.errors import FileError

from .contexts import ExampleContext, context_of
from .files import CURE
from .schema import SEQUENCES_FILE


class TokenSequences:
    """Token sequences of a store, from its file `sequences.parquet`.

    Attributes:
        numbers: numbers of the sequences, ascending.
        starts: where each sequence begins in `ids`, and after the last one, where it ends.
        ids: token ids of all sequences, one after the other.
        before, after: tokens of a context before and after the marked one.
        bos: id of the BOS token, at which documents begin; None if there is none.

    Raises FileError if sequences are not ascending.
    """

    def __init__(self, table: pa.Table, before: int, after: int, bos: int | None):
        column = table["token_ids"].combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # of no chunks
            column = pa.array([], column.type)
        self.numbers = table["sequence"].to_numpy().astype(np.int64)
        self.starts = column.offsets.to_numpy().astype(np.int64)
        self._lengths = np.diff(self.starts)
        self.ids = column.values.to_numpy()
        self.before, self.after, self.bos = before, after, bos
        if (np.diff(self.numbers) <= 0).any():
            raise FileError(f"{SEQUENCES_FILE} lists a sequence twice, or not in order; {CURE}")

    def flat_positions(self, sequences: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the indices in `ids` of some positions of some sequences.

        Raises FileError for a sequence that the store does not have, or a position outside it.
        """
        rows = np.minimum(np.searchsorted(self.numbers, sequences), max(len(self.numbers) - 1, 0))
        if len(rows) and not len(self.numbers):
            raise self._outside(sequences[0], positions[0])
        wrong = (self.numbers[rows] != sequences) | (positions < 0) | (positions >= self._lengths[rows])
        if wrong.any():
            raise self._outside(sequences[wrong][0], positions[wrong][0])
        return self.starts[rows] + positions

    def context(self, sequence: int, position: int) -> ExampleContext:
        """Return the context of an example. Raises FileError as `flat_positions` does."""
        at = int(self.flat_positions(np.array([sequence]), np.array([position]))[0])
        start = at - position
        stop = int(self.starts[np.searchsorted(self.numbers, sequence) + 1])
        return context_of(self.ids[start:stop].tolist(), position, self.before, self.after, self.bos)

    def __len__(self) -> int:
        return len(self.numbers)

    @staticmethod
    def _outside(sequence: int, position: int) -> FileError:
        return FileError(
            f"an example is at position {position} of sequence {sequence}, which {SEQUENCES_FILE} lacks; {CURE}"
        )
