"""Build a feature store: read text, run the model over it, write the store."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.models.memory import out_of_memory
from cotrace.common.errors import FileError, one_line
from cotrace.common.files import locked
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.features.store.files import write_info
from cotrace.features.store.labels import write_labels
from cotrace.features.store.schema import FORMAT_VERSION, STORE_FILE
from cotrace.training.activations import unmasked_positions

from .config import AUTO, BuildConfig
from .outputs import FrozenReadout
from .passes import run_passes, tokens_of
from .runs import WorkFolder, sum_up
from .sequences import SourceText, read_text
from .source import FeatureSource
from .tally import TallyRules
from .write import StoreWriter

# What "auto" chooses, by the number of features of all layers together.
MAX_COMPARED = 32_768  # each is compared with every other one
MAX_COMPARED_IN_LAYER = 16_384
MAX_LAYER_OUTPUTS = 2**20  # output tokens of every written layer
COUNT_SEQUENCES = 1024


@out_of_memory("stop other programs, or choose narrower transcoders")
def build_store(
    model: LanguageModel,
    source: FeatureSource,
    out: Path,
    config: BuildConfig,
    *,
    labels: bool = True,
    progress: bool | None = None,
) -> Path:
    """Build the store of a model's features in a folder, with automatic labels unless not `labels`; return the folder.

    The folder `unfinished` inside holds what was computed so far; a build that was stopped continues from there. Nothing is done if the
    folder holds a finished store of the same features and settings.

    Raises:
        FileError: the folder holds another store or build, or cannot be written.
        CotraceError: the text has too few tokens or cannot be read.
    """
    bars, config = Progress(progress), choose(config, source)
    identity = {"model": describe_model(model), "dictionary": describe_source(source), "settings": config.to_json()}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock", lambda: bars.say(f"waiting for another process that builds {out}")):
        if not is_built(out, identity):
            _build(model, source, out, config, identity, bars)
        work = WorkFolder(out)
        if work.path.is_dir():  # also after a process that was killed between the store and its labels
            write_labels(out, bars)
            work.remove()
    (out / ".lock").unlink(missing_ok=True)
    return out


def _build(
    model: LanguageModel, source: FeatureSource, out: Path, config: BuildConfig, identity: dict[str, Any], bars: Progress
) -> None:
    # 1. text
    work = WorkFolder(out)
    if not work.open(identity):
        work.save_text(read_text(config, model, bars, work.path / "samples"))
    text = work.load_text()
    # 2. forward passes
    rules = TallyRules(model.architecture.vocab_size, config.context, config.top, config.quantiles, config.seed)
    run_passes(model, source, text.ids_SP, work, rules, bars)
    # 3. files
    counts = count_tokens(model, text, len(config.data))
    runs = work.runs()
    readout = FrozenReadout(model.weights, sum_up(runs)["scale_sum"] / max(counts.count_V.sum(), 1))
    writer = StoreWriter(out, source, config, rules, readout)
    with bars.phase("writing features", sum(source.widths)) as advance:
        for index in range(len(source.layers)):
            writer.write_layer(index, runs, advance)
    writer.write_sequences(text.ids_SP)
    writer.write_tokens(model, counts.count_V)
    info = {
        "format_version": FORMAT_VERSION,
        **identity,
        "settings": {**identity["settings"], "final_norm_scale": readout.scale},
        "layers": list(source.layers),
        "widths": list(source.widths),
        "data": [
            {"source": name, "tokens": int(n)} for name, n in zip(config.data, counts.tokens_by_source, strict=True)
        ],
        "tokens": int(counts.count_V.sum()),
        "markup_tokens": counts.markup,
        "context": {"before": config.before, "after": config.after, "bos": model.tokenizer.bos_id},
        "sequence_length": config.context,
        "seed": config.seed,
        "versions": package_versions(),
    }
    write_info(out, info)  # last: a folder with this file is a store


class TokenCounts(NamedTuple):
    """Tokens of the text that are not masked."""

    count_V: np.ndarray  # of each token outside of chat markup, int64
    tokens_by_source: np.ndarray  # likewise, of each source
    markup: int


def count_tokens(model: LanguageModel, text: SourceText, n_sources: int) -> TokenCounts:
    """Count the tokens of a build's text."""
    count_V, by_source, markup = np.zeros(model.architecture.vocab_size, np.int64), np.zeros(n_sources, np.int64), 0
    for start in range(0, len(text.ids_SP), COUNT_SEQUENCES):
        rows = slice(start, start + COUNT_SEQUENCES)
        ids_BP = text.ids_SP[rows]
        kept_BP = unmasked_positions(model, torch.from_numpy(ids_BP.astype(np.int64))).numpy()
        tokens = tokens_of(model, ids_BP, kept_BP, start)
        count_V += np.bincount(tokens.id_T[~tokens.markup_T], minlength=len(count_V))
        row_T = tokens.place_T[~tokens.markup_T] // ids_BP.shape[1]
        by_source += np.bincount(text.source_S[row_T], minlength=n_sources)
        markup += int(tokens.markup_T.sum())
    return TokenCounts(count_V, by_source, markup)


def choose(config: BuildConfig, source: FeatureSource) -> BuildConfig:
    """Return settings in which "auto" is replaced by a choice for the number of features."""
    total, widest = sum(source.widths), max(source.widths)
    near = "all" if total <= MAX_COMPARED else "layer" if widest <= MAX_COMPARED_IN_LAYER else "none"
    outputs = "layers" if total <= MAX_LAYER_OUTPUTS else "sum"
    if config.neighbours == AUTO:
        config = replace(config, neighbours=near)
    return replace(config, outputs=outputs) if config.outputs == AUTO else config


def is_built(out: Path, identity: dict[str, Any]) -> bool:
    """Return whether a folder holds a finished store of the same model, features and settings.

    Raises FileError for a store of others.
    """
    path = out / STORE_FILE
    if not path.is_file():
        return False
    try:
        info = json.loads(path.read_text())
        different = [name for name, value in identity.items() if _known(info[name], value) != value]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({one_line(error)}): choose another folder, or remove it") from error
    if different:
        raise FileError(f"{out} holds a store with another {' and '.join(different)}: choose another folder")
    return True


def _known(found: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a part of a store's metadata that the same part of an identity has."""
    return {name: found.get(name) for name in asked}


def describe_model(model: LanguageModel) -> dict[str, Any]:
    """Return what identifies a model."""
    sizes = {"n_layers": model.architecture.n_layers, "d_model": model.architecture.d_model}
    return {"name": model.source.name, "sha256": model.source.content_hash(), **sizes}


def describe_source(source: FeatureSource) -> dict[str, Any]:
    """Return what identifies features."""
    return {"name": source.name, "kind": source.kind, "site": source.site, "sha256": source.content_hash()}
