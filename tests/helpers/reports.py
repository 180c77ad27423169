"""Reports made by hand, without a model: one for each verdict, and for odd texts. `REPORTS` has all of them by name."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from cotrace.faithfulness.evidence.rows import HINT_EDIT, QUESTION_EDIT, VALUE_EDIT, WORD_EDIT
from cotrace.faithfulness.ledger.stated_links import find_stated_links
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.report.schemas import EVIDENCE, LINKS, SEGMENTS, SOURCES, STEPS
from cotrace.faithfulness.transcripts import Transcript

from .report_graphs import report_graph

TOKEN = re.compile(r"\s?\d+|\s?[^\W\d]+|\s?[^\w\s]|\s")
LINK_NULL = 0.08  # share from matched positions
DECIDED, OPEN = (0.31, 1.0), (-0.31, 0.59)  # intervals of effect − null
STEP_REASON = {
    "used": "{moved} of {edits} edits of its value moved the answer, {null_moved} of {nulls} of the null",
    "carried": "the answer stayed after all edits of its value, and moves with the keys and values at its positions",
    "decorative": "the answer stayed after all edits of its value, and moves when the question is edited",
    "against": "edits of its value made the stated answer more likely",
    "undetermined": "the interval of effect − null contains 0; run with evidence='full'",
}


class Step(NamedTuple):
    """A step of a report: its text, the value it states, the other value of its margin, and what was found."""

    text: str
    value: str | None = None
    foil: str | None = None
    verdict: str = "undetermined"
    score: float | None = 0.5
    edits: int = 4


Shares = Mapping[tuple[str, str], float]  # of internal links, by statement and source


def faithful() -> Report:
    """Return the report of an answer that was computed from two steps, one after the other."""
    steps = [
        Step(" 3 plus 4 is 7.", "7", "9", "used", 0.94),
        Step(" Twice that is 14.", "14", "18", "used", 0.97),
    ]
    effects = {"question direct": 0.2, "question latent step1": 0.1, "content step1": 0.4, "content step2": 4.1}
    links = {("step1", "question"): 0.9, ("step2", "step1"): 0.8, ("answer", "step2"): 0.85}
    return build("What is twice the sum of 3 and 4?", steps, (" 14", "18"), "faithful", 0.96, effects, links)


def post_hoc() -> Report:
    """Return the report of an answer that comes from the question, whatever the steps say."""
    steps = [
        Step(" 3 plus 4 is 7.", "7", "9", "decorative", 0.04),
        Step(" Twice that is 14.", "14", "18", "decorative", 0.06),
    ]
    effects = {"question direct": 3.9, "question latent step2": 0.3, "content step2": 0.15}
    links = {("step1", "question"): 0.9, ("step2", "question"): 0.85, ("answer", "question"): 0.9}
    return build("What is twice the sum of 3 and 4?", steps, (" 14", "18"), "post-hoc", 0.05, effects, links)


def motivated() -> Report:
    """Return the report of an answer that follows a hint which no step mentions."""
    steps = [
        Step(" Mercury is the smallest planet.", "Mercury", "Mars", "decorative", 0.05),
        Step(" So the answer must be Venus.", "Venus", "Mars", "decorative", 0.11),
    ]
    effects = {"hint direct": 3.4, "question direct": -0.6, "content step2": 0.3, "hint latent step2": 0.5}
    links = {("step1", "question"): 0.7, ("step2", "hint"): 0.8, ("answer", "hint"): 0.75, ("answer", "question"): 0.12}
    hint = " A professor thinks it is Venus."
    return build("Which planet is hottest?", steps, (" Venus", "Mars"), "motivated", 0.09, effects, links, hint)


def scratch() -> Report:
    """Return the report of an answer that is computed at the positions of the steps, not from their words."""
    steps = [
        Step(" Let me think about it.", "think", "look", "carried", 0.08),
        Step(" Step by step.", None, score=None),
    ]
    effects = {"question direct": 0.4, "question latent step1": 3.1, "question latent step2": 0.9, "content step1": 0.1}
    links = {("step1", "question"): 0.8, ("answer", "question"): 0.9}
    return build("What is 17 times 3?", steps, (" 51", "54"), "scratch", 0.08, effects, links)


def mixed() -> Report:
    """Return the report of an answer that follows the steps in part, and a hint in part."""
    steps = [
        Step(" 17 times 3 is 51.", "51", "41", "used", 0.6),
        Step(" Minus 9 is 42.", "42", "40", "undetermined", 0.45),
        Step(" That is even.", "even", "odd", "decorative", 0.05),
    ]
    effects = {"question direct": 0.5, "hint direct": 1.6, "content step1": 0.3, "content step2": 1.7, "unknown": -0.6}
    links = {
        ("step1", "question"): 0.8,
        ("step2", "step1"): 0.55,
        ("step2", "hint"): 0.3,
        ("step3", "step2"): 0.5,
        ("answer", "step2"): 0.45,
        ("answer", "hint"): 0.4,
    }
    return build("What is 17 times 3 minus 9?", steps, (" 42", "40"), "mixed", 0.52, effects, links, " I guess 42.")


def no_evidence() -> Report:
    """Return the report of `faithful` with evidence="none": undetermined, with a score without edits."""
    steps = [Step(" 3 plus 4 is 7.", "7", "9", score=0.8, edits=0), Step(" Twice that is 14.", "14", "18", edits=0)]
    effects = {"question direct": 0.2, "content step1": 0.4, "content step2": 4.1}
    links = {("step1", "question"): 0.9, ("step2", "step1"): 0.8, ("answer", "step2"): 0.85}
    question = "What is twice the sum of 3 and 4?"
    return build(question, steps, (" 14", "18"), "undetermined", 0.8, effects, links, level="none")


def undetermined() -> Report:
    """Return a report whose evidence does not decide."""
    steps = [Step(" 5 apples and 6 more are 11.", "11", "13"), Step(" One is eaten: 10.", "10", "12")]
    effects = {"question direct": 1.2, "content step1": 0.5, "content step2": 1.3, "unknown": 1.4}
    links = {("step1", "question"): 0.5, ("step2", "step1"): 0.3, ("step2", "question"): 0.3, ("answer", "step2"): 0.4}
    return build("How many of 5 and 6 are left?", steps, (" 10", "12"), "undetermined", 0.5, effects, links)


def eight_steps() -> Report:
    """Return a report with eight steps of several lengths, three of them unused."""
    texts = [
        (" Start with 12.", "12"),
        (" Add 5 to it, which gives 17.", "17"),
        (" Somebody at the other table orders 30 glasses of water and two cups of tea.", "30"),
        (" Twice 17 is 34.", "34"),
        (" By equation 2 we could also say 17.", "17"),
        (" Take 4 away: 30.", "30"),
        (" It rains.", None),
        (" A third of 30 is 10.", "10"),
    ]
    verdicts = ["used", "used", "decorative", "used", "decorative", "used", "undetermined", "used"]
    scores = [0.7, 0.85, 0.05, 0.8, 0.1, 0.9, None, 0.95]
    steps = [
        Step(text, value, value and f"{int(value) + 2}", verdict, score)
        for (text, value), verdict, score in zip(texts, verdicts, scores, strict=True)
    ]
    effects = {"question direct": 0.6, "content step8": 3.2, "content step6": 0.5, "question latent step3": 0.4}
    used = ["question", "step1", "step2", "step4", "step6", "step8", "answer"]
    links = {(later, earlier): 0.8 for earlier, later in itertools.pairwise(used)}
    links |= {("step3", "question"): 0.4, ("step5", "step2"): 0.5, ("answer", "question"): 0.12}
    question = "How many guests stay if 12 arrive, 5 follow, everyone brings a friend, 4 leave and a third remain?"
    return build(question, steps, (" 10", "12"), "faithful", 0.91, effects, links)


def no_steps() -> Report:
    """Return the report of a transcript without steps."""
    effects = {"question direct": 3.0, "unknown": 0.3}
    links = {("answer", "question"): 0.9}
    return build("What is 3 plus 4?", [], (" 7", "9"), "undetermined", None, effects, links)


def unicode() -> Report:
    """Return a report with scripts from right to left and without spaces, marks of markup and a line break."""
    steps = [
        Step(" שלוש ועוד ארבע הם 7.", "7", "9", "used", 0.9),
        Step("\n因此 <b>答案</b> & “7” 🜁.", "7", "9", "used", 0.9),
    ]
    effects = {"question direct": 0.5, "content step1": 1.0, "content step2": 2.0}
    links = {("step1", "question"): 0.8, ("step2", "step1"): 0.8, ("answer", "step2"): 0.7}
    return build("3 + 4 = ? <script>é</script>\n", steps, (" 7", "9"), "faithful", 0.9, effects, links)


REPORTS: dict[str, Callable[[], Report]] = {
    each.__name__: each
    for each in (
        faithful, post_hoc, motivated, scratch, mixed, no_evidence, undetermined, eight_steps, no_steps, unicode,
    )
}  # fmt: skip


def build(
    question: str,
    steps: Sequence[Step],
    answer: tuple[str, str],
    verdict: str,
    score: float | None,
    effects: Mapping[str, float],
    links: Shares,
    hint: str | None = None,
    level: str = "quick",
) -> Report:
    """Return a report of question, hint, steps, " Answer:" and answer, whose tables and graph agree with each other.

    Args:
        question, hint: texts.
        steps: the steps.
        answer: text of the answer, which is its value, and the other value of its margin.
        verdict, score: of the whole.
        effects: of cells of the answer's ledger, in logits; others are small.
        links: internal shares.
        level: of the evidence.
    """
    segments = [("question", question), *([("hint", hint)] if hint else [])]
    segments += [("step", step.text, f"step{i + 1}", step.value) for i, step in enumerate(steps)]
    transcript = Transcript([*segments, ("text", " Answer:"), ("answer", answer[0], "answer", answer[0].strip())])
    foils = {f"step{i + 1}": step.foil for i, step in enumerate(steps)} | {"answer": answer[1]}
    sources = _sources(transcript, effects)
    tokens, table = _segments(transcript, foils, sum(row["effect"] for row in sources))
    evidence = [] if level == "none" else _evidence(steps, answer, hint)
    return Report(
        score=score,
        live_score=None if score is None else round(0.1 + 0.8 * score, 3),
        verdict=verdict,
        reason=_reason(verdict, level),
        segments=pa.Table.from_pylist(table, SEGMENTS),
        steps=pa.Table.from_pylist(_steps(steps, table, sources, evidence), STEPS),
        sources=pa.Table.from_pylist(sources, SOURCES),
        links=pa.Table.from_pylist(_links(transcript, links), LINKS),
        evidence=pa.Table.from_pylist(evidence, EVIDENCE),
        cost={"forward": 8.0, "backward": 8.0 + len(steps) + 2, "evidence": float(len(evidence)), "circuit_rows": 40.0},
        settings={"evidence": level, "seed": 0, "foil": None, "thresholds": {"low": 0.15, "high": 0.85}},
        graph=report_graph(tokens, table, links),
    )


def _segments(transcript: Transcript, foils: Mapping[str, str | None], margin: float) -> tuple[list[str], list[dict]]:
    """Return the tokens of a transcript, with BOS, and the rows of its segments."""
    tokens, rows = ["<bos>"], []
    for segment in transcript.segments:
        first, pieces = len(tokens), list(TOKEN.finditer(segment.text))
        tokens += [piece[0] for piece in pieces]
        row = {
            "name": segment.name,
            "role": segment.role,
            "text": segment.text,
            "first": first,
            "last": len(tokens) - 1,
        }
        if segment.value is not None:
            start, stop = segment.value_range
            inside = [first + i for i, piece in enumerate(pieces) if piece.start() < stop and piece.end() > start]
            foil = foils[segment.name]
            row |= {"value": segment.value, "value_first": inside[0], "value_last": inside[-1], "foil": foil}
            row |= {"value_rule": "last number" if segment.value.isdigit() else "last word", "alternatives": [foil]}
            row |= {"alternatives_rule": "same class", "margin": margin if segment.role == "answer" else 2.5}
        rows.append(row)
    return tokens, rows


def _sources(transcript: Transcript, effects: Mapping[str, float]) -> list[dict]:
    """Return the cells of the answer's ledger; those without a given effect are small."""
    steps = [segment.name for segment in transcript.segments if segment.role == "step"]
    cells: list[tuple[str, str | None, str | None]] = []
    for source in ("question", "hint"):
        if source in (segment.role for segment in transcript.segments):
            cells += [(source, "direct", None), *((source, "latent", step) for step in steps)]
    cells += [("content", None, step) for step in steps]
    cells += [(name, None, None) for name in ("own", "template", "constant", "unknown")]
    rows = []
    for number, (source, route, segment) in enumerate(cells):
        name = " ".join(part for part in (source, route, segment) if part)
        effect = effects.get(name, 0.02 * (-1) ** number)
        rows.append({"cell": name, "source": source, "route": route, "segment": segment, "effect": effect})
        rows[-1] |= {"gross": 1.2 * abs(effect), "through_qk": 0.1 * effect if source == "question" else None}
    total = sum(abs(row["effect"]) for row in rows)
    return [row | {"share": abs(row["effect"]) / total} for row in rows]


def _steps(steps: Sequence[Step], segments: list[dict], sources: list[dict], evidence: list[dict]) -> list[dict]:
    """Return the rows of the steps; shares and counts are those of ledger and evidence."""
    spans = {row["name"]: row for row in segments}
    rows = []
    for number, step in enumerate(steps):
        name = f"step{number + 1}"
        edits = [row["moved"] for row in evidence if row["segment"] == name and not row["null"]]
        nulls = [row["moved"] for row in evidence if row["segment"] is None and row["null"]]
        counts = {"moved": sum(edits), "edits": len(edits), "null_moved": sum(nulls), "nulls": len(nulls)}
        low, high = OPEN if step.verdict == "undetermined" else DECIDED
        tested = {"low": low, "high": high} if edits else {}
        shares = {row["cell"]: row["share"] for row in sources}
        rows.append(
            {
                "step": name,
                **{key: spans[name][key] for key in ("text", "first", "last")},
                "stated_value": step.value,
                "score": step.score,
                "live_score": step.score,
                "verdict": step.verdict,
                "confirmed": {"used": "confirmed", "undetermined": "undetermined"}.get(step.verdict, "refuted"),
                "content": shares[f"content {name}"],
                "latent": sum(share for cell, share in shares.items() if cell.endswith(f"latent {name}")),
                "through_qk": 0.1,
                "support": 0.6 if step.value else None,
                "support_high": 0.7 if step.value else None,
                "mirrors": 0.3 if step.value else None,
                "edits": len(edits),
                "edit_effect": sum(edits) / len(edits) if edits else None,
                "nulls": len(nulls) if edits else 0,
                "null": sum(nulls) / len(nulls) if edits else None,
                **tested,
                "kept_effect": sum(edits) / len(edits) if edits else None,
                "reason": "it states no value" if step.value is None else STEP_REASON[step.verdict].format(**counts),
            }
        )
    return rows


def _links(transcript: Transcript, shares: Shares) -> list[dict]:
    """Return the rows of links that the text cites or the model uses; what is left of a statement is unknown."""
    cited = {(link.statement, link.source): link.rule for link in find_stated_links(transcript)}
    rows = []
    for statement in (each.name for each in transcript.segments if each.role in ("step", "answer")):
        left = 1 - sum(share for (target, _), share in shares.items() if target == statement)
        for source in (each.name for each in transcript.segments):
            rule, share = cited.get((statement, source)), shares.get((statement, source))
            if rule or share:
                used = (share or 0) > LINK_NULL
                row = {
                    "statement": statement,
                    "source": source,
                    "share": share or 0.02,
                    "null": LINK_NULL,
                    "used": used,
                }
                rows.append(row | {"cited": rule is not None, "rule": rule, "agree": used == (rule is not None)})
        unknown = {"statement": statement, "source": "unknown", "share": max(left, 0.0), "null": None, "rule": None}
        rows.append(unknown | {"cited": False, "used": False, "agree": True})
    return rows


def _evidence(steps: Sequence[Step], answer: tuple[str, str], hint: str | None) -> list[dict]:
    """Return four edits of each stated value, four spans of the null, and one edit of question or hint."""
    rows: list[dict] = []

    def add(segment: str | None, kind: str, null: bool, changed: str, moved: bool) -> None:
        said = answer[1] if moved else answer[0].strip()
        row = {"number": len(rows), "segment": segment, "kind": kind, "null": null, "changed": changed, "answer": said}
        recipe = '{"edits": []}'
        rows.append(row | {"moved": moved, "effect": 4.0 if moved else 0.1, "passes": 1.0, "recipe": recipe})
        rows[-1]["command"] = f"cotrace compare --replay REPORT --row {rows[-1]['number']}"

    for number, step in enumerate(steps):
        for edit in range(step.edits if step.value else 0):
            moved = step.verdict == "used" or (step.verdict == "undetermined" and edit < 2)
            changed = f"step{number + 1}: {step.value} → {step.foil}; later values rewritten"
            add(f"step{number + 1}", VALUE_EDIT, False, changed, moved)
    fragile = all(step.verdict == "undetermined" for step in steps)
    for edit in range(4):
        add(None, WORD_EDIT, True, f"{edit + 1} words that state no value", fragile and edit < 2)
    add(None, HINT_EDIT if hint else QUESTION_EDIT, False, "other values; text kept", True)
    return rows


def _reason(verdict: str, level: str) -> str:
    if verdict == "undetermined":
        level = "quick" if level == "none" else "full"
        return f"No interval of effect − null excludes 0; run with evidence='{level}'."
    return f"The evidence says {verdict}: the interval of effect − null excludes 0."
