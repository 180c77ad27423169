"""The texts of tokens, by id, as a store has them."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from cotrace.common.errors import FileError


class TokenTexts:
    """Texts and counts of the tokens of a store, from its file `tokens.parquet`.

    `ids` are the token ids, by row. Raises FileError if a token is listed twice.
    """

    def __init__(self, table: pa.Table):
        ids = table["token"].to_numpy().astype(np.int64)  # as those that are looked up: else every look-up converts all
        self.ids = ids
        order = np.argsort(ids, kind="stable")
        self._sorted, self._rows = ids[order], order
        if (np.diff(self._sorted) <= 0).any():
            raise FileError("tokens.parquet lists a token twice; build the store again with `cotrace features build`")
        self._texts, self._counts = table["text"], table["count"].to_numpy()

    @property
    def all_texts(self) -> list[str]:
        """Texts of all tokens, by row."""
        return self._texts.to_pylist()

    @property
    def all_counts(self) -> np.ndarray:
        """Counts of all tokens, by row."""
        return self._counts

    def rows(self, ids: Iterable[int]) -> np.ndarray:
        """Return the rows of some token ids. Raises FileError for an id that the store does not have."""
        wanted = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64)
        if not len(self._sorted) and len(wanted):
            raise _unknown(wanted[0])
        places = np.minimum(np.searchsorted(self._sorted, wanted), max(len(self._sorted) - 1, 0))
        wrong = self._sorted[places] != wanted if len(wanted) else np.zeros(0, bool)
        if wrong.any():
            raise _unknown(wanted[wrong][0])
        return self._rows[places]

    def texts(self, ids: Iterable[int]) -> list[str]:
        """Return the texts of some token ids. Raises FileError for an id that the store does not have."""
        return self._texts.take(pa.array(self.rows(ids), pa.int64())).to_pylist()

    def count(self, ids: Iterable[int]) -> np.ndarray:
        """Return how often each of some tokens occurs in the text of the build."""
        return self._counts[self.rows(ids)]


def _unknown(token: int) -> FileError:
    return FileError(
        f"the store has no text for token {token}, so tokens.parquet is incomplete; build it again with "
        "`cotrace features build`"
    )
