"""The one owner of the order of nodes: features, then errors, then tokens, then logits."""

from dataclasses import dataclass

import numpy as np

KINDS = ("feature", "error", "token", "logit")


@dataclass(frozen=True)
class NodeOrder:
    """How many nodes of each kind a graph has; every offset follows from these four numbers.

    Features are sorted by (layer, position, feature), errors by (layer, position), tokens by
    position; logits stand in the order of the targets. Edges run from lower to higher layers, so
    read backwards this is a topological order: logits, tokens and errors (no rows), features from
    the last layer to the first.
    """

    n_features: int
    n_errors: int
    n_tokens: int
    n_logits: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Nodes of each kind, in the order of `KINDS`."""
        return self.n_features, self.n_errors, self.n_tokens, self.n_logits

    @property
    def n_nodes(self) -> int:
        """Number of nodes M; rows and columns of the adjacency matrix."""
        return sum(self.counts)

    @property
    def features(self) -> slice:
        """Rows of the features."""
        return self._slice(0)

    @property
    def errors(self) -> slice:
        """Rows of the error nodes."""
        return self._slice(1)

    @property
    def tokens(self) -> slice:
        """Rows of the token embeddings."""
        return self._slice(2)

    @property
    def logits(self) -> slice:
        """Rows of the targets that are not features: tokens, differences, directions."""
        return self._slice(3)

    def _slice(self, kind: int) -> slice:
        start = sum(self.counts[:kind])
        return slice(start, start + self.counts[kind])

    def kind_codes(self) -> np.ndarray:
        """Index into `KINDS` of every node, (M,) int8."""
        return np.repeat(np.arange(len(KINDS), dtype=np.int8), self.counts)

    def keep(self, mask_M: np.ndarray) -> "NodeOrder":
        """Order of the nodes that a boolean mask (M,) keeps."""
        kept = (int(mask_M[self._slice(kind)].sum()) for kind in range(len(KINDS)))
        return NodeOrder(*kept)
