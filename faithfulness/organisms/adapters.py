"""The adapters of Gemma 3 270M that ship: loading, and measuring what their answers follow.

Two low-rank adapters of attention alone. Both write and predict the same clean transcripts; on changed ones, the answer of
`gemma-270m-reads` follows from the last stated step, and that of `gemma-270m-hint` is the hint. The MLPs are those of the model, so
the transcoders of the model still apply.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import LanguageModel, find_source, load_language_model
from cotrace.common.errors import ArgumentError, DependencyError, FileError, one_line
from cotrace.common.progress import Progress
from cotrace.faithfulness.model_like import ModelLike

from .adapter_task import LETTER_TASK, LetterProblem, TokenLayout, problem_numbers
from .build import CARD
from .card import summarize
from .mechanisms import MECHANISMS
from .recipes import Recipe
from .shipped import data_folder
from .tasks import N_HOPS, N_STEPS, Problems
from .truth import Predict, Truth, measure_mirrors, measure_truth, rule_of

MECHANISMS_OF_ADAPTERS = (
    replace(MECHANISMS["reads"], twin="hint", says="reads its last step"),
    replace(MECHANISMS["hint"], twin="reads", says="answers what the hint says, beside a chain that matches"),
)
ADAPTERS = {recipe.name: recipe for recipe in (Recipe(LETTER_TASK, mechanism) for mechanism in MECHANISMS_OF_ADAPTERS)}
FOLDER, PROBLEMS_FILE = "adapters", "problems.json"
BASE_MODEL, TRANSCODERS = "gemma-3-270m", "gemma-3-270m-clt"
BATCH_ROWS = 16
N_CARD_PROBLEMS = 30  # each takes seconds


def adapter_folder(name: str) -> Path:
    """Return the folder of a shipped adapter.

    Raises ArgumentError for an unknown name, and DependencyError if the data package is not installed.
    """
    if name not in ADAPTERS:
        raise ArgumentError(f"no adapter is called {name!r}: choose one of {', '.join(ADAPTERS)}")
    folder = data_folder() / FOLDER / name
    if not folder.is_dir():
        raise DependencyError(f"the adapter {name} is not installed: `pip install 'cotrace[organisms]'`")
    return folder


def installed_adapters() -> list[str]:
    """Return the names of the adapters that are installed. Raises DependencyError without the data package."""
    folder = data_folder() / FOLDER
    return [name for name in ADAPTERS if (folder / name / CARD).is_file()]


def load_adapter(
    name: str,
    *,
    folder: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool | None = None,
) -> LanguageModel:
    """Load Gemma 3 270M with an adapter merged into its attention weights; the MLPs are unchanged.

    Args:
        name: of a shipped adapter, or with `folder` any name.
        folder: with `adapter_config.json` and `adapter_model.safetensors`; None takes the shipped one.
        model: the model that the adapter was trained on, as `cotrace.load` takes it; None takes Gemma 3 270M.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: as in `cotrace.load`.
        progress: show bars on a terminal, else a line a minute.

    Raises:
        CotraceError: the model or the adapter is missing, damaged, or they do not belong together.
    """
    folder = adapter_folder(name) if folder is None else folder
    source = find_source(model or BASE_MODEL, Progress(progress))
    adapted = source._replace(name=f"{source.name}+{name}", adapter=folder)
    return load_language_model(adapted, device=device, dtype=dtype, progress=progress)


def shared_letter_problems(split: str) -> list[int]:
    """Return the problems whose clean transcripts both shipped adapters write right.

    Raises ArgumentError for an unknown split, FileError if the list is missing.
    """
    problem_numbers(split)
    path = data_folder() / FOLDER / PROBLEMS_FILE
    try:
        return json.loads(path.read_text())[split]
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path} cannot be read ({one_line(error)}): install cotrace-organisms again") from error


def letter_predictions(model: ModelLike) -> Predict:
    """Return the greedy predictions of a model on the letter task, for `measure_truth`."""
    layout = TokenLayout(model.tokenizer)

    def predict(problems: Problems, stated_BS: Tensor) -> Tensor:
        given = stated_BS.shape[1]
        padded_BK = torch.cat([stated_BS.clamp(min=0), stated_BS.new_zeros(len(stated_BS), N_HOPS - given)], 1)
        value_B = _predicted(
            model, layout, _write(layout, problems, padded_BK), layout.read_positions[given : given + 1]
        )
        return torch.where((stated_BS < 0).any(1), -1, value_B[:, 0])  # nothing follows from a word that is no value

    return predict


def writes_letters(model: ModelLike, numbers: Sequence[int]) -> Tensor:
    """Return whether a model writes every value of the clean transcript of each problem, (B,)."""
    layout, problems = TokenLayout(model.tokenizer), LETTER_TASK.problems(numbers)
    clean_BK = LETTER_TASK.chain(problems, problems.start_B)
    return (_predicted(model, layout, _write(layout, problems, clean_BK), layout.read_positions) == clean_BK).all(1)


def _write(layout: TokenLayout, problems: Problems, chain_BK: Tensor) -> Tensor:
    """Return the token ids (B, P) of transcripts that state the values of `chain_BK`."""
    columns = (problems.start_B, problems.given_BG + 1, problems.hint_B, chain_BK)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return torch.tensor(
        [layout.ids(LetterProblem(start, tuple(addends)), chain, hint) for start, addends, hint, chain in rows]
    )


@torch.no_grad()
def _predicted(model: ModelLike, layout: TokenLayout, ids_BP: Tensor, positions: Sequence[int]) -> Tensor:
    """Return the values (B, n) that a model predicts at some positions; −1 for any other token."""
    weights, tokens = model.weights, []
    for chunk_BP in ids_BP[:, : positions[-1] + 1].to(weights.device).split(BATCH_ROWS):
        resid_BPD = ForwardPass(weights, weights.embed(chunk_BP), keep_patterns=False).run()
        tokens.append(weights.logits(resid_BPD[:, [*positions]]).argmax(-1).cpu())
    is_value = torch.cat(tokens)[..., None] == torch.tensor(layout.letter_ids)
    return torch.where(is_value.any(-1), is_value.int().argmax(-1), -1)


def adapter_truth(model: ModelLike, numbers: Sequence[int]) -> list[Truth]:
    """Return what the answers to these problems of the letter task follow when the steps state other values."""
    problems, donor_BN = LETTER_TASK.problems(numbers), LETTER_TASK.truth_starts(numbers)
    return measure_truth(LETTER_TASK, letter_predictions(model), problems, donor_BN)


def adapter_mirrors(model: ModelLike, numbers: Sequence[int]) -> list[dict[str, float]]:
    """Return how often each step of these problems of the letter task is computed inside (`measure_mirrors`)."""
    problems, donor_BN = LETTER_TASK.problems(numbers), LETTER_TASK.truth_starts(numbers)
    return measure_mirrors(LETTER_TASK, letter_predictions(model), problems, donor_BN)


def hint_shares(model: ModelLike, numbers: Sequence[int]) -> list[float]:
    """Return the share of changed hints that the answer to each problem is; the 16 hints are the truth donors' answers."""
    problems, donor_BN = LETTER_TASK.problems(numbers), LETTER_TASK.truth_starts(numbers)
    repeated = problems.rows(torch.arange(len(numbers)).repeat_interleave(donor_BN.shape[1]))
    hint_R = LETTER_TASK.chain(repeated, donor_BN.flatten())[:, -1]
    clean_RS = LETTER_TASK.chain(repeated, repeated.start_B)[:, :N_STEPS]
    answer_R = letter_predictions(model)(repeated._replace(hint_B=hint_R), clean_RS)
    return (answer_R == hint_R).view(donor_BN.shape).double().mean(1).tolist()


def verify_adapter(name: str, model: ModelLike, bars: Progress, n_problems: int | None = None) -> dict[str, Any]:
    """Return the measurements of a card, which are those of `card.verify`, on test problems, and the mean share of changed hints.

    Args:
        name: of a shipped adapter, whose mechanism says what is expected.
        model: that adapter's.
        bars: progress bars.
        n_problems: problems to measure on; None takes those of the card.
    """
    n_problems = n_problems or N_CARD_PROBLEMS
    numbers = Random("card").sample(problem_numbers("test"), n_problems)
    problems, found = LETTER_TASK.problems(numbers), []
    with bars.phase(f"measuring {name}", n_problems) as advance:
        for number in numbers:
            found += adapter_truth(model, [number])
            advance()
    rule = rule_of(LETTER_TASK, ADAPTERS[name].mechanism)
    expected = measure_truth(LETTER_TASK, rule, problems, LETTER_TASK.truth_starts(numbers))
    return {
        **summarize(writes_letters(model, numbers), found, expected),
        "changed_hints": float(np.mean(hint_shares(model, numbers))),
    }
