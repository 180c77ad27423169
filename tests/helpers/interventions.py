"""Settings, nodes and edits that several tests of interventions use."""

import functools
import shutil

import torch
from intervention_reference import Edit, Reference, dense_layers
from tiny import FEATURES, LAYERS, WIDTH, prompt
from tiny_checkpoints import write_tokenizer

import cotrace
from cotrace import Direction, ErrorNode, Feature, Token, ablate, add, multiply, set_to

MASKED = {"default": None, "masked": [3, 6]}
SETTINGS = {
    "none": {},
    "constant": {"errors": "constant"},
    "attention": {"freeze": "attention"},
    "attention-constant": {"freeze": "attention", "errors": "constant"},
    "all": {"freeze": "all"},
}
RELATIVE_TOLERANCE = 1e-9
OTHER = [2, 7, 31, 7, 10, 11, 33, 13, 14, 15, 16]  # differs from prompt() at position 6
SHORT = prompt(7)
UNIT = torch.ones(WIDTH)
EDITS = {"ablate": lambda _: ablate(), "set_to": set_to, "add": add, "multiply": multiply}
NODES = {
    "feature": Feature,
    "error": lambda layer, _, position: ErrorNode(layer, position),
    "direction": Direction,
    "token": lambda _layer, _what, position: Token(position),
}


def reference_factory(model_of, hf_model):
    """Return a function from a kind and masked positions to the dense reference of `prompt()`, or of other token ids."""

    @functools.cache
    def reference(kind, masked=(), ids=None):
        transcoders = model_of(kind).transcoders
        dense = dense_layers(transcoders, WIDTH, LAYERS)
        return Reference(hf_model, dense, list(ids or prompt()), {0, *masked}, getattr(transcoders, "k", 0))

    return reference


def load_with_tokenizer(model_folder, transcoder_spec, folder):
    """Load a model with a tokenizer and a chat template, whose tokens 1 and 5 end a text and a turn."""
    copy = shutil.copytree(model_folder, folder / "model")
    return cotrace.load(write_tokenizer(copy), transcoder_spec("clt-affine"), dtype="float64", device="cpu")


def with_settings(kinds, settings=SETTINGS):
    """Return pairs of a kind of transcoders and a setting that it can have."""
    return [(k, s) for k in kinds for s in settings if k != "neurons" or "errors" not in settings[s]]


def gap(found, expected) -> float:
    """Return the largest difference in units of the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max())


def direction(seed: int = 0) -> torch.Tensor:
    """Return a random direction (D,)."""
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@functools.cache
def _active_table(model, ids, masked):
    return model.active_features(ids, masked_positions=masked).to_pylist()


def active_at(model, layer: int, ids=None, position: int | None = None, masked=None) -> list[tuple[int, int, float]]:
    """Return (position, feature, activation) of a layer's active features."""
    rows = _active_table(model, tuple(prompt() if ids is None else ids), masked and tuple(masked))
    found = [(r["position"], r["feature"], r["activation"]) for r in rows if r["layer"] == layer]
    return [entry for entry in found if position is None or entry[0] == position]


def middle_feature(model, layer: int, **options) -> Feature:
    """Return an active feature in the middle of a layer's."""
    found = active_at(model, layer, **options)
    position, feature, _ = found[len(found) // 2]
    return Feature(layer, feature, position=position)


def intervention_of(edits):
    """Return edits of the reference as an intervention of the engine."""
    return {NODES[e.kind](e.layer, e.what, position=e.position): EDITS[e.change](e.value) for e in edits}


def edit_cases(model, masked):
    """Return edits of features, of error nodes, of directions, and of all of them together."""

    def some(layer, number):
        found = active_at(model, layer, masked=masked)
        return found[number * len(found) // 5]

    def silent(layer, position):
        active = {feature for _, feature, _ in active_at(model, layer, position=position, masked=masked)}
        return next(f for f in range(FEATURES) if f not in active)

    (p0, f0, _), (p1, f1, _), (p2, f2, _) = some(0, 1), some(1, 2), some(2, 3)
    features = [
        Edit("feature", 0, p0, f0, "ablate"),
        Edit("feature", 0, 4, silent(0, 4), "set_to", 1.7),
        Edit("feature", 0, 5, silent(0, 5), "add", -0.9),
        Edit("feature", 1, p1, f1, "multiply", -2.0),
        Edit("feature", 1, p1, silent(1, p1), "set_to", -0.6),
        Edit("feature", 2, p2, f2, "add", 0.8),
        Edit("feature", 2, 10, silent(2, 10), "set_to", 2.1),
    ]
    errors = [
        Edit("error", 0, 5, None, "ablate"),
        Edit("error", 1, 3, None, "multiply", 2.5),  # an error node also where masked
        Edit("error", 1, 8, None, "add", direction(1)),
        Edit("error", 2, 10, None, "set_to", direction(2)),
        Edit("error", 2, 4, None, "ablate"),
    ]
    directions = [
        Edit("direction", 0, 4, direction(3), "add", 2.5),
        Edit("direction", 0, 4, direction(4), "add", -1.5),  # two at one position
        Edit("direction", 0, 0, direction(4), "multiply", 3.0),
        Edit("direction", 1, 7, direction(5), "ablate"),
        Edit("direction", 2, 10, direction(6), "set_to", 4.0),
    ]
    return features, errors, directions, [*features, *errors, *directions]
