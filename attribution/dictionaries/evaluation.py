"""Measure how well a dictionary reconstructs its site: squared error, explained variance, sparsity."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.errors import ArgumentError
from cotrace.kernels.active import Active

from .capture import site_values
from .dictionary import SparseDictionary

DENSE_RATE = 0.1  # share of tokens above which a feature counts as dense


@dataclass(frozen=True)
class LayerReconstruction:
    """Measurements at one layer of a dictionary.

    Attributes:
        layer: the layer.
        mse: mean over tokens and components of the squared error.
        variance: the same of the prediction of the mean vector over the same tokens.
        explained_variance: `1 - mse / variance`: 1 is perfect, and the mean vector gives 0.
        l0: active features per token of the layer's encoder.
        dead: share of its features that were never active.
        dense: share of its features that were active on more than 10% of the tokens.
    """

    layer: int
    mse: float
    variance: float
    explained_variance: float
    l0: float
    dead: float
    dense: float


@dataclass
class DictionaryEvaluation:
    """Measurements of a dictionary on text.

    Attributes:
        name: of the dictionary.
        kind: "sae" or "crosscoder".
        site: what it reconstructs.
        tokens: number of tokens; masked positions are not counted.
        layers: the measurements at each layer.
        settings: the model and the text.
    """

    name: str
    kind: str
    site: str
    tokens: int
    layers: list[LayerReconstruction]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def mse(self) -> float:
        """Mean over layers of the mean squared error."""
        return sum(each.mse for each in self.layers) / len(self.layers)

    @property
    def explained_variance(self) -> float:
        """Mean over layers of the explained variance."""
        return sum(each.explained_variance for each in self.layers) / len(self.layers)

    @property
    def l0(self) -> float:
        """Active features per token: of all encoders of a crosscoder together, the mean over layers of SAEs."""
        total = sum(each.l0 for each in self.layers)
        return total if self.kind == "crosscoder" else total / len(self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as values that JSON can hold."""
        means = {name: getattr(self, name) for name in ("mse", "explained_variance", "l0")}
        return asdict(self) | means

    def __repr__(self) -> str:
        return (
            f"DictionaryEvaluation({self.name!r}: explained variance {self.explained_variance:.4f}, MSE {self.mse:.4g}, "
            f"L0 {self.l0:.1f}, {self.tokens:,} tokens)"
        )


class _Moments:
    """Number, mean and squared deviation of vectors, exact for any batch size up to rounding.

    Batches are merged with the formula of Chan et al. 1983, which does not subtract large sums.
    """

    def __init__(self) -> None:
        self.n, self.squares, self.mean_X = 0, 0.0, torch.zeros(())

    def add(self, x_PX: Tensor) -> None:
        """Count vectors, in float64."""
        mean_X = x_PX.mean(0)
        squares = (x_PX - mean_X).square().sum().item()
        if self.n:
            gap_X, total = mean_X - self.mean_X, self.n + len(x_PX)
            squares += self.squares + gap_X.square().sum().item() * self.n * len(x_PX) / total
            mean_X = self.mean_X + gap_X * len(x_PX) / total
        self.n, self.squares, self.mean_X = self.n + len(x_PX), squares, mean_X


class DictionaryMeasurement:
    """Running sums over tokens for one dictionary."""

    def __init__(self, dictionary: SparseDictionary, weights: Gemma3):
        self.dictionary, self.weights, self.tokens = dictionary, weights, 0
        self._width = 0
        self._moments = {layer: _Moments() for layer in dictionary.layers}
        self._error = dict.fromkeys(dictionary.layers, 0.0)
        self._active_tokens = {
            layer: torch.zeros(width, dtype=torch.int64)
            for layer, width in zip(dictionary.layers, dictionary.widths, strict=True)
        }

    def add(self, ids_BP: Tensor, kept_BP: Tensor) -> None:
        """Measure at the kept positions, (B, P) bool, of rows of token ids."""
        dictionary, n = self.dictionary, int(kept_BP.sum())
        values: dict[int, Tensor] = {}
        active: dict[int, Active] = {}
        for layer, x_BPX in site_values(self.weights, self.weights.embed(ids_BP), dictionary.site, dictionary.layers):
            x_NX = x_BPX[kept_BP].float()
            values[layer], active[layer] = x_NX, dictionary.encode(layer, x_NX)
            self._count(layer, active[layer])
            if dictionary.kind == "sae":  # needs no other layer
                self._compare(values, dictionary.decode(active, n))
                values.clear()
                active.clear()
        if values:
            self._compare(values, dictionary.decode(active, n))
        self.tokens += n

    def result(self) -> DictionaryEvaluation:
        """Return the means over all tokens. Raises ArgumentError if there were none."""
        if not self.tokens:
            raise ArgumentError("no text to evaluate on: give texts with at least one token besides BOS")
        layers = [self._layer(layer) for layer in self.dictionary.layers]
        name, kind, site = self.dictionary.name, self.dictionary.kind, self.dictionary.site
        return DictionaryEvaluation(name, kind, site, self.tokens, layers)

    def _count(self, layer: int, active: Active) -> None:
        counts_F = self._active_tokens[layer]
        counts_F += torch.bincount(active.feature_n.cpu(), minlength=len(counts_F))

    def _compare(self, values: dict[int, Tensor], reconstructed: dict[int, Tensor]) -> None:
        for layer, x_NX in values.items():
            exact_NX = x_NX.double()
            self._moments[layer].add(exact_NX)
            self._error[layer] += (exact_NX - reconstructed[layer]).square().sum().item()
            self._width = x_NX.shape[1]

    def _layer(self, layer: int) -> LayerReconstruction:
        count = self.tokens * self._width
        mse, variance = self._error[layer] / count, self._moments[layer].squares / count
        rate_F = self._active_tokens[layer] / self.tokens
        explained = 1 - mse / variance if variance else float(mse == 0)
        dead, dense = ((rate_F == 0).float().mean().item(), (rate_F > DENSE_RATE).float().mean().item())
        return LayerReconstruction(layer, mse, variance, explained, rate_F.sum().item(), dead, dense)


@torch.no_grad()
def evaluate_dictionary(
    dictionary: SparseDictionary, weights: Gemma3, batches: Iterable[tuple[Tensor, Tensor]]
) -> DictionaryEvaluation:
    """Return the measurements of a dictionary on batches of token ids (B, P) and kept positions (B, P) bool.

    Raises ArgumentError if no position is kept.
    """
    measurement = DictionaryMeasurement(dictionary, weights)
    for ids_BP, kept_BP in batches:
        measurement.add(ids_BP, kept_BP)
    return measurement.result()
