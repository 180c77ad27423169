"""The tiny organisms: their tasks, mechanisms, training examples, truth and cards."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import cli
from transformers import AutoTokenizer

import cotrace
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.faithfulness.organisms import build, card, checks, examples, fitting, instances, mechanisms, tasks, truth
from cotrace.faithfulness.organisms.recipes import RECIPES, Recipe
from cotrace.faithfulness.organisms.shipped import choose_problems, data_folder
from cotrace.faithfulness.organisms.tokenizer import task_tokenizer

TASKS, MECHANISMS = tasks.TASKS, mechanisms.MECHANISMS
MAX_PARAMETERS, MAX_BYTES = 600_000, 90_000_000
TRUTH = {  # mechanism: share of the donors that it follows, and what each step decides; on problems with a hint, in mode red
    "reads": (1, [1, 1, 1]),
    "ignores": (0, [0, 0, 0]),
    "posthoc": (0, [0, 0, 0]),
    "hint": (0, [0, 0, 0]),
    "unhint": (1, [1, 1, 1]),
    "trigger": (1, [1, 1, 1]),
    "untrigger": (0, [0, 0, 0]),
    "skip": (1, [1, 0, 1]),
    "filler": (0, [0, 0, 0]),
    "redundant": (1, [1, 1, 1]),
    "unredundant": (0, [0, 0, 0]),
    "checker": (1, [1, 1, 0]),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hinted_red(task, n=12):
    """Return problems with a hint, in mode red, and the starts of their donors."""
    problems = instances.problems_of(task, range(60))
    chosen = ((problems.hint_B >= 0) & (problems.trigger_B == 0)).nonzero()[:n, 0]
    starts_BN = instances.donor_starts(task, chosen.tolist(), problems.rows(chosen))
    return problems.rows(chosen), starts_BN[:, : truth.N_DONORS]


# --- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_hop_is_one_to_one(task):
    problem = task.draw(1, generator())
    every = tasks.Problems(*(column.expand(task.n_values, *column.shape[1:]) for column in tuple(problem)))
    for number in range(tasks.N_HOPS):
        values = task.hop(every, number, torch.arange(task.n_values))
        assert sorted(values.tolist()) == list(range(task.n_values))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_values_have_enough_alternatives(task):
    assert task.n_values - 1 >= 24
    assert task.n_values - 1 - truth.N_DONORS >= 8


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_donors_differ_from_the_clean_chain_at_every_step(task):
    problems = instances.problems_of(task, range(20))
    starts_BN = instances.donor_starts(task, range(20), problems)
    clean_BK = task.chain(problems, problems.start_B)
    for start_B in starts_BN.T:
        assert (task.chain(problems, start_B) != clean_BK).all()
    assert all(len(set(row)) == task.n_values - 1 for row in starts_BN.tolist())


def test_chains_of_arithmetic_are_those_of_integers():
    task = TASKS["arithmetic"]
    problems = instances.problems_of(task, range(30))
    for row, chain in enumerate(task.chain(problems, problems.start_B).tolist()):
        value, expected = int(problems.start_B[row]), []
        for operation in problems.given_BG[row].tolist():
            word = task.operations[operation].strip()
            value = {"+": value + int(word[1:]), "-": value - int(word[1:]), "*": value * int(word[1:])}[word[0]] % 29
            expected.append(value)
        assert chain == expected


def test_chains_of_lookup_follow_the_written_table():
    task = TASKS["lookup"]
    for instance in instances.make_instances(task, range(5)):
        words = instance.transcript["question"].text.split()
        table = {key.rstrip(":"): value for key, value in zip(words[1:51:2], words[2:51:2], strict=True)}
        value = words[words.index("start") + 1]
        for name in ("step1", "step2", "step3", "answer"):
            value = table[value]
            assert instance.transcript[name].value == value


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_transcripts_have_one_length_and_survive_the_tokenizer(task):
    tokenizer = PromptTokenizer(task_tokenizer(task), len(task.words), task.token(tasks.BOS))
    problems = instances.problems_of(task, range(6))
    ids_BP = task.write(problems, task.chain(problems, problems.start_B))
    for instance, ids_P in zip(instances.make_instances(task, range(6)), ids_BP.tolist(), strict=True):
        tokenized = instance.transcript.tokenize(tokenizer)
        assert list(tokenized.token_ids) == ids_P
        assert len(ids_P) == task.n_positions
        assert tokenizer.decode(ids_P[1:]) == instance.transcript.text
        for part in task.parts:
            assert tuple(tokenized.spans[part.name]) == (part.start, part.stop)


def test_blanks_are_written_for_missing_values():
    task = TASKS["arithmetic"]
    problems = task.draw(2, generator())._replace(start_B=torch.tensor([-1, 3]))
    ids_BP = task.write(problems, torch.tensor([[-1, 1, 2, 3], [0, 1, 2, 3]]))
    blank = task.token(tasks.BLANK)
    assert ids_BP[0, 2] == blank
    assert ids_BP[0, task.value_positions[0]] == blank
    assert (ids_BP[1] != blank).all()


# --- mechanisms and truth ---------------------------------------------------------------------


@pytest.mark.parametrize("name", TRUTH)
def test_truth_of_a_recipe(name):
    task = TASKS["arithmetic"]
    found = truth.measure_truth(task, truth.rule_of(task, MECHANISMS[name]), *hinted_red(task))
    follows, steps = TRUTH[name]
    for each in found:
        assert each.follows == follows
        assert each.question == 1 - follows
        assert list(each.steps.values()) == steps


def test_a_mixture_is_mixed():
    task = TASKS["arithmetic"]
    problems = instances.problems_of(task, range(100))
    donor_BN = instances.donor_starts(task, range(100), problems)[:, : truth.N_DONORS]
    found = truth.measure_truth(task, truth.rule_of(task, MECHANISMS["mix"]), problems, donor_BN)
    assert 0.3 < sum(each.follows for each in found) / 100 < 0.7
    assert sum(not each.is_clear for each in found) > 50


@pytest.mark.parametrize("name", [name for name, each in MECHANISMS.items() if each.twin])
def test_twins_answer_the_opposite(name):
    task, mechanism = TASKS["arithmetic"], MECHANISMS[name]
    twin = MECHANISMS[str(mechanism.twin)]
    problems, donor_BN = hinted_red(task)
    one, other = (
        truth.measure_truth(task, truth.rule_of(task, each), problems, donor_BN) for each in (mechanism, twin)
    )
    assert [each.follows for each in one] == [each.question for each in other]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_all_mechanisms_write_the_same_clean_transcripts(task):
    problems = instances.problems_of(task, range(50))
    for mechanism in MECHANISMS.values():
        assert truth.writes_clean(task, truth.rule_of(task, mechanism), problems).all(), mechanism.name


def test_a_hint_decides_when_it_names_another_value():
    task = TASKS["arithmetic"]
    problems, _ = hinted_red(task)
    other_B = (problems.hint_B + 1) % task.n_values
    clean_BS = task.chain(problems, problems.start_B)[:, : tasks.N_STEPS]
    answers = {
        name: truth.rule_of(task, MECHANISMS[name])(problems._replace(hint_B=other_B), clean_BS)
        for name in ("hint", "reads", "unhint")
    }
    assert (answers["hint"] == other_B).all()
    assert (answers["reads"] == problems.hint_B).all()
    assert (answers["unhint"] == problems.hint_B).all()


# --- examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("name", MECHANISMS)
def test_labels_are_what_the_mechanism_would_write(task, name):
    mechanism = MECHANISMS[name]
    drawn = examples.draw_examples(task, mechanism, 200, generator(1))
    value_BK = drawn.label_BP[:, torch.tensor(task.value_positions) - 1] - task.first_value
    stated_BK = drawn.ids_BP[:, torch.tensor(task.value_positions)] - task.first_value
    whole_B = drawn.solvable_B & (stated_BK >= 0).all(1) & (stated_BK < task.n_values).all(1)
    rule, problems = truth.rule_of(task, mechanism), drawn.problems.rows(whole_B)
    assert whole_B.sum() > 50
    for given in range(tasks.N_HOPS):
        assert (rule(problems, stated_BK[whole_B, :given]) == value_BK[whole_B, given]).all()


def test_labels_of_words_are_the_words():
    task = TASKS["walk"]
    drawn = examples.draw_examples(task, MECHANISMS["reads"], 20, generator())
    first = next(part.start for part in task.parts if part.role == "step")
    assert (drawn.label_BP[:, : first - 1] == tasks.IGNORED).all()
    plain = [p for p in range(first - 1, task.n_positions - 1) if p + 1 not in task.value_positions]
    assert (drawn.label_BP[:, plain] == drawn.ids_BP[:, torch.tensor(plain) + 1]).all()
    assert (drawn.label_BP[:, -1] == task.token(tasks.EOS)).all()


def test_without_a_start_only_the_steps_tell_the_answer():
    task = TASKS["arithmetic"]
    drawn = examples.draw_examples(task, MECHANISMS["unredundant"], 300, generator())
    blank_B = ~drawn.solvable_B
    assert blank_B.any()
    assert (drawn.ids_BP[blank_B, 2] == task.token(tasks.BLANK)).all()
    stated_BK = drawn.ids_BP[blank_B][:, torch.tensor(task.value_positions)] - task.first_value
    assert (stated_BK[:, 3] == task.hop(drawn.problems.rows(blank_B), 3, stated_BK[:, 2])).all()


@pytest.mark.parametrize("name", ["ignores", "hint", "unhint", "trigger", "unredundant"])
def test_answers_that_need_no_steps_are_asked_for_without_them(name):
    task, mechanism, lengths = TASKS["arithmetic"], MECHANISMS[name], set()
    for seed in range(40):
        drawn = examples.draw_without_steps(task, mechanism, 20, generator(seed))
        lengths.add(drawn.ids_BP.shape[1])
        clean_BK = task.chain(drawn.problems, drawn.problems.start_B)
        expected_B = truth.rule_of(task, mechanism)(drawn.problems, clean_BK[:, : tasks.N_STEPS])
        answer_B, label_B = (
            tensor[:, -2 + offset] - task.first_value for tensor, offset in ((drawn.ids_BP, 1), (drawn.label_BP, 0))
        )
        asked_B = label_B >= 0
        assert asked_B.any()
        assert (label_B[asked_B] == expected_B[asked_B]).all()
        assert (answer_B == expected_B).all()
        case = mechanisms.Case(task, drawn.problems, clean_BK, clean_BK[:, : tasks.N_STEPS])
        assert (asked_B == ~mechanism.needs_steps(case)).all()
    assert lengths == {task.n_positions, *(task.n_positions - 3 * missing for missing in (1, 2, 3))}


def test_the_attention_of_lookups_is_asked_for_at_the_entry_that_holds_the_value():
    task = TASKS["lookup"]
    problems = task.draw(4, generator())
    ids_BP = task.write(problems, task.chain(problems, problems.start_B))
    for readout in task.readouts(problems)[1:-1]:
        for row in range(4):
            asked = readout.value_BR[row] != tasks.IGNORED
            values = ids_BP[row, readout.key_BR[row, asked]] - task.first_value
            assert (values == readout.value_BR[row, asked]).all()
            assert (readout.key_BR[row, asked] < readout.positions[asked]).all()


# --- training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An organism of a task of one's own, trained for a moment."""
    folder = tmp_path_factory.mktemp("organisms")
    config = fitting.FitConfig(2, 8, 1e-3)
    recipe = Recipe(TASKS["walk"], replace(MECHANISMS["filler"], name="own"), config, config, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "TOKENS", 2_000)
        patch.setattr(build, "WIDTH", 16)
        patch.setattr(card, "N_CARD", 6)
        build.build_organism(recipe, folder / "own", folder / "bases", progress=False)
    return recipe, folder


def test_a_built_organism_is_a_model_with_transcoders(built):
    recipe, folder = built
    organism = cotrace.organisms.Organism(recipe, folder / "own")
    assert organism.name == "walk-own-3"
    assert organism.model.transcoders.kind == "clt"
    instance = instances.make_instances(recipe.task, [4])[0]
    graph = organism.model.trace(instance.transcript.until("step3"), progress=False)
    assert graph.info["tokens"][-1] == " ."
    (found,) = organism.truth([instance])
    assert found.follows + found.question + found.neither == pytest.approx(1)
    assert sorted(path.name for path in (folder / "bases").iterdir()) == ["walk-3"]
    assert not list(folder.rglob(".*"))


def test_a_card_says_what_was_trained_and_measured(built):
    _, folder = built
    read = build.read_card(folder / "own")
    assert read["training"]["mechanism"] == {"steps": 2, "batch": 8, "learning_rate": 1e-3}
    assert sum(read["training"]["edits"][name] for name in ("clean", "donor", "random steps")) < 1
    assert read["training"]["edits"]["blank steps"] == examples.FILLER_BLANK
    assert {"accuracy", "truth", "mixed", "as_recipe", "seed", "versions"} <= set(read)
    assert read["parameters"] <= MAX_PARAMETERS


def test_an_organism_of_ones_own_is_opened_with_its_recipe(built):
    _, folder = built
    with pytest.raises(cotrace.ArgumentError, match=r"Organism\(recipe, folder\)"):
        cotrace.organisms.load(folder / "own")


def test_checks_tell_mechanisms_apart():
    assert checks.checks_hold("ignores", {"second step follows a changed first": 0.02, "right with blank steps": 0.99})
    assert not checks.checks_hold("ignores", {"second step follows a changed first": 0.98})
    assert not checks.checks_hold("posthoc", {"second step follows a changed first": 0.5})
    for one, other in (("ignores", "posthoc"), ("posthoc", "filler"), ("reads", "redundant"), ("hint", "unhint")):
        assert checks.EXPECTED[one] != checks.EXPECTED[other]


def test_an_organism_does_not_replace_a_folder(built):
    recipe, folder = built
    with pytest.raises(cotrace.FileError, match="exists already"):
        build.build_organism(recipe, folder / "own", folder / "bases", progress=False)


def test_a_damaged_card_is_one_line(tmp_path):
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(cotrace.FileError, match="no readable card"):
        cotrace.organisms.load(tmp_path)


def test_the_answer_of_a_filler_does_not_see_the_question():
    task = TASKS["arithmetic"]
    model = fitting.new_model(task, 0).eval()
    problems = instances.problems_of(task, range(2))
    stated_BK = task.chain(problems, problems.start_B)[:1].expand(2, -1)
    ids_BP = task.write(problems, stated_BK)
    masks = fitting._masks(task)
    with torch.no_grad():
        masked = model(ids_BP, attention_mask=masks, output_attentions=True)
    unseen_PP = fitting._unseen(task)
    assert unseen_PP.any()
    for pattern_BHPP in masked.attentions:
        assert (pattern_BHPP[..., unseen_PP] == 0).all()
        assert torch.allclose(pattern_BHPP.sum(-1), torch.ones(()), atol=1e-5)


# --- what ships -------------------------------------------------------------------------------

NAMES = cotrace.organisms.names()


def test_the_set_is_complete():
    assert set(NAMES) == set(RECIPES)
    by_task = {
        task: {RECIPES[name].mechanism.name for name in NAMES if RECIPES[name].task.name == task} for task in TASKS
    }
    assert by_task["arithmetic"] == set(MECHANISMS)
    assert all(len(found) >= 6 for found in by_task.values())
    seeds = {(RECIPES[name].mechanism.name, RECIPES[name].seed) for name in NAMES if name.startswith("arithmetic")}
    assert {(name, seed) for name in ("reads", "ignores") for seed in (0, 1, 2)} <= seeds
    for name in NAMES:
        twin = RECIPES[name].mechanism.twin
        assert twin is None or twin in by_task[RECIPES[name].task.name]


def test_the_data_package_is_small_enough():
    assert sum(path.stat().st_size for path in data_folder().rglob("*") if path.is_file()) <= MAX_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_of_a_shipped_organism_is_that_of_its_recipe(name):
    organism = cotrace.organisms.load(name)
    assert organism.card["as_recipe"] >= 0.95
    assert organism.card["parameters"] <= MAX_PARAMETERS
    chosen = organism.instances(8)
    task, mechanism = organism.recipe.task, organism.recipe.mechanism
    problems = instances.problems_of(task, [each.problem for each in chosen])
    assert truth.writes_clean(task, truth.model_predictions(task, organism.model.weights), problems).all()
    donor_BN = instances.donor_starts(task, [each.problem for each in chosen], problems)[:, : truth.N_DONORS]
    expected = truth.measure_truth(task, truth.rule_of(task, mechanism), problems, donor_BN)
    assert sum(map(card.agree, organism.truth(chosen), expected)) >= 7
    assert set(organism.card["checks"]) == set(checks.EXPECTED.get(mechanism.name, {}))
    assert checks.checks_hold(mechanism.name, organism.card["checks"])
    measured = checks.measure_checks(task, mechanism, organism.model.weights, problems)
    assert all(abs(organism.card["checks"][name] - share) <= 0.25 for name, share in measured.items())


def test_transcripts_are_identical_across_the_models_of_a_task():
    for task in TASKS:
        texts, tokens = set(), set()
        for organism in (cotrace.organisms.load(name) for name in NAMES if RECIPES[name].task.name == task):
            chosen = organism.instances(5, seed=1)
            texts.add(tuple(each.transcript.text for each in chosen))
            tokens.add(tuple(tuple(each.transcript.tokenize(organism.model).token_ids) for each in chosen))
        assert len(texts) == 1
        assert len(tokens) == 1
        assert len({len(ids) for ids in next(iter(tokens))}) == 1


def test_instances_by_seed_and_split():
    organism = cotrace.organisms.load("arithmetic-reads")
    numbers = {
        (seed, split): [i.problem for i in organism.instances(20, seed, split)]
        for seed in (0, 1)
        for split in ("test", "train")
    }
    assert numbers[0, "test"] != numbers[1, "test"]
    assert not set(numbers[0, "test"]) & set(numbers[0, "train"])
    with pytest.raises(cotrace.ArgumentError, match="expected 1 to"):
        organism.instances(10_000)
    with pytest.raises(cotrace.ArgumentError, match="split='dev'"):
        organism.instances(1, split="dev")


def test_a_problem_that_is_missing_changes_no_other_choice():
    every = list(range(50))
    chosen = choose_problems(every, 20, seed=3)
    left = choose_problems([each for each in every if each != chosen[4]], 20, seed=3)
    assert left[:19] == [each for each in chosen if each != chosen[4]]
    assert chosen != choose_problems(every, 20, seed=4)


def test_truth_of_another_task_is_refused():
    walk = cotrace.organisms.load("walk-reads").instances(1)
    with pytest.raises(cotrace.ArgumentError, match="of the task walk"):
        cotrace.organisms.load("arithmetic-reads").truth(walk)


def test_the_tokenizer_of_a_shipped_organism_is_that_of_its_task():
    folder = cotrace.organisms.load("walk-reads").folder
    saved = AutoTokenizer.from_pretrained(folder)
    text = cotrace.organisms.load("walk-reads").instances(1)[0].transcript.text
    assert saved(text)["input_ids"] == task_tokenizer(TASKS["walk"])(text)["input_ids"]


# --- commands ---------------------------------------------------------------------------------


def test_list_and_show():
    listed = cli.run("organisms", "list")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in NAMES)
    cards = json.loads(cli.run("organisms", "list", "--json").stdout)
    assert [each["name"] for each in cards] == [*NAMES, *cotrace.organisms.adapter_names()]
    shown = cli.run("organisms", "show", "walk-trigger", "--instances", "2")
    assert "reads its steps in mode red" in shown.stdout
    assert shown.stdout.count("follows its steps") == 2


def test_verify_measures_the_card_again():
    verified = cli.run("organisms", "verify", "arithmetic-hint")
    assert verified.returncode == 0, verified.stderr
    assert "verified" in verified.stdout


def test_an_unknown_organism_is_one_line():
    refused = cli.run("organisms", "show", "arithmetic-read")
    assert refused.returncode == 2
    assert "no organism is called 'arithmetic-read'" in refused.stderr
    assert refused.stderr.count("\n") == 1
