"""Rows of other steps and fillers, and summaries of edited rows, that several baselines share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..runs import TranscriptRuns
from ..transcripts import Transcript

FILLERS = (" ...", " _")


def filler_token(runs: TranscriptRuns, filler: str | None) -> int:
    """Return the id of the filler token, as `filler_tokens` describes it. Raises PromptError for a text of several tokens."""
    tokenizer = runs.tokenizer
    if filler is not None:
        return tokenizer.token_id(filler)
    unknown = getattr(tokenizer.hf_tokenizer, "unk_token_id", None)
    for text in FILLERS if tokenizer.hf_tokenizer is not None else ():
        found = tokenizer.encode_without_bos(text)
        if len(found) == 1 and found[0] != unknown:
            return found[0]
    of_values = {token for value in runs.values for token in value}
    counted = [token for token in runs.ids_P.tolist() if token not in of_values and token != tokenizer.bos_id]
    if not counted:
        raise ArgumentError("every token of the prompt belongs to a value: pass `filler=`, the text of one token")
    return max(dict.fromkeys(counted), key=counted.count)


def replaced_spans(
    runs: TranscriptRuns, model: ModelLike, others: Sequence[Transcript], names: Sequence[str], option: str
) -> Tensor:
    """Return copies (N, P) whose segments of these names are those of other transcripts.

    Raises ArgumentError for a transcript that lacks one of them, or has it at other positions.
    """
    rows_NP = runs.copies(len(others))
    for row, other in enumerate(others):
        tokens = other.tokenize(model)
        for name in names:
            start, stop = runs.tokens.spans[name]
            if tokens.spans.get(name) != (start, stop):
                where = tokens.spans.get(name, "not there")
                raise ArgumentError(
                    f"the segment {name!r} is at tokens {(start, stop)} of the transcript and {where} in `{option}`: use "
                    "transcripts whose segments have the same names and numbers of tokens"
                )
            rows_NP[row, start:stop] = torch.tensor(tokens.token_ids[start:stop], device=rows_NP.device)
    return rows_NP


def implied_value(runs: TranscriptRuns, model: ModelLike, chain: Transcript, option: str) -> int:
    """Return the place of a chain's answer among the other values. Raises ArgumentError if it equals the transcript's."""
    answer = chain.answer
    if answer is None or answer.value is None:
        raise ArgumentError(
            f"a transcript in `{option}` has no answer with a value: state the answer that its steps imply"
        )
    start, stop = (tokens := chain.tokenize(model)).value_spans[answer.name]
    value = tuple(tokens.token_ids[start:stop])
    if value == runs.answer.said:
        raise ArgumentError(
            f"a transcript in `{option}` has the transcript's own answer: use steps that imply another one"
        )
    return runs.answer.index_of(value)


def means_by_name(names: Sequence[str], scores_B: Tensor) -> dict[str, float]:
    """Return the mean score of each name."""
    found: dict[str, list[float]] = {}
    for name, score in zip(names, scores_B.tolist(), strict=True):
        found.setdefault(name, []).append(score)
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def changed_share(clean: Tensor, edited_B: Tensor) -> float:
    """Return the share of rows in which greedy decoding among the values no longer, or newly, writes the answer."""
    return ((edited_B > 0) != (clean > 0)).float().mean().item()
