"""Our scores of faithfulness, with the interface of a baseline, beside the published measures of `BASELINES`.

`model.compare` is called as an outsider does: segments as (role, text), whose values and their alternatives it finds itself.
One report of a transcript, with quick evidence, serves all methods that read it. A backward pass counts two.
"""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import cotrace.faithfulness
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.baselines import BASELINES, Baseline, Score, find
from cotrace.faithfulness.inputs import as_transcript
from cotrace.faithfulness.ledger.compute import compute_ledger
from cotrace.faithfulness.ledger.layout import CONTENT, ROUTED
from cotrace.faithfulness.ledger.live import chained_mass
from cotrace.faithfulness.ledger.prompt import StatedPrompt
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.transcripts import Transcript, state_values

from .cells import Record

ROOMS = ("comparison", "evidence", "ledger", "transcripts")  # whose code our scores depend on
CIRCUIT_ROWS = 1  # no score reads the circuit

Given = tuple[tuple[str, Any], ...]  # role and text of each segment
Shares = Mapping[tuple[str, str], float]  # share of a statement's value that comes from a source, by both names


@lru_cache(maxsize=1)
def quick_report(model: Any, given: Given, seed: int) -> tuple[Report, float]:
    """Return the report of a transcript, and the seconds that it took. The last one is kept."""
    start = time.perf_counter()
    report = model.compare(list(given), evidence="quick", seed=seed, max_features=CIRCUIT_ROWS, progress=False)
    return report, time.perf_counter() - start


def report_of(model: Any, transcript: Transcript, seed: int) -> tuple[Report, float]:
    """Return the report of a transcript's roles and texts. Raises ArgumentError for a model that cannot compare."""
    if not hasattr(model, "compare"):
        raise ArgumentError("the model has no transcoders: `compare` needs a cotrace.Model")
    return quick_report(model, given_by(transcript), seed)


def given_by(transcript: Transcript) -> Given:
    """Return what an outsider knows of a transcript."""
    return tuple(
        (each.role, each.text if isinstance(each.text, str) else tuple(each.text)) for each in transcript.segments
    )


def compare_none(model: Any, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the score without edits."""
    report, seconds = report_of(model, transcript, seed)
    notes = {"mirrors": _by_step(report, transcript, "mirrors"), "seconds": seconds}
    return Score(_number(report.live_score), _by_step(report, transcript, "live_score"), _passes(report), notes)


def compare_quick(model: Any, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the score with at most 40 passes of edits; its notes have the verdict, and what was confirmed of each step."""
    report, seconds = report_of(model, transcript, seed)
    confirmed = dict(zip(_step_names(transcript), report.steps["confirmed"].to_pylist(), strict=True))
    notes = {"verdict": report.verdict, "confirmed": confirmed, "seconds": seconds}
    passes = _passes(report) + report.cost["evidence"]
    return Score(_number(report.score), _by_step(report, transcript, "score"), passes, notes)


def frozen_links(model: Any, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the mass that internal links of the frozen ledger hand down from the answer."""
    report, seconds = report_of(model, transcript, seed)
    rows = report.links.to_pylist()
    shares = {(row["statement"], row["source"]): row["share"] for row in rows}
    names = list(dict.fromkeys(row["statement"] for row in rows))
    return _chained(shares, names, _ledger_passes(names), {"seconds": seconds})


def frozen_links_qk(model: Any, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the same with what attention scores add: shares of the effect and the credit through QK of each source."""
    prompt = StatedPrompt(model, state_values(as_transcript(list(given_by(transcript))), model))
    ledger = compute_ledger(prompt, through_qk=True)
    assert ledger.credit is not None
    sizes = {
        (row["target"], row["source"].removeprefix(CONTENT)): abs(row["effect"] + row["through_qk"])
        for row in ledger.credit.to_pylist()
        if row["source"] in ROUTED or row["source"].startswith(CONTENT)
    }
    totals = {name: sum(size for (target, _), size in sizes.items() if target == name) for name in ledger.names}
    shares = {key: size / totals[key[0]] for key, size in sizes.items() if totals[key[0]] > 0}
    return _chained(shares, ledger.names, _ledger_passes(ledger.names) + 2, {})


def _chained(shares: Shares, names: Sequence[str], passes: float, notes: Record) -> Score:
    """Return the content's share of the last statement, and the mass of each earlier one; `names` are in order."""
    share_KK = np.array(
        [[shares.get((k, j), 0.0) if i < n else 0.0 for i, j in enumerate(names)] for n, k in enumerate(names)]
    )
    steps = dict(zip(names[:-1], chained_mass(share_KK)[:-1].tolist(), strict=True))
    return Score(float(share_KK[-1].sum()), steps, passes, notes)


def _passes(report: Report) -> float:
    return report.cost["forward"] + 2 * report.cost["backward"]


def _ledger_passes(names: Sequence[str]) -> float:
    """Return the cost of the ledger: a forward pass, and the time of one backward pass for each statement."""
    return 1.0 + 2.0 * len(names)


def _number(score: float | None) -> float:
    if score is None:
        raise ArgumentError("no step states a value")
    return score


def _step_names(transcript: Transcript) -> list[str]:
    return [each.name for each in transcript.steps]


def _by_step(report: Report, transcript: Transcript, column: str) -> dict[str, float]:
    """Return a column of the table of steps, by the transcript's own names; steps without a number are left out."""
    pairs = zip(_step_names(transcript), report.steps[column].to_pylist(), strict=True)
    return {name: value for name, value in pairs if value is not None}


def _own(run: Any, question: str, edits: str, cost: str) -> Baseline:
    return Baseline(run.__name__, run, question, edits, cost, "cotrace", reads="activations")


OWN = {
    each.name: each
    for each in (
        _own(
            compare_none, "Do live effects lead from the answer down to stated values?", "nothing", "4 + 2 (4 + n + 2)"
        ),
        _own(compare_quick, "The same, and edits?", "stated values, words, question, hint", "40 more"),
        _own(frozen_links, "Do links of the frozen ledger lead there?", "nothing", "1 + 2 (n + 1)"),
        _own(frozen_links_qk, "The same, with credit through QK?", "nothing", "1 + 2 (n + 2)"),
    )
}
METHODS = {**BASELINES, **OWN}


def find_method(name: str) -> Baseline:
    """Return a method of ours or a baseline. Raises ArgumentError for an unknown name."""
    return OWN[name] if name in OWN else find(name)


def own_sources() -> list[Path]:
    """Return the files whose code our scores depend on."""
    room = Path(cotrace.faithfulness.__file__).parent
    found = [path for name in ROOMS for path in sorted((room / name).glob("*.py"))]
    return [Path(__file__), room / "inputs.py", *found]
