"""`load_dictionary`: SAEs and crosscoders of a model, to read their features on prompts and steer with their directions."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.dictionaries.capture import SiteValues, site_values
from cotrace.attribution.dictionaries.dictionary import SparseDictionary
from cotrace.attribution.dictionaries.evaluation import DictionaryEvaluation, evaluate_dictionary
from cotrace.attribution.dictionaries.loading import find_dictionary, open_dictionary
from cotrace.attribution.interventions.edits import Direction, Edit
from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import out_of_memory
from cotrace.attribution.models.sites import Site
from cotrace.attribution.models.tokenizer import as_prompt_list
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature, parse_node
from cotrace.kernels.active import Active

from .defaults import DEFAULT_MODEL
from .model import Model
from .types import PromptLike


def load_dictionary(
    spec: str | os.PathLike[str],
    model: "Model | LanguageModel | str | os.PathLike[str]" = DEFAULT_MODEL,
    *,
    device: str = "auto",
) -> "FeatureDictionary":
    """Load SAEs or a crosscoder in Gemma Scope 2's layout, for inspection. They cannot be traced.

    Args:
        spec: a local folder, or a Hub id `owner/name/folder[@revision]`: the folder of one layer's SAE, such as
            `google/gemma-scope-2-270m-pt/resid_post/layer_9_width_16k_l0_medium`; the name of a set of SAEs of several layers,
            `…/resid_post_all/width_16k_l0_small`; or a crosscoder, `…/crosscoder/layer_5_9_12_15_width_65k_l0_medium`.
        model: the model that it was trained on, loaded or by name as `cotrace.load` takes it.
        device: where a model given by name is loaded.

    Raises:
        CotraceError: the dictionary or the model is missing, damaged, or they do not belong together.
    """
    found = find_dictionary(spec)  # a misspelt name is reported before a model is loaded
    if not isinstance(model, Model | LanguageModel):
        model = load_language_model(model, device=device)
    language_model = model.language_model if isinstance(model, Model) else model
    return FeatureDictionary(open_dictionary(found, language_model.architecture), language_model)


class FeatureDictionary:
    """SAEs or a crosscoder of a model. `cotrace.load_dictionary` makes one.

    Features have names such as `L9#123`: the layer whose encoder they have, and their number.

    Attributes:
        files: encoders and decoders, without a model.
        language_model: the model that it reads.
    """

    def __init__(self, files: SparseDictionary, language_model: LanguageModel):
        self.files, self.language_model = files, language_model
        self.weights, self.tokenizer = language_model.weights, language_model.tokenizer

    @property
    def name(self) -> str:
        """Path or Hub id."""
        return self.files.name

    @property
    def kind(self) -> str:
        """The kind: "sae" or "crosscoder"."""
        return self.files.kind

    @property
    def site(self) -> Site:
        """The site that is read and reconstructed: "resid_post", "mlp_out" or "attn_out"."""
        return self.files.site

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have features, ascending."""
        return self.files.layers

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each of `layers`."""
        return self.files.widths

    def __repr__(self) -> str:
        return f"<cotrace.FeatureDictionary {repr(self.files)[1:-1]}, on {self.language_model.source.name}>"

    def describe(self) -> dict[str, Any]:
        """Return name, kind, site and the SHA-256 of the files."""
        return self.files.describe()

    @torch.no_grad()
    @out_of_memory()
    def activations(self, prompt: PromptLike, *, masked_positions: Sequence[int] | None = None) -> pa.Table:
        """Return a table of the N active features of a prompt, sorted by layer, position and feature.

        Columns: layer, position, feature (int32), activation, pre_activation.

        Args:
            prompt: a text, token ids, a chat, or a `Transcript`.
            masked_positions: positions without features; None masks BOS, and in a chat the tokens that open it, as in
                `cotrace.load(…).trace`. Position 0 is always masked.

        Raises CotraceError for an empty prompt, invalid positions, and a damaged encoder.
        """
        ids_P = self._ids(prompt)
        masked = MaskedPositions.choose(
            masked_positions, self.tokenizer.constant_prefix_length(ids_P.tolist()), len(ids_P)
        )
        open_p = masked.open_positions(len(ids_P), ids_P.device)
        active = {}
        for layer, x_PX in self._site_values(ids_P):
            features = self.files.encode(layer, x_PX[open_p])
            active[layer] = features._replace(position_n=open_p[features.position_n])
        return _table(active)

    @torch.no_grad()
    @out_of_memory()
    def values(self, prompt: PromptLike) -> dict[int, Tensor]:
        """Return the values (P, X) of the site at each layer: what the dictionary reads and reconstructs.

        X is the width of the site. Raises CotraceError for an empty prompt.
        """
        return dict(self._site_values(self._ids(prompt)))

    @torch.no_grad()
    @out_of_memory()
    def reconstruct(self, prompt: PromptLike) -> dict[int, Tensor]:
        """Return the reconstructions (P, X) of `values` at each layer, at masked positions too.

        Dictionaries are not trained on BOS, and reconstruct it badly. Raises CotraceError for an empty prompt.
        """
        values = self.values(prompt)
        active = {layer: self.files.encode(layer, x_PX) for layer, x_PX in values.items()}
        return self.files.decode(active, len(next(iter(values.values()))))

    @out_of_memory("give shorter texts")
    def evaluate(self, texts: PromptLike | Sequence[PromptLike]) -> DictionaryEvaluation:
        """Return squared error, explained variance and sparsity of the reconstruction on texts.

        The mean vector over the same tokens explains 0 of the variance, and a perfect reconstruction 1. Masked positions are
        not counted.

        Args:
            texts: prompts, each a text, token ids, a chat, or a `Transcript`.

        Raises CotraceError for texts without tokens.
        """
        listed: list[Any] = as_prompt_list(texts) or [texts]
        return evaluate_dictionary(self.files, self.weights, self._batches(listed))

    def decoder(self, feature: Feature | str) -> dict[int, Tensor]:
        """Return the decoder vector (X,) of a feature at each layer that it writes to, in float32 on the CPU.

        X is the width of the site: for "attn_out" that of all heads side by side, else that of the model. Raises ArgumentError
        for a feature that the dictionary does not have.
        """
        named = self._feature(feature)
        rows_JX = self.files.decoder_rows(named.layer, torch.tensor([named.feature]))[0]
        return dict(zip(self.files.written_layers(named.layer), rows_JX, strict=True))

    def edit(self, feature: Feature | str, edit: Edit, *, layers: Sequence[int] | None = None) -> dict[Direction, Edit]:
        """Return an edit along a feature's decoder vectors, for `Model.intervene` and `Model.generate`.

        `add(a)` moves the site by `a` times the decoder vector: what the feature writes with an activation of `a`. Of the
        other edits, the activation is the component of the site along the decoder vector, in multiples of its length:
        `ablate()` removes it. The MLP and attention of later layers respond.

        Args:
            feature: `Feature(9, 123, position="generated")`, or its text such as "L9#123@generated". Without a position it is
                edited at all positions of the prompt and at every new token.
            edit: `ablate()`, `set_to(a)`, `add(a)` or `multiply(a)` with numbers.
            layers: edit at these layers only, of those that a crosscoder's feature writes to; None for all of them.

        Raises:
            ArgumentError: a feature that the dictionary does not have, one that writes nothing, another edit, or layers that it
                does not write to.
        """
        named = self._feature(feature)
        if not isinstance(edit, Edit) or isinstance(edit.shift, Tensor):
            raise ArgumentError(
                f"invalid edit of {named}: {edit!r}; use ablate(), set_to(x), add(x) or multiply(x) with a number"
            )
        decoder = {layer: vector_X for layer, vector_X in self.decoder(named).items() if vector_X.any()}
        absent = [layer for layer in layers or () if layer not in decoder]
        if absent or not decoder:
            written = ", ".join(map(str, decoder)) or "none"
            raise ArgumentError(f"{named} writes to no layer {absent[0] if absent else ''}; it writes to {written}")
        return {
            Direction(
                layer, vector_X, named.position, name=f"{self.kind} {replace(named, position='all')}", site=self.site
            ): Edit(edit.scale, edit.shift * vector_X.double().norm().item())
            for layer, vector_X in decoder.items()
            if layers is None or layer in layers
        }

    def _ids(self, prompt: PromptLike) -> Tensor:
        return torch.tensor(self.tokenizer.encode(prompt), device=self.weights.device)

    def _site_values(self, ids_P: Tensor) -> Iterator[SiteValues]:
        return site_values(self.weights, self.weights.embed(ids_P), self.site, self.layers)

    def _feature(self, feature: Feature | str) -> Feature:
        """Return a feature that the dictionary has. Raises ArgumentError for anything else."""
        named = parse_node(feature) if isinstance(feature, str) else feature
        if not isinstance(named, Feature):
            raise ArgumentError(f"{feature!r} is not a feature of a dictionary; write L9#123 or L9#123@generated")
        self.files.check_feature(named.layer, named.feature)
        return named

    def _batches(self, prompts: Sequence[PromptLike]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the token ids (1, P) of each prompt, and which positions are not masked."""
        for prompt in prompts:
            ids = self.tokenizer.encode(prompt)
            ids_BP = torch.tensor([ids], device=self.weights.device)
            kept_BP = torch.arange(len(ids), device=ids_BP.device)[None] >= self.tokenizer.constant_prefix_length(ids)
            kept_BP[:, 0] = False
            yield ids_BP, kept_BP


def _table(active: dict[int, Active]) -> pa.Table:
    """Return a table of the active features of some layers, each sorted by position and feature."""
    layer_N = torch.cat([torch.full_like(a.feature_n, layer) for layer, a in active.items()])
    columns = {"layer": pa.array(layer_N.cpu().numpy(), pa.int32())}
    for name in ("position", "feature"):
        joined = torch.cat([getattr(a, f"{name}_n") for a in active.values()])
        columns[name] = pa.array(joined.cpu().numpy(), pa.int32())
    for name in ("activation", "pre_activation"):
        joined = torch.cat([getattr(a, f"{name}_n") for a in active.values()])
        columns[name] = pa.array(joined.cpu().numpy())
    return pa.table(columns)
