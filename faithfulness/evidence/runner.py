"""Run interventions in batches and read the answer. Letters of shapes: B rows, P positions, T tokens of the answer's value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.kv_cache import KVCache

from ..runs import BATCH_TOKENS, ValueTarget, donor_rows
from ..transcripts.tokenized import first_difference
from .rows import Intervention
from .text import Ids


@dataclass(frozen=True)
class Outcome:
    """What a row ended in.

    Attributes:
        ids: its token ids, rewritten ones included.
        answer: the likeliest value of the answer.
        margin: the logit of the stated answer minus that of the best other value.
    """

    ids: Ids
    answer: Ids
    margin: float


class EvidenceRunner:
    """Runs interventions on one prompt.

    Args:
        weights: the model.
        ids: token ids up to the one that predicts the last token of the answer's value.
        said: the answer's value.
        others: its other values; one that begins with the stated one, or with which it begins, is left out. Without any, all
            other tokens in the place of the first one are values.

    Attributes:
        passes: rows run so far; each is one pass.
    """

    def __init__(self, weights: Gemma3, ids: Ids, said: Ids, others: Sequence[Ids]):
        self.weights, self.passes = weights, 0
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
            for place, source in sorted(each.copies.items()):
                row_P[place] = row_P[source]
        return rows_BP

    @torch.no_grad()
    def _plain(self, interventions: Sequence[Intervention]) -> list[Outcome]:
        """Return the outcomes of rows without rewriting, each donor's row run once."""
        donors = list({_key(each.donor): each.donor for each in interventions if each.donor is not None}.values())
        edited = {
            _key(each.edits): row for row, each in enumerate(interventions) if each.donor is None and not each.copies
        }
        extra = [each for each in donors if _key(each) not in edited]
        place = edited | {_key(each): len(interventions) + n for n, each in enumerate(extra)}
        rows_BP = self._rows([*interventions, *(Intervention("donor", None, each) for each in extra)])
        self.passes += len(rows_BP)
        edit = None
        if donors:
            source = [row if each.donor is None else place[_key(each.donor)] for row, each in enumerate(interventions)]
            source += range(len(interventions), len(rows_BP))
            where_BP = torch.zeros_like(rows_BP, dtype=torch.bool)
            for row, each in enumerate(interventions):
                where_BP[row, list(each.donor_at)] = each.donor is not None
            edit = donor_rows(torch.tensor(source, device=rows_BP.device), where_BP)
        embeddings_BPD = self.weights.embed(rows_BP)
        resid_BPD = ForwardPass(self.weights, embeddings_BPD, keep_patterns=False, attention_edit=edit).run()
        return self._outcomes(rows_BP[: len(interventions)], resid_BPD)

    @torch.no_grad()
    def _rewritten(self, interventions: Sequence[Intervention]) -> list[Outcome]:
        """Return the outcomes of rows that the model rewrites greedily, from left to right; every token runs once."""
        rows_BP = self._rows(interventions)
        self.passes += len(rows_BP)
        rewrite_BP, copies = torch.zeros_like(rows_BP, dtype=torch.bool), dict[int, set[tuple[int, int]]]()
        for row, each in enumerate(interventions):
            rewrite_BP[row, list(each.rewrite)] = True
            for place, source in each.copies.items():
                copies.setdefault(place, set()).add((row, source))
        kv_cache, done, tail_BPD = KVCache(), 0, rows_BP.new_zeros(0)
        for p in sorted({*rewrite_BP.any(0).nonzero()[:, 0].tolist(), *copies, len(self.ids_P)}):
            if p > done and (p == len(self.ids_P) or bool(rewrite_BP[:, p].any())):
                new_BPD = ForwardPass(
                    self.weights, self.weights.embed(rows_BP[:, done:p]), kv_cache=kv_cache, keep_patterns=False
                ).run()
                tail_BPD = torch.cat([tail_BPD, new_BPD], 1)[:, -len(self.target.said) :] if done else new_BPD
                done = p
            if p < len(self.ids_P):
                likeliest_B = (
                    self.weights.logits(tail_BPD[:, -1]).argmax(-1) if rewrite_BP[:, p].any() else rows_BP[:, p]
                )
                rows_BP[:, p] = torch.where(rewrite_BP[:, p], likeliest_B, rows_BP[:, p])
                for row, source in copies.get(p, ()):
                    rows_BP[row, p] = rows_BP[row, source]
        return self._outcomes(rows_BP, tail_BPD)

    def _outcomes(self, rows_BP: Tensor, resid_BPD: Tensor) -> list[Outcome]:
        """Return the outcomes of rows from their final residual streams; those of donors, which follow, are left out."""
        logits_BTV = self.weights.logits(resid_BPD[: len(rows_BP), -len(self.target.said) :])
        leads_BR = self.target.leads(logits_BTV)
        best_B = leads_BR.argmax(-1).tolist()
        found = []
        for ids, lead, best in zip(rows_BP.tolist(), leads_BR.amax(-1).tolist(), best_B, strict=True):
            answer = self.target.others[best] if lead > 0 else self.target.said
            found.append(Outcome(tuple(ids), answer, -lead))
        return found


def _target(start: int, said: Ids, others: Sequence[Ids], vocabulary: int, device: torch.device) -> ValueTarget:
    others = others or [(token,) for token in range(vocabulary) if token != said[0]]
    splits = {tuple(other): first_difference(said, other) for other in others if tuple(other) != said}
    kept = {other: split for other, split in splits.items() if split is not None}
    tokens = [other[split] for other, split in kept.items()]
    return ValueTarget(
        "answer",
        start,
        said,
        tuple(kept),
        torch.tensor(list(kept.values()), device=device),
        torch.tensor(tokens, device=device),
    )


def _key(edits: object) -> str:
    return repr(sorted(edits.items())) if isinstance(edits, dict) else "none"


def _batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _donor_groups(numbers: Sequence[int], interventions: Sequence[Intervention], size: int) -> Iterator[list[int]]:
    """Yield batches in which every donor's row stands with those that read it."""

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
