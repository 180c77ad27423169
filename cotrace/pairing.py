"""Pair the prompts and edits of `intervene_many` and `generate_many`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cotrace.attribution.models.tokenizer import as_prompt_list
from cotrace.common.errors import ArgumentError


class SpanOptions(NamedTuple):
    """Options of prompts that name positions: arguments of `intervene` and `generate`, as the user gave them."""

    masked_positions: Sequence[int] | None = None
    segments: Mapping[str, Any] | None = None
    regenerate: Any = None


class EditedPrompt(NamedTuple):
    """One prompt and the edits that are made to it, each in a separate run."""

    prompt: Any
    edits: list[Any]


def pair(prompts: Any, edits: Any) -> list[EditedPrompt]:
    """Return each prompt with its edits: one prompt with all edits, or several prompts with one or one each.

    Raises ArgumentError if there are several of both and their numbers differ.
    """
    listed = as_prompt_list(prompts)
    several_edits = list(edits) if isinstance(edits, list | tuple) else None
    if listed is None:
        return [EditedPrompt(prompts, [edits] if several_edits is None else several_edits)]
    if several_edits is None:
        return [EditedPrompt(prompt, [edits]) for prompt in listed]
    if len(several_edits) != len(listed):
        raise ArgumentError(
            f"{len(listed)} prompts and {len(several_edits)} edits: give the same edits for all prompts, or one for each"
        )
    return [EditedPrompt(prompt, [each]) for prompt, each in zip(listed, several_edits, strict=True)]


def require_single(method: str, prompt: Any) -> None:
    """Raise ArgumentError for a list of prompts; `method` takes one."""
    if as_prompt_list(prompt) is not None:
        raise ArgumentError(f"prompt is a list and {method} takes one: use {method}_many")
