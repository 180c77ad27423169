"""Run interventions in batches and read the answer. Letters of shapes: B rows, P positions, T tokens of the answer's value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3

from ..runs import BATCH_TOKENS, ValueTarget, donor_rows, rewrite
from ..transcripts.tokenized import first_difference
from .rows import Intervention
from .text import Ids


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row.

    Attributes:
        ids: its token ids, rewritten ones included.
        answers: the likeliest values of the answer: several only if they share the first token that differs from the stated one.
        margin: the logit of the stated answer minus that of the best other value, at the first token where they differ.
    """

    ids: Ids
    answers: tuple[Ids, ...]
    margin: float


class EvidenceRunner:
    """Runs interventions on one prompt.

    Args:
        weights: the model.
        ids: token ids up to the one that predicts the last token of the answer's value.
        said: the answer's value.
        others: its other values. One that begins with the stated value, or that the stated value begins with, is left out.
            If none is left, all other tokens in place of the value's first one are other values.

    Attributes:
        others: the other values, as given.
        passes: rows run so far; each is one pass.
    """

    def __init__(self, weights: Gemma3, ids: Ids, said: Ids, others: Sequence[Ids]):
        self.weights, self.others, self.passes = weights, tuple(others), 0
        self.ids_P = torch.tensor(ids, device=weights.device)
        self.target = _target(len(ids) - len(said) + 1, said, others, weights.architecture.vocab_size, weights.device)

    @torch.no_grad()
    def clean(self, places: Sequence[int] = ()) -> tuple[Outcome, Ids]:
        """Return the outcome of the prompt itself, and the token that the model would write at each of some places."""
        self.passes += 1
        resid_PD = ForwardPass(self.weights, self.weights.embed(self.ids_P), keep_patterns=False).run()
        likeliest_N = self.weights.logits(resid_PD[[place - 1 for place in places]]).argmax(-1)
        (outcome,) = self._outcomes(self.ids_P[None], resid_PD[None])
        return outcome, tuple(likeliest_N.tolist())

    def run(self, interventions: Sequence[Intervention]) -> list[Outcome]:
        """Return the outcome of each intervention. Rows that differ only in donors share the donor's row."""
        found: dict[int, Outcome] = {}
        rewritten = [n for n, each in enumerate(interventions) if each.rewrite]
        for some in _batches(rewritten, self._rows_at_once):
            found |= zip(some, self._rewritten([interventions[n] for n in some]), strict=True)
        plain = [n for n, each in enumerate(interventions) if not each.rewrite]
        for group in _donor_groups(plain, interventions, self._rows_at_once):
            found |= zip(group, self._plain([interventions[n] for n in group]), strict=True)
        return [found[n] for n in range(len(interventions))]

    @property
    def _rows_at_once(self) -> int:
        return max(1, BATCH_TOKENS // len(self.ids_P))

    def _rows(self, interventions: Sequence[Intervention]) -> Tensor:
        """Return the edited rows (B, P); copies of edited positions are edited too."""
        rows_BP = self.ids_P.repeat(len(interventions), 1)
        for row_P, each in zip(rows_BP, interventions, strict=True):
            for place, token in each.edits.items():
                row_P[place] = token
        _repeat(rows_BP, interventions, 0, rows_BP.shape[1])
        return rows_BP

    @torch.no_grad()
    def _plain(self, interventions: Sequence[Intervention]) -> list[Outcome]:
        """Return the outcomes of rows without rewriting. A donor's row is run once, and not again if it is one of them."""
        row_of = {_key(each.edits): row for row, each in enumerate(interventions) if each.donor is None}
        donors = {_key(each.donor): each.donor for each in interventions if each.donor is not None}
        extra = [Intervention("donor", None, edits) for key, edits in donors.items() if key not in row_of]
        row_of |= {_key(each.edits): len(interventions) + n for n, each in enumerate(extra)}
        rows = [*interventions, *extra]
        rows_BP = self._rows(rows)
        source_B, where_BP = torch.arange(len(rows)), torch.zeros_like(rows_BP, dtype=torch.bool)
        for row, each in enumerate(rows):
            if each.donor is not None:
                source_B[row] = row_of[_key(each.donor)]
                where_BP[row, list(each.donor_at)] = True
        edit = donor_rows(source_B.to(rows_BP.device), where_BP) if donors else None
        resid_BPD = ForwardPass(
            self.weights, self.weights.embed(rows_BP), keep_patterns=False, attention_edit=edit
        ).run()
        self.passes += len(rows)
        return self._outcomes(rows_BP[: len(interventions)], resid_BPD)

    @torch.no_grad()
    def _rewritten(self, interventions: Sequence[Intervention]) -> list[Outcome]:
        """Return the outcomes of rows that the model rewrites greedily, from left to right; every token runs once."""
        rows_BP, n_said = self._rows(interventions), len(self.target.said)
        rewrite_BP = torch.zeros_like(rows_BP, dtype=torch.bool)
        for row, each in enumerate(interventions):
            rewrite_BP[row, list(each.rewrite)] = True
        last_BTD = rewrite(
            self.weights, rows_BP, rewrite_BP, n_said, lambda first, stop: _repeat(rows_BP, interventions, first, stop)
        )
        self.passes += len(rows_BP)
        return self._outcomes(rows_BP, last_BTD)

    def _outcomes(self, rows_BP: Tensor, resid_BPD: Tensor) -> list[Outcome]:
        """Return the outcomes of rows from their final residual streams; those of donors, which follow, are left out."""
        logits_BTV = self.weights.logits(resid_BPD[: len(rows_BP), -len(self.target.said) :])
        leads_BR = self.target.leads(logits_BTV)
        found = []
        for ids, lead_R in zip(rows_BP.tolist(), leads_BR, strict=True):
            lead = lead_R.max()
            best = [self.target.others[place] for place in (lead_R == lead).nonzero()[:, 0].tolist()]
            found.append(Outcome(tuple(ids), tuple(best) if lead > 0 else (self.target.said,), -float(lead)))
        return found


def _target(start: int, said: Ids, others: Sequence[Ids], vocabulary: int, device: torch.device) -> ValueTarget:
    splits = {tuple(other): first_difference(said, other) for other in others if tuple(other) != said}
    kept = {other: split for other, split in splits.items() if split is not None}
    kept = kept or {(token,): 0 for token in range(vocabulary) if token != said[0]}
    tokens = [other[split] for other, split in kept.items()]
    return ValueTarget(
        "answer",
        start,
        said,
        tuple(kept),
        torch.tensor(list(kept.values()), device=device),
        torch.tensor(tokens, device=device),
    )


def _repeat(rows_BP: Tensor, interventions: Sequence[Intervention], start: int, stop: int) -> None:
    """Write the copies of each row in a range of positions."""
    for row_P, each in zip(rows_BP, interventions, strict=True):
        for place, source in each.copies.items():
            if start <= place < stop:
                row_P[place] = row_P[source]


def _key(edits: object) -> str:
    return repr(sorted(edits.items())) if isinstance(edits, dict) else "none"


def _batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _donor_groups(numbers: Sequence[int], interventions: Sequence[Intervention], size: int) -> Iterator[list[int]]:
    """Yield batches that keep each donor's row together with the rows that read it."""

    def key(number: int) -> str:
        each = interventions[number]
        return _key(each.edits if each.donor is None else each.donor)

    batch: list[int] = []
    for _, group in groupby(sorted(numbers, key=key), key):
        members = list(group)
        if batch and len(batch) + len(members) > size:
            yield batch
            batch = []
        batch += members
    if batch:
        yield batch
