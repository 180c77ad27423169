"""Published measures of chain-of-thought faithfulness, each as a function of a model and a transcript."""

from .attention import attention_rollout, attention_suppression, masked_attention_gradients, masked_attention_kl
from .donors import donor_swaps
from .gradients import gradient_x_input, recursive_attribution
from .hints import hint_acknowledgement
from .leakage import TextClassifier, correctness, length, perplexity, position
from .log_probs import necessity, substantivity
from .probe import ActivationProbe
from .registry import BASELINES, Baseline, Score, baseline, find, markdown_table
from .shapley import cc_shap
from .text_edits import adding_mistakes, counterfactual_edit, early_answering, filler_tokens, nldd, paraphrase

__all__ = [
    "BASELINES",
    "ActivationProbe",
    "Baseline",
    "Score",
    "TextClassifier",
    "adding_mistakes",
    "attention_rollout",
    "attention_suppression",
    "baseline",
    "cc_shap",
    "correctness",
    "counterfactual_edit",
    "donor_swaps",
    "early_answering",
    "filler_tokens",
    "find",
    "gradient_x_input",
    "hint_acknowledgement",
    "length",
    "markdown_table",
    "masked_attention_gradients",
    "masked_attention_kl",
    "necessity",
    "nldd",
    "paraphrase",
    "perplexity",
    "position",
    "recursive_attribution",
    "substantivity",
]
