"""The adapters of Gemma 3 270M that ship: loading, and measuring what their answers follow.

Two low-rank adapters of attention alone. Both write and predict the same clean transcripts; on changed ones, the answer of
`gemma-270m-reads` follows from the last stated step, and that of `gemma-270m-hint` is the hint. The MLPs are those of the model, so
the transcoders of the model still apply.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import LanguageModel, find_source, load_language_model
from cotrace.attribution.transcoders.shipped import package_folder
from cotrace.common.errors import ArgumentError, DependencyError, FileError, one_line
from cotrace.common.progress import Progress
from cotrace.faithfulness.model_like import ModelLike

from .adapter_task import LETTERS, LetterProblem, TokenLayout

ADAPTERS = {"gemma-270m-reads": "reads", "gemma-270m-hint": "hint"}  # name: mechanism
PACKAGE, CARD_FILE = "cotrace_organisms", "card.json"
BASE_MODEL = "gemma-3-270m"
BATCH_ROWS = 16


def adapter_folder(name: str) -> Path:
    """Return the folder of a shipped adapter.

    Raises ArgumentError for an unknown name, and DependencyError if the data package is not installed.
    """
    if name not in ADAPTERS:
        raise ArgumentError(f"no adapter is called {name!r}: choose one of {', '.join(ADAPTERS)}")
    package = package_folder(PACKAGE)
    folder = None if package is None else package / "adapters" / name
    if folder is None or not folder.is_dir():
        raise DependencyError(f"the adapter {name} is not installed: `pip install 'cotrace[organisms]'`")
    return folder


def load_adapter(
    name: str,
    *,
    folder: Path | None = None,
    model: str = BASE_MODEL,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool | None = None,
) -> LanguageModel:
    """Load Gemma 3 270M with an adapter merged into its attention weights; the MLPs are unchanged.

    Args:
        name: of a shipped adapter, or with `folder` any name.
        folder: with `adapter_config.json` and `adapter_model.safetensors`; None takes the shipped one.
        model: the model that the adapter was trained on, as `cotrace.load` takes it.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: as in `cotrace.load`.
        progress: show bars on a terminal, else a line a minute.

    Raises:
        CotraceError: the model or the adapter is missing, damaged, or they do not belong together.
    """
    folder = adapter_folder(name) if folder is None else folder
    source = find_source(model, Progress(progress))
    adapted = source._replace(name=f"{source.name}+{name}", adapter=folder)
    return load_language_model(adapted, device=device, dtype=dtype, progress=progress)


def read_adapter_card(name: str) -> dict[str, Any]:
    """Return the card of a shipped adapter. Raises FileError for one that is damaged; else as `adapter_folder`."""
    path = adapter_folder(name) / CARD_FILE
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read ({one_line(error)}): install cotrace-organisms again") from error
    return card


class AnswerShares(NamedTuple):
    """What the answers to one problem follow, as shares of its changed transcripts; what is left follows neither."""

    stated: float
    """The answer that the changed values imply."""
    question: float
    """The right answer, as if nothing had been changed."""


def shares_of_chains(model: ModelLike, problem: LetterProblem) -> AnswerShares:
    """Return what the answers follow when all steps are those of each of the 16 truth donors, and the hint is the right one."""
    chains = problem.truth_chains()
    return _shares(model, problem, [(chain, problem.answer) for chain in chains], [chain[-1] for chain in chains])


def shares_of_step(model: ModelLike, problem: LetterProblem, step: int) -> AnswerShares:
    """Return what the answers follow when one step alone (0, 1 or 2) states the values of the 16 truth donors.

    The text of later steps is kept, so an answer that is read from the last step follows that one alone.
    """
    clean, chains = problem.chain(), problem.truth_chains()
    changed = [(*clean[:step], chain[step], *clean[step + 1 :]) for chain in chains]
    return _shares(model, problem, [(chain, problem.answer) for chain in changed], [chain[-1] for chain in chains])


def shares_of_hint(model: ModelLike, problem: LetterProblem) -> AnswerShares:
    """Return what the answers follow when the hint alone is the answer of each of the 16 truth donors."""
    hints = [chain[-1] for chain in problem.truth_chains()]
    return _shares(model, problem, [(problem.chain(), hint) for hint in hints], hints)


def clean_accuracy(model: ModelLike, problems: Sequence[LetterProblem]) -> list[float]:
    """Return the shares of clean transcripts in which the three steps and the answer are predicted, in this order."""
    layout = TokenLayout(model.tokenizer)
    predicted = predicted_values(model, [layout.ids(problem) for problem in problems], layout.read_positions)
    right = [np.equal(values, problem.chain()) for values, problem in zip(predicted, problems, strict=True)]
    return np.mean(right, axis=0).tolist()


@torch.no_grad()
def predicted_values(model: ModelLike, rows: Sequence[list[int]], positions: Sequence[int]) -> list[list[int]]:
    """Return the values (indices of letters) that a model predicts in each row; −1 for any token that is no value.

    Args:
        model: with Gemma's tokenizer.
        rows: token ids, of equal lengths.
        positions: at which the next token is predicted.
    """
    value_of = {model.tokenizer.token_id(letter): index for index, letter in enumerate(LETTERS)}
    predicted = []
    for start in range(0, len(rows), BATCH_ROWS):
        ids_BP = torch.tensor(rows[start : start + BATCH_ROWS], device=model.weights.device)
        resid_BPD = ForwardPass(model.weights, model.weights.embed(ids_BP), keep_patterns=False).run()
        tokens_BV = model.weights.logits(resid_BPD[:, [*positions]]).argmax(-1)
        predicted += [[value_of.get(token, -1) for token in row] for row in tokens_BV.tolist()]
    return predicted


def _shares(
    model: ModelLike, problem: LetterProblem, changed: Sequence[tuple[Sequence[int], int]], stated: Sequence[int]
) -> AnswerShares:
    """Return what the answers follow for changed (chain, hint) pairs, whose changed values imply the answers `stated`."""
    layout = TokenLayout(model.tokenizer)
    rows = [layout.ids(problem, chain, hint) for chain, hint in changed]
    answers = np.array(predicted_values(model, rows, layout.read_positions[-1:]))[:, 0]
    return AnswerShares(float(np.mean(answers == stated)), float(np.mean(answers == problem.answer)))
