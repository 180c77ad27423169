"""The order of a graph's nodes: features, then errors, then tokens, then logits."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class NodeKind(IntEnum):
    """The kinds of nodes, in the order in which a graph stores them; the values are codes of the column `kind`."""

    FEATURE = 0
    ERROR = 1
    TOKEN = 2
    LOGIT = 3


KINDS = tuple(kind.name.lower() for kind in NodeKind)


@dataclass(frozen=True)
class NodeOrder:
    """The number of nodes of each kind; every offset follows from these four numbers.

    Features are sorted by (layer, position, feature), errors by (layer, position) and tokens by
    position; logits have the order of the targets. Edges run from lower to higher layers, so this
    order read backwards is topological: logits, tokens and errors (which have no rows), then features
    from the last layer to the first.
    """

    n_features: int
    n_errors: int
    n_tokens: int
    n_logits: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Number of nodes of each kind, in the order of `NodeKind`."""
        return self.n_features, self.n_errors, self.n_tokens, self.n_logits

    @property
    def n_nodes(self) -> int:
        """Number of nodes M; rows and columns of the adjacency matrix."""
        return sum(self.counts)

    @property
    def features(self) -> slice:
        """Rows of the features."""
        return self._slice(NodeKind.FEATURE)

    @property
    def errors(self) -> slice:
        """Rows of the error nodes."""
        return self._slice(NodeKind.ERROR)

    @property
    def tokens(self) -> slice:
        """Rows of the token embeddings."""
        return self._slice(NodeKind.TOKEN)

    @property
    def logits(self) -> slice:
        """Rows of the targets that are not features: tokens, differences, directions."""
        return self._slice(NodeKind.LOGIT)

    @property
    def n_editable(self) -> int:
        """Number of features, errors and tokens: the nodes that an intervention can edit are the first of all nodes."""
        return self.n_nodes - self.n_logits

    def _slice(self, kind: NodeKind) -> slice:
        start = sum(self.counts[:kind])
        return slice(start, start + self.counts[kind])

    def kind_codes(self) -> np.ndarray:
        """Return the `NodeKind` of every node, (M,) int8."""
        return np.repeat(np.array(list(NodeKind), dtype=np.int8), self.counts)

    def has_kind(self, *kinds: NodeKind) -> np.ndarray:
        """Return a mask of the nodes of some kinds, (M,) bool."""
        return np.isin(self.kind_codes(), kinds)

    def keep(self, mask_M: np.ndarray) -> "NodeOrder":
        """Return the order of the nodes that a boolean mask (M,) keeps."""
        return NodeOrder(*(int(mask_M[self._slice(kind)].sum()) for kind in NodeKind))
