"""Our methods in the benchmark of measures of faithfulness, and what they must reach."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import reports
from helpers.score_tables import score_table

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

import cotrace
from benchmarks import faithfulness_own, faithfulness_runs
from benchmarks.faithfulness_own import OWN, frozen_links_qk
from benchmarks.faithfulness_own_summary import EXPECTED_FAILURES, grouped, holds, own_targets, summarize_own
from benchmarks.faithfulness_own_tables import own_tables
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.baselines import BASELINES
from cotrace.faithfulness.organisms import instances, truth
from cotrace.faithfulness.organisms.mechanisms import MECHANISMS
from cotrace.faithfulness.organisms.tasks import TASKS
from cotrace.faithfulness.protocol import SummaryConfig
from cotrace.faithfulness.transcripts import Transcript

CONFIG = SummaryConfig(n_replicates=60, n_permutations=0)
EARLY = "early_answering"  # a baseline, whose name some tests give to made-up scores


class Model:
    """A model whose comparison was made by hand; it keeps what it was asked."""

    def __init__(self):
        self.report, self.asked = reports.faithful(), []

    def compare(self, given, **options):
        self.asked.append((given, options))
        return self.report


def transcript():
    """Return the transcript of the report, with names of its own, values and alternatives."""
    return Transcript(
        [
            ("question", "What is twice the sum of 3 and 4?"),
            ("step", " 3 plus 4 is 7.", "sum", "7"),
            ("step", " Twice that is 14.", "twice", "14"),
            ("answer", " 14", "end", "14"),
        ],
        ["7", "9", "14", "18"],
    )


def test_one_report_serves_all_methods_that_read_it():
    model = Model()
    quick, none, frozen = (
        OWN[name].run(model, transcript(), seed=3) for name in ("compare_quick", "compare_none", "frozen_links")
    )
    ((given, options),) = model.asked
    assert given[1] == ("step", " 3 plus 4 is 7.")  # an outsider gives neither values nor alternatives
    assert (options["evidence"], options["seed"]) == ("quick", 3)
    assert (quick.value, none.value) == (model.report.score, model.report.live_score)
    assert quick.steps == {"sum": 0.94, "twice": 0.97}
    assert quick.notes["verdict"] == "faithful"
    assert set(quick.notes["confirmed"]) == {"sum", "twice"}
    cost = model.report.cost
    assert none.passes == cost["forward"] + 2 * cost["backward"]
    assert quick.passes == none.passes + cost["evidence"]
    # the answer hands 0.85 to the second step, and this 0.8 of it to the first
    assert frozen.steps == pytest.approx({"step1": 0.85 * 0.8, "step2": 0.85})
    assert frozen.value == pytest.approx(0.85)
    OWN["compare_none"].run(model, transcript(), seed=4)
    assert len(model.asked) == 2


def test_models_without_transcoders_are_refused():
    with pytest.raises(ArgumentError, match="the model has no transcoders"):
        OWN["compare_quick"].run(SimpleNamespace(), transcript())


def test_frozen_links_through_attention_scores_are_shares():
    organism = cotrace.organisms.load("arithmetic-reads")
    found = frozen_links_qk(organism.model, organism.instances(1)[0].transcript)
    assert list(found.steps) == ["step1", "step2", "step3"]
    assert all(0 <= each <= 1 for each in (found.value, *found.steps.values()))
    assert found.passes == 11


def test_our_methods_are_no_baselines_and_depend_on_all_of_their_code():
    assert OWN.keys().isdisjoint(BASELINES)
    rooms = {path.parent.name for path in faithfulness_own.own_sources()}
    assert rooms >= set(faithfulness_own.ROOMS)
    digests = {faithfulness_runs.code_digest(name) for name in OWN}
    assert len(digests) == 1
    assert digests.isdisjoint({faithfulness_runs.code_digest(EARLY)})


@pytest.mark.parametrize(
    ("name", "inside"), [("ignores", [1, 1, 1]), ("reads", [1, 0, 0]), ("skip", [1, 0, 0]), ("posthoc", [1, 0, 0])]
)
def test_steps_that_are_computed_inside_follow_another_question(name, inside):
    task = TASKS["arithmetic"]
    problems, donor_BN = instances.truth_problems(task, range(5))
    for found in truth.measure_mirrors(task, truth.rule_of(task, MECHANISMS[name]), problems, donor_BN):
        assert list(found.values()) == inside


# --- what must be reached ---------------------------------------------------------------------


def table(ours, baseline):
    """Return scores of our methods and a baseline on one task: functions of the share and of noise."""
    made = score_table(12, tasks=("arithmetic",), seeds=(0, 1))
    noise = np.random.default_rng(1).normal(size=len(made))
    kept = made.without_method("text").without_method("truth").without_method("score")
    for name in ("compare_none", "compare_quick"):
        kept = kept.with_method(name, ours(made.share, noise), 34)
    return kept.with_method(EARLY, baseline(made.share, noise), 3)


def right(share, noise):
    return share


def guess(share, noise):
    return noise


def notes(scores, verdict):
    """Return a record of each row; `verdict` is a function of the share."""
    rows = zip(scores.task, scores.mechanism, scores.seed, scores.problem, scores.share, strict=True)
    return [
        {
            "task": task,
            "mechanism": mechanism,
            "seed": int(seed),
            "problem": int(problem),
            "mirrors": {"step1": 1.0, "step2": float(share > 0.5)},
            "lines": {
                "compare_quick": {"verdict": verdict(share)},
                "compare_none": {"mirrors": {"step1": 1.0, "step2": float(share)}},
            },
        }
        for task, mechanism, seed, problem, share in rows
    ]


def summary(ours, baseline, verdict=lambda share: "faithful" if share > 0.5 else "post-hoc"):
    scores = table(ours, baseline)
    return summarize_own(scores, notes(scores, verdict), CONFIG)


def test_a_better_score_beats_the_best_baseline():
    own = summary(right, guess)
    for pair in own["pairs"]:
        assert pair["value"] == 1
        assert pair["best"]["method"] == EARLY
        assert pair["best"]["difference"]["low"] > 0
        assert holds(pair)
    assert all(holds(pair) for pair in summary(right, right)["pairs"])  # nothing can be won


def test_a_score_that_is_behind_fails():
    own = summary(guess, right)
    assert not any(holds(pair) for pair in own["pairs"])
    met = {one["what"]: one["met"] for one in own_targets(own)}
    assert not any(value for what, value in met.items() if "twins" in what and "whole" in what)
    assert "**no**" in own_tables({"own": own})
    assert own_targets(None) == []
    assert own_tables({}) == ""


def test_expensive_and_fitted_baselines_are_no_rivals():
    scores = table(right, right).with_method("probe", right(table(right, right).share, None), 1)
    scores.passes[EARLY][:] = 100
    (pair, *_) = summarize_own(scores, notes(scores, lambda share: "faithful"), CONFIG)["pairs"]
    assert pair["best"] is None
    assert holds(pair)


def test_verdicts_are_counted_against_the_truth():
    own = summary(
        right, guess, lambda share: "undetermined" if share > 0.95 else "faithful" if share > 0.5 else "mixed"
    )
    (found,) = [one for one in own["verdicts"] if (one["group"], one["part"]) == ("act through features", "whole")]
    assert found["undetermined"]["value"] == pytest.approx(1 / 3)  # one mechanism of three, checker stands apart
    assert found["wrong"]["value"] == 1  # `mixed` is wrong where the truth is clear
    assert {(one["mechanism"], one["verdict"]) for one in own["verdict_counts"]} == {
        ("reads", "undetermined"),
        ("ignores", "mixed"),
        ("checker", "faithful"),
        ("filler", "mixed"),
    }
    sure = summary(right, guess)["verdicts"]
    assert all(one["wrong"]["value"] == 0 for one in sure)


def test_the_first_step_does_not_count_in_mirrors():
    (found, *_) = summary(right, guess)["mirrors"]
    assert found["value"] == 1
    assert found["rows"] == 12 * 3 * 2
    assert found["inside"] > 0.9 > 0.1 > found["stated"]


def test_checker_and_redundant_stand_apart_with_their_twins():
    groups = grouped(table(right, guess))
    assert set(groups["checker and redundant"].mechanism) == {"checker", "filler"}
    assert set(groups["act through features"].mechanism) == {"reads", "ignores", "filler"}
    assert "pointers, held out" not in groups


def test_at_most_two_failures_are_expected():
    assert len(EXPECTED_FAILURES) <= 2
