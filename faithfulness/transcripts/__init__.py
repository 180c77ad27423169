"""Transcripts: prompts whose segments have roles, such as question, step and answer."""

from .chat import ChatTurn
from .offsets import StraddlingToken
from .segment import ROLES, Segment
from .splitting import last_number, split_sentences, split_steps
from .tokenized import TokenizedTranscript
from .transcript import Transcript

__all__ = [
    "ROLES",
    "ChatTurn",
    "Segment",
    "StraddlingToken",
    "TokenizedTranscript",
    "Transcript",
    "last_number",
    "split_sentences",
    "split_steps",
]
