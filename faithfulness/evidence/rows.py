"""Interventions and their outcomes. Imports no torch.

An `Intervention` is a row of token ids that differs from the prompt at some positions; the model may rewrite further
positions, and later positions may read keys and values of another row. Its recipe is JSON, so that a report can replay it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from cotrace.common.errors import FileError

from ..report.schemas import EVIDENCE

VALUE_EDIT = "value edit, later values rewritten"
KEPT_EDIT = "value edit, later values kept"
ALL_EDIT = "all stated values edited"
WORD_EDIT = "words edited, values kept"  # the null of value edits
# The reference of value edits, where the model would not have written the text's own values.
REWRITING = "nothing edited, values rewritten"
QUESTION_EDIT = "question edited, text kept"
HINT_EDIT = "hint edited, text kept"
GIVEN_EDIT = "question and hint edited, text kept"
QUESTION_DONOR = "keys and values of the same text after another question"
TEXT_DONOR = "keys and values of another text after the same question"


@dataclass(frozen=True)
class Intervention:
    """One row to run.

    Attributes:
        kind: one of the kinds of this module.
        segment: the step whose claim it tests; None for the whole.
        edits: the new token id of each edited position.
        rewrite: positions that the model writes, in order.
        copies: positions that repeat the token of an earlier position, which may be edited or rewritten.
        reference: positions that the model writes in the row that this one is compared with; empty for the unedited prompt.
        donor: edits of the row whose keys and values later positions read, as in `edits`; None to read no other row.
        donor_at: positions whose keys and values are those of the donor.
        changed: what is changed, in words.
        implied: text of the answer that the edit suggests, such as the new value of a hint; None if it suggests none.
    """

    kind: str
    segment: str | None
    edits: Mapping[int, int] = field(default_factory=dict)
    rewrite: tuple[int, ...] = ()
    copies: Mapping[int, int] = field(default_factory=dict)
    reference: tuple[int, ...] = ()
    donor: Mapping[int, int] | None = None
    donor_at: tuple[int, ...] = ()
    changed: str = ""
    implied: str | None = None

    @property
    def null(self) -> bool:
        """True for edits of the null."""
        return self.kind == WORD_EDIT

    @property
    def recipe(self) -> str:
        """JSON that `from_recipe` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_recipe(cls, text: str) -> "Intervention":
        """Return the intervention of a recipe. Raises FileError for a damaged one."""
        try:
            entries = json.loads(text)
            for name in ("edits", "copies", "donor"):
                if entries[name] is not None:
                    entries[name] = {int(place): int(token) for place, token in entries[name].items()}
            for name in ("rewrite", "reference", "donor_at"):
                entries[name] = tuple(map(int, entries[name]))
            return cls(**entries)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileError("the recipe of this row is damaged: make the report again") from error


@dataclass(frozen=True)
class EvidenceRow:
    """An intervention that was run.

    Attributes:
        intervention: what was changed.
        changed: the same in words, with what the model rewrote.
        answer: the likeliest value of the answer after it.
        moved: whether this is another value than in the reference.
        effect: by how much the margin of the stated answer is smaller than in the reference, in logits.
        passes: cost, in passes over the prompt.
    """

    intervention: Intervention
    changed: str
    answer: str
    moved: bool
    effect: float
    passes: float

    @property
    def followed(self) -> bool:
        """True if the answer moved to the one that the edit suggests."""
        return self.moved and self.answer == self.intervention.implied


@dataclass(frozen=True)
class Evidence:
    """All interventions of one transcript.

    Attributes:
        level: "none", "quick" or "full".
        seed: seed of the generator that drew them.
        rows: the interventions.
        answer: the likeliest value of the answer without intervention.
        stated_answer: the value that the transcript states.
        margin: the margin of the stated answer without intervention, in logits.
        passes: cost of all rows, the unedited prompt included, in passes over the prompt.
        prompt: what `replay` needs: token ids, and the values of the answer.
        reasons: why a step has no edit, by name.
    """

    level: str
    seed: int
    rows: tuple[EvidenceRow, ...]
    answer: str
    stated_answer: str
    margin: float
    passes: float
    prompt: dict[str, Any]
    reasons: Mapping[str, str]

    def of(self, kind: str, segment: str | None = None) -> list[EvidenceRow]:
        """Return the rows of a kind, of a segment if one is given."""
        return list(self._of(kind, segment))

    def _of(self, kind: str, segment: str | None) -> Iterator[EvidenceRow]:
        for row in self.rows:
            if row.intervention.kind == kind and segment in (None, row.intervention.segment):
                yield row

    @property
    def table(self) -> pa.Table:
        """The table `evidence` of a report."""
        return pa.Table.from_pylist([_entries(number, row) for number, row in enumerate(self.rows, 1)], EVIDENCE)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a report keeps beside the table, as JSON can hold them."""
        names = (
            "answer",
            "stated_answer",
            "margin",
            "prompt",
        )  # `CompareConfig` has level and seed, the cost the passes
        return {name: getattr(self, name) for name in names} | {"reasons": dict(self.reasons)}


def _entries(number: int, row: EvidenceRow) -> dict[str, Any]:
    intervention = row.intervention
    own = {name: getattr(row, name) for name in ("changed", "answer", "moved", "effect", "passes")}
    parts = {name: getattr(intervention, name) for name in ("segment", "kind", "null", "recipe")}
    return {"number": number, **own, **parts, "command": f"cotrace compare --replay REPORT --row {number}"}
