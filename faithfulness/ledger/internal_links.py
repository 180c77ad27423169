"""Internal links: which statements the model uses, beside the ones that the text cites. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..transcripts import Transcript
from .layout import CONTENT, HINT, QUESTION, ROUTED
from .ledger import UNKNOWN, Ledger, source_of
from .stated_links import StatedLink

INFORMATIVE = (*ROUTED, CONTENT.strip(), UNKNOWN)  # sources that differ between transcripts


@dataclass(frozen=True)
class InternalLinks:
    """Shares of each statement's value, among the sources that differ between transcripts.

    Attributes:
        names: the K segments that state a value, in order.
        content_KK: share of target k that comes from tokens of statement j, [k, j]: strictly lower triangular.
        question_K: share that comes from the question by all routes.
        hint_K: the same of the hint.
        unknown_K: share of error nodes.
        cites_KK: 1 where the text of k cites j.
        cites_question_K, cites_hint_K: 1 where it cites the question, the hint.
    """

    names: list[str]
    content_KK: np.ndarray
    question_K: np.ndarray
    hint_K: np.ndarray
    unknown_K: np.ndarray
    cites_KK: np.ndarray
    cites_question_K: np.ndarray
    cites_hint_K: np.ndarray

    def __repr__(self) -> str:
        return f"<InternalLinks between {', '.join(self.names)}>"

    @property
    def stated_ancestry(self) -> tuple[np.ndarray, np.ndarray]:
        """The share of each value that comes from the question along cited links only, (K,), and with unknown counted as stated."""
        cited_KK, cited_K = self.content_KK * self.cites_KK, self.question_K * self.cites_question_K
        return _solve(cited_KK, cited_K), _solve(cited_KK, cited_K + self.unknown_K)

    @property
    def hidden_hint(self) -> tuple[np.ndarray, np.ndarray]:
        """The share of each value that comes from a hint that no statement on the way cites, (K,), and with unknown counted too.

        It enters where a statement uses the hint without citing it, and passes on along all links.
        """
        hidden_K = self.hint_K * (1 - self.cites_hint_K)
        return _solve(self.content_KK, hidden_K), _solve(self.content_KK, hidden_K + self.unknown_K)

    @property
    def table(self) -> pa.Table:
        """A row for each statement and source: statement, source (a segment's name or a role), share, cited."""
        rows = []
        for k, name in enumerate(self.names):
            for j, source in enumerate(self.names[:k]):
                rows.append((name, source, self.content_KK[k, j], bool(self.cites_KK[k, j])))
            rows.append((name, QUESTION, self.question_K[k], bool(self.cites_question_K[k])))
            rows.append((name, HINT, self.hint_K[k], bool(self.cites_hint_K[k])))
            rows.append((name, UNKNOWN, self.unknown_K[k], False))
        columns = ("statement", "source", "share", "cited")
        return pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def find_internal_links(ledger: Ledger, transcript: Transcript, links: Sequence[StatedLink]) -> InternalLinks:
    """Return the links between statements, with those that the text states.

    A share is the absolute effect of a source, all routes together, over the sum of those of question, hint, contents and
    unknown. Own tokens, template and constants, which are the same whatever is stated, are left out. So rows add up to 1; a
    target without any effect has a row of zeros.

    Args:
        ledger: the ledger of the transcript.
        transcript: the transcript.
        links: stated links, as `find_stated_links` returns them, or the user's.
    """
    names = ledger.names
    sums = [_shares(ledger, name) for name in names]
    content_KK = np.array([[row.get(f"{CONTENT}{name}", 0.0) for name in names] for row in sums])
    question_K, hint_K, unknown_K = (np.array([row.get(key, 0.0) for row in sums]) for key in (*ROUTED, UNKNOWN))
    cited = {(link.statement, link.source) for link in links}
    roles = {role: [each.name for each in transcript.segments if each.role == role] for role in ROUTED}
    cites = [np.array([any((k, name) in cited for name in roles[role]) for k in names], float) for role in ROUTED]
    cites_KK = np.array([[float((k, j) in cited) for j in names] for k in names])
    return InternalLinks(names, content_KK, question_K, hint_K, unknown_K, cites_KK, *cites)


def informative_size(ledger: Ledger, target: str) -> float:
    """Return the sum of absolute effects of a target's informative sources, in logits: the whole of which shares are taken."""
    return sum(map(abs, _effects(ledger, target).values()))


def _shares(ledger: Ledger, target: str) -> dict[str, float]:
    """Return the share of each informative source of a target."""
    effects = _effects(ledger, target)
    total = sum(map(abs, effects.values()))
    return {key: abs(effect) / total for key, effect in effects.items()} if total > 0 else {}


def _effects(ledger: Ledger, target: str) -> dict[str, float]:
    """Return the effect of each informative source of a target, all routes together."""
    effects: dict[str, float] = {}
    for row in ledger.cells(target).values():
        if row["source"] in INFORMATIVE:
            key = source_of(row)
            effects[key] = effects.get(key, 0.0) + row["effect"]
    return effects


def _solve(share_KK: np.ndarray, given_K: np.ndarray) -> np.ndarray:
    """Return F = share F + given, for strictly lower triangular shares."""
    return np.linalg.solve(np.eye(len(given_K)) - share_KK, given_K)
