"""Metadata of results: the model, transcoders, prompt and settings they come from."""

from collections.abc import Sequence
from typing import Any

from cotrace.attribution.interventions.context import PromptTokens
from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.models.tokenizer import TokenizablePrompt
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.common.versions import package_versions
from cotrace.graphs import Graph


def describe_model(language_model: LanguageModel, transcoders: Transcoders) -> dict[str, Any]:
    """Return names, revisions and SHA-256 hashes of a model and its transcoders, and the versions of packages."""
    source, arch = language_model.source, language_model.architecture
    model = {
        "name": source.name,
        "revision": source.revision,
        "sha256": source.content_hash(),
        "n_layers": arch.n_layers,
        "d_model": arch.d_model,
    }
    return {"model": model, "transcoders": transcoders.describe(), "versions": package_versions()}


def describe_trace(
    language_model: LanguageModel, prompt: Any, request: TargetRequest, config: TraceConfig
) -> dict[str, Any]:
    """Return a trace's prompt, tokens and settings."""
    settings: dict[str, Any] = {"max_targets": config.max_targets, "target_mass": config.target_mass}
    settings |= {"targets": request.mode, "positions": list(request.positions)}
    settings |= config.row_budget.settings()
    return {
        **describe_prompt(language_model, prompt, request.token_ids),
        "settings": {**settings, "dtype": dtype_name(language_model)},
    }


def describe_prompt(language_model: LanguageModel, prompt: Any, token_ids: Sequence[int]) -> dict[str, Any]:
    """Return the text of a prompt, its token ids and the text of each token."""
    tokens = [language_model.tokenizer.decode_token(token) for token in token_ids]
    return {
        "prompt": prompt if isinstance(prompt, str) else "".join(tokens),
        "token_ids": list(token_ids),
        "tokens": tokens,
    }


def describe_segments(language_model: LanguageModel, prompt: Any) -> dict[str, Any]:
    """Return the positions of the segments of a transcript; nothing for other prompts."""
    if not isinstance(prompt, TokenizablePrompt):
        return {}
    segments = PromptTokens.read(prompt, language_model.tokenizer).segments
    return {"segments": {name: list(positions) for name, positions in segments.items()}} if segments else {}


def dtype_name(language_model: LanguageModel) -> str:
    """Return the name of the dtype in which a model computes, such as float32."""
    return str(language_model.weights.dtype).removeprefix("torch.")


def check_same_model(graph: Graph, language_model: LanguageModel, transcoders: Transcoders) -> None:
    """Raise ArgumentError for a graph of another model or other transcoders."""
    source = language_model.source
    for part, name, sha256 in (
        ("model", source.name, source.content_hash()),
        ("transcoders", transcoders.name, transcoders.content_hash()),
    ):
        recorded = graph.info[part]
        if recorded.get("sha256") != sha256 or (sha256 is None and recorded["name"] != name):
            raise ArgumentError(
                f"the graph was traced with the {part} {recorded['name']}, which differs from {name}; load the same"
            )
