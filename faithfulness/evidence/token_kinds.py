"""Classify tokens by their text, so that an edit replaces a word by a word. Imports no torch."""

import re

WORD, NUMBER, CODE, SYMBOL, OTHER = "word", "number", "code", "symbol", "other"

Kind = tuple[str, bool, bool]


def token_kind(token: str) -> Kind:
    """Return the kind of a token, whether it begins with white space, and whether its first letter is a capital.

    A code has letters and digits, as "a5". A token of a model without tokenizer, whose text is `<id>`, counts as a word.
    """
    bare = token.strip()
    return _kind(bare), token[:1].isspace(), bare[:1].isupper()


def _kind(bare: str) -> str:
    if not bare or "\ufffd" in bare:
        return OTHER
    if bare.isdecimal():
        return NUMBER
    if bare.replace("'", "").isalpha() or re.fullmatch(r"<\d+>", bare):
        return WORD
    if bare.isalnum():
        return CODE
    return SYMBOL if not any(each.isalnum() for each in bare) else OTHER
