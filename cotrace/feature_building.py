"""`cotrace.build_features`: a feature store from names of a model, transcoders and text."""

import os
from collections.abc import Sequence
from pathlib import Path

from cotrace.attribution.dictionaries import SparseDictionary, find_dictionary, names_dictionary, open_dictionary
from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.language_model import find_source, load_language_model, parse_device, parse_dtype
from cotrace.attribution.transcoders import Transcoders, default_transcoders, find_transcoders, load_transcoders
from cotrace.common.progress import Progress
from cotrace.features.build.build import build_store
from cotrace.features.build.config import BuildConfig
from cotrace.features.build.dictionary_source import DictionarySource
from cotrace.features.build.source import FeatureSource, TranscoderSource

from .defaults import DEFAULT_MODEL


def build_features(
    out: str | os.PathLike,
    data: Sequence[str],
    *,
    model: str | os.PathLike = DEFAULT_MODEL,
    transcoders: str | os.PathLike | None = None,
    tokens: int = BuildConfig.tokens,
    context: int = BuildConfig.context,
    chat_share: float = BuildConfig.chat_share,
    top: int = BuildConfig.top,
    quantiles: int = BuildConfig.quantiles,
    before: int = BuildConfig.before,
    after: int = BuildConfig.after,
    fires_on: int = BuildConfig.fires_on,
    outputs: str = BuildConfig.outputs,
    neighbours: str = BuildConfig.neighbours,
    seed: int = BuildConfig.seed,
    labels: bool = True,
    device: str = "auto",
    dtype: str = "auto",
    progress: bool | None = None,
) -> Path:
    """Build a feature store: what the features of transcoders respond to and promote. Return its folder.

    A build that was stopped continues where it was. `cotrace.FeatureStore.open` reads the store.

    Args:
        out: folder of the store, which is created.
        data: text files, folders, Hugging Face data sets as NAME[:SPLIT[:COLUMN]], or samples[:N].
        model: as `cotrace.load` takes it.
        transcoders: as `cotrace.load` takes them; or SAEs or a crosscoder, as `cotrace.load_dictionary` takes them.
        tokens: number of tokens to read, BOS not counted.
        context: tokens per sequence, BOS included.
        chat_share: share of the sequences that are rewritten as chats, for models with chat tokens.
        top: examples of the largest activation per feature, at most one per sequence.
        quantiles: examples per feature drawn uniformly from all tokens at which it is active.
        before: tokens of an example's context before the marked one.
        after: tokens of the context after it.
        fires_on: tokens to keep of those that a feature is active at most often.
        outputs: output tokens of each written layer and of their sum ("layers"), of the sum only ("sum"), or "none".
        neighbours: nearest features of all layers ("all"), of the same layer ("layer"), or "none".
        seed: seed of the choice of text and examples.
        labels: label the features automatically.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: as `cotrace.load` takes it.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises CotraceError if the model, transcoders or text cannot be loaded, or if the folder holds another store.
    """
    if isinstance(data, str | os.PathLike):
        data = [os.fspath(data)]
    config = BuildConfig(
        tuple(data), tokens, context, chat_share, top, quantiles, before, after, fires_on, outputs, neighbours, seed
    )
    transcoders = default_transcoders(model) if transcoders is None else transcoders
    parse_dtype(dtype), parse_device(device)
    dictionary = find_dictionary(transcoders) if names_dictionary(transcoders) else None
    if dictionary is None:
        find_transcoders(transcoders)  # a misspelt name is reported before anything is loaded
    bars = Progress(progress)
    found = find_source(model, bars)
    arch = read_architecture(found.config())
    opened = load_transcoders(transcoders, arch) if dictionary is None else open_dictionary(dictionary, arch)
    language_model = load_language_model(found, device=device, dtype=dtype, progress=progress)
    source = _source(opened, language_model.weights)
    return build_store(language_model, source, Path(out), config, labels=labels, progress=progress)


def _source(opened: Transcoders | SparseDictionary, weights: Gemma3) -> FeatureSource:
    if isinstance(opened, SparseDictionary):
        return DictionarySource(opened, weights)
    return TranscoderSource(opened, weights)
