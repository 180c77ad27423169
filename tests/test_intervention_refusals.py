"""Invalid interventions are refused in one clear line, before any forward pass."""

import functools

import numpy as np
import pytest
import torch
from helpers.interventions import OTHER, SETTINGS, SHORT, UNIT, direction
from tiny import LAYERS, WIDTH, prompt

import cotrace
from cotrace import Direction, ErrorNode, Feature, Supernode, Token, ablate, add, multiply, replace_with, set_to
from cotrace.attribution.interventions import generate, intervene
from cotrace.attribution.interventions.forward import InterventionRunner
from cotrace.attribution.interventions.layer_modes import LayerMode
from cotrace.attribution.interventions.runs import row_memory
from cotrace.attribution.models import memory

pytestmark = pytest.mark.usefixtures("one_thread")

F, D = functools.partial(Feature, 1, 3), functools.partial(Direction, 1)
CONFLICTS = {
    "all": {F(position=4): ablate(), F(position="all"): ablate()},
    "negative": {F(position=-1): ablate(), F(position=10): add(1)},
    "several": {F(position=(4, 5)): ablate(), F(position=(5, 6)): ablate()},
    "supernode": {F(position=4): ablate(), Supernode([F(position=4), Feature(0, 1, position=2)]): add(1)},
    "supernodes": {Supernode([F(position=4)], "a"): ablate(), Supernode([F(position=4)], "b"): ablate()},
    "within": {Supernode([F(position=4), F(position=(4, 5))]): ablate()},
    "error": {ErrorNode(1, position=4): ablate(), ErrorNode(1): multiply(2)},
    "generated": {F(position="generated"): add(1), F(position="all"): add(2)},
    "token": {Token(4): replace_with(5), Token([3, 4]): ablate()},
}


@pytest.mark.parametrize("edits", CONFLICTS.values(), ids=CONFLICTS)
def test_conflicting_edits_are_refused(model_of, edits):
    model = model_of("clt")
    for use in (model.intervene, functools.partial(model.generate, max_new_tokens=1)):
        with pytest.raises(ValueError, match="name each once"):
            use(prompt(), edits)


@pytest.mark.parametrize("edit", [ablate(), set_to(1)], ids=["ablate", "set"])
def test_directions_that_are_not_orthogonal_are_refused(model_of, edit):
    for one, other in ((edit, add(1)), (edit, edit)):
        with pytest.raises(
            ValueError, match=r"L1 mine@4 and L1 direction@3:5 overlap at position 4.*torch\.linalg\.qr"
        ):
            model_of("clt").intervene(
                prompt(), {Direction(1, UNIT, position=4, name="mine"): one, D(direction(), position=(3, 4)): other}
            )


def test_edits_of_neighbouring_nodes_do_not_conflict(model_of):
    model = model_of("clt")
    edits = {
        D(UNIT, position=4): add(1),
        D(direction(), position=4): add(2),
        F(position=4): set_to(1),
        ErrorNode(1, position=4): ablate(),
        F(position=5): set_to(1),
    }
    assert (
        model.intervene(
            prompt(), edits | {Feature(0, 3, position=4): set_to(1), Feature(1, 2, position=4): set_to(1)}
        ).kl()
        > 0
    )


IMPOSSIBLE = {
    "layer": ({Feature(3, 0, position=4): ablate()}, "no layer 3; its layers are 0 … 2"),
    "negative layer": ({Feature(-1, 0, position=4): ablate()}, "no layer -1"),
    "error layer": ({ErrorNode(3, position=4): ablate()}, "no layer 3"),
    "direction layer": ({Direction(7, UNIT): add(1)}, "no layer 7"),
    "feature": ({Feature(1, 24, position=4): ablate()}, "24 features, 0 … 23"),
    "negative feature": ({Feature(1, -1, position=4): ablate()}, "24 features, 0 … 23"),
    "position": ({F(position=11): ablate()}, "outside the prompt of 11 tokens"),
    "negative position": ({F(position=-12): ablate()}, "outside the prompt of 11 tokens"),
    "one of several": ({F(position=(4, 11)): ablate()}, "outside the prompt of 11 tokens"),
    "twice": ({F(position=(4, -7)): ablate()}, "names a position twice"),
    "masked": ({F(position=0): set_to(1)}, "masked and carries no features"),
    "error at 0": ({ErrorNode(1, position=0): ablate()}, "without an error node"),
    "vector": ({F(position=4): set_to(UNIT)}, "its activation is one number"),
    "direction by a vector": ({D(UNIT, position=4): add(UNIT)}, "its activation is one number"),
    "number": ({ErrorNode(1, position=4): set_to(2)}, r"of shape \(20,\), not a number"),
    "added number": ({ErrorNode(1, position=4): add(2.0)}, r"of shape \(20,\), not a number"),
    "short vector": ({ErrorNode(1, position=4): set_to(UNIT[:-1])}, r"of shape \(20,\)"),
    "matrix": ({ErrorNode(1, position=4): set_to(UNIT[None])}, r"of shape \(20,\)"),
    "width": ({D(torch.ones(19)): add(1)}, r"\(19,\) and the model's width is \(20,\)"),
    "a number": ({5: ablate()}, "use a Feature, ErrorNode, Token, Direction or Supernode"),
    "number as change": ({F(position=4): 0}, r"use ablate\(\), set_to\(x\), add\(x\), multiply\(x\), or replace_with"),
    "position of a token": ({Token(11): ablate()}, "outside the prompt of 11 tokens"),
    "token twice": ({Token([4, -7]): ablate()}, "names a position twice"),
    "token by a number": (
        {Token(4): set_to(5)},
        r"of shape \(20,\), not a number; or replace it: replace_with\(token\)",
    ),
    "token by a short vector": ({Token(4): add(UNIT[:-1])}, r"of shape \(20,\)"),
    "replaced feature": ({F(position=4): replace_with(5)}, r"L1#3@4 is not a token, so replace_with\(5\) does not fit"),
    "replaced member": ({Supernode([Token(4), F(position=4)]): replace_with(5)}, "L1#3@4 is not a token"),
    "replaced by an unknown id": ({Token(4): replace_with(99)}, "token id 99 is outside the vocabulary"),
    "replaced by a text": ({Token(4): replace_with("hot")}, "no tokenizer"),
    "replaced by another position": ({Token(4): replace_with(Token(11))}, "outside the prompt of 11 tokens"),
    "replaced by new tokens": ({Token(4): replace_with(Token("generated"))}, "token@generated is at no position"),
    "function as change": ({F(position=4): ablate}, r"use ablate\(\)"),
    "no mapping": ([[F(position=4), ablate()]], "an intervention is a dict from nodes to edits"),
    "a node": (F(position=4), "an intervention is a dict from nodes to edits"),
    "none": (None, "an intervention is a dict from nodes to edits"),
    "a text": ("ablate", "an intervention is a dict from nodes to edits"),
    "several, one wrong": ([{}, {F(position=40): ablate()}], "outside the prompt"),
}


@pytest.mark.parametrize(("edits", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_edits_are_refused(model_of, edits, message):
    model = model_of("clt")
    use = model.intervene_many if isinstance(edits, list) else model.intervene
    with pytest.raises(ValueError, match=message):
        use(prompt(), edits)


UNMADE = {
    "nan": (lambda: set_to(float("nan")), "NaN or infinite"),
    "inf": (lambda: add(float("inf")), "NaN or infinite"),
    "nan factor": (lambda: multiply(float("nan")), "NaN or infinite"),
    "nan vector": (lambda: set_to(torch.tensor([1.0, float("nan")])), "NaN or infinite"),
    "inf array": (lambda: add(np.array([1.0, np.inf])), "NaN or infinite"),
    "nothing": (lambda: set_to(None), "number"),
    "out of range": (lambda: set_to(10**400), "expected a number"),
    "bytes": (lambda: set_to(b"3"), "expected a number"),
    "numpy bool": (lambda: set_to(np.bool_(True)), "expected a number"),
    "torch bool": (lambda: multiply(torch.tensor(True)), "expected a number"),
    "texts": (lambda: set_to(np.array(["a"])), "expected a tensor"),
    "objects": (lambda: set_to(np.array([None])), "expected a tensor"),
    "complex": (lambda: set_to(torch.ones(3, dtype=torch.complex64)), "expected a tensor"),
    "no direction": (lambda: Direction(0, None), r"invalid direction .*expected a vector \(D,\)"),
    "a direction by name": (lambda: Direction(0, "abc"), r"invalid direction .*expected a vector \(D,\)"),
    "open slice": (lambda: F(position=slice(2, None)), "needs both ends"),
    "slice from both sides": (lambda: F(position=slice(2, -1)), "counted from the same side"),
    "a word": (lambda: add("much"), "number"),
    "a list": (lambda: set_to([1.0, 2.0]), "number"),
    "a vector as a factor": (lambda: multiply(UNIT), "number"),
    "zero direction": (lambda: D(torch.zeros(WIDTH)), "a direction is zero"),
    "nan direction": (lambda: D(torch.full((WIDTH,), float("nan"))), "NaN or infinite"),
    "inf direction": (lambda: D(UNIT / 0), "NaN or infinite"),
    "matrix direction": (lambda: D(UNIT[None]), r"invalid direction .*expected a vector \(D,\)"),
    "integer direction": (lambda: D(torch.ones(WIDTH, dtype=torch.int64)), "of floats"),
    "place": (lambda: F(position="everywhere"), "expected int, list, range, slice"),
    "no position": (lambda: F(position=()), "name at least one"),
    "half a position": (lambda: F(position=1.5), "must be an integer"),
    "true": (lambda: F(position=True), "must be an integer"),
    "half a feature": (lambda: Feature(1, 0.5), "must be an integer"),
    "layer by name": (lambda: ErrorNode("last"), "must be an integer"),
    "empty supernode": (lambda: Supernode([], "none"), "at least one"),
    "supernode of directions": (lambda: Supernode([D(UNIT)]), "each a Feature, ErrorNode or Token"),
    "supernode of supernodes": (lambda: Supernode([Supernode([F(position=4)])]), "each a Feature, ErrorNode or Token"),
    "token by name": (lambda: Token(" hot"), "expected int, list, range, slice"),
    "half a token": (lambda: Token(1.5), "must be an integer"),
    "replaced by nothing": (lambda: replace_with(), "nothing to replace a token with"),
    "replaced by a list": (lambda: replace_with([5, 6]), "each as one argument"),
    "replaced by a feature": (lambda: replace_with(F(position=4)), "expected an exact text, an id or Token"),
    "replaced by true": (lambda: replace_with(True), "expected an exact text, an id or Token"),
    "set to a text": (lambda: set_to(" cold"), r"replace_with\(…\) takes a token's text"),
}


@pytest.mark.parametrize(("make", "message"), UNMADE.values(), ids=UNMADE)
def test_invalid_nodes_and_edits_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


OPTIONS = {
    "freeze": ({"freeze": "everything"}, "freeze='everything' is not one of none, attention, all"),
    "freeze is none": ({"freeze": None}, "freeze=None is not one of"),
    "errors": ({"errors": "zero"}, "errors='zero' is not one of recomputed, constant"),
    "layers": ({"layers": [0]}, 'use freeze="attention" or freeze="all"'),
    "no such layer": ({"layers": [0, 3], "freeze": "all"}, "no layer 3; its layers are 0 … 2"),
    "half a layer": ({"layers": [0.5], "freeze": "all"}, "must be an integer"),
    "one layer": ({"layers": 1, "freeze": "all"}, "layer"),
    "masked": ({"masked_positions": [11]}, "outside the prompt of 11 tokens"),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("use", ["intervene", "generate", "patch"])
def test_invalid_options_are_refused(model_of, use, options, message):
    model = model_of("clt")
    arguments = {"intervene": [{}], "generate": [{}], "patch": [prompt(), [F(position=4)]]}[use]
    with pytest.raises(ValueError, match=message):
        getattr(model, use)(prompt(), *arguments, **options)


def test_neurons_have_no_constant_errors(model_of):
    with pytest.raises(ValueError, match="whose other neurons respond"):
        model_of("neurons").intervene(prompt(), {}, errors="constant")


@pytest.fixture
def no_forward_pass(monkeypatch):
    """Make every forward pass fail."""

    def fail(*_arguments):
        raise AssertionError("a prompt was read")

    monkeypatch.setattr(InterventionRunner, "forward", fail)


@pytest.mark.usefixtures("no_forward_pass")
def test_everything_is_checked_before_the_first_forward_pass(model_of):
    model, fine = model_of("clt"), {F(position=4): ablate()}
    for use in (model.intervene_many, functools.partial(model.generate_many, max_new_tokens=2)):
        for prompts, edits, message in (
            ([prompt(), []], fine, "the prompt is empty"),
            ([prompt(), [99]], fine, "outside the vocabulary"),
            ([prompt(), prompt(4)], fine, "outside the prompt of 4 tokens"),
            ([prompt(), SHORT], [fine, {F(position=8): ablate()}], "outside the prompt of 7 tokens"),
            (prompt(), [fine, {F(position=4): 0}], r"use ablate\(\)"),
        ):
            with pytest.raises(ValueError, match=message):
                use(prompts, edits)
    with pytest.raises(ValueError, match="at no position of this prompt"):
        model.intervene_many(prompt(), [fine, {F(position="generated"): ablate()}])
    with pytest.raises(ValueError, match="no layer 99"):
        model.patch(prompt(), OTHER, [F(position=4)], freeze="all", layers=[99])
    with pytest.raises(ValueError, match="whose other neurons respond"):
        model_of("neurons").patch(prompt(), OTHER, [F(position=4)], errors="constant")


@pytest.mark.usefixtures("no_forward_pass")
def test_too_little_memory_is_refused_before_the_first_forward_pass(model_of, monkeypatch):
    model = model_of("clt")
    graph = model.trace(SHORT)
    for module in (intervene, generate):
        monkeypatch.setattr(module, "free_memory", lambda _device: 10_000)
    for use, cure in (
        (lambda: model.intervene(prompt(), {}), "a prompt of 11 tokens needs about .* shorten the prompt"),
        (lambda: model.generate(prompt(), max_new_tokens=7), "7 new tokens after 11 .* lower max_new_tokens"),
        (lambda: model.patch(prompt(), OTHER, [F(position=4)]), "shorten the prompt"),
        (lambda: model.validate(graph, progress=False), "shorten the prompt"),
    ):
        with pytest.raises(ValueError, match=cure):
            use()


@pytest.mark.usefixtures("no_forward_pass")
def test_results_of_a_list_must_fit_into_memory_together(model_of, monkeypatch):
    model = model_of("clt")
    kept, passing = row_memory(model._prompt_context(prompt(), None), [LayerMode()] * LAYERS)
    monkeypatch.setattr(intervene, "free_memory", lambda _device: passing + 4 * kept)
    for prompts, edits in ((prompt(), [{}] * 5), ([prompt()] * 5, {})):
        with pytest.raises(ValueError, match=r"5 interventions on up to 11 tokens .* make fewer at a time"):
            model.intervene_many(prompts, edits)
        with pytest.raises(AssertionError, match="was read"):
            model.intervene_many(prompts[:4] if edits == {} else prompts, edits if edits == {} else edits[:4])


def test_logits_that_do_not_fit_are_refused(model_of, monkeypatch):
    result = model_of("clt").intervene(prompt(), {})
    monkeypatch.setattr(memory, "free_memory", lambda _device: 100)
    with pytest.raises(ValueError, match="logits of 11 positions"):
        _ = result.logits
    assert result.kl() == 0


@pytest.mark.parametrize("position", [None, 1.5, True, "a", 11, -12])
def test_invalid_positions_of_results_are_refused(model_of, position):
    result = model_of("clt").intervene(prompt(), {})
    for read in (result.probabilities, result.kl, result.top_changes):
        with pytest.raises(ValueError, match=r"must be an integer|outside the prompt of 11 tokens"):
            read(position)
    with pytest.raises(ValueError, match="at least one token"):
        result.top_changes(count=0)


def test_error_messages_are_short_for_every_node(model_of):
    for at in (range(999_999), range(0, 999_999, 2), [4, *range(100_000)]):
        with pytest.raises(ValueError, match=r"L1#3@") as refused:
            model_of("clt").intervene(prompt(), {F(position=at): ablate()})
        assert len(str(refused.value)) < 200
    assert str(F(position=[4, 6, 7, 8, -1])) == "L1#3@4,6:9,-1"
    assert str(F(position=slice(2, 6))) == "L1#3@2:6"
    assert F(position=slice(-3, 0)) == F(position=[-3, -2, -1])


@pytest.mark.parametrize("setting", ["none", "constant", "all"])
@pytest.mark.parametrize("size", [1e20, 1e39], ids=["squared", "itself"])
def test_edits_too_large_for_the_dtype_are_refused(model_of, setting, size):
    """Also where only the squares in a norm overflow, which would give the same logits for all tokens."""
    model = model_of("clt-affine", "float32")
    for node in (Direction(1, UNIT, position=5), Feature(1, 3, position=5)):
        try:
            result = model.intervene(prompt(), {node: set_to(size)}, **SETTINGS[setting])
        except ValueError as error:
            assert "so large" in str(error)  # noqa: PT017
        else:
            assert result.logits[5].isfinite().all()
            assert result.logits[5].std() > 0


def test_numbers_of_prompts_and_edits_must_match(model_of):
    model = model_of("clt")
    with pytest.raises(ValueError, match="2 prompts and 3 edits: give the same edits"):
        model.intervene_many([prompt(), SHORT], [{}, {}, {}])
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.intervene_many([], {})
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.intervene_many([prompt(), []], {})
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model.intervene([2, 99], {})


def test_invalid_patches_are_refused(model_of):
    model = model_of("clt")
    for corrupted, nodes, message in (
        (SHORT, [F(position=4)], "of the same length"),
        (OTHER, [D(UNIT)], "name features, error nodes and tokens"),
        (OTHER, [], "name at least one"),
        (OTHER, [F(position="generated")], "generated"),
        (OTHER, [F(position=4), F(position="all")], "name each once"),
        (OTHER, [F(position=0)], "masked"),
        (OTHER, [7], "use a Feature"),
    ):
        with pytest.raises(ValueError, match=message):
            model.patch(prompt(), corrupted, nodes)


def test_targets_of_a_graph_cannot_be_edited(model_of):
    graph = model_of("clt").trace(SHORT, max_targets=1)
    order = graph.order
    nodes = [np.int64(order.n_features - 1), order.n_features + 8, order.tokens.start + 5]
    assert cotrace.nodes_of(graph, nodes) == [
        Feature(2, int(graph.column("feature")[order.n_features - 1]), position=6),
        ErrorNode(1, position=1),
        Token(5),
    ]
    for node in (order.logits.start, order.n_nodes, -1):
        with pytest.raises(ValueError, match=f"node {node} is not a feature, error node or token"):
            cotrace.nodes_of(graph, [node])
