"""Random effects: seeded, and as a hypothesis strategy."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from cotrace.graphs import Effects

from .random_graphs import random_graph


def random_effects(seed=0, *, n_targets=2, cuts=("",), dtype=np.float32, through_qk=False, segments=None, **graph):
    """Return effects on the nodes of a random graph: random numbers, some of them zero."""
    rng, source = np.random.default_rng(seed), random_graph(seed, **graph)
    nodes = source.nodes.slice(0, source.order.n_editable).replace_schema_metadata(None)
    columns = nodes.select(["kind", "layer", "position", "feature", "token", "text"])
    targets = [
        {
            "target": number,
            "label": f" target {number}",
            "kind": "token",
            "position": source.order.n_tokens - 1,
            "probability": None if number else 0.25,
            "token_ids": [number],
            "avoiding": cut,
            "value": float(rng.normal()),
        }
        for number in range(n_targets)
        for cut in cuts
    ]
    shape = len(targets), len(nodes)
    effect_KM = (rng.normal(size=shape) * (rng.random(shape) < 0.8)).astype(dtype)
    names = ("model", "transcoders", "prompt", "tokens", "token_ids", "masked_positions")
    info = {**{name: source.info[name] for name in names}, "settings": {"freeze": "all", "segments": segments or {}}}
    credit_KM = rng.normal(size=shape).astype(dtype) if through_qk else None
    return Effects(targets, pa.table(columns), effect_KM, rng.normal(size=len(targets)), info, credit_KM)


def effects(**fixed):
    """Return a strategy of small effects; arguments of `random_effects` given here are fixed."""
    choices = {
        "n_targets": [1, 3], "cuts": [("",), ("", "step")], "dtype": [np.float32, np.float64], "through_qk": [False, True],
        "n_layers": [1, 4], "n_positions": [1, 5], "n_features": [0, 1, 20], "n_errors": [0, 4],
    }  # fmt: skip
    drawn = {name: st.sampled_from(values) for name, values in choices.items()}
    drawn |= {name: st.just(value) for name, value in fixed.items()}
    return st.builds(random_effects, st.integers(0, 2**32 - 1), **drawn)
