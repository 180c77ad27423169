"""Warn of tokens that were perhaps meant to be spelt otherwise: without a space, or in other capital letters."""

from collections.abc import Iterable

from torch import Tensor

from cotrace.common.errors import warn

from .tokenizer import PromptTokenizer

LIKELY = 0.01  # a spelling below this probability is not what a user meant
TIMES_LIKELIER = 10


def warn_of_likelier_spellings(token_ids: Iterable[int], tokenizer: PromptTokenizer, probability_V: Tensor) -> None:
    """Warn, for each token, of another spelling of it that is far likelier to come next.

    Args:
        token_ids: the tokens that a user named.
        tokenizer: their tokenizer.
        probability_V: probabilities of the next token.
    """
    for token in dict.fromkeys(token_ids):
        spellings = tokenizer.other_spellings(tokenizer.decode_token(token))
        likeliest = max(spellings, key=lambda other: float(probability_V[other]), default=token)
        own, best = float(probability_V[token]), float(probability_V[likeliest])
        if best >= max(LIKELY, TIMES_LIKELIER * own):
            warn(
                f"the token {tokenizer.decode_token(token)!r} has a probability of {own:.1%}; did you mean "
                f"{tokenizer.decode_token(likeliest)!r} ({best:.1%})?"
            )
