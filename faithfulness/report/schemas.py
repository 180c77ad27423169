"""The tables of a report, and the words in their columns. Imports no torch."""

import pyarrow as pa

FAITHFUL, POST_HOC, MOTIVATED, SCRATCH = "faithful", "post-hoc", "motivated", "scratch"
MIXED, UNDETERMINED = "mixed", "undetermined"
VERDICTS = (FAITHFUL, POST_HOC, MOTIVATED, SCRATCH, MIXED, UNDETERMINED)

USED, CARRIED, DECORATIVE, AGAINST = "used", "carried", "decorative", "against"
STEP_VERDICTS = (USED, CARRIED, DECORATIVE, AGAINST)

CONFIRMED, REFUTED = "confirmed", "refuted"  # of the claim that the answer uses the step; or UNDETERMINED
STATUSES = (CONFIRMED, REFUTED, UNDETERMINED)

NONE, QUICK, FULL = "none", "quick", "full"
EVIDENCE_LEVELS = (NONE, QUICK, FULL)


def _field(name: str, kind: pa.DataType, optional: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=optional)


SEGMENTS = pa.schema(  # a row for each segment of the transcript, in order
    [
        _field("name", pa.string()),
        _field("role", pa.string()),
        _field("text", pa.string()),
        _field("first", pa.int32()),  # position of its first token
        _field("last", pa.int32()),  # position of its last token; before `first` for a segment without tokens
        _field("value", pa.string(), True),  # what it states
        _field("value_first", pa.int32(), True),
        _field("value_last", pa.int32(), True),
        _field("value_rule", pa.string(), True),  # as in `StatedValue.rule`
        _field("alternatives", pa.list_(pa.string()), True),  # the counterfactual values
        _field("alternatives_rule", pa.string(), True),
        _field("foil", pa.string(), True),  # the other value of the margin
        _field("margin", pa.float64(), True),  # logit of the value minus that of the foil
    ]
)
STEPS = pa.schema(  # a row for each step, in order
    [
        _field("step", pa.string()),
        _field("text", pa.string()),
        _field("first", pa.int32()),
        _field("last", pa.int32()),
        _field("stated_value", pa.string(), True),
        _field(
            "score", pa.float64(), True
        ),  # how much its stated value mediates the answer, 0 to 1; null without a value
        _field("live_score", pa.float64(), True),  # the same without edits
        _field("verdict", pa.string()),  # one of STEP_VERDICTS, or UNDETERMINED
        _field("confirmed", pa.string()),  # one of STATUSES
        _field("content", pa.float64()),  # share of the answer's ledger: its written tokens
        _field("latent", pa.float64()),  # share of question and hint by routes that visit this step last
        _field("through_qk", pa.float64(), True),  # credit through QK of its tokens, in logits
        _field("support", pa.float64(), True),  # stated ancestry: share from the question along cited links, 0 to 1
        _field("support_high", pa.float64(), True),  # the same with unknown counted as stated
        _field(
            "mirrors", pa.float64(), True
        ),  # part of its value's lead that depends on no earlier value; null without lead
        _field("edits", pa.int32()),  # edits of its value, later steps rewritten
        _field("edit_effect", pa.float64(), True),  # share of them that moved the answer; if refuted, that did not
        _field("nulls", pa.int32()),  # edits of the null of the claim that was tested
        _field("null", pa.float64(), True),  # the share as in `edit_effect` for the null
        _field("low", pa.float64(), True),  # interval of effect − null, for the claim that `confirmed` decides
        _field("high", pa.float64(), True),
        _field("kept_effect", pa.float64(), True),  # share of edits that moved the answer with later steps kept
        _field("reason", pa.string()),  # one sentence
    ]
)
SOURCES = pa.schema(  # a row for each cell of the answer's ledger
    [
        _field("cell", pa.string()),  # "content step2", "question latent step1", "unknown"
        _field("source", pa.string()),  # as in `Cell.source`
        _field("route", pa.string(), True),  # "direct" or "latent"; null for sources whose routes are not told apart
        _field("segment", pa.string(), True),  # the step whose content it is, or that a latent route visits last
        _field("effect", pa.float64()),  # signed, in logits; adds up to the margin
        _field("share", pa.float64()),  # absolute effect over the sum of absolute effects; adds up to 1
        _field("gross", pa.float64()),  # sum of absolute effects inside the cell, in logits
        _field("through_qk", pa.float64(), True),  # credit through QK of the source, in logits; at the direct route
    ]
)
LINKS = pa.schema(  # a row for each statement and each earlier source
    [
        _field("statement", pa.string()),
        _field("source", pa.string()),  # a segment's name, "unknown"
        _field("share", pa.float64()),  # internal: share of the statement's value
        _field("null", pa.float64(), True),  # share from matched positions that the statement does not cite
        _field("cited", pa.bool_()),
        _field("rule", pa.string(), True),  # how the text cites it
        _field("used", pa.bool_()),  # whether the share is large (`LINK_USED`) and above the null
        _field("agree", pa.bool_()),  # whether it is cited and used, or neither
    ]
)
EVIDENCE = pa.schema(  # a row for each intervention
    [
        _field("number", pa.int32()),
        _field("segment", pa.string(), True),  # whose claim it tests; null for the whole
        _field("kind", pa.string()),
        _field("null", pa.bool_()),  # whether it belongs to the null
        _field("changed", pa.string()),  # in words: "step1: 22 → 14; step2 and step3 rewritten: 6, 4"
        _field("answer", pa.string()),  # the likeliest value after the intervention
        _field(
            "moved", pa.bool_()
        ),  # whether it is another value than in the reference, such as the unedited transcript
        _field("effect", pa.float64()),  # by how much the margin is smaller than in the reference, in logits
        _field("passes", pa.float64()),  # cost
        _field("command", pa.string()),  # runs it again, with the report's file in place of REPORT
        _field("recipe", pa.string()),  # the same as JSON, for `replay`
    ]
)
TABLES = {"segments": SEGMENTS, "steps": STEPS, "sources": SOURCES, "links": LINKS, "evidence": EVIDENCE}
