"""The model card of a trained set."""

from pathlib import Path

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.versions import package_versions

from .config import Config

TEXT = """---
library_name: cotrace
base_model: {model}
tags: [transcoder, interpretability, gemma-3]
---
# {kind} of {width:,} features a layer for {model}

Trained by cotrace {version}: `{kind}`, activation `{activation}`, {l0:g} active features a layer and
token asked for{skip}. It reads `pre_feedforward_layernorm.output` and writes
`post_feedforward_layernorm.output` of every layer.

- data: {data}
- tokens: {tokens:,} ({steps:,} steps of {batch:,})
- at the end, on training text: FVU {fvu:.3f} (mean over layers), L0 {found:.1f}, dead features {dead:.1%}

The files are in the layout of Gemma Scope 2; every layer's `config.json` has all settings. Gemma is
provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms
"""


def write_card(folder: Path, config: Config, model: LanguageModel, history: list[dict[str, float]]) -> None:
    """Write README.md beside the files."""
    last = history[-50:]
    mean = {name: sum(record[name] for record in last) / len(last) for name in ("fvu", "l0", "dead")}
    text = TEXT.format(
        model=model.source.name,
        kind=config.kind,
        width=config.width,
        version=package_versions()["cotrace"],
        activation=config.activation,
        l0=config.target_l0,
        skip=", with an affine skip" if config.has_skip else "",
        data=", ".join(config.data),
        tokens=config.tokens,
        steps=config.n_steps,
        batch=config.batch_tokens,
        fvu=mean["fvu"],
        found=mean["l0"],
        dead=mean["dead"],
    )
    (folder / "README.md").write_text(text)
