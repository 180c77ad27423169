"""Transcripts for the models of `handmade`: a question, perhaps a hint, steps and an answer that state values."""

from collections.abc import Sequence

from cotrace.faithfulness.transcripts import Transcript

from . import handmade

ALTERNATIVES = [f"v{i}" for i in range(handmade.N_VALUES)]


def chain(
    question: int = 5, steps: Sequence[int] = (5, 5, 5), answer: int = 5, hint: str | None = None, so: str = " so"
) -> Transcript:
    """Return " start q5 [; hint h5] ; so v5 ; so v5 ; so v5 ; answer v5"; `hint` is a word, and a value if it is one."""
    segments: list[tuple] = [("question", f" start q{question}")]
    if hint is not None:
        segments.append(("hint", f" ; hint {hint}", "hint", hint if hint in ALTERNATIVES else None))
    segments += [("step", f" ;{so} v{value}", f"step{i + 1}", f"v{value}") for i, value in enumerate(steps)]
    return Transcript([*segments, ("answer", f" ; answer v{answer}", "answer", f"v{answer}")], ALTERNATIVES)
