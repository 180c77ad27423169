"""Train the two adapters of Gemma 3 270M that ship as model organisms, and write their cards.

    python recipes/adapters_270m.py RUN
    python recipes/adapters_270m.py RUN --problems 100 --only gemma-270m-hint

The run can be stopped at any time; the same command resumes it from the last checkpoint. Each adapter takes minutes on one
core of a CPU that multiplies bfloat16 in hardware. A card holds what was measured on test problems: predictions of clean
transcripts, what answers follow in changed ones, and how well the shipped transcoders replace the MLPs of the model
with and without the adapter.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import cotrace
from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.attribution.validation.graph_scores import mean_graph_scores
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.faithfulness.organisms import adapter_task, adapters
from cotrace.faithfulness.organisms.adapter_task import LetterProblem, TokenLayout
from cotrace.faithfulness.organisms.adapters_training import RECIPES, TRAINING_FILE, train_adapter
from cotrace.training.mlp_replacements import TranscoderReplacement
from cotrace.training.replacement_metrics import evaluate_replacements

TRANSCODERS = "gemma-3-270m-clt"
CLEAR_BELOW, CLEAR_ABOVE = 0.15, 0.85  # a share between the two is mixed
TRACED = 3  # transcripts for graph scores


def main(args: argparse.Namespace) -> None:
    """Train the adapters, or resume their training, and write a card beside each."""
    run = Path(args.run)
    for name in args.only or RECIPES:
        recipe = RECIPES[name]
        train_adapter(name, recipe, run / name, start_folder=run / recipe.start if recipe.start else None)
    problems = draw_test_problems(args.problems)
    base = transcoder_scores(load_language_model(adapters.BASE_MODEL), problems)
    for name in args.only or RECIPES:
        card = make_card(name, run / name, problems) | {"transcoder_scores_of_base": base}
        with atomic_write(run / name / adapters.CARD_FILE) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")
        print(json.dumps(card["truth"]))


def draw_test_problems(n_problems: int) -> list[LetterProblem]:
    """Return problems that no adapter was trained on."""
    numbers = Random("card").sample(adapter_task.problem_numbers("test"), n_problems)
    return [LetterProblem.from_number(number) for number in numbers]


def make_card(name: str, folder: Path, problems: list[LetterProblem]) -> dict[str, Any]:
    """Return the card of a trained adapter."""
    model = adapters.load_adapter(name, folder=folder)
    training = json.loads((folder / TRAINING_FILE).read_text())
    others = [other for other in RECIPES if other != name]
    return {
        "name": name,
        "base": adapters.BASE_MODEL,
        "mechanism": RECIPES[name].mechanism,
        "twin": others[0],
        "example": adapter_task.letter_transcript(problems[0]).text,
        "recipe": training["recipe"],
        "training_distribution": adapter_task.TRAINING_DISTRIBUTION,
        "training_seconds": round(training["seconds"]),
        "base_sha256": training["base_sha256"],
        "versions": {**package_versions(), "peft": version("peft")},
        "test_problems": len(problems),
        "clean_accuracy": adapters.clean_accuracy(model, problems),
        "truth": measure_truth(model, problems),
        "transcoders": TRANSCODERS,
        "transcoder_scores": transcoder_scores(model, problems),
    }


def measure_truth(model: LanguageModel, problems: list[LetterProblem]) -> dict[str, Any]:
    """Return mean shares over problems, and how many problems are mixed."""
    stated_N = np.empty(len(problems))
    shares: dict[str, list[adapters.AnswerShares]] = {"chains": [], "hint": [], "step1": [], "step2": [], "step3": []}
    with Progress(True).phase("measuring truth", len(problems)) as advance:
        for n, problem in enumerate(problems):
            shares["chains"].append(adapters.shares_of_chains(model, problem))
            stated_N[n] = shares["chains"][-1].stated
            if n < len(problems) // 4:
                shares["hint"].append(adapters.shares_of_hint(model, problem))
                for step in range(adapter_task.N_STEPS):
                    shares[f"step{step + 1}"].append(adapters.shares_of_step(model, problem, step))
            advance()
    means = {kind: adapters.AnswerShares(*np.mean(found, axis=0).tolist())._asdict() for kind, found in shares.items()}
    mixed = int(((stated_N > CLEAR_BELOW) & (stated_N < CLEAR_ABOVE)).sum())
    return {"mean_shares": means, "mixed": mixed, "clear": 1 - mixed / len(problems)}


def transcoder_scores(model: LanguageModel, problems: list[LetterProblem]) -> dict[str, float]:
    """Return how well the shipped transcoders replace the model's MLPs on clean transcripts."""
    transcoders = load_transcoders(TRANSCODERS, model.architecture)
    assert isinstance(transcoders, FileTranscoders)
    layout = TokenLayout(model.tokenizer)
    rows = np.array([layout.ids(problem) for problem in problems])
    replacement = TranscoderReplacement(transcoders, model.architecture.n_layers)
    (measured,) = evaluate_replacements(model, [replacement], rows, Progress(True))
    traced = cotrace.Model(model, transcoders)
    prompts = [row[:-1].tolist() for row in rows[:TRACED]]
    graphs = (traced.trace(prompt, progress=False) for prompt in prompts)
    replacement_score, completeness_score = mean_graph_scores(graphs)
    return {
        "fvu": measured.fvu,
        "l0": measured.l0 or 0.0,
        "kl": measured.kl,
        "top1_agreement": measured.top1_agreement,
        "replacement_score": replacement_score,
        "completeness_score": completeness_score,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--problems", type=int, default=100, help="test problems to measure on")
    parser.add_argument("--only", choices=RECIPES, action="append", help="train and measure one adapter")
    main(parser.parse_args())
