"""Transcripts: prompts whose segments have roles, such as question, step and answer."""

from .offsets import StraddlingToken
from .segment import ROLES, Segment
from .tokenized import TokenizedTranscript
from .transcript import Transcript

__all__ = ["ROLES", "Segment", "StraddlingToken", "TokenizedTranscript", "Transcript"]
