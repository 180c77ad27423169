"""`cotrace effects` in this process, on a tiny model: what it prints and writes, and every mistake."""

import json

import numpy as np
import pytest
from helpers.interventions import load_with_tokenizer

import cotrace
from cotrace.cli.effects import effects as effects_command
from cotrace.cli.effects_syntax import parse_cuts, parse_groups, parse_segments
from cotrace.common.errors import ArgumentError

FREEZES = ("all", "norms", "attention", "none")


@pytest.fixture(scope="module")
def worded(model_folder, transcoder_spec, tmp_path_factory):
    """Return a model with a tokenizer, the options that load it, and a text of eight tokens."""
    folder = tmp_path_factory.mktemp("worded")
    model = load_with_tokenizer(model_folder, transcoder_spec, folder)
    text = "The opposite of hot is cold hot"
    options = [
        "--model",
        folder / "model",
        "--transcoders",
        transcoder_spec("clt-affine"),
        "--dtype",
        "float64",
        "--device",
        "cpu",
    ]
    return model, options, text


@pytest.fixture
def run(command, worded):
    """Return a function that runs the command on a text and returns its output; it must succeed."""
    _, options, text = worded

    def call(*arguments):
        status, out, error = command("effects", text, *options, *arguments)
        assert (status, error) == (0, ""), error
        return out

    return call


@pytest.fixture
def refused(command, worded):
    """Return a function that runs the command on a text and returns the line with which it is refused."""
    _, options, text = worded

    def call(*arguments):
        status, out, error = command("effects", text, *options, *arguments)
        assert (status, out) == (2, "")
        (line,) = error.splitlines()
        return line

    return call


@pytest.fixture(scope="module")
def tokens(worded):
    """Return two tokens as options name them."""
    return "id:21", "id:23"


def test_json_is_what_the_model_returns(run, worded, tokens):
    model, _, text = worded
    expected = model.effects(text, [21, 23], position=[-1, -3], segments={"a": (1, 3)}, avoiding=[None, "a"])
    found = json.loads(
        run("--target", tokens[0], "--target", tokens[1], "--position", "-1", "--position", "-3", "--segment", "a=1:3",
            "--avoiding", "none", "--avoiding", "a", "--top", "4", "--kind", "error", "--json")
    )  # fmt: skip
    assert found["targets"] == expected.targets
    assert found["ledger"] == expected.ledger.to_pylist()
    assert found["by"] == {"segment": expected.by("segment").to_pylist()}
    assert found["nodes"] == expected.top(4, "error").to_pylist()
    assert found["info"] == json.loads(json.dumps(expected.info))
    assert found["files"] == []


def test_the_ledger_groups_and_nodes_are_printed(run, worded, tokens):
    model, _, text = worded
    out = run("--target", tokens[0], "--segment", "first=1:4", "--top", "2")
    effects = model.effects(text, [21], segments={"first": (1, 4)})
    (row,) = effects.ledger.to_pylist()
    for name in ("value", "tokens", "errors", "bias"):
        assert f"{row[name]:+.3f}" in out
    first, other = effects.by("segment").to_pylist()
    for words in ("ledger", "by segment", "strongest nodes", "first", "other", "paths are linear"):
        assert words in out
    for part in (first, other):
        assert f"{part['tokens']:+.3f}" in out
    top = effects.top(2).to_pylist()
    assert all(each["node"] in out and f"{each['effect']:+.3f}" in out for each in top)
    assert effects.top(3).to_pylist()[2]["node"] not in out.partition("strongest nodes")[2]


@pytest.mark.parametrize("group", ["token", "position", "layer"])
def test_effects_are_added_up_by_any_group(run, tokens, group):
    out = run("--target", tokens[0], "--by", group, "--top", "3")
    lines = out.partition(f"by {group}")[2].partition("strongest nodes")[0].strip().splitlines()
    assert len(lines) == 1 + {"token": 3, "position": 3, "layer": 4}[group]


@pytest.mark.parametrize("freeze", FREEZES)
def test_every_mode_says_what_responds(run, tokens, freeze):
    words = {
        "all": "linear",
        "norms": "attention responds",
        "attention": "norms and MLPs respond",
        "none": "nothing is frozen",
    }
    assert words[freeze] in run("--target", tokens[0], "--freeze", freeze)


def test_integration_and_credit_through_qk(run, worded, tokens):
    model, _, text = worded
    out = run("--target", tokens[0], "--integrate", "inputs", "--freeze", "none", "--steps", "3")
    row = model.effects(text, [21], freeze="none", integrate="inputs", integration_steps=3).ledger.to_pylist()[0]
    assert f"{row['value']:+.3f}" in out
    assert "baseline" in out
    groups = run(
        "--target", tokens[0], "--integrate", "inputs", "--freeze", "none", "--group", "a= hot|id:14", "--json"
    )
    expected = model.effects(
        text, [21], freeze="none", integrate="inputs", groups={"a": [" hot", " cold"]}
    ).ledger.to_pylist()
    assert json.loads(groups)["ledger"] == expected
    out = run("--target", tokens[0], "--integrate", "ablation", "--freeze", "none", "--node", "L0#error@3")
    assert "L0#error@3" in out
    assert "ledger" not in out
    assert "through QK" in run("--target", tokens[0], "--through-qk")


def test_many_rows_say_what_is_left_out(run):
    out = run("--max-targets", "9", "--target-mass", "1")
    assert "… and 6 more rows of the ledger: choose targets with --target, or use --json or --out" in out


def test_effects_and_plot_are_written_and_read_back(run, command, worded, tokens, tmp_path):
    file, plot = tmp_path / "new" / "effects.arrow", tmp_path / "effects.svg"
    out = run("--target", tokens[0], "--segment", "a=1:3", "--out", file, "--plot", plot)
    assert out.splitlines()[-2:] == [f"wrote {file}", f"wrote {plot}"]
    assert plot.read_text().startswith("<?xml")
    opened = cotrace.Effects.open(file)
    assert opened.segments == {"a": [1, 2]}
    again = command("effects", file, "--top", "10")
    assert again == (0, out.partition("wrote")[0], "")
    packed = opened.save(tmp_path / "effects.arrow.zst")
    assert command("effects", packed) == again
    for extra, words in [(["--target", "x"], "omit --target"), (["--segment", "b=1:2"], "omit --target and --segment")]:
        status, _, error = command("effects", file, *extra)
        assert status == 2
        assert words in error
    before = file.read_bytes()
    status, _, error = command("effects", "x", *worded[1], "--out", file)
    assert status == 2
    assert "add --force" in error
    assert file.read_bytes() == before


def test_effects_of_a_graph_need_no_model(command, worded, tmp_path):
    model, _, text = worded
    graph = model.trace(text, [21, 23])
    for name in ("graph.arrow", "graph.arrow.zst"):
        path = graph.save(tmp_path / name)
        status, out, error = command("effects", path, "--segment", "a=1:3", "--json")
        assert (status, error) == (0, "")
        assert json.loads(out)["ledger"] == graph.effects(segments={"a": (1, 3)}).ledger.to_pylist()
    node = int(np.flatnonzero(graph.csr.row_lengths()[: graph.order.n_features])[-1])
    name = cotrace.graphs.node_label(graph, node)
    assert json.loads(command("effects", path, "--target", name, "--json")[1])["targets"][0]["label"] == name
    for option in (
        ["--freeze", "none"],
        ["--model", "x"],
        ["--avoiding", "3"],
        ["--through-qk"],
        ["--chat"],
        ["--steps", "8"],
    ):
        status, _, error = command("effects", path, *option)
        assert status == 2
        assert f"{option[0]} can only be used with a PROMPT" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--segment", "a=1:99"], "segment 'a' (1, 99) is outside the prompt of 8 tokens"),
        (["--segment", "a=3:3"], "segment 'a' (3, 3) is empty"),
        (["--segment", "a=3:1"], "is empty"),
        (["--segment", "a=x"], "--segment 'a=x': 'x' names no integers"),
        (["--segment", "1:3"], "expected NAME=START:STOP"),
        (["--segment", "=1:3"], "expected NAME=START:STOP"),
        (["--segment", "a=1:3", "--segment", "a=4:5"], "--segment names 'a' twice"),
        (["--segment", "a=1:3", "--segment", "b=2:5"], "position 2 is in the segments 'a' and 'b'"),
        (["--segment", "other=1:3"], "names the positions outside every segment"),
        (["--avoiding", "a"], "--avoiding a: no segment has this name; there are no segments"),
        (["--avoiding", "b", "--segment", "a=1:3"], "the segments are 'a'"),
        (["--avoiding", "99"], "outside the prompt"),
        (["--avoiding", "1:99"], "outside the prompt"),
        (["--avoiding", "3:3"], "is empty"),
        (["--avoiding", ""], "--avoiding '': expected the name of a segment"),
        (["--avoiding", "3,,4"], "--avoiding '3,,4': expected the name of a segment"),
        (["--avoiding", "7"], "'7' contains position 7, where a target is read"),
        (["--avoiding", "5:8"], "'5:8' contains position 7"),
        (["--avoiding", "-1"], "contains position 7"),
        (["--avoiding", "3", "--avoiding", "3"], "the same positions twice"),
        (["--freeze", "mlp"], "--freeze mlp is not one of all, norms, attention, none"),
        (["--integrate", "x"], "--integrate x is not one of inputs, ablation"),
        (["--integrate", "inputs", "--through-qk"], "leave --freeze and --integrate out"),
        (["--integrate", "ablation", "--freeze", "none"], "needs --nodes"),
        (["--nodes", "L0#3@2"], "use it with --integrate ablation"),
        (["--integrate", "ablation", "--freeze", "none", "--node", "token@3"], "for tokens use --integrate inputs"),
        (["--integrate", "ablation", "--freeze", "none", "--node", "L0#999@3"], "L0#999"),
        (["--baseline", "x"], "use them with --integrate inputs"),
        (["--group", "a=x|y"], "use them with --integrate inputs"),
        (["--group", "a"], "expected NAME=FIRST|SECOND"),
        (["--group", "a=x|"], "expected NAME=FIRST|SECOND"),
        (["--group", "a=x|y", "--group", "a=z|w"], "--group names 'a' twice"),
        (["--by", "word"], "--by word: expected one of segment, token, layer, position"),
        (["--by", "segment"], "add --segment NAME=START:STOP"),
        (["--kind", "logit"], "--kind logit: expected one of feature, error, token"),
        (["--out", "effects.txt"], "ends in .arrow or .arrow.zst"),
        (["--plot", "effects.txt"], "should end in .svg, .png, .pdf"),
        (["--position", "99"], "outside the prompt"),
        (["--target", "id:99999"], "99999"),
        (["--target", "id:21", "--target", "id:21"], "a target is named twice"),
        (["--target", "L0#1@0"], "not active"),
        (["--memory", "much"], "such as 8GiB"),
    ],
)
def test_mistakes_get_one_line(refused, arguments, words):
    assert words in refused(*arguments)


def test_a_target_of_several_tokens_is_refused(refused):
    assert "is not one token but" in refused("--target", " hot is")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["effects"], "give PROMPT"),
        (["effects", "missing.arrow"], "does not exist"),
        (["effects", "missing.arrow.zst"], "does not exist"),
        (["effects", "--prompt-file", "missing.txt"], "cannot read missing.txt"),
    ],
)
def test_missing_prompts_and_files_are_named(command, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, error = command(*arguments)
    assert (status, out) == (2, "")
    assert words in error
    assert len(error.splitlines()) == 1


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "segments"),
    [
        ([], {}),
        (["a=1:3"], {"a": (1, 3)}),
        (["a=-3:"], {"a": (-3, None)}),
        (["a=:3", "b b=4"], {"a": (None, 3), "b b": [4]}),
        (["x=y=1:3"], {"x=y": (1, 3)}),
        (["a=3,5:8"], {"a": [3, 5, 6, 7]}),
    ],
)
def test_segments_are_names_with_positions(texts, segments):
    assert parse_segments(texts) == segments


@pytest.mark.parametrize(
    ("texts", "cuts"),
    [
        ([], None),
        (["none"], [None]),
        (["5"], [[5]]),
        (["-1"], [[-1]]),
        (["3,5"], [[3, 5]]),
        (["2:6"], [[(2, 6)]]),
        (["a"], [["a"]]),
        (["step 1"], [["step 1"]]),
        (["a, b"], [["a, b"]]),
        (["a,step 1,2:6,9"], [["a", "step 1", (2, 6), 9]]),
        (["unknown"], [["unknown"]]),
        (["none", "a"], [None, ["a"]]),
    ],
)
def test_cuts_are_names_and_positions(texts, cuts):
    assert parse_cuts(texts, ["a", "step 1", "a, b"]) == cuts


def test_groups_are_texts_and_ids():
    assert parse_groups([]) is None
    assert parse_groups(["a= red| blue|id:3"]) == {"a": [" red", " blue", 3]}
    with pytest.raises(ArgumentError, match="NAME=FIRST"):
        parse_groups(["=a|b"])


def test_options_have_the_defaults_of_the_model():
    import inspect

    expected = inspect.signature(cotrace.Model.effects).parameters
    found = inspect.signature(effects_command).parameters
    for name in ("freeze", "integrate", "integration_steps", "through_qk", "max_targets", "target_mass"):
        assert found[name].default == expected[name].default
