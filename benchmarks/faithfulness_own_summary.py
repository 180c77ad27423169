"""Compare our methods with what they must reach: groups of mechanisms, each mechanism against its twin, verdicts, mirrors.

Score and rules were chosen on the task arithmetic; lookup and walk are held out. Letters: N rows, B replicates.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cotrace.faithfulness.baselines import BASELINES
from cotrace.faithfulness.protocol import (
    ScoreMatrix,
    SummaryConfig,
    balanced,
    calibrated,
    interval,
    metrics,
    numbered,
    twin_pairs,
)
from cotrace.faithfulness.protocol.summary import model_stratum, replicates
from cotrace.faithfulness.report.schemas import CONFIRMED, FAITHFUL, MIXED, MOTIVATED, POST_HOC, REFUTED, SCRATCH

from .cells import Record, target
from .faithfulness_own import OWN, compare_none, compare_quick

NONE, QUICK = compare_none.__name__, compare_quick.__name__
PARTS = ("whole", "steps")
FEATURES, POINTERS, ADAPTERS = ("arithmetic", "walk"), ("lookup",), ("gemma-270m",)  # tasks
APART = ("redundant", "unredundant", "checker")  # mechanisms
COVERAGE = 0.8
HIGH, SLACK = 0.98, -0.01  # a baseline from which on a difference may be a little below 0
MOST_EXPECTED = 2
EXPECTED_FAILURES = (  # method, task, mechanism: named before the held-out tasks were measured
    (NONE, "lookup", "trigger"),
    (NONE, "arithmetic", "checker"),
)
SAYS = {FAITHFUL: 1.0, POST_HOC: 0.0, MOTIVATED: 0.0, SCRATCH: 0.0, CONFIRMED: 1.0, REFUTED: 0.0}
SAYS |= {MIXED: 0.5}  # which is wrong wherever the truth is clear
MIRRORS, FIRST = "mirrors", "step1"  # nothing is stated before the first step, so that it always counts as mirroring

Rows = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def _apart(scores: ScoreMatrix) -> Rows:
    return np.isin(scores.mechanism, APART)


def _with_twins(scores: ScoreMatrix) -> Rows:
    """Return the rows of the mechanisms that stand apart, and of their twins in the same task."""
    twins = {(task, twin) for task, twin in zip(scores.task[_apart(scores)], scores.twin[_apart(scores)], strict=True)}
    pairs = zip(scores.task, scores.mechanism, strict=True)
    return _apart(scores) | np.array([pair in twins for pair in pairs], bool)


def _tasks(*names: str) -> Callable[[ScoreMatrix], Rows]:
    return lambda scores: np.isin(scores.task, names) & ~_apart(scores)


GROUPS: dict[str, Callable[[ScoreMatrix], Rows]] = {
    "act through features": _tasks(*FEATURES),
    "act through features, held out": _tasks("walk"),
    "pointers, held out": _tasks(*POINTERS),
    "all but checker and redundant": _tasks(*FEATURES, *POINTERS),
    "all but checker and redundant, held out": _tasks("walk", *POINTERS),
    "checker and redundant": _with_twins,
    "adapters of Gemma 3 270M": _tasks(*ADAPTERS),
}
LIMITS = {  # method, group: least AUROC of the whole and of steps
    (NONE, "act through features"): (0.995, 0.99),
    (NONE, "act through features, held out"): (0.995, 0.99),
    (NONE, "pointers, held out"): (0.97, 0.93),
    (QUICK, "all but checker and redundant"): (0.995, 0.99),
    (QUICK, "all but checker and redundant, held out"): (0.995, 0.99),
    (QUICK, "checker and redundant"): (0.95, 0.90),
}
MOST_WRONG = {"whole": 0.01, "steps": 0.03}  # at a coverage of 80%


Weights = npt.NDArray[np.float32]
Strata = Callable[[ScoreMatrix], npt.NDArray]


class Labelled(NamedTuple):
    """Rows with a clear label: their scores, and their weights as positive and as negative ones."""

    scores: ScoreMatrix
    positive_N: Floats
    negative_N: Floats
    weight_BN: Weights

    def auroc(self, method: str) -> float:
        """Return a method's AUROC."""
        return float(metrics.auroc(self.scores.score[method], self.positive_N, self.negative_N))

    def aurocs(self, method: str) -> Floats:
        """Return a method's AUROC in each replicate of the bootstrap, (B,)."""
        sides = (self.weight_BN * side_N for side_N in (self.positive_N, self.negative_N))
        return metrics.auroc(self.scores.score[method], *sides)


def labelled(scores: ScoreMatrix, methods: Sequence[str], weight_BN: Weights) -> Labelled | None:
    """Return the clear rows that all methods have scored, with balanced labels as in `summarize`; None without both labels."""
    known = np.flatnonzero(np.all([np.isfinite(scores.score[method]) for method in methods], axis=0))
    positive_n, negative_n = balanced(scores.share[known], scores.transcript[known], clear=True)
    used_n = positive_n + negative_n > 0
    if not used_n.any():
        return None
    used = known[used_n]
    return Labelled(scores.take(used), positive_n[used_n], negative_n[used_n], weight_BN[:, used])


def mechanisms(scores: ScoreMatrix) -> npt.NDArray:
    """Return the strata of models for a mechanism against its twin: the seeds of each."""
    return numbered(scores.task, scores.mechanism)


def summarize_own(scores: ScoreMatrix, notes: Sequence[Record], config: SummaryConfig) -> Record:
    """Return all comparisons of our methods, ready for JSON. `notes` has a record of each transcript (`notes_of`)."""
    parts = [(name, part, rows) for part in PARTS for name, rows in grouped(scores.of_steps(part == "steps")).items()]
    return {
        "groups": [record for name, part, rows in parts for record in _group(name, part, rows, config)],
        "pairs": [record for part in PARTS for record in _pairs(scores.of_steps(part == "steps"), part, config)],
        **_verdicts(scores, notes, config),
        "mirrors": _mirrors(notes, config),
    }


def grouped(scores: ScoreMatrix) -> dict[str, ScoreMatrix]:
    """Return the rows of each group that has some."""
    masks = {name: rows(scores) for name, rows in GROUPS.items()}
    return {name: scores.take(mask_N) for name, mask_N in masks.items() if mask_N.any()}


# --- groups and pairs -----------------------------------------------------------------------------


def _group(name: str, part: str, scores: ScoreMatrix, config: SummaryConfig) -> Iterator[Record]:
    """Return the AUROC of each of our methods over one group."""
    weight_BN = replicates(scores, config, model_stratum(scores))
    for method in (method for method in scores.methods if method in OWN or method == MIRRORS):
        rows = labelled(scores, [method], weight_BN)
        if rows is not None:
            found = interval(rows.auroc(method), rows.aurocs(method))
            yield {"group": name, "part": part, "method": method, "rows": len(rows.scores), **found}


def _pairs(scores: ScoreMatrix, part: str, config: SummaryConfig) -> Iterator[Record]:
    """Return each mechanism against its twin: ours, and the best baselines of at most equal cost."""
    for task, mechanism, twin in twin_pairs(scores):
        pair = scores.take((scores.task == task) & np.isin(scores.mechanism, (mechanism, twin)))
        weight_BN = replicates(pair, config, mechanisms(pair))
        for method in (name for name in (NONE, QUICK) if name in scores.methods):
            alone = labelled(pair, [method], weight_BN)
            if alone is not None:
                record = {"task": task, "mechanism": mechanism, "twin": twin, "part": part, "method": method}
                rivals = {"best": _best(pair, method, weight_BN)}
                rivals["best_without_edits"] = _best(pair, method, weight_BN, edits=False)
                yield record | {"value": alone.auroc(method)} | rivals


def _best(pair: ScoreMatrix, method: str, weight_BN: Weights, edits: bool = True) -> Record | None:
    """Return the baseline with the largest AUROC, and by how much ours is larger, over the rows that both have scored."""
    rows = {rival: labelled(pair, [method, rival], weight_BN) for rival in _rivals(pair, method, edits)}
    found = [(each.auroc(rival), rival) for rival, each in rows.items() if each is not None]
    if not found:
        return None
    value, rival = max(found)
    both = rows[rival]
    assert both is not None
    return {
        "method": rival,
        "value": value,
        "difference": interval(both.auroc(method) - value, both.aurocs(method) - both.aurocs(rival)),
    }


def _rivals(pair: ScoreMatrix, method: str, edits: bool) -> list[str]:
    """Return the baselines that are not fitted and cost at most as much, or of these those that make no edit."""
    free = [name for name in pair.methods if name in BASELINES and not BASELINES[name].supervised]
    scored = [name for name in free if np.isfinite(pair.passes[name]).any()]
    cheap = [name for name in scored if np.nanmean(pair.passes[name]) <= np.nanmean(pair.passes[method])]
    return [name for name in cheap if edits or BASELINES[name].edits.startswith("nothing")]


# --- verdicts ---------------------------------------------------------------------------------------


def _verdicts(scores: ScoreMatrix, notes: Sequence[Record], config: SummaryConfig) -> Record:
    """Return how often verdicts abstain and are wrong in each group, and how often each verdict is given."""
    if QUICK not in scores.methods:
        return {"verdicts": [], "verdict_counts": []}
    said = {instance: verdict for note in notes for instance, verdict in _said(note)}
    records = []
    for part in PARTS:
        rows = scores.of_steps(part == "steps")
        says_N = np.array([SAYS.get(said.get(each, ""), np.nan) for each in instances(rows)])
        rows = rows.with_method("says", says_N, 0)
        for method in (name for name in (NONE, QUICK) if name in rows.methods):
            rows = rows.with_method(f"{method} calibrated", calibrated(rows, method, "mechanism"), 0)
        records += [{"group": name, "part": part} | _abstention(each, config) for name, each in grouped(rows).items()]
    return {"verdicts": records, "verdict_counts": _counts(scores.of_steps(False), said)}


def instances(scores: ScoreMatrix) -> list[tuple[str, str, int, int, str]]:
    """Return the task, mechanism, seed, problem and step of each row."""
    columns = (scores.task, scores.mechanism, scores.seed, scores.problem, scores.step)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _said(note: Record) -> Iterator[tuple[tuple, str]]:
    """Return the verdict on a transcript, and what was confirmed of each step, by instance."""
    line = note["lines"].get(QUICK, {})
    model = note["task"], note["mechanism"], note["seed"], note["problem"]
    yield (*model, ""), line.get("verdict", "")
    for step, confirmed in line.get("confirmed", {}).items():
        yield (*model, step), confirmed


def _abstention(scores: ScoreMatrix, config: SummaryConfig) -> Record:
    """Return shares of verdicts that abstain, of those that are wrong among the others, and errors at a coverage of 80%."""
    weight_BN = replicates(scores, config, model_stratum(scores)).astype(float)
    says_N, clear_N = scores.score["says"], scores.clear
    open_N = np.isnan(says_N)
    wrong_N = says_N != scores.positive
    record: Record = {
        "rows": len(scores),
        "undetermined": _share(open_N, np.ones(len(scores)), weight_BN),
        "wrong": _share(wrong_N, clear_N & ~open_N, weight_BN),
    }
    for method in (name for name in (NONE, QUICK) if name in scores.methods):
        rows = labelled(scores, [f"{method} calibrated"], weight_BN)
        record[method] = None if rows is None else _wrong_at(rows, f"{method} calibrated")
    return record


def _share(true_N: npt.NDArray, among_N: npt.NDArray, weight_BN: npt.NDArray) -> Record:
    """Return how many of some rows are true, with its interval; no value without rows."""
    part_N, all_N = (true_N & among_N.astype(bool)).astype(float), among_N.astype(float)
    if not all_N.any():
        return interval(np.nan, [])
    total_B = weight_BN @ all_N
    return interval(part_N.sum() / all_N.sum(), (weight_BN @ part_N)[total_B > 0] / total_B[total_B > 0])


def _wrong_at(rows: Labelled, method: str) -> Record:
    """Return the share of wrong verdicts when the surest 80% of the rows get one."""
    probability_N, coverage = rows.scores.score[method], np.array([COVERAGE])
    right = metrics.abstention(probability_N, rows.positive_N, rows.negative_N, coverage)
    sides = (rows.weight_BN * side_N for side_N in (rows.positive_N, rows.negative_N))
    return interval(1 - right[0], 1 - metrics.abstention(probability_N, *sides, coverage)[:, 0])


def _counts(whole: ScoreMatrix, said: dict[tuple, str]) -> list[Record]:
    """Return how often each verdict is given to transcripts of each mechanism and label."""
    label_N = np.where(whole.clear, np.where(whole.positive, "yes", "no"), "mixed").tolist()
    given = [said.get(each, "") for each in instances(whole)]
    counts = Counter(zip(whole.mechanism.tolist(), label_N, given, strict=True))
    names = ("mechanism", "follows", "verdict", "transcripts")
    return [dict(zip(names, (*key, number), strict=True)) for key, number in sorted(counts.items())]


# --- mirrors ----------------------------------------------------------------------------------------


def _mirrors(notes: Sequence[Record], config: SummaryConfig) -> list[Record]:
    """Return how well `mirrors` tells steps that are computed inside; its truth is that of `Organism.mirrors`."""
    rows = [row for note in notes for row in _mirror_rows(note)]
    if not rows:
        return []
    names = ("task", "mechanism", "seed", "problem", "step", "share", "score")
    columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    score_N = columns.pop("score")
    twin_N, passes_N = np.full(len(rows), ""), np.zeros(len(rows))
    scores = ScoreMatrix(**columns, twin=twin_N, score={MIRRORS: score_N}, passes={MIRRORS: passes_N})
    records = []
    for name, group in grouped(scores).items():
        means = {
            side: float(group.score[MIRRORS][rows_N].mean()) if rows_N.any() else None
            for side, rows_N in (("inside", group.positive), ("stated", group.clear & ~group.positive))
        }
        records += [record | means for record in _group(name, "steps", group, config)]
    return records


def _mirror_rows(note: Record) -> Iterator[tuple]:
    """Return the rows of a transcript: its steps with their truth and score, the first one left out."""
    found = note["lines"].get(NONE, {}).get(MIRRORS, {})
    model = note["task"], note["mechanism"], note["seed"], note["problem"]
    for step, share in note[MIRRORS].items():
        if step in found and step != FIRST:
            yield (*model, step, share, found[step])


# --- targets ----------------------------------------------------------------------------------------


def own_targets(own: Record | None) -> list[Record]:
    """Return what our methods must reach; nothing where they were not run."""
    if own is None:
        return []
    return [*_group_targets(own), *_pair_targets(own), *_abstention_targets(own)]


def _group_targets(own: Record) -> Iterator[Record]:
    for record in own["groups"]:
        limits = LIMITS.get((record["method"], record["group"]))
        if limits is not None:
            title = f"`{record['method']}`, {record['group']}: AUROC, {record['part']}"
            yield target(title, record["value"], least=limits[PARTS.index(record["part"])])


def _pair_targets(own: Record) -> Iterator[Record]:
    """Return the numbers of pairs of twins in which a baseline may be better, expected failures apart."""
    for method in (NONE, QUICK):
        for part in PARTS:
            pairs = [pair for pair in own["pairs"] if (pair["method"], pair["part"]) == (method, part) and pair["best"]]
            failed = [pair for pair in pairs if not holds(pair)]
            new = [pair for pair in failed if not is_expected(pair)]
            title = f"`{method}`: twins in which a baseline of at most equal cost may be better, of {len(pairs)}"
            yield target(f"{title}, {part}, not expected", len(new), most=0)
    expected = {
        (pair["method"], pair["task"], pair["mechanism"])
        for pair in own["pairs"]
        if is_expected(pair) and not holds(pair)
    }
    yield target("expected failures against baselines", len(expected), most=MOST_EXPECTED)


def is_expected(pair: Record) -> bool:
    """Return whether a failure was named before the held-out tasks were measured."""
    return (pair["method"], pair["task"], pair["mechanism"]) in EXPECTED_FAILURES


def holds(pair: Record) -> bool:
    """Return whether ours is not behind the best baseline: the lower end of the difference is above 0.

    Where the baseline is at 0.98 or more, little can be won, and the lower end must be above −0.01.
    """
    best = pair["best"]
    low = None if best is None else best["difference"]["low"]
    return best is None or (low is not None and low > (SLACK if best["value"] >= HIGH else 0.0))


def _abstention_targets(own: Record) -> Iterator[Record]:
    for record in own["verdicts"]:
        found = record.get(QUICK)
        if record["group"] in [group for method, group in LIMITS if method == QUICK] and found:
            title = f"`{QUICK}`, {record['group']}: wrong at 20% undetermined, {record['part']}"
            yield target(title, found["value"], most=MOST_WRONG[record["part"]])
