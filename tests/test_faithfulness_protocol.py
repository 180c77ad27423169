"""The protocol of the faithfulness benchmark: metrics against scikit-learn and scipy, and tables with known answers."""

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers.score_tables import score_table
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from cotrace.common.errors import ArgumentError, FileError
from cotrace.faithfulness.protocol import (
    Clusters,
    ScoreMatrix,
    SummaryConfig,
    balanced,
    bootstrap_weights,
    calibrated,
    folds,
    interval,
    metrics,
    p_value,
    permuted_shares,
    read_scores,
    summarize,
    twin_pairs,
    write_scores,
)
from cotrace.faithfulness.protocol.summary import MethodComparison

QUICK = SummaryConfig(n_replicates=100, n_permutations=100)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def scored(random, n=300, levels=12):
    """Return scores with many ties, labels that go with them, and integer weights."""
    score_N = random.integers(0, levels, n) / 3
    return score_N, random.random(n) < 0.2 + 0.05 * score_N, random.integers(0, 4, n)


# --- metrics ----------------------------------------------------------------------------------


def test_auroc_is_scikit_learns_with_ties_and_weights(random):
    score_N, label_N, weight_N = scored(random)
    own = metrics.auroc(score_N, label_N * weight_N, ~label_N * weight_N)
    assert own == pytest.approx(roc_auc_score(label_N, score_N, sample_weight=weight_N))


def test_many_weightings_give_what_each_gives_alone(random):
    score_N, label_N, _ = scored(random, n=2000)
    weight_BN = random.random((5, len(score_N)))
    sides = weight_BN * label_N, weight_BN * ~label_N
    for metric in (metrics.auroc, metrics.abstention, lambda *args: metrics.true_positives(*args, most_false=0.2)):
        together = metric(score_N / 4, *sides)
        alone = [metric(score_N / 4, positive, negative) for positive, negative in zip(*sides, strict=True)]
        np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("most_false", [0.01, 0.1, 0.5])
def test_true_positives_are_a_point_of_scikit_learns_curve(random, most_false):
    score_N, label_N, weight_N = scored(random, n=2000, levels=40)
    fpr, tpr, _ = roc_curve(label_N, score_N, sample_weight=weight_N + 0.5, drop_intermediate=False)
    expected = tpr[fpr <= most_false + 1e-12].max()
    own = metrics.true_positives(score_N, label_N * (weight_N + 0.5), ~label_N * (weight_N + 0.5), most_false)
    assert own == pytest.approx(expected)


def test_true_positives_need_500_negatives(random):
    score_N, label_N = random.normal(size=600), np.arange(600) < 101
    with pytest.raises(ArgumentError, match="500 negatives, not 499; score more instances"):
        metrics.true_positives(score_N, label_N, ~label_N)
    label_N[100] = False
    assert 0 <= metrics.true_positives(score_N, label_N, ~label_N) <= 1


def test_spearman_is_scipys_and_weights_are_repetitions(random):
    score_N, label_N, weight_N = scored(random)
    share_N = np.round(label_N * 0.7 + random.random(len(label_N)) * 0.3, 1)
    assert metrics.spearman(score_N, share_N, np.ones(300)) == pytest.approx(stats.spearmanr(score_N, share_N)[0])
    repeated = stats.spearmanr(np.repeat(score_N, weight_N), np.repeat(share_N, weight_N))[0]
    assert metrics.spearman(score_N, share_N, weight_N) == pytest.approx(repeated)
    assert np.isnan(metrics.spearman(np.zeros(5), np.arange(5), np.ones(5)))


def test_brier_is_the_weighted_mean_square():
    assert metrics.brier([0.5, 1.0], [0.0, 1.0], [3.0, 1.0]) == pytest.approx(0.75 * 0.25)


def test_abstention_keeps_the_surest_rows():
    probability_N, label_N = np.array([0.95, 0.1, 0.7, 0.4]), np.array([True, False, False, True])
    curve = metrics.abstention(probability_N, label_N, ~label_N, np.array([0.25, 0.5, 0.75, 1]))
    np.testing.assert_allclose(curve, [1, 1, 2 / 3, 0.5])


def test_abstention_without_information_is_half_right_everywhere():
    label_N = np.arange(20) < 8
    weights = label_N / 8, ~label_N / 12
    np.testing.assert_allclose(metrics.abstention(np.full(20, 0.5), *weights), 0.5)
    np.testing.assert_allclose(metrics.abstention(np.full(20, 0.8), *weights), 0.5)


@pytest.mark.parametrize("bad", [[], [0.0, np.nan], [np.inf, 1.0]])
def test_scores_must_be_finite(bad):
    with pytest.raises(ArgumentError, match="finite"):
        metrics.auroc(bad, np.ones(len(bad)), np.ones(len(bad)))


# --- balance, bootstrap, null ------------------------------------------------------------------


def test_both_labels_weigh_the_same_in_every_group():
    share_N, group_N = np.array([1.0, 0.0, 0.0, 1.0, 0.5]), np.array([0, 0, 0, 1, 0])
    positive_N, negative_N = balanced(share_N, group_N, clear=True)
    np.testing.assert_allclose(positive_N, [1, 0, 0, 0, 0])  # group 1 has one side, the last row is mixed
    np.testing.assert_allclose(negative_N, [0, 0.5, 0.5, 0, 0])
    positive_N, negative_N = balanced(share_N, group_N)
    np.testing.assert_allclose(positive_N, [2 / 3, 0, 0, 0, 1 / 3])
    np.testing.assert_allclose(negative_N, [0, 0.4, 0.4, 0, 0.2])


def test_no_rows_have_no_weights():
    assert [side.shape for side in balanced([], np.array([], int))] == [(0,), (0,)]


def test_the_only_cluster_of_a_stratum_is_always_drawn():
    of_N = np.array([0, 0, 1, 2, 3])
    weight_BN = bootstrap_weights([Clusters(of_N, np.array([0, 0, 0, 0, 1]))], 500)
    assert (weight_BN[:, 4] == 1).all()
    np.testing.assert_array_equal(weight_BN[:, 0], weight_BN[:, 1])
    assert weight_BN[:, :4].mean(0) == pytest.approx(np.ones(4), abs=0.15)
    with pytest.raises(ArgumentError, match="at least 2"):
        bootstrap_weights([Clusters(of_N, of_N)], 1)


@pytest.mark.parametrize("n", [3, 30])
def test_variance_of_a_mean_is_right_for_few_and_many_clusters(random, n):
    value_N = random.normal(size=n)
    weight_BN = bootstrap_weights([Clusters(np.arange(n), np.zeros(n, int))], 20_000)
    means = (weight_BN * value_N).sum(1) / weight_BN.sum(1)
    assert means.var() == pytest.approx(value_N.var(ddof=1) / n, rel=0.06)


def test_intervals_cover_the_true_value():
    truth = stats.norm.cdf(0.94 / np.sqrt(2))  # AUROC of two normal distributions at distance 0.94
    hits, widths = [], []
    for seed in range(120):
        found = auroc_of(score_table(50, ("reads", "ignores"), random=np.random.default_rng(seed)))
        hits.append(found["low"] <= truth <= found["high"])
        widths.append(found["high"] - found["low"])
    assert 0.88 <= np.mean(hits) <= 0.99
    assert 0.1 < np.mean(widths) < 0.3


def test_intervals_of_a_null_cover_one_half_and_p_values_are_uniform():
    hits, p = [], []
    for seed in range(120):
        made = score_table(20, seeds=(0, 1), signal=0, model_noise=1, random=np.random.default_rng(seed))
        comparison = MethodComparison(made, made.of_steps(True), SummaryConfig(n_replicates=100, n_permutations=60))
        found = comparison.auroc("score", made.share >= 0)
        hits.append(found["low"] <= 0.5 <= found["high"])
        p.append(comparison.p("score", made.share >= 0, found["value"]))
    assert np.mean(hits) > 0.75  # two seeds of a mechanism: a percentile interval is narrow
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.1) < 0.2


def auroc_of(made):
    config = SummaryConfig(n_replicates=200, n_permutations=0)
    return MethodComparison(made, made.of_steps(True), config).auroc("score", made.share >= 0)


def summary_of(made, **options):
    return summarize(made, SummaryConfig(n_replicates=200, **({"n_permutations": 0} | options)), progress=False)


def test_rows_that_go_together_widen_intervals():
    """Each problem is scored by one number that all seeds share: more seeds add rows, and no information."""
    random = np.random.default_rng(1)
    made = score_table(30, ("reads", "ignores"), seeds=(0, 1, 2), random=random)
    own = random.normal(size=(2, 30))[(made.mechanism == "reads").astype(int), made.problem] + made.share
    made = made.with_method("score", own, 1)
    clustered = summary_of(made)["methods"][0]["auroc"]
    positive_N, negative_N = balanced(made.share, made.transcript, clear=True)
    rows = Clusters(np.arange(len(made)), made.model)
    weight_BN = bootstrap_weights([rows], 400)
    alone = interval(
        metrics.auroc(own, positive_N, negative_N),
        metrics.auroc(own, weight_BN * positive_N, weight_BN * negative_N),
    )
    assert clustered["high"] - clustered["low"] > 1.4 * (alone["high"] - alone["low"])


def test_pooled_intervals_cover_other_mechanisms_with_one_seed_each():
    """Four models that differ more than their rows: a bootstrap over problems alone would take them for the whole world."""
    hits = []
    for seed in range(100):
        made = score_table(30, signal=0, model_noise=1, random=np.random.default_rng(seed))
        found = auroc_of(made)
        hits.append(found["low"] <= 0.5 <= found["high"])
    assert np.mean(hits) > 0.75


def test_models_that_differ_widen_intervals():
    widths = {}
    for noise in (0.0, 1.0):
        made = score_table(60, ("reads", "ignores"), seeds=(0, 1, 2, 3), model_noise=noise)
        found = summary_of(made)["methods"][0]["auroc"]
        widths[noise] = found["high"] - found["low"]
    assert widths[1.0] > 1.5 * widths[0.0]


def test_permuted_truths_are_those_of_other_models_of_the_task():
    share_N, block_N = np.arange(8.0), np.repeat([0, 1], 4)
    unit_N, item_N = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.tile([0, 1], 4)
    found = permuted_shares(share_N, block_N, unit_N, item_N, 40)
    assert {tuple(row[:4]) for row in found} == {(0, 1, 2, 3), (2, 3, 0, 1)}
    assert {tuple(row[4:]) for row in found} == {(4, 5, 6, 7), (6, 7, 4, 5)}
    lacking = permuted_shares(share_N[:3], block_N[:3], unit_N[:3], item_N[:3], 40)
    assert np.isnan(lacking).any()


def test_p_values_count_the_value_itself():
    assert p_value(2.0, [0, 1, 2, np.nan]) == pytest.approx(2 / 4)
    assert p_value(3.0, np.zeros(99)) == pytest.approx(0.01)


# --- folds and calibration ---------------------------------------------------------------------


def test_no_model_is_on_both_sides_of_a_fold():
    made = score_table(3, tasks=("sums", "tables"), seeds=(0, 1))
    for axis, names in (
        ("task", {"sums", "tables"}),
        ("seed", {"seed 0", "seed 1"}),
        ("mechanism", set(np.unique(made.mechanism))),
    ):
        found = folds(made, axis)
        assert {fold.name for fold in found} == names
        assert (sum(fold.test_N.astype(int) for fold in found) == 1).all()
        for fold in found:
            assert not set(made.model[fold.train_N]) & set(made.model[fold.test_N])
    with pytest.raises(ArgumentError, match="mechanism, task, seed"):
        folds(made, "model")


def test_a_twin_is_left_out_with_its_mechanism():
    made = score_table(3)
    (fold,) = [fold for fold in folds(made, "mechanism") if fold.name == "reads"]
    assert set(made.mechanism[fold.train_N]) == {"checker", "filler"}


def test_seeds_are_left_out_where_a_mechanism_has_several():
    made = score_table(3, seeds=(0, 1))
    made = made.take((made.mechanism == "reads") | (made.seed == 0))
    for fold in folds(made, "seed"):
        assert set(made.mechanism[fold.test_N]) == {"reads"}
    assert folds(made.take(made.seed == 0), "seed") == []


def test_calibration_recovers_shares_and_knows_nothing_from_text():
    made = score_table(40, signal=3, noise=0.2)
    for axis in ("mechanism",):
        text_N = calibrated(made, "text", axis)
        np.testing.assert_allclose(text_N, 0.5)
        score_N = calibrated(made, "score", axis)
        assert np.abs(score_N - made.share).mean() < 0.1
    assert np.isnan(calibrated(made, "score", "task")).all()  # one task alone leaves nothing to fit on


# --- tables ------------------------------------------------------------------------------------


def test_tables_come_back_from_a_file(tmp_path):
    made = score_table(5)
    made.score["score"][3] = np.nan
    write_scores(made.to_arrow(), tmp_path / "scores.parquet")
    back = ScoreMatrix.from_arrow(read_scores(tmp_path / "scores.parquet"))
    assert back.methods == made.methods
    np.testing.assert_array_equal(back.mechanism, made.mechanism)
    for method in made.methods:
        np.testing.assert_allclose(back.score[method], made.score[method], rtol=1e-6)


def test_tables_that_contradict_themselves_are_refused():
    table = score_table(2).to_arrow()
    with pytest.raises(ArgumentError, match="two scores by 'score'"):
        ScoreMatrix.from_arrow(pa.concat_tables([table, table]))
    other = table.set_column(6, "share", pa.array(np.linspace(0, 1, len(table)), pa.float32()))
    with pytest.raises(ArgumentError, match="two values of 'share'"):
        ScoreMatrix.from_arrow(other)
    with pytest.raises(ArgumentError, match="no column share"):
        ScoreMatrix.from_arrow(table.drop_columns(["share"]))
    with pytest.raises(ArgumentError, match="outside of 0 to 1"):
        ScoreMatrix.from_arrow(table.set_column(6, "share", pa.array([97.0] * len(table))))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "scores.parquet"
    for text in (None, b"PAR1"):
        if text:
            path.write_bytes(text)
        with pytest.raises(FileError, match="run the benchmark again"):
            read_scores(path)


# --- summaries ---------------------------------------------------------------------------------


def test_scores_that_read_text_alone_are_at_one_half():
    """Tasks differ in their share of positive models, and the text tells the task: the balance by problem undoes that."""
    made = score_table(30, tasks=("sums", "tables"), seeds=(0, 1))
    made = made.take((made.task == "sums") | (made.mechanism != "checker"))
    made = made.with_method("text", made.score["text"] + 5 * (made.task == "sums"), 0)
    (record,) = [one for one in summary_of(made, n_permutations=50)["methods"] if one["method"] == "text"]
    assert record["auroc"]["value"] == pytest.approx(0.5)
    assert record["auroc"]["low"] <= 0.5 <= record["auroc"]["high"]
    assert record["unweighted_auroc"] != pytest.approx(0.5, abs=0.01)
    for pair in record["twins"]:
        assert (pair["low"], pair["value"], pair["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert record["twins_mean"]["value"] == pytest.approx(0.5)
    assert record["p"] > 0.5
    assert abs(record["spearman"]["value"]) < 0.1
    assert record["brier"]["mechanism"]["value"] > 0.15
    assert [point["value"] for point in record["abstention"]["right"]] == pytest.approx([0.5] * 19)


def test_the_truth_itself_is_perfect():
    made = score_table(70, (*score_table(1).mechanism, "mix"), tasks=("sums", "tables"), seeds=(0, 1))
    found = summarize(made, QUICK, progress=False)
    record = found["methods"][-1]
    assert record["method"] == "truth"
    assert record["auroc"] == pytest.approx({"value": 1.0, "low": 1.0, "high": 1.0})
    assert record["p"] < 0.05
    assert record["spearman"]["value"] == pytest.approx(1)
    assert record["true_positives"]["value"] == 1
    assert record["brier"]["seed"]["value"] == pytest.approx(0, abs=1e-3)
    assert record["abstention"]["right"][-1]["value"] == 1
    assert (record["passes"], record["scored"]) == (16, 1)
    assert found["counts"] == {
        "instances": 1400, "models": 20, "problems": 140, "positive": 560, "negative": 560, "mixed": 280,
    }  # fmt: skip
    assert found["differences"]["reference"] == "truth"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_each_mechanism_is_scored_against_its_twin():
    made = score_table(40, signal=2)
    assert twin_pairs(made) == [("sums", "reads", "ignores"), ("sums", "checker", "filler")]
    record = summary_of(made)["methods"][0]
    for pair in record["twins"]:
        rows = np.isin(made.mechanism, (pair["mechanism"], pair["twin"]))
        expected = roc_auc_score(made.positive[rows], made.score["score"][rows])
        assert pair["value"] == pytest.approx(expected)
    assert record["twins_mean"]["value"] == pytest.approx(np.mean([pair["value"] for pair in record["twins"]]))


def test_differences_are_paired():
    """Two scores with the same noise differ with certainty, although their intervals overlap."""
    made = score_table(60, ("reads", "ignores"), signal=1)
    made = made.with_method("better", made.score["score"] + 0.4 * made.share, 4)
    config = SummaryConfig(n_replicates=300, n_permutations=0, reference="better")
    found = summarize(made, config, progress=False)
    first, better = (found["methods"][i]["auroc"] for i in (0, -1))
    assert better["low"] < first["high"]
    (row,) = [row for row in found["differences"]["rows"] if row["method"] == "score"]
    assert row["low"] > 0
    assert row["value"] == pytest.approx(better["value"] - first["value"])


def test_rows_without_a_score_are_left_out_and_counted():
    made = score_table(40)
    made.score["score"][::2] = np.nan
    made.score["text"][:] = np.nan
    made.passes["text"][:] = np.nan
    found = summary_of(made)
    assert found["methods"][0]["scored"] == 0.5
    assert found["methods"][1] == {"method": "text", "scored": 0.0, "passes": None}
    assert [row["method"] for row in found["differences"]["rows"]] == ["score"]


def test_fewer_than_500_negatives_report_no_true_positives():
    assert summary_of(score_table(40))["methods"][0]["true_positives"] is None


def test_steps_are_scored_apart():
    made = score_table(20)
    first, second = (made.take(made.share > 0) for _ in range(2))
    steps = [
        ScoreMatrix(
            each.task, each.mechanism, each.twin, each.seed, each.problem, np.full(len(each), name),
            each.share, {"score": each.share + 0.0}, {"score": np.ones(len(each))},
        )
        for name, each in (("step1", first), ("step2", second))
    ]  # fmt: skip
    table = pa.concat_tables([made.to_arrow(), *(each.to_arrow() for each in steps)])
    found = summary_of(ScoreMatrix.from_arrow(table))
    assert found["counts"]["instances"] == len(made)
    assert found["methods"][0]["steps"]["value"] == 1
    assert found["methods"][1]["steps"] is None


def test_tables_without_both_labels_and_bad_options_are_refused():
    with pytest.raises(ArgumentError, match="add organisms with the other label, or use balance='task'"):
        summary_of(score_table(5, ("reads",)))
    with pytest.raises(ArgumentError, match="problem or task"):
        summary_of(score_table(5), balance="model")
    with pytest.raises(ArgumentError, match="no method 'mine'; the table has score, text, truth"):
        summary_of(score_table(5), reference="mine")


def test_tables_without_shared_problems_are_balanced_by_task():
    made = score_table(20, ("reads", "ignores"), signal=2)
    problem = made.problem + 100 * (made.mechanism == "reads")
    apart = ScoreMatrix(**{**vars(made), "problem": problem})
    with pytest.raises(ArgumentError, match="balance='task'"):
        summary_of(apart)
    record = summary_of(apart, balance="task")["methods"][0]
    assert record["auroc"]["value"] == pytest.approx(record["unweighted_auroc"])
