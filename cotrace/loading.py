"""`cotrace.load`: a model with its transcoders, from names."""

import os

from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.dtypes import DtypeName
from cotrace.attribution.models.language_model import find_source, load_language_model, parse_device, parse_dtype
from cotrace.attribution.models.loading import quiet_transformers
from cotrace.attribution.models.memory import out_of_memory
from cotrace.attribution.tracing.row_cache import RowCache
from cotrace.attribution.transcoders import default_transcoders, find_transcoders, load_transcoders
from cotrace.common.progress import Progress
from cotrace.features.store.store import FeatureStore

from .defaults import DEFAULT_MODEL
from .model import Model


@out_of_memory()
def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    transcoders: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: DtypeName = "auto",
    row_cache_bytes: int = 0,
    features: str | os.PathLike[str] | FeatureStore | None = None,
    progress: bool | None = None,
) -> Model:
    """Load a Gemma 3 model and its transcoders.

    Args:
        model: "gemma-3-270m" (from its PyPI package, converted at the first use), a Hub id `owner/name[@revision]`, a
            local folder, or a .gguf file.
        transcoders: "gemma-3-270m-clt" (comes with cotrace), "neurons" or "neurons:K", a local folder, or a Hub id
            `owner/name/folder[@revision]`. None takes the set that comes with cotrace for this model, or else its
            neurons.
        device: "auto" (CUDA if there is a device), "cpu", "cuda" or "cuda:N".
        dtype: "auto" and "float32" store and compute in float32, "float64" in float64. "bfloat16" stores the weights
            in bfloat16 and computes in float32.
        row_cache_bytes: size of a cache, in temporary files, for the rows of traced prompts. A prompt that starts like
            an earlier one reuses its rows, which equal recomputed ones up to rounding. `model.row_cache.clear()`
            empties it. 0 turns it off.
        features: a feature store of the transcoders, or its folder, as `cotrace features build` writes it. None takes the
            store that comes with cotrace for these transcoders, if it is installed.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        CotraceError: the model, the transcoders or the feature store are missing, damaged, do not belong together, or do
            not fit into memory.
    """
    row_cache = RowCache(row_cache_bytes) if row_cache_bytes else None
    transcoders = default_transcoders(model) if transcoders is None else transcoders
    parse_dtype(dtype), parse_device(device)
    find_transcoders(transcoders)  # a misspelt name is reported before anything is loaded
    store = features if isinstance(features, FeatureStore | None) else FeatureStore.open(features)
    bars = Progress(progress)
    source = find_source(model, bars)
    with quiet_transformers(), bars.phase(f"opening transcoders {transcoders}"):
        opened = load_transcoders(transcoders, read_architecture(source.config()))
    language_model = load_language_model(source, device=device, dtype=dtype, progress=progress)
    return Model(language_model, opened, row_cache, store)
