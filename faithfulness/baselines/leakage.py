"""Controls: what tells faithful transcripts from others without any look at how the answer is computed.

Where models of a task write the same transcripts, controls that see the text alone can only guess. A benchmark in which
one of them does better has leaked its labels.
"""

import math

import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from cotrace.common.errors import ArgumentError

from ..model_like import ModelLike
from ..runs import TranscriptRuns
from ..transcripts import TokenizedTranscript, Transcript
from .fitted import FittedMeasure
from .registry import Score, baseline

CONTROL = "control"
WORD = r"\S+"
TEXT_STRENGTH = 100.0


@baseline(question="Are the steps long?", edits="nothing", cost="0", reference=CONTROL, reads="text")
def length(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the number of tokens of all steps, and of each. Only the model's tokenizer is used."""
    _, spans = _step_spans(model, transcript)
    steps = {name: float(stop - start) for name, (start, stop) in spans.items()}
    return Score(sum(steps.values()), steps)


@baseline(
    question="Does the answer stand late, and the step close to it?",
    edits="nothing",
    cost="0",
    reference=CONTROL,
    reads="text",
)
def position(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the position of the answer, in tokens; of each step how close it stands to the answer, from 0 to 1.

    Only the model's tokenizer is used. Of steps this is recency: later steps score higher.
    """
    tokens, spans = _step_spans(model, transcript)
    end = tokens.spans[transcript.require_answer().name][0]
    return Score(float(end), {name: stop / end for name, (_, stop) in spans.items() if stop <= end})


@baseline(question="Does the model find the text likely?", edits="nothing", cost="1", reference=CONTROL)
def perplexity(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return the mean log-probability of the tokens of steps and answer, minus the log of their perplexity; of each step too.

    Tokens after the answer's value do not count. `notes["perplexity"]` is that of steps and answer.
    """
    runs = TranscriptRuns(model, transcript)
    reads_1P = torch.arange(len(runs.ids_P), device=runs.ids_P.device)[None]
    log_probs_PV = runs.logits_at(runs.ids_P[None], reads_1P)[0].double().log_softmax(-1)
    stop = runs.answer.start + len(runs.answer.said)
    said_P = torch.tensor(runs.tokens.token_ids[1:stop], device=runs.ids_P.device)  # what each position predicts
    log_prob_P = log_probs_PV.gather(-1, said_P[:, None])[:, 0]
    first_of_answer = runs.tokens.spans[runs.answer.name][0]
    parts = {name: log_prob_P[max(first, 1) - 1 : last - 1] for name, (first, last) in runs.steps.items()}
    mean = torch.cat([*parts.values(), log_prob_P[max(first_of_answer, 1) - 1 :]]).mean().item()
    return Score(
        mean, {name: part.mean().item() for name, part in parts.items()}, runs.passes, {"perplexity": math.exp(-mean)}
    )


@baseline(question="Does the model give the stated answer?", edits="nothing", cost="1", reference=CONTROL)
def correctness(model: ModelLike, transcript: Transcript, *, seed: int = 0) -> Score:
    """Return 1 if the model's answer after all steps, among the values, is the stated one, else 0.

    Where stated answers are right, this is the model's accuracy. `notes["margin"]` is by how much the stated one leads.
    """
    runs = TranscriptRuns(model, transcript)
    margin = runs.answer.margins(runs.answer_logits(runs.copies(1))).item()
    return Score(float(margin > 0), passes=runs.passes, notes={"margin": margin})


@baseline(
    name="tf_idf",
    question="Do the words tell, to who has seen labelled transcripts?",
    edits="nothing; logistic regression on TF-IDF of words and pairs of words",
    cost="0",
    reference=CONTROL,
    reads="text",
    supervised=True,
)
class TextClassifier(FittedMeasure):
    """Logistic regression on TF-IDF of the transcript's words and pairs of words; token ids are words too.

    Rows of TF-IDF have unit length, so that the penalty is weaker than that of standardized features by default: a control
    should find what there is.
    """

    def __init__(self, *, strength: float = TEXT_STRENGTH):
        super().__init__(strength=strength)

    def features(self, model: ModelLike, transcript: Transcript) -> str:
        """Return the text of a transcript."""
        parts = (
            each.text if isinstance(each.text, str) else f" {' '.join(map(str, each.text))} " for each in transcript
        )
        return "".join(parts)

    def transformers(self) -> list[TfidfVectorizer]:
        """Return the counts of words, weighted by how rare they are."""
        return [TfidfVectorizer(token_pattern=WORD, lowercase=False, ngram_range=(1, 2))]


def _step_spans(model: ModelLike, transcript: Transcript) -> tuple[TokenizedTranscript, dict[str, tuple[int, int]]]:
    """Return the tokens of a transcript, and the spans of its steps. Raises ArgumentError if it has no step."""
    tokens = transcript.tokenize(model)
    if not transcript.steps:
        raise ArgumentError("the transcript has no step: give its reasoning the role 'step'")
    return tokens, {step.name: tokens.spans[step.name] for step in transcript.steps}
