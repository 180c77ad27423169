"""Build the interventions of a plan: other values, words and questions, drawn at random. Imports no torch."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from .given_edits import edit_given, editable_segments
from .null_edits import edit_words
from .plan import Unit
from .rows import (
    ALL_EDIT,
    GIVEN_EDIT,
    HINT_EDIT,
    KEPT_EDIT,
    QUESTION_DONOR,
    QUESTION_EDIT,
    REWRITING,
    TEXT_DONOR,
    VALUE_EDIT,
    WORD_EDIT,
    Intervention,
)
from .text import Ids, StatedSegment, StatedText

Edits = dict[int, int]


def build_interventions(
    text: StatedText, plan: Mapping[Unit, int], seed: int, drifts: Mapping[str, str] | None = None
) -> list[Intervention]:
    """Return the interventions of a plan, in its order; fewer if the text has too few other values or words.

    Args:
        text: the transcript.
        plan: the number of interventions for each kind and segment.
        seed: seed of the generator that draws values and words.
        drifts: as in `EditableParts`.
    """
    builder = _Builder(text, seed, drifts or {})
    return [each for unit, count in plan.items() for each in builder.build(unit, count)]


class _Builder:
    """Draws the interventions of one text; those of a kind use different values."""

    def __init__(self, text: StatedText, seed: int, drifts: Mapping[str, str]):
        self.drifts = drifts
        self.text, self.rng = text, np.random.default_rng(seed)
        self.steps = {each.name: each for each in text.steps}
        self.drawn: dict[str, list[Intervention]] = {}
        self.order: dict[str, list[Ids]] = {}
        self.next_donor: Counter[str] = Counter()

    def build(self, unit: Unit, count: int) -> list[Intervention]:
        kind, name = unit
        if kind in (QUESTION_DONOR, TEXT_DONOR):
            return list(self._donors(kind, name, count))
        makers: dict[str, Callable[[], list[Intervention]]] = {
            VALUE_EDIT: lambda: self._value_edits(self.steps[str(name)], count),
            KEPT_EDIT: lambda: self._kept_edits(self.steps[str(name)], count),
            REWRITING: lambda: [self._rewriting(self.steps[str(name)])],
            WORD_EDIT: lambda: self._word_edits(count),
            QUESTION_EDIT: lambda: self._given_edits(QUESTION_EDIT, count),
            GIVEN_EDIT: lambda: self._given_edits(GIVEN_EDIT, count),
            HINT_EDIT: lambda: self._hint_edits(count),
            ALL_EDIT: lambda: self._all_edits(count),
        }
        made = makers[kind]()
        self.drawn.setdefault(kind, []).extend(made)
        return made

    # --- values -----------------------------------------------------------------------------

    def _values(self, segment: StatedSegment) -> list[Ids]:
        """Return a segment's other values in an order that is drawn once."""
        if segment.name not in self.order:
            fitting = self.text.fitting(segment)
            self.order[segment.name] = [fitting[i] for i in self.rng.permutation(len(fitting))]
        return self.order[segment.name]

    def _value_edits(self, step: StatedSegment, count: int) -> list[Intervention]:
        rewrite = positions_of(self.text.later_steps(step))
        drift = self.drifts.get(step.name)
        reference = self._from(self.steps[drift]) if drift else ()
        own = self.text.own_repeats(step)
        return [
            Intervention(
                VALUE_EDIT,
                step.name,
                self._stating(step, value, own),
                rewrite,
                self._copies(step),
                reference,
                changed=self._words(step, value),
            )
            for value in self._values(step)[:count]
        ]

    def _rewriting(self, step: StatedSegment) -> Intervention:
        return Intervention(
            REWRITING, step.name, rewrite=self._from(step), copies=self._copies(step), changed="nothing"
        )

    def _from(self, step: StatedSegment) -> tuple[int, ...]:
        return positions_of([step, *self.text.later_steps(step)])

    def _kept_edits(self, step: StatedSegment, count: int) -> list[Intervention]:
        return [
            Intervention(KEPT_EDIT, step.name, self._stating(step, value), changed=self._words(step, value))
            for value in self._values(step)[:count]
        ]

    def _all_edits(self, count: int) -> list[Intervention]:
        steps = [each for each in self.text.steps if self._values(each)]
        made = []
        for row in range(count):
            edits: Edits = {}
            changed = []
            for step in steps:
                values = self._values(step)
                value = values[-1 - row % len(values)]
                edits |= self._stating(step, value)
                changed.append(self._words(step, value))
            repeated = {place: edits[source] for place, source in self.text.repeats.items() if source in edits}
            made.append(Intervention(ALL_EDIT, None, edits | repeated, changed="; ".join(changed)))
        return made

    def _copies(self, step: StatedSegment) -> Edits:
        """Return the repeats of a step's value and of later ones."""
        assert step.value is not None
        return {place: source for place, source in self.text.repeats.items() if source >= step.value[0]}

    def _stating(self, segment: StatedSegment, value: Ids, repeats: Sequence[int] = ()) -> Edits:
        assert segment.value is not None
        return {p + i: token for p in (*repeats, segment.value[0]) for i, token in enumerate(value)}

    def _words(self, segment: StatedSegment, value: Ids) -> str:
        said = self.text.value_of(segment)
        return f"{segment.name}: {self.text.text_of(said)} → {self.text.text_of(value)}"

    # --- nulls, question and hint ---------------------------------------------------------------

    def _word_edits(self, count: int) -> list[Intervention]:
        """Return edits of words that are not values, of one step after the other.

        Later values are kept: if the model rewrote one because of a word, the answer would move by way of a stated value.
        """
        steps = list(self.steps.values())
        made: list[Intervention] = []
        for turn in range(4 * count):  # a step may have few words; then other steps get more edits
            if len(made) == count:
                break
            step = steps[turn % len(steps)]
            edited = edit_words(self.text, step, self.rng)
            if edited is None or any(each.edits == edited.edits for each in made):
                continue
            made.append(Intervention(WORD_EDIT, step.name, edited.edits, changed=f"{step.name}: {edited.words}"))
        return made

    def _given_edits(self, kind: str, count: int) -> list[Intervention]:
        edited = edit_given(self.text, editable_segments(self.text, kind), count, self.rng)
        return [Intervention(kind, None, each.edits, changed=each.words) for each in edited]

    def _hint_edits(self, count: int) -> list[Intervention]:
        hint = self.text.hint
        if hint is None:
            return []
        values = [
            value for value in self._values(hint) if self.text.text_of(value) != self.text.text_of(self.text.said)
        ]
        return [
            Intervention(
                HINT_EDIT,
                hint.name,
                self._stating(hint, value),
                changed=self._words(hint, value),
                implied=self.text.text_of(value),
            )
            for value in values[:count]
        ]

    # --- donors -----------------------------------------------------------------------------

    def _donors(self, kind: str, name: str | None, count: int) -> Iterator[Intervention]:
        """Yield rows of the prompt that read keys and values of edited rows, one after the other."""
        rows = self._donor_rows(kind)
        where = tuple(p for span in self._spans(name) for p in range(*span))
        for _ in range(count if rows and where else 0):
            row = rows[self.next_donor[kind] % len(rows)]
            self.next_donor[kind] += 1
            changed = f"{name or 'all steps'} read from: {row.changed}"
            yield Intervention(kind, name, donor=row.edits, donor_at=where, changed=changed)

    def _donor_rows(self, kind: str) -> list[Intervention]:
        """Return the rows that can be donors: those in which most of question and hint is edited, or the stated values."""
        kinds = [ALL_EDIT] if kind == TEXT_DONOR else [GIVEN_EDIT, QUESTION_EDIT, HINT_EDIT]
        return next((rows for each in kinds if (rows := self.drawn.get(each))), [])

    def _spans(self, name: str | None) -> list[tuple[int, int]]:
        end = self.text.answer.start
        steps = [each for each in self.text.segments if each.role == "step" and each.stop <= end]
        return [(each.start, each.stop) for each in steps if name in (None, each.name)]


def positions_of(segments: Sequence[StatedSegment]) -> tuple[int, ...]:
    """Return the positions of the values of segments."""
    return tuple(p for each in segments if each.value for p in range(*each.value))


def in_words(text: StatedText, intervention: Intervention, ids: Sequence[int]) -> str:
    """Return what a row changed, with the values that the model rewrote."""
    rewritten = [each for each in text.steps if each.value and each.value[0] in intervention.rewrite]
    if not rewritten:
        return intervention.changed
    names = [each.name for each in rewritten]
    values = [text.text_of(ids[slice(*each.value)]) for each in rewritten if each.value]
    said = f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]
    return f"{intervention.changed}; {said} rewritten: {', '.join(values)}"
