"""The ledger of a transcript, links between statements, and the score without edits: on graphs and models made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from helpers import handmade
from helpers.chains import ALTERNATIVES, chain

from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.effects.integrate import end_points, integrate_inputs, path_points
from cotrace.attribution.transcoders import load_transcoders
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.ledger.compute import compute_ledger
from cotrace.faithfulness.ledger.internal_links import InternalLinks, find_internal_links
from cotrace.faithfulness.ledger.layout import TargetLayout
from cotrace.faithfulness.ledger.ledger import LeafEffects, cells_of, table_of
from cotrace.faithfulness.ledger.live import (
    LiveEffects,
    chained_mass,
    compute_live_effects,
    compute_live_score,
    mean_embeddings,
)
from cotrace.faithfulness.ledger.prompt import StatedPrompt
from cotrace.faithfulness.ledger.stated_links import StatedLink, check_links, find_stated_links
from cotrace.faithfulness.transcripts import Transcript

KIND = next(iter(tiny.KINDS))

# --- cells of a graph made by hand ------------------------------------------------------------

# Tokens: 0 BOS, 1 question, 2 a ("step1"), 3 text, 4 b ("step2"), 5 own. Every edge of the target's graph, by its source, passes on
# a fixed factor: the effect of a token is the sum over paths of products.
EDGES = {(1, 5): 1.0, (1, 2): 2.0, (1, 4): -3.0, (2, 4): 0.5, (2, 5): 7.0, (4, 5): 10.0, (3, 5): 0.25, (0, 5): 0.125}


def paths_from(source, avoided):
    """Return the sum over paths from a token to the target at 5, which avoid some positions."""
    if source == 5:
        return 1.0
    if source in avoided:
        return 0.0
    return sum(factor * paths_from(end, avoided) for (start, end), factor in EDGES.items() if start == source)


@pytest.fixture
def layout():
    sources = ("question", "content step1", "content step2", "own", "template", "constant")
    return TargetLayout("answer", 5, {"step1": (2,), "step2": (4,)}, sources, np.array([5, 0, 1, 4, 2, 3]))


def test_cells_are_the_sums_over_paths_by_route(layout):
    token_CP = np.array([[paths_from(p, cut) for p in range(6)] for cut in layout.cuts])
    cells = {cell.name: cell.effect for cell in cells_of(layout, LeafEffects(token_CP, np.array([[0.5, -2.0]]), 4.0))}
    assert cells == {
        "question direct": 1.0,
        "question latent step1": 2.0 * 7.0,
        "question latent step2": 10.0 * (-3.0 + 2.0 * 0.5),
        "content step1": 7.0 + 0.5 * 10.0,
        "content step2": 10.0,
        "own": 1.0,
        "template": 0.25,
        "constant": 4.125,
        "unknown": -1.5,
    }
    assert sum(cells.values()) == pytest.approx(token_CP[-1].sum() - 1.5 + 4.0)


def test_shares_are_sizes_over_their_sum_and_gross_shows_what_cancels(layout):
    cells = cells_of(layout, LeafEffects(np.ones((3, 6)), np.array([[3.0, -2.0]]), -3.0))
    rows = {row["cell"]: row for row in table_of(["answer"], [cells]).to_pylist()}
    assert rows["unknown"]["gross"] == 5.0
    assert rows["unknown"]["effect"] == 1.0
    assert rows["constant"]["effect"] == -2.0
    assert rows["constant"]["share"] == pytest.approx(2.0 / 8.0)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1.0)


def test_a_target_without_effects_has_no_shares(layout):
    cells = cells_of(layout, LeafEffects(np.zeros((3, 6)), np.zeros((1, 6)), 0.0))
    assert set(table_of(["answer"], [cells])["share"].to_pylist()) == {None}


# --- the ledger of models ---------------------------------------------------------------------

LAYERS = {
    "reader": handmade.READER,
    "last step": handmade.LAST_STEP_READER,
    "ignorer": handmade.IGNORER,
    "hint": handmade.HINT_FOLLOWER,
    "scratch": handmade.SCRATCH,
}
ROUTES = {  # the cells that hold the answer, and their shares
    "reader": {"content step1": 1 / 3, "content step2": 1 / 3, "content step3": 1 / 3},
    "last step": {"content step3": 1.0},
    "ignorer": {"question direct": 1.0},
    "hint": {"hint direct": 1.0},
    "scratch": {f"question latent step{k}": 1 / 3 for k in (1, 2, 3)},
}


@pytest.fixture(scope="module")
def prompts():
    """Return a function from the name of a model made by hand to a transcript in it, with the model's neurons."""

    def prompt(name, transcript=None):
        model = handmade.model(LAYERS[name])
        neurons = load_transcoders("neurons", model.weights.architecture)
        whole = SimpleNamespace(weights=model.weights, tokenizer=model.tokenizer, transcoders=neurons)
        return StatedPrompt(whole, chain(hint="h5") if transcript is None else transcript)

    return prompt


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_the_ledger_finds_the_route(prompts, name):
    cells = compute_ledger(prompts(name)).cells("answer")
    assert {cell: row["share"] for cell, row in cells.items() if row["share"] > 1e-6} == pytest.approx(ROUTES[name])


@pytest.fixture(scope="module")
def numbered():
    """Return a transcript as token ids of the tiny model: question, hint, text, three steps, of which one has no value, answer."""
    ids = torch.randint(2, tiny.VOCABULARY, (30,), generator=torch.Generator().manual_seed(3)).tolist()
    segments = [
        ("question", [0, *ids[:6]]),
        ("hint", ids[6:9]),
        ("text", ids[9:11]),
        ("step", ids[11:15], "first", ids[13:14]),
        ("step", ids[15:18], "blank"),
        ("step", ids[18:21], "third", ids[18:19]),  # read at the last token of the step before
        ("text", ids[21:23]),
        ("answer", ids[23:26], "answer", ids[25:26]),
        ("text", ids[26:30]),
    ]
    return Transcript(segments, [ids[13:14], ids[25:26], [5], ids[18:19], [7, 9]])


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_cells_add_up_to_the_target(model_of, numbered, kind):
    prompt = StatedPrompt(model_of(kind), numbered)
    ledger = compute_ledger(prompt, through_qk=True)
    assert ledger.names == ["first", "third", "answer"]
    for row in ledger.targets.to_pylist():
        cells = ledger.cells(row["target"]).values()
        assert sum(cell["effect"] for cell in cells) == pytest.approx(row["value"], abs=1e-9)
        assert sum(cell["share"] for cell in cells) == pytest.approx(1.0)
        assert row["cancellation"] >= 1 - 1e-9
        assert all(cell["gross"] >= abs(cell["effect"]) - 1e-12 for cell in cells)


def test_the_ledger_agrees_with_effects_of_the_model(model_of, numbered):
    model = model_of(KIND)
    prompt = StatedPrompt(model, numbered)
    ledger, margin = compute_ledger(prompt, through_qk=True), prompt.margins[-1]
    spans = {name: list(range(*span)) for name, span in prompt.tokens.spans.items()}
    clipped = {
        name: (start, min(stop, len(prompt.ids_P)))
        for name, (start, stop) in prompt.tokens.spans.items()
        if start < len(prompt.ids_P)
    }
    cuts = [None, [p for name in ("first", "blank", "third") for p in spans[name]]]
    effects = model.effects(
        prompt.ids_P,
        [(margin.said, margin.foil)],
        margin.position,
        avoiding=cuts,
        segments=clipped,
        progress=False,
    )
    tokens = {
        (row["avoiding"], row["segment"]): row["tokens"]
        for row in effects.by("segment").to_pylist()
        if row["segment"] in spans
    }
    cells = ledger.cells("answer")
    assert cells["content blank"]["effect"] == pytest.approx(tokens["", "blank"], abs=1e-9)
    total = sum(row["effect"] for cell, row in cells.items() if cell.startswith("hint"))
    assert total == pytest.approx(tokens["", "hint"], abs=1e-9)
    assert ledger.targets.to_pylist()[-1]["value"] == pytest.approx(effects.targets[0]["value"], abs=1e-9)
    cut = next(key for key, _ in tokens if key)
    assert cells["hint direct"]["effect"] == pytest.approx(tokens[cut, "hint"], abs=1e-9)
    whole = model.effects(
        prompt.ids_P,
        [(margin.said, margin.foil)],
        margin.position,
        through_qk=True,
        segments=clipped,
        progress=False,
    )
    credit = {row["source"]: row["through_qk"] for row in ledger.credit.to_pylist() if row["target"] == "answer"}
    expected = {row["segment"]: row["through_qk"] for row in whole.by("segment").to_pylist()}
    assert credit["hint"] == pytest.approx(expected["hint"], abs=1e-9)
    assert credit["content third"] == pytest.approx(expected["third"], abs=1e-9)


def test_a_value_at_the_start_of_its_segment_is_read_in_the_one_before(model_of, numbered):
    prompt = StatedPrompt(model_of(KIND), numbered)
    layout = prompt.layouts[1]
    assert (
        layout.position in range(*prompt.tokens.spans["blank"]) or prompt.margins[1].said != numbered["third"].value[0]
    )
    assert all(layout.position not in cut for cut in layout.cuts)
    assert layout.sources[layout.source_P[layout.position]] == "own"


def test_the_foil_is_the_likeliest_other_value(prompts):
    prompt = prompts("reader", chain(steps=(5, 3, 5), answer=5))
    margin = prompt.margins[-1]
    assert prompt.decode(margin.said) == " v5"
    assert prompt.decode(margin.foil) == " v3"  # two heads' worth of evidence against one


def test_without_alternatives_the_foil_is_the_likeliest_other_token(prompts):
    given = chain(steps=(5, 3, 5))
    margin = prompts("reader", Transcript(given.segments)).margins[-1]
    assert handmade.WORDS[margin.foil] == " v3"


def test_values_that_no_token_tells_apart_are_refused(model_of):
    transcript = Transcript([("question", [0, 4, 5]), ("answer", [6, 7], "answer", [6, 7])], [[6, 7], [6]])
    with pytest.raises(ArgumentError, match="no alternative differs from the value of 'answer'"):
        StatedPrompt(model_of(KIND), transcript)


def test_a_transcript_without_values_is_refused(model_of):
    with pytest.raises(ArgumentError, match="no step or answer states a value"):
        StatedPrompt(model_of(KIND), Transcript([("question", [0, 4, 5]), ("answer", [6, 7])]))


def test_an_unknown_target_is_refused(prompts):
    with pytest.raises(ArgumentError, match=r"no target 'step9': its targets are step1"):
        compute_ledger(prompts("reader")).cells("step9")


# --- links ------------------------------------------------------------------------------------

APPLES = Transcript(
    [
        ("question", "Tom has 3 apples and buys 12 more. He eats 1."),
        ("hint", " Maybe 14?"),
        ("step", " 3 + 12 = 15.", "sum", "15"),
        ("step", " By step 1, he has many."),
        ("step", " 15-1 = 14.", "rest", "14"),
        ("step", " This fits the hint.", "check"),
        ("answer", " Answer: 14", "answer", "14"),
    ]
)


def test_stated_links_by_value_reference_and_order():
    links = {(link.statement, link.source): link.rule for link in find_stated_links(APPLES)}
    assert links == {
        ("sum", "question"): "value",
        ("step2", "sum"): "reference",
        ("rest", "sum"): "value",
        ("rest", "question"): "value",
        ("check", "hint"): "reference",
        ("answer", "check"): "order",
    }


def test_the_last_statement_of_a_value_is_cited():
    segments = [
        ("question", "2"),
        ("step", " 1 + 1 = 2", "a", "2"),
        ("step", " so 2", "b", "2"),
        ("step", " 2 + 1 = 3", "c", "3"),
    ]
    links = [(link.source, link.evidence) for link in find_stated_links(Transcript(segments)) if link.statement == "c"]
    assert links == [("b", "2")]  # "1" stands nowhere before


def test_token_ids_are_cited_in_order():
    links = find_stated_links(Transcript([("question", [1]), ("step", [2, 3]), ("answer", [4])]))
    assert [link[:3] for link in links] == [("step", "question", "order"), ("answer", "step", "order")]


def test_links_of_the_user_are_checked():
    assert check_links([StatedLink("rest", "sum", "given")], APPLES)
    with pytest.raises(ArgumentError, match="'sum' cannot cite 'rest', which is not earlier"):
        check_links([StatedLink("sum", "rest", "given")], APPLES)
    with pytest.raises(ArgumentError, match="a link names 'nothing'"):
        check_links([StatedLink("sum", "nothing", "given")], APPLES)


def links_of(content, question, hint, unknown, cites, cites_question, cites_hint):
    arrays = [np.array(each, float) for each in (content, question, hint, unknown, cites, cites_question, cites_hint)]
    return InternalLinks(["step1", "step2", "answer"], *arrays)


def test_stated_ancestry_follows_cited_links_only():
    links = links_of(
        content=[[0, 0, 0], [0.5, 0, 0], [0.2, 0.4, 0]],
        question=[0.8, 0.25, 0.3],
        hint=[0.1, 0.25, 0],
        unknown=[0.1, 0, 0.1],
        cites=[[0, 0, 0], [1, 0, 0], [0, 1, 0]],
        cites_question=[1, 0, 0],
        cites_hint=[0, 0, 0],
    )
    low, high = links.stated_ancestry
    assert low == pytest.approx([0.8, 0.4, 0.16])
    assert high == pytest.approx([0.9, 0.45, 0.28])
    assert links.hidden_hint[0] == pytest.approx([0.1, 0.3, 0.02 + 0.4 * 0.3])
    assert (high >= low).all()
    assert len(links.table) == 3 + 3 * 3


def test_internal_links_are_shares_without_own_template_and_constant(prompts):
    transcript = chain(hint="h5")
    ledger = compute_ledger(prompts("reader", transcript))
    links = find_internal_links(ledger, transcript, find_stated_links(transcript))
    assert links.content_KK[-1] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=1e-6)
    assert np.triu(links.content_KK).max() == 0
    rows = links.content_KK.sum(1) + links.question_K + links.hint_K + links.unknown_K
    assert rows[1:] == pytest.approx(1.0)
    assert links.stated_ancestry[0][-1] == pytest.approx(0, abs=1e-6)  # the first step reads no question


# --- the score without edits ------------------------------------------------------------------


def test_points_with_ends_integrate_polynomials():
    points = end_points(8)
    assert points[0][0] == 0.0
    assert points[-1][0] == 1.0
    assert sum(weight * share**13 for share, weight in points) == pytest.approx(1 / 14)


def test_mass_is_the_sum_over_chains_of_products():
    share = np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0.2, 0.6, 0, 0], [0.1, 0, 0.9, 0]])
    third = 0.9
    second = third * 0.6
    first = 0.1 + third * 0.2 + second * 0.5
    assert chained_mass(share) == pytest.approx([first, second, third, 1.0])


def live_effects(content, contrast, change=None):
    content_KK = np.array(content, float)
    change_K = content_KK.sum(1) if change is None else np.array(change, float)
    names = list("abc")[: len(content_KK)]
    return LiveEffects(names, content_KK, np.zeros(len(names)), np.array(contrast, float), change_K, 8, 8)


def test_shares_divide_what_is_lost_at_the_means_by_contributions():
    effects = live_effects([[0, 0, 0], [-3.0, 0, 0], [2.0, -4.0, 0]], [5.0, 4.0, 3.0], [0, 3.0, 2.0])
    assert effects.shares.tolist() == [[0, 0, 0], [0.75, 0, 0], [2 / 9, 4 / 9, 0]]
    assert effects.remainder_K.tolist() == [0, 1.5, 4 / 3]
    assert effects.table.to_pylist()[0] == {"target": "b", "source": "a", "effect": -3.0, "share": 0.75}


def test_shares_lie_between_nothing_and_all():
    effects = live_effects([[0, 0, 0], [1.0, 0, 0], [1.0, -3.0, 0]], [1.0, 1.0, 1.0], [0, -2.0, 9.0])
    assert effects.shares.tolist() == [[0, 0, 0], [0, 0, 0], [0.25, 0.75, 0]]


def test_a_values_own_first_tokens_are_no_part_of_what_it_loses():
    effects = LiveEffects(
        ["a", "b"], np.array([[0, 0], [1.0, 0]]), np.array([0, 2.0]), np.ones(2) * 4, np.array([0, 3.0]), 8, 8
    )
    assert effects.shares[1, 0] == 0.25


@pytest.mark.parametrize("contrast", [0.0, -1.0])
def test_a_value_that_the_model_does_not_favour_rests_on_none(contrast):
    effects = live_effects([[0, 0], [1.0, 0]], [contrast] * 2)
    assert effects.shares.tolist() == [[0, 0], [0, 0]]
    assert effects.remainder_K.tolist() == [0, 0]


SCORES = {
    "reader": (1.0, 1 / 3),
    "last step": (1.0, 1.0),
    "ignorer": (0.0, 0.0),
    "scratch": (0.0, 0.0),
    "hint": (0.0, 0.0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCORES)
def test_scores_of_known_mechanisms(prompts, name):
    score = compute_live_score(prompts(name))
    whole, third = SCORES[name]
    assert score.value == pytest.approx(whole, abs=0.05)
    assert score.steps["step3"] == pytest.approx(third, abs=0.05)
    assert all(0 <= mass <= 1 + 1e-9 for mass in score.steps.values())


def test_contributions_are_all_of_the_effects_of_moved_tokens(model_of, numbered):
    prompt = StatedPrompt(model_of(KIND), numbered)
    effects, means_PD = compute_live_effects(prompt, 4), mean_embeddings(prompt)
    targets = [contrast.target(prompt.weights) for contrast in prompt.contrasts]
    live = EffectsConfig(freeze="none", integrate="inputs", integration_steps=4)
    found = integrate_inputs(prompt.source, targets, live, means_PD, points=end_points(4))
    assert effects.content_KK.sum(1) + effects.own_K == pytest.approx(found.effect_KS.sum(1), abs=1e-9)
    gauss = integrate_inputs(prompt.source, targets, live, means_PD)
    assert gauss.value_K == pytest.approx(effects.change_K, abs=1e-9)
    given_points = integrate_inputs(prompt.source, targets, live, means_PD, points=path_points(4))
    assert given_points.effect_KS == pytest.approx(gauss.effect_KS, abs=1e-9)


def test_contrasts_are_logits_over_the_mean_of_alternatives(model_of, numbered):
    model = model_of(KIND)
    prompt = StatedPrompt(model, numbered)
    logits_PV = model.logits(prompt.ids_P).double()
    expected = [
        float(logits_PV[each.position, each.said] - logits_PV[each.position, list(each.others)].mean())
        for each in prompt.contrasts
    ]
    assert compute_live_effects(prompt, 2).contrast_K == pytest.approx(expected, abs=1e-9)


def test_stated_values_move_and_nothing_else(model_of, numbered):
    prompt = StatedPrompt(model_of(KIND), numbered)
    moved_P = (mean_embeddings(prompt) != prompt.source.replacement.embedding_PD).any(-1)
    values = {p for name in prompt.names for p in range(*prompt.tokens.value_spans[name])}
    assert set(moved_P.nonzero()[:, 0].tolist()) == values & set(range(len(prompt.ids_P)))


def test_live_scores_refuse_what_they_cannot_do(prompts):
    prompt = prompts("reader")
    with pytest.raises(ArgumentError, match="points is 1"):
        compute_live_effects(prompt, 1)
    alone = Transcript([("question", " start q5"), ("answer", " ; answer v5", "answer", "v5")], ALTERNATIVES)
    with pytest.raises(ArgumentError, match="only 'answer' states a value"):
        compute_live_score(prompts("reader", alone))


def test_routes_of_some_targets_leave_the_rest_as_it_is(model_of, numbered):
    whole = compute_ledger(StatedPrompt(model_of(KIND), numbered))
    some = compute_ledger(StatedPrompt(model_of(KIND), numbered, routed=["answer"]))
    found, expected = some.cells("answer"), whole.cells("answer")
    assert list(found) == list(expected)
    for cell, row in found.items():
        assert row["effect"] == pytest.approx(expected[cell]["effect"], abs=1e-12)
    assert not any("latent" in cell or "direct" in cell for cell in some.cells("third"))
    links = [find_internal_links(each, numbered, find_stated_links(numbered)) for each in (whole, some)]
    for name in ("content_KK", "question_K", "hint_K", "unknown_K"):
        np.testing.assert_allclose(getattr(links[0], name), getattr(links[1], name), atol=1e-12)


def test_credit_of_some_targets_is_theirs_in_the_credit_of_all(model_of, numbered):
    prompt = StatedPrompt(model_of(KIND), numbered)
    every, some = (compute_ledger(prompt, through_qk=each).credit.to_pylist() for each in (True, ["answer"]))
    expected = [row for row in every if row["target"] == "answer"]
    assert [row["source"] for row in some] == [row["source"] for row in expected]
    for row, other in zip(some, expected, strict=True):
        assert row["through_qk"] == pytest.approx(other["through_qk"], abs=1e-12)


def test_a_value_that_the_model_does_not_favour_mirrors_nothing(prompts):
    given = [("question", " start q5"), ("step", " ; so v7", "step1", "v7"), ("answer", " ; answer v5", "answer", "v5")]
    score = compute_live_score(prompts("ignorer", Transcript(given, ALTERNATIVES)))
    assert "step1" not in score.mirrors
    assert score.mirrors["answer"] == pytest.approx(1.0, abs=0.05)
