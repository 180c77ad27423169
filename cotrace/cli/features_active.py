"""`cotrace features active`: the features that are active on a prompt."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cotrace.defaults import DEFAULT_MODEL

from . import options
from .prompt_source import read_prompt

if TYPE_CHECKING:
    import pyarrow as pa


class PromptFeatures(NamedTuple):
    """The token texts of a prompt, its active features, and their labels by layer and number."""

    tokens: list[str]
    table: "pa.Table"
    labels: Mapping[tuple[int, int], Any]


def active_features(
    prompt: options.PromptArgument = None,
    prompt_file: options.PromptFileOption = None,
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.FeaturesOfOption = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--features", metavar="STORE", help="Feature store with labels. Default: that of the transcoders."
        ),
    ] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Show this layer only. Repeatable.", min=0)] = None,
    top: Annotated[int, typer.Option(help="Number of features to show for each token and layer.", min=1)] = 3,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    chat: options.ChatOption = False,
    json: options.JsonOption = False,
) -> None:
    """Show the features that are active on PROMPT: for each token, the most active ones of each layer.

    cotrace features active "The opposite of hot is" --layer 17
    """
    from .console import print_json
    from .report_features import print_active

    text = read_prompt(prompt, prompt_file)
    content: Any = [{"role": "user", "content": text}] if chat else text
    found = _read(content, model, transcoders, store, device, dtype)
    rows = strongest(found.table, set(layer or ()), top)
    named = [{**row, "label": _label(found.labels, row)} for row in rows]
    print_json({"tokens": found.tokens, "features": named}) if json else print_active(found.tokens, named)


def strongest(table: "pa.Table", layers: set[int], top: int) -> list[dict[str, Any]]:
    """Return the rows of the most active features of each position and layer, at most `top`, the most active first.

    `layers` restricts the layers; an empty set does not. Activations are compared by magnitude.
    """
    kept: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if not layers or row["layer"] in layers:
            kept.setdefault((row["position"], row["layer"]), []).append(row)
    ranked = (sorted(kept[key], key=lambda row: -abs(row["activation"]))[:top] for key in sorted(kept))
    return [row for rows in ranked for row in rows]


def _read(
    content: Any, model: str, transcoders: str | None, store: Path | None, device: str, dtype: str
) -> PromptFeatures:
    """Return the active features of a prompt. The store and the name of the dictionary are checked before the model is loaded."""
    import cotrace
    from cotrace.attribution.dictionaries import find_dictionary, names_dictionary

    opened = None if store is None else cotrace.FeatureStore.open(store)
    loading: dict[str, Any] = {"device": device, "dtype": dtype}
    if transcoders is not None and names_dictionary(transcoders):
        find_dictionary(transcoders)
        loaded = cotrace.load(model, "neurons", **loading)
        table = cotrace.load_dictionary(transcoders, loaded).activations(content)
    else:
        loaded = cotrace.load(model, transcoders, **loading)
        table = loaded.active_features(content)
        opened = opened or loaded.feature_store
    tokens = [loaded.tokenizer.decode_token(token) for token in loaded.tokenize(content)]
    return PromptFeatures(tokens, table, {} if opened is None else opened.labels)


def _label(labels: Mapping[tuple[int, int], Any], row: Mapping[str, Any]) -> str:
    label = labels.get((row["layer"], row["feature"]))
    return "" if label is None else label.text
