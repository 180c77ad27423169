"""`cotrace steer`: syntax of edits, mistakes that are refused before a model is loaded, and output."""

import errno
import functools
import json
import pickle
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.cli import REFERENCE
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import cotrace
from cotrace import Direction, ErrorNode, Feature, Supernode, Token, replace_with
from cotrace.cli.comparison import MARK, readable
from cotrace.cli.edit_syntax import parse_edited_node, parse_edits, read_direction
from cotrace.cli.options import positions

TRANSCODERS = REFERENCE / "clt_gemma_scope_2" / "clt" / "width_128_l0_medium_affine"
MODEL = ["--model", str(REFERENCE / "model"), "--transcoders", str(TRANSCODERS), "--device", "cpu"]
PROMPT = "t20 t30 t40"
WIDTH = 64
LATE = ["--set", "L3#5@generated=500"]  # changes the second new token
FIRST = ["--set", "L3#5@-1=500"]  # changes the first one


@pytest.fixture(scope="module")
def model():
    return cotrace.load(REFERENCE / "model", TRANSCODERS, device="cpu")


@pytest.fixture
def steer(command):
    """Return a function that runs the command in this process and returns its status, output and errors."""
    return functools.partial(command, "steer")


@pytest.fixture
def vector(tmp_path):
    path = tmp_path / "direction@one+two=3.npy"  # every character of the syntax
    np.save(path, np.arange(1, WIDTH + 1, dtype=np.float32))
    return path


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("L5#123", Feature(5, 123)),
        ("L5 #123@4", Feature(5, 123, position=4)),
        (" L5 #123 @ -1 ", Feature(5, 123, position=-1)),
        ("L5#123@2:6", Feature(5, 123, position=(2, 3, 4, 5))),
        ("L5#123@-3:0", Feature(5, 123, position=(-3, -2, -1))),
        ("L5#123@3,5", Feature(5, 123, position=(3, 5))),
        ("L5#123@7, 2:4", Feature(5, 123, position=(7, 2, 3))),
        ("L5#123@4:5", Feature(5, 123, position=4)),
        ("L5#123@prompt", Feature(5, 123, position="prompt")),
        ("L5#123@generated", Feature(5, 123, position="generated")),
        ("L5#123@all", Feature(5, 123, position="all")),
        ("L5 error@4", ErrorNode(5, position=4)),
        ("L5error", ErrorNode(5)),
        ("token@4", Token(4)),
        (" token @ -1 ", Token(-1)),
        ("token@2:4", Token([2, 3])),
        ("token", Token()),
        ("token@2 + L5#1+token@4", Supernode([Token(2), Feature(5, 1), Token(4)])),
        ("L5#1+L6#2@4", Supernode([Feature(5, 1), Feature(6, 2, position=4)])),
        (
            "L5 #1@4 + L6 error@4 + L7#3",
            Supernode([Feature(5, 1, position=4), ErrorNode(6, position=4), Feature(7, 3)]),
        ),
    ],
)
def test_nodes_as_users_write_them(text, node):
    assert parse_edited_node(text) == node


places = st.one_of(
    st.sampled_from(["all", "prompt", "generated"]),
    st.integers(-999, 999),
    st.lists(st.integers(-999, 999) | st.integers(-2, 4), min_size=2, max_size=4, unique=True),
)
features = st.builds(Feature, st.integers(0, 99), st.integers(0, 10**6), position=places)
nodes = st.one_of(features, st.builds(ErrorNode, st.integers(0, 99), position=places), st.builds(Token, places))


@settings(deadline=None)
@given(st.one_of(nodes, st.lists(nodes, min_size=2, max_size=4).map(Supernode)))
def test_a_node_is_read_as_it_is_printed(node):
    assert parse_edited_node(str(node)) == node


def refusal(function, argument):
    """Return the message of the ValueError that a text raises, or None."""
    try:
        function(argument)
    except ValueError as error:
        return str(error)
    return None


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("L5#error@:+,-=. 123npy")))
def test_any_other_text_is_refused_with_one_line(text):
    for option in ("ablate", "set", "add", "multiply"):
        refused = refusal(parse_edits, {option: [text]})
        assert refused is None or refused.startswith(f"--{option} ")
        assert refused is None or refused.isprintable()


def test_edits_as_users_write_them(vector):
    given = {
        "ablate": ["L1#1", "L2 error@4 + L2#5"],
        "set": ["L1#2=2.5"],
        "add": ["L1#3@-1 = -1e-3", f"L3:{vector}@generated=+4"],
        "multiply": ["L2 error@5=0.5", "token@6=0"],
    }
    edits = parse_edits(given)
    direction = next(node for node in edits if isinstance(node, Direction))
    assert (direction.layer, direction.position) == (3, "generated")
    vector_D = torch.arange(1, WIDTH + 1, dtype=torch.float64)
    assert torch.allclose(direction.vector, vector_D / vector_D.norm(), rtol=1e-12)
    assert str(direction) == f"L3 {vector.name}@generated"
    assert edits == {
        Feature(1, 1): cotrace.ablate(),
        Supernode([ErrorNode(2, position=4), Feature(2, 5)]): cotrace.ablate(),
        Feature(1, 2): cotrace.set_to(2.5),
        Feature(1, 3, position=-1): cotrace.add(-1e-3),
        direction: cotrace.add(4),
        ErrorNode(2, position=5): cotrace.multiply(0.5),
        Token(6): cotrace.multiply(0),
    }


@pytest.mark.parametrize(
    ("text", "node", "edit"),
    [
        ("token@4= cold", Token(4), replace_with(" cold")),
        ("token@4==", Token(4), replace_with("=")),
        ("token@4=L5#1=2", Token(4), replace_with("L5#1=2")),
        ("token@-1=id:264", Token(-1), replace_with(264)),
        ("token@3,5= cold| warm|id:7", Token([3, 5]), replace_with(" cold", " warm", 7)),
        ("token@4=token@2", Token(4), replace_with(Token(2))),
        ("token@4 + token@6= cold", Supernode([Token(4), Token(6)]), replace_with(" cold")),
    ],
)
def test_replacements_of_tokens_as_users_write_them(text, node, edit):
    assert parse_edits({"set": [text]}) == {node: edit}


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("ablate", "", "invalid node"),
        ("ablate", "5#123", "invalid node '5#123': expected a feature such as L17#264@5"),
        ("ablate", "L5", "invalid node"),
        ("ablate", "L-5#1", "invalid node"),
        ("ablate", "L5#-1", "invalid node"),
        ("ablate", "L5#" + "9" * 5000, "invalid node"),
        ("ablate", "L5 ' cold'@4", "invalid node"),
        ("ablate", "L5#1 +", "invalid node"),
        ("ablate", "L5#1@", "invalid node"),
        ("ablate", "L5#1=2", "invalid node"),
        ("ablate", "token 4", "invalid node"),
        ("set", "token@4", "there is no '='"),
        ("set", "token@4=", "a token is empty"),
        ("set", "token@4= cold|", "a token is empty"),
        ("set", "token@4 + L5#1= cold", "' cold' is not a number"),
        ("set", "token@4 + L5#1=2", "a token is a vector"),
        ("add", "token@4=2", "a token is a vector"),
        ("add", "token@4= cold", "' cold' is not a number"),
        ("ablate", "L5:direction.pt", "invalid node"),
        ("ablate", "L5#1@here", "one of 'all', 'prompt', 'generated'"),
        ("ablate", "L5#1@4,", "with commas"),
        ("ablate", "L5#1@4:4", "empty range"),
        ("ablate", "L5#1@-1:2", "empty range"),
        ("ablate", "L5#1@0:10000000000000", "expected an integer"),
        ("ablate", "L5#1@4,3:6", "names an integer twice"),
        ("ablate", "L5#1 + L5#1", "L5#1 is named twice"),
        ("ablate", "L12:/no/such.npy", "'/no/such.npy' is not a file"),
        ("ablate", "L12:/no/" + "x" * 300 + ".npy", "is not a file"),
        ("ablate", "L12:~nobody-of-this-name/x.npy", "is not a file"),
        ("ablate", "L12:two\nlines.npy", "'two\\nlines.npy' is not a file"),
        ("set", "L5#1", "there is no '='"),
        ("set", "L5#1=", "is not a number"),
        ("set", "L5#1=two", "'two' is not a number"),
        ("add", "L5#1=nan", "is not finite"),
        ("multiply", "L5#1=inf", "is not finite"),
        ("set", "L5#1=1e999", "is not finite"),
        ("set", "=2", "invalid node"),
        ("add", "L5 error@4=1", "use --ablate or --multiply"),
        ("set", "L5#1 + L5error=1", "use --ablate or --multiply"),
    ],
)
def test_invalid_edits_are_refused(option, text, message):
    with pytest.raises(ValueError) as refused:
        parse_edits({option: [text]})
    assert str(refused.value).startswith(f"--{option} {text!r}: ")
    assert message in str(refused.value)


def test_a_node_has_one_edit():
    with pytest.raises(ValueError, match="--set 'L5 #1=2': L5#1 is named twice"):
        parse_edits({"ablate": ["L4#1 + L5#1"], "set": ["L5 #1=2"]})
    assert len(parse_edits({"ablate": ["L5#1@3", "L5#1@4"]})) == 2


def test_directions_are_not_joined(vector):
    with pytest.raises(ValueError, match="give it a separate option"):
        parse_edits({"ablate": [f"L5#1 + L3:{vector}"]})


def test_layers_as_users_write_them():
    assert positions("--layers", []) is None
    assert positions("--layers", ["3", "5:8"]) == [3, 5, 6, 7]
    for texts in (["x"], ["5:5"], ["3", "2:4"], [""]):
        with pytest.raises(ValueError, match="--layers"):
            positions("--layers", texts)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_a_direction_from_numpy(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.array([1, 0, -2], dtype))
    assert read_direction(tmp_path / "x.npy").tolist() == [1, 0, -2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_a_direction_from_safetensors(tmp_path, dtype):
    save_file({"any": torch.tensor([1.0, 0, -2]).to(dtype)}, tmp_path / "x.safetensors")
    assert read_direction(tmp_path / "x.safetensors").tolist() == [1, 0, -2]


def numpy_file(header, version=1):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((2, 3)), "of shape (2, 3)"),
        (np.float64(3), "of shape ()"),
        (np.arange(3), "int64"),
        (np.array(["a"]), "vector (D,) of floats"),
        (np.ones(3, complex), "complex128"),
        (np.array([1, np.nan]), "NaN or infinite"),
        (np.zeros(3), "is zero"),
        (np.ones(0), "is zero"),
        (b"", "is not a .npy file of numbers"),
        (b"hello", "is not a .npy file of numbers"),
        (numpy_file("{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,)}"), "is not a .npy file"),
        (numpy_file(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**15},)}}"), "is not a .npy file"),
        (numpy_file("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "is not a .npy file"),
        (numpy_file("(" * 110), "is not a .npy file"),
        (numpy_file("__import__('os').abort()"), "is not a .npy file"),
    ],
    ids=str,
)
def test_arrays_that_are_not_directions_are_refused(tmp_path, content, message):
    path = tmp_path / "x.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError) as refused:
        read_direction(path)
    assert message in str(refused.value)


def test_nothing_is_unpickled(tmp_path):
    path, made = tmp_path / "x.npy", tmp_path / "made"
    np.save(path, np.array([Bomb(made)], object), allow_pickle=True)
    for content in (path.read_bytes(), pickle.dumps(Bomb(made))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not a \.npy file of numbers"):
            read_direction(path)
    assert not made.exists()


def test_an_archive_of_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="an archive of arrays"):
        read_direction(tmp_path / "x.npy")


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_a_direction(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, np.ones(4))
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, 140), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    refused = refusal(read_direction, path)
    assert refused is None or str(path) in refused


def test_safetensors_files_that_are_not_directions_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="has 2 tensors"):
        read_direction(path)
    save_file({"a": torch.ones(3, 2)}, path)
    with pytest.raises(ValueError, match=r"of shape \(3, 2\)"):
        read_direction(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        read_direction(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "nothing to edit; name a node with --ablate"),
        (["", "--ablate", "L1#1"], "the prompt is empty"),
        (["x", "--ablate", "L1"], "invalid node"),
        (["x", "--ablate", "L1:/no/such.npy"], "is not a file"),
        (["x", "--set", "L1#1=x"], "is not a number"),
        (["x", "--ablate", "L1#1", "--multiply", "L1#1=2"], "is named twice"),
        (["x", "--ablate", "L1#1", "--layers", "2"], "add --freeze attention or --freeze all"),
        (["x", "--ablate", "L1#1", "--layers", "x", "--freeze", "all"], "--layers: 'x' names no integers"),
        (["x", "--ablate", "L1#1", "--freeze", "some"], "not one of none, attention, all"),
        (["x", "--ablate", "L1#1", "--errors", "some"], "not one of recomputed, constant"),
        (["x", "--ablate", "L1#1", "--temperature", "inf"], "temperature is inf"),
        (["x", "--ablate", "L1#1", "--out", "/dev/null/x.json"], "cannot write to /dev/null"),
        (["x", "--ablate", "L1#1", "--out", "/tmp"], "is a folder; name a file"),
        (["x", "--ablate", "L1#1", "--out", __file__], "exists; add --force to overwrite it"),
        (["x", "--ablate", "L1#1", "--graph", "/nowhere.arrow"], "does not exist"),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_the_model_is_loaded(steer, monkeypatch, arguments, message):
    monkeypatch.setattr(cotrace, "load", lambda *_, **__: pytest.fail("the model is loaded"), raising=False)
    status, out, error = steer(*arguments)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("L9#1", "the model has no layer 9"),
        ("L1#128", "layer 1 has 128 features"),
        ("L1#1@4", "position 4 is outside the prompt of 4 tokens"),
        ("L1#1@0", "is masked"),
    ],
)
def test_mistakes_that_only_the_model_can_find_are_one_line(steer, edit, message):
    status, _, error = steer(PROMPT, *MODEL, "--ablate", edit)
    assert (status, error.count("\n")) == (2, 1)
    assert message in error


def test_numbers_that_overflow_are_refused(steer):
    status, _, error = steer(PROMPT, *MODEL, "--set", "L0#1@-1=1e300", "--max-new-tokens", "2")
    assert (status, error) == (
        2,
        "error: the edits are so large that the model's values are no longer finite; use smaller ones\n",
    )


def rows_of(lines, title):
    """Return the rows of a table, by token, as numbers."""
    start = next(i for i, line in enumerate(lines) if title in line)
    rows = {}
    for line in lines[start + 2 :]:
        if "%" not in line:
            break
        token, *numbers = line.split()
        rows[token.strip("'")] = [float(number.rstrip("%")) / 100 for number in numbers]
    return rows


def test_both_texts_are_printed_side_by_side_above_the_top_changes(steer, model):
    status, out, error = steer(PROMPT, *MODEL, *FIRST, "--max-new-tokens", "3")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    columns = next(line for line in lines if MARK in line)
    assert [text.strip() for text in columns.split("│")] == [f"{MARK}t225 t225 t225", f"{MARK}t72 t72 t72"]
    assert PROMPT not in out
    before_V, after_V = model.intervene(PROMPT, {Feature(3, 5, position=-1): cotrace.set_to(500)}).probabilities()
    rows = rows_of(lines, "the first new token")
    assert next(iter(rows)) in ("t225", "t72")
    for token, (before, after, difference) in rows.items():
        number = int(token[1:])
        assert before == pytest.approx(float(before_V[number]), abs=6e-5)
        assert after == pytest.approx(float(after_V[number]), abs=6e-5)
        assert difference == pytest.approx(float(after_V[number] - before_V[number]), abs=6e-5)
    kl = float((before_V * (before_V / after_V).log()).sum())
    assert f"KL(without ‖ with) at the first new token: {kl:.3g} nats" in out
    assert "where the texts diverge, after" not in out


def test_texts_that_diverge_later_are_compared_there(steer, model):
    status, out, _ = steer(PROMPT, *MODEL, *LATE, "--max-new-tokens", "4")
    assert status == 0
    lines = out.splitlines()
    assert f"t225{MARK} t225 t225 t225" in out
    assert "the first new token: no probability changed" in out
    rows = rows_of(lines, "where the texts diverge, after 't225'")
    plain = model.generate(PROMPT, max_new_tokens=2).next_probabilities(1)
    assert set(rows) >= {"t225", "t72"}
    assert all(values[0] == pytest.approx(float(plain[int(token[1:])]), abs=6e-5) for token, values in rows.items())


def test_an_edit_without_effect_leaves_the_same_text(steer):
    status, out, _ = steer(PROMPT, *MODEL, "--multiply", "L3#5=1", "--max-new-tokens", "3")
    assert status == 0
    assert out.count("t225 t225 t225") == 2
    assert "same text without and with the edits; the probabilities of its tokens changed by at most 0.00%" in out
    assert "at the first new token: 0 nats" in out
    assert "L3#5 was active nowhere, or multiplied by 1: its edit did nothing" in out
    assert MARK not in out


def test_samples_use_the_same_random_numbers_without_and_with_edits(steer):
    status, out, _ = steer(
        PROMPT, *MODEL, "--multiply", "L3#5=1", "--temperature", "1", "--seed", "5", "--max-new-tokens", "5"
    )
    assert status == 0
    assert "same text" in out


def test_json_has_texts_tokens_probabilities_changes_and_settings(steer, model, tmp_path):
    path = tmp_path / "new" / "steered.json"
    options = [
        "--freeze",
        "attention",
        "--layers",
        "1:3",
        "--max-new-tokens",
        "4",
        "--temperature",
        "0.5",
        "--seed",
        "3",
    ]
    status, out, _ = steer(PROMPT, *MODEL, *LATE, *options, "--out", path)
    assert status == 0
    assert f"wrote {path}" in out
    assert [file.name for file in path.parent.iterdir()] == ["steered.json"]
    found = json.loads(path.read_text())
    for name, sha256 in (("model", model.source.content_hash()), ("transcoders", model.transcoders.content_hash())):
        assert found[name]["sha256"] == sha256
    assert "torch" in found["versions"]
    assert found["idle"] == []
    assert found["prompt"] == PROMPT
    assert found["prompt_token_ids"] == model.tokenize(PROMPT)
    assert found["edits"] == {"ablate": [], "set": ["L3#5@generated=500"], "add": [], "multiply": []}
    assert found["settings"] == {
        "freeze": "attention",
        "layers": [1, 2],
        "errors": "recomputed",
        "max_new_tokens": 4,
        "temperature": 0.5,
        "seed": 3,
        "dtype": "float32",
        "masked_positions": None,
    }
    sampling = {"max_new_tokens": 4, "temperature": 0.5, "seed": 3}
    edit = {Feature(3, 5, position="generated"): cotrace.set_to(500)}
    plain, changed = (
        model.generate(PROMPT, **sampling),
        model.generate(PROMPT, edit, **sampling, freeze="attention", layers=[1, 2]),
    )
    for name, generation in (("without", plain), ("with", changed)):
        assert found[name]["text"] == generation.text
        assert found[name]["token_ids"] == generation.token_ids
        assert found[name]["probabilities"] == pytest.approx(generation.probabilities)
        assert found[name]["ended"] == generation.ended
    assert found["first"]["step"] == 0
    step = found["divergence"]["step"]
    assert plain.token_ids[:step] == changed.token_ids[:step]
    assert plain.token_ids[step] != changed.token_ids[step]
    after_V = changed.next_probabilities(step)
    for token in found["divergence"]["top_changes"]:
        assert token["after"] == pytest.approx(float(after_V[token["token"]]))


def test_the_result_is_written_when_standard_output_is_closed(steer, tmp_path, monkeypatch):
    def closed(_comparison):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys.modules["cotrace.cli.steer"], "print_comparison", closed)
    path = tmp_path / "steered.json"
    status, _, _ = steer(PROMPT, *MODEL, *LATE, "--max-new-tokens", "1", "--out", path)
    assert status != 0
    assert json.loads(path.read_text())["with"]["tokens"]


def test_a_direction_steers(steer, vector, tmp_path):
    path = tmp_path / "steered.json"
    add = f"L2:{vector}@-1=300"
    assert steer(PROMPT, *MODEL, "--add", add, "--max-new-tokens", "1", "--out", path)[0] == 0
    edit = {Direction(2, np.arange(1.0, WIDTH + 1), position=-1): cotrace.add(300)}
    model = cotrace.load(REFERENCE / "model", TRANSCODERS, device="cpu")
    expected = model.intervene(PROMPT, edit)
    assert expected.kl() > 0.1
    assert json.loads(path.read_text())["first"]["kl"] == pytest.approx(expected.kl(), rel=1e-4)


def test_texts_are_neither_markup_nor_terminal_codes():
    pieces = ["[bold]a[/bold]\n", "\x1b[31m:smile:", "\u202eb\tc"]
    tokens = SimpleNamespace(decode=lambda ids: "".join(pieces[i] for i in ids))
    generation = SimpleNamespace(prompt=SimpleNamespace(tokenizer=tokens), token_ids=[0, 1, 2], text="".join(pieces))
    shown = readable(generation, 1).plain
    assert shown.startswith(f"[bold]a[/bold]\n{MARK}\ufffd[31m:smile:\ufffdb")
    assert shown.replace("\n", "").isprintable()
    assert readable(generation, None).plain == shown.replace(MARK, "")


def test_texts_may_diverge_inside_a_character():
    tokens = SimpleNamespace(decode=lambda ids: bytes(ids).decode(errors="replace"))
    ids = list("aé".encode())
    generation = SimpleNamespace(prompt=SimpleNamespace(tokenizer=tokens), token_ids=ids, text="aé")
    assert readable(generation, 1).plain == f"a{MARK}é"
    assert readable(generation, 2).plain == f"a\ufffd{MARK}\ufffd"


def test_the_help_explains_the_syntax_of_nodes(steer):
    status, out, _ = steer("--help")
    assert status == 0
    for words in ("L5#123", "L5#error", "@generated", "NODE=VALUE"):
        assert words in out
