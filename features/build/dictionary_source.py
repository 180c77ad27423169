"""SAEs and crosscoders as a source of features for a store."""

from collections.abc import Iterator

from torch import Tensor

from cotrace.attribution.dictionaries import SparseDictionary
from cotrace.attribution.dictionaries.capture import recorded
from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3

from .source import LayerActive


class DictionarySource:
    """SAEs of one site, or a crosscoder; a `FeatureSource`."""

    def __init__(self, dictionary: SparseDictionary, weights: Gemma3):
        self.dictionary, self.weights = dictionary, weights
        self.name, self.kind = dictionary.name, dictionary.kind
        self.site: str = dictionary.site
        self.layers, self.widths = dictionary.layers, dictionary.widths

    def content_hash(self) -> str:
        """Return the SHA-256 over the contents of all files."""
        return self.dictionary.content_hash()

    def forward_pass(self, weights: Gemma3, resid_BPD: Tensor) -> ForwardPass:
        """Return a forward pass without attention patterns."""
        return ForwardPass(weights, resid_BPD, keep_patterns=False)

    def active(self, forward_pass: ForwardPass, kept_BP: Tensor) -> Iterator[LayerActive]:
        """Run a forward pass to its end; yield the active features of each layer at the kept tokens."""
        for layer, x_BPX in recorded(forward_pass, self.dictionary.site):
            if layer in self.layers:
                yield LayerActive(layer, self.dictionary.encode(layer, x_BPX[kept_BP].float()))

    def encoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return encoder vectors (U, X), of the site's width."""
        return self.dictionary.encoder_rows(layer, feature_U)

    def decoder_rows(self, layer: int, feature_U: Tensor) -> Tensor:
        """Return decoder vectors (U, J, D) as they enter the residual stream.

        Those of the heads' outputs pass the projection and the factor of the norm behind it; the norm's scale, which
        depends on the prompt, is left out.
        """
        rows_UJX = self.dictionary.decoder_rows(layer, feature_U)
        if self.dictionary.site != "attn_out":
            return rows_UJX
        w = self.weights.layer(layer)
        return rows_UJX @ w.w_o.T.float().cpu() * w.norm_attn_out_D.float().cpu()

    def written_layers(self, layer: int) -> tuple[int, ...]:
        """Return the layers whose residual stream the features of a layer write to."""
        return self.dictionary.written_layers(layer)
