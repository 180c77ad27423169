"""Feature files of circuit-tracer: what its viewer shows of a feature, in a file `features/SCAN/NUMBER.json` for each.

NUMBER is the Cantor pair of layer and index. The files hold examples and output tokens, as texts, but no label.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cotrace.common.checks import check_unicode
from cotrace.common.errors import FileError
from cotrace.common.visible_text import visible

from .json_stream import read_entries
from .neuronpedia_nodes import cantor_pair, cantor_unpair

LABEL_TOKENS = 2
_NUMBERS = ("act_min", "act_max", "activation_frequency")


class FeatureFileExample(NamedTuple):
    """A piece of text on which a feature is active."""

    quantile: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """The activation at each token."""
    mark: int
    """The token for which the text was chosen."""


class FeatureFile(NamedTuple):
    """What a file holds of a feature; numbers are None where the file lacks them."""

    layer: int
    feature: int
    top: tuple[str, ...]
    """Output tokens that it promotes, strongest first."""
    bottom: tuple[str, ...]
    examples: tuple[FeatureFileExample, ...]
    histogram: tuple[float, ...]
    quantile_values: tuple[float, ...]
    act_min: float | None
    act_max: float | None
    activation_frequency: float | None

    @property
    def label(self) -> str:
        """The output tokens that it promotes most, such as `says "Austin", "Texas"`; empty without any."""
        words = dict.fromkeys(visible(token.strip()) for token in self.top if token.strip())
        return f"says {', '.join(f'{chr(34)}{word}{chr(34)}' for word in list(words)[:LABEL_TOKENS])}" if words else ""


def read_feature_file(path: str | os.PathLike) -> FeatureFile:
    """Return what a feature file of circuit-tracer's viewer holds.

    Its name is the Cantor pair of layer and index; a file of another name has the pair in `index`. Raises FileError for a file
    that is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        return _feature(path, dict(read_entries(path, ())))
    except FileError as error:
        raise FileError(f"cannot read the feature file {path}: {error}") from error


def labels_from(folder: Path, features: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], str]:
    """Return labels from output tokens, by layer and index, for the features of which a folder has files.

    Raises FileError if it has none, and for damaged files.
    """
    paths = {(layer, index): folder / f"{cantor_pair(layer, index)}.json" for layer, index in features}
    found = {key: read_feature_file(path).label for key, path in paths.items() if path.is_file()}
    if not found:
        raise FileError(
            f"{folder} has no feature file for the features of this graph; name the folder of files such as 169912.json"
        )
    return found


def _feature(path: Path, entries: dict[str, Any]) -> FeatureFile:
    number = int(path.stem) if path.stem.isdecimal() and len(path.stem) < 30 else entries.get("index")
    if type(number) is not int or number < 0:
        raise FileError("neither its name nor its entry `index` is the number of a feature; keep the name it had")
    if "examples_quantiles" not in entries and "top_logits" not in entries:
        raise FileError("it lacks examples_quantiles and top_logits: it is not a feature file of circuit-tracer")
    check_unicode(json.dumps(entries, ensure_ascii=False), "export it again", FileError)
    layer, index = cantor_unpair(number)
    return FeatureFile(
        layer,
        index,
        _texts(entries.get("top_logits", []), "top_logits"),
        _texts(entries.get("bottom_logits", []), "bottom_logits"),
        tuple(_examples(entries.get("examples_quantiles", []))),
        _numbers(entries.get("histogram", []), "histogram"),
        _numbers(entries.get("quantile_values", []), "quantile_values"),
        *(_numbers([entries[name]], name)[0] if entries.get(name) is not None else None for name in _NUMBERS),
    )


def _examples(quantiles: Any) -> Iterable[FeatureFileExample]:
    for quantile in _list(quantiles, "examples_quantiles"):
        if not isinstance(quantile, dict):
            raise FileError("an entry of examples_quantiles is not a JSON object; export it again")
        for example in _list(quantile.get("examples", []), "examples"):
            if not isinstance(example, dict):
                raise FileError("an example is not a JSON object; export it again")
            tokens = _texts(example.get("tokens"), "tokens")
            activations = _numbers(example.get("tokens_acts_list"), "tokens_acts_list")
            mark = example.get("train_token_ind", example.get("train_token_index"))
            if len(tokens) != len(activations) or type(mark) is not int or not 0 <= mark < len(tokens):
                raise FileError(
                    "an example has other numbers of tokens and activations, or its mark outside; export it again"
                )
            yield FeatureFileExample(str(quantile.get("quantile_name", "")), tokens, activations, mark)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise FileError(f"its entry {name} is not a list; export it again")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not all(isinstance(each, str) for each in _list(value, name)):
        raise FileError(f"its entry {name} is not a list of texts; export it again")
    return tuple(value)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    try:
        if all(type(each) in (int, float) and math.isfinite(each) for each in _list(value, name)):
            return tuple(map(float, value))
    except OverflowError:
        pass
    raise FileError(f"its entry {name} is not a list of finite numbers; export it again")
