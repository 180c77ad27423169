"""Transcripts: prompts whose segments have roles, such as question, step and answer."""

from .chat import ChatTurn
from .offsets import StraddlingToken
from .segment import ROLES, Segment
from .splitting import last_number, split_sentences, split_steps
from .stated_values import StatedTranscript, StatedValue, state_values, tokenized
from .tokenized import TokenizedTranscript
from .transcript import Transcript

__all__ = [
    "ROLES",
    "ChatTurn",
    "Segment",
    "StatedTranscript",
    "StatedValue",
    "StraddlingToken",
    "TokenizedTranscript",
    "Transcript",
    "last_number",
    "split_sentences",
    "split_steps",
    "state_values",
    "tokenized",
]
