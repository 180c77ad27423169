"""Files of a feature store, and the columns of each.

A store is a folder:

    store.json               metadata: `STORE_INFO`
    features-{layer}.parquet one row per feature of a layer, in the order of the features
    examples-{layer}.parquet the examples of the layer's features, sorted by feature, kind (top first) and rank
    sequences.parquet        the token sequences that examples are in; `contexts.context_of` cuts an example's context out of one
    tokens.parquet           the text of every token id that occurs in the other files

"Layer" is the layer whose encoder the feature has: crosscoders of Gemma Scope 2 have one for each of their layers. Token texts are those that
the tokenizer decodes from single ids, so that cards need no tokenizer. Examples name a sequence and a position: contexts
overlap, and would be ten times as large. Neurons have signed activations, which are ranked and binned by magnitude.
"""

from typing import Any

import pyarrow as pa

FORMAT_VERSION = 1
STORE_FILE, TOKENS_FILE, SEQUENCES_FILE = "store.json", "tokens.parquet", "sequences.parquet"
HISTOGRAM_BINS = 64
"""Bins of activations: bin b counts those whose magnitude is in [HISTOGRAM_LOWEST * 2**(b / 2), HISTOGRAM_LOWEST * 2**((b + 1) / 2)).

The first and the last bin count everything below and above too."""
HISTOGRAM_LOWEST = 2.0**-12
TOP, QUANTILE = "top", "quantile"
EXAMPLE_KINDS = (TOP, QUANTILE)

# The expected shape of store.json, as in `graphs.json_metadata`.
STORE_INFO: dict[str, Any] = {
    "format_version": int,
    "model": {"name": str, "n_layers": int},
    "dictionary": {
        "name": str,
        "kind": str,
        "site": str,
        "sha256": (str, None),
    },  # kind: clt, per-layer, neurons, sae, crosscoder
    "layers": [int],
    "widths": [int],  # number of features of each of `layers`
    "data": [{"source": str, "tokens": int, "licence?": str, "about?": str}],
    "tokens": int,  # unmasked tokens that were counted
    "markup_tokens": int,  # unmasked tokens of chat markup, counted apart
    "context": {"before": int, "after": int, "bos": (int, None)},  # tokens around the marked one; none beyond a BOS
    "sequence_length": int,
    "seed": int,
    "settings": {},  # of the build: `features.build.config.BuildConfig`, and what it chose
    "versions": {},
}


def file_of(part: str, layer: int) -> str:
    """Return the file name of a layer's features or examples: `part` is "features" or "examples"."""
    return f"{part}-{layer}.parquet"


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False))


def _field(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


TOKEN_COUNT = pa.struct([_field("token", pa.int32()), _field("count", pa.int64())])
TOKEN_WEIGHT = pa.struct([_field("token", pa.int32()), _field("logit", pa.float32())])
NEIGHBOUR = pa.struct([_field("layer", pa.int16()), _field("feature", pa.int32()), _field("cosine", pa.float32())])
# Output tokens at one written layer. Layer -1, the first, is all written layers together, and the only one if there is only one.
WRITTEN = pa.struct(
    [
        _field("layer", pa.int16()),
        _field("norm", pa.float32()),  # of the decoder vector
        _field("top", _list(TOKEN_WEIGHT)),  # logits minus their mean over the vocabulary, largest first
        _field("bottom", _list(TOKEN_WEIGHT)),  # smallest first
    ]
)

FEATURES = pa.schema(
    [
        _field("layer", pa.int16()),
        _field("feature", pa.int32()),
        _field("count", pa.int64()),  # tokens at which it is active, exact
        _field("markup_count", pa.int64()),  # the same among tokens of chat markup
        _field("total", pa.float64()),  # sum of its activations over `count` tokens
        _field("max", pa.float32()),  # activation of the largest magnitude; 0 if it was never active
        _field("histogram", pa.list_(pa.field("item", pa.int64(), nullable=False), HISTOGRAM_BINS)),
        _field("fires_on", _list(TOKEN_COUNT)),  # the tokens it is active at most often, most often first
        _field("written", _list(WRITTEN)),
        _field("near_encoder", _list(NEIGHBOUR)),  # largest cosine first
        _field("near_decoder", _list(NEIGHBOUR)),
        _field("label", pa.string()),  # "" without one
        _field("label_source", pa.string()),  # "" without a label; else as in a graph's column `label_source`
        _field("label_score", pa.float32(), nullable=True),
        _field("label_null", pa.float32(), nullable=True),  # 95th percentile of the scores of other features' labels
    ]
)

EXAMPLES = pa.schema(
    [
        _field("feature", pa.int32()),
        _field("kind", pa.dictionary(pa.int8(), pa.string())),  # EXAMPLE_KINDS
        _field("rank", pa.int16()),  # from 0; top: largest activation first; quantile: smallest first
        _field("activation", pa.float32()),  # at the marked token
        _field("sequence", pa.int32()),  # of SEQUENCES
        _field("position", pa.int32()),  # of the marked token in its sequence
    ]
)

SEQUENCES = pa.schema(  # those with an example, ascending
    [_field("sequence", pa.int32()), _field("token_ids", _list(pa.int32()))]
)

TOKENS = pa.schema([_field("token", pa.int32()), _field("text", pa.string()), _field("count", pa.int64())])
"""`count`: how often the token occurs among the tokens of the build; 0 for tokens that occur as output tokens only."""
