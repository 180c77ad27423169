"""The model card of trained transcoders."""

from pathlib import Path

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.files import atomic_write
from cotrace.common.versions import package_versions

from .config import TrainingConfig

AVERAGED_STEPS = 50  # at the end of the run, for the metrics on the card
TEXT = """---
library_name: cotrace
base_model: {model}
tags: [transcoder, interpretability, gemma-3]
---
# {title} for {model}

Trained with cotrace {version}: kind `{kind}`, activation `{activation}`, {width:,} features per layer,
target L0 {target_l0:g} (active features per layer and token){skip}. In every layer the transcoder reads
{reads} and predicts {predicts}.

- data: {data}
- tokens: {tokens:,} ({steps:,} steps of {batch:,})
- last {averaged} steps, on training text: FVU {fvu:.3f} (mean over layers), L0 {l0:.1f}, dead features {dead:.1%}

The files have the layout of Gemma Scope 2; the `config.json` of each layer lists all training settings. Gemma is
provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms
"""
TITLES = {
    "clt": "Cross-layer transcoder",
    "transcoder": "Transcoders",
    "skip-transcoder": "Skip transcoders",
    "sae": "Sparse autoencoders",
}
INPUT, OUTPUT = "`pre_feedforward_layernorm.output`", "`post_feedforward_layernorm.output`"


def write_model_card(
    folder: Path, config: TrainingConfig, model: LanguageModel, history: list[dict[str, float]]
) -> None:
    """Write the model card as README.md into a run's folder."""
    last = history[-AVERAGED_STEPS:]
    means = {name: sum(record[name] for record in last) / len(last) for name in ("fvu", "l0", "dead")}
    text = TEXT.format(
        title=TITLES[config.kind],
        model=model.source.name,
        kind=config.kind,
        width=config.width,
        version=package_versions()["cotrace"],
        activation=config.activation,
        target_l0=config.target_l0,
        skip=", affine skip connection" if config.has_skip else "",
        reads=OUTPUT if config.kind == "sae" else INPUT,
        predicts="the same vector" if config.kind == "sae" else OUTPUT,
        data=", ".join(config.data),
        tokens=config.tokens,
        steps=config.n_steps,
        batch=config.batch_tokens,
        averaged=len(last),
        **means,
    )
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(text)
