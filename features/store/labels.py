"""Automatic labels: short texts that say what a feature is active on or promotes, made without a language model.

A label is made from the examples of even rank and scored on the strongest examples of odd rank: the area under the ROC
curve between these and all positions of the text. No sequence has examples of both. It fits a position or not, so that the area is
(1 + share of examples that it fits - share of the text that it fits) / 2. On the same examples the labels of other
features are scored; a label is kept if it beats the 95th percentile of those.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cotrace.common.progress import Progress
from cotrace.graphs.labels import LabelSource

from .candidates import LabelCandidates, Rates, find_candidates
from .label import AUTOMATIC_SOURCES, LABEL_COLUMNS, FeatureLabel
from .label_text import label_text
from .label_writing import as_row, write_label_columns
from .outputs import output_tokens
from .relations import CLASS_RELATIONS, NEAR_RELATIONS, NONE, OUTPUT_RELATIONS, LabelText, Relation
from .schema import TOP
from .store import FeatureStore
from .words import Words

BLOCK = 4096  # features that are labelled together
SEQUENCE_BITS = 32  # of a number that codes a feature and a sequence
MIN_HELD_OUT = 4
"""A label needs this many strongest examples of odd rank."""
NULL_LABELS, MIN_NULL_LABELS = 256, 4
"""How many labels of other features a label is compared with, and how many there must be."""
NULL_PERCENTILE = 95
MIN_SCORE = 0.58
"""A label must score this too: one that fits every tenth example says little, even if other labels say less."""


class LayerExamples(NamedTuple):
    """Positions of examples of the F features of a layer, each row filled up with NONE."""

    made_from: np.ndarray
    held_out: np.ndarray
    promoted: np.ndarray
    """Words that each feature promotes, the most promoted first, filled up with NONE."""
    suppressed: np.ndarray
    """Words that each feature suppresses, likewise."""


class ScoredLabels(NamedTuple):
    """Labels of the features of a layer, with their scores and the 95th percentile of other features' labels on the same examples."""

    candidates: LabelCandidates
    score: np.ndarray
    null: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """Return whether each label beats those of other features."""
        return (self.score > self.null) & (self.score >= MIN_SCORE)

    def label(self, text: LabelText, feature: int) -> FeatureLabel | None:
        """Return the label of a feature, None if it has none that is kept."""
        if not self.kept[feature]:
            return None
        relation = Relation(self.candidates.relation[feature])
        words = label_text(text, relation, self.candidates.keys[feature].tolist())
        source: LabelSource = "outputs" if relation in OUTPUT_RELATIONS else "examples"
        return FeatureLabel(words, source, float(self.score[feature]), float(self.null[feature]))


def write_labels(folder: Path, progress: Progress | None = None) -> int:
    """Label the features of a store, and write the labels to its files; return the number of features with a label.

    Labels that are not automatic stay. Raises FileError for a damaged store, ResourceError if the disk is full.
    """
    store = FeatureStore.open(folder)
    text, labels = automatic_labels(store, progress)
    for layer, scored in labels.items():
        rows = store.features(layer, LABEL_COLUMNS).to_pylist()
        for feature, row in enumerate(rows):
            if not row["label"] or row["label_source"] in AUTOMATIC_SOURCES:
                rows[feature] = as_row(scored.label(text, feature))
        write_label_columns(store, layer, rows)
    return len(FeatureStore.open(folder).labels)


def automatic_labels(
    store: FeatureStore, progress: Progress | None = None
) -> tuple[LabelText, dict[int, ScoredLabels]]:
    """Return the text of a store as words, and the labels of each layer, scored."""
    with (progress or Progress(False)).phase("labelling features"):
        test = LabelTest(store)
        return test.text, {layer: test.score(layer) for layer in store.layers}


class LabelTest:
    """Candidates for the labels of all features of a store, ready to be scored.

    Attributes:
        text: the text of the store as words.
        found: the candidates of each layer.
    """

    def __init__(self, store: FeatureStore):
        tokens, sequences = store.tokens, store.sequences
        token_rows = tokens.rows(sequences.ids)
        words = Words(tokens.all_texts, tokens.all_counts, np.bincount(token_rows, minlength=len(tokens.ids)) > 0)
        self.text = LabelText(sequences, token_rows, words)
        self.seed = int(store.info["seed"])
        self._rates = Rates(self.text, self.seed)
        self._held_out: dict[int, np.ndarray] = {}
        self.found: dict[int, LabelCandidates] = {}
        for layer in store.layers:
            examples = layer_examples(store, layer, words)
            self._held_out[layer] = examples.held_out
            self.found[layer] = _candidates(self.text, self._rates, examples)

    def score(self, layer: int, *, exchanged: bool = False) -> ScoredLabels:
        """Return the labels of a layer with their scores; with `exchanged`, each feature has the candidate of another one."""
        found, pool = self.found[layer], _pool(self.found, layer, self.seed)
        if exchanged:
            order = np.random.default_rng([self.seed, layer, 1]).permutation(len(found.gain))
            other = np.empty_like(order)
            other[order] = np.roll(order, 1)
            found = LabelCandidates(*(column[other] for column in found))
        return _score(self.text, self._rates, self._held_out[layer], found, pool, layer)


def layer_examples(store: FeatureStore, layer: int, words: Words) -> LayerExamples:
    """Return the examples of a layer's features as positions in the text, and the words that each promotes."""
    table = store.examples(layer)
    at = store.sequences.flat_positions(table["sequence"].to_numpy(), table["position"].to_numpy())
    feature, rank = table["feature"].to_numpy(), table["rank"].to_numpy()
    is_top = pc.equal(table["kind"].cast(pa.string()), TOP).to_numpy()
    width = store.widths[layer]
    held_out = is_top & (rank % 2 == 1)
    # Drawn examples may be in the sequence of a held-out one, or be it: of a rare feature, all its activations are drawn.
    site = feature.astype(np.int64) << SEQUENCE_BITS | table["sequence"].to_numpy()
    made_from = (rank % 2 == 0) & ~np.isin(site, site[held_out])
    return LayerExamples(
        _grid(feature[made_from], at[made_from], width),
        _grid(feature[held_out], at[held_out], width),
        *_outputs(store, layer, words),
    )


def _grid(row: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
    """Return values by row, (rows, most values of a row), filled up with NONE; `row` is ascending."""
    column = np.arange(len(row)) - np.searchsorted(row, row)
    grid = np.full((rows, int(column.max(initial=-1)) + 1), NONE, np.int64)
    grid[row, column] = value
    return grid


def _outputs(store: FeatureStore, layer: int, words: Words) -> list[np.ndarray]:
    """Return the words of the tokens that each feature promotes over all layers together, and of those it suppresses."""
    written = store.features(layer, ("written",))["written"]
    grids = []
    for end in ("top", "bottom"):
        listed = output_tokens(written, end)
        grids.append(_grid(listed.feature, words.of_token[store.tokens.rows(listed.token)], store.widths[layer]))
    return grids


def _candidates(text: LabelText, rates: Rates, examples: LayerExamples) -> LabelCandidates:
    parts = []
    for start in range(0, max(len(examples.made_from), 1), BLOCK):
        block = slice(start, start + BLOCK)
        outputs = examples.promoted[block], examples.suppressed[block]
        parts.append(find_candidates(text, rates, examples.made_from[block], *outputs))
    return LabelCandidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class _Label(NamedTuple):
    """A label of another feature, to compare with."""

    layer: int
    feature: int
    relation: Relation
    keys: np.ndarray


def _pool(found: dict[int, LabelCandidates], layer: int, seed: int) -> list[_Label]:
    """Return labels to compare a layer's with: of features of the layer, and of others where it has too few."""
    own = [(layer, feature) for feature in np.flatnonzero(found[layer].relation != NONE)]
    draw = np.random.default_rng([seed, layer])
    chosen = [own[index] for index in draw.permutation(len(own))[:NULL_LABELS]]
    if len(chosen) < NULL_LABELS:
        other = [
            (each, feature)
            for each in found
            if each != layer
            for feature in np.flatnonzero(found[each].relation != NONE)
        ]
        chosen += [other[index] for index in draw.permutation(len(other))[: NULL_LABELS - len(chosen)]]
    return [
        _Label(each, int(feature), Relation(found[each].relation[feature]), found[each].keys[feature])
        for each, feature in chosen
    ]


def _score(
    text: LabelText, rates: Rates, held_out_Fn: np.ndarray, found: LabelCandidates, pool: Sequence[_Label], layer: int
) -> ScoredLabels:
    """Return the labels of a layer with their scores; a label without enough examples scores below its null."""
    n = len(found.relation)
    score, null = np.zeros(n), np.ones(n)
    if len(pool) <= MIN_NULL_LABELS:
        return ScoredLabels(found, score, null)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        held_out = held_out_Fn[block]
        enough = ((held_out != NONE).sum(axis=1) >= MIN_HELD_OUT) & (found.relation[block] != NONE)
        score[block] = np.where(enough, _own_scores(text, rates, held_out, found.relation[block], found.keys[block]), 0)
        null[block] = _null(text, rates, held_out, pool, layer, start)
    return ScoredLabels(found, score, null)


def _own_scores(
    text: LabelText, rates: Rates, held_out: np.ndarray, relation: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Return the score of each feature's own label."""
    share = np.zeros(len(held_out))
    everywhere = np.zeros(len(held_out))
    for each in Relation:
        rows = np.flatnonzero(relation == each)
        if not len(rows):
            continue
        share[rows] = _fits(text, each, held_out[rows], keys[rows])
        everywhere[rows] = [rates.of_label(each, keys[row]) for row in rows]
    return _area(share, everywhere)


def _null(
    text: LabelText, rates: Rates, held_out: np.ndarray, pool: Sequence[_Label], layer: int, start: int
) -> np.ndarray:
    """Return the 95th percentile of the scores of other features' labels, for the features of a layer from `start` on."""
    scores = np.empty((len(held_out), len(pool)))
    own = np.zeros(len(held_out), np.int64)
    cache: dict[Relation, np.ndarray] = {}
    for column, label in enumerate(pool):
        keys = np.broadcast_to(label.keys, (len(held_out), len(label.keys)))
        share = _fits(text, label.relation, held_out, keys, cache)
        scores[:, column] = _area(share, rates.of_label(label.relation, label.keys))
        if label.layer == layer and 0 <= label.feature - start < len(held_out):
            scores[label.feature - start, column] = -1  # the feature's own label: below all others, and not counted
            own[label.feature - start] = 1
    scores.sort(axis=1)
    rank = own + np.ceil(NULL_PERCENTILE / 100 * (len(pool) - own - 1)).astype(np.int64)
    return np.take_along_axis(scores, rank[:, None], axis=1)[:, 0]


def _fits(
    text: LabelText,
    relation: Relation,
    at: np.ndarray,
    keys: np.ndarray,
    cache: dict[Relation, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the share of each row of positions that the row's label fits; `keys` are (rows, MAX_KEYS)."""
    cache = {} if cache is None else cache
    if relation not in cache:
        cache[relation] = _looked_up(text, relation, at)
    found = cache[relation]
    if relation in CLASS_RELATIONS:
        fits = np.take_along_axis(found, keys[:, None, :1], axis=2)[..., 0]
    else:
        wanted = np.where(keys == NONE, NONE - 1, keys)
        wanted = wanted[:, None, :] if relation not in NEAR_RELATIONS else wanted[:, None, None, :]
        fits = (found[..., None] == wanted).any(axis=tuple(range(2, found.ndim + 1)))
    return (fits & (at != NONE)).sum(axis=1) / np.maximum((at != NONE).sum(axis=1), 1)


def _looked_up(text: LabelText, relation: Relation, at: np.ndarray) -> np.ndarray:
    if relation in CLASS_RELATIONS:
        return text.members(relation, at)
    return text.near(at) if relation in NEAR_RELATIONS else text.keys(relation, at)


def _area(share: np.ndarray, everywhere: np.ndarray | float) -> np.ndarray:
    return (1 + share - everywhere) / 2
