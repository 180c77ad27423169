"""Feature files of circuit-tracer, and labels from them."""

import json

import pytest
from helpers import neuronpedia_files as files
from helpers.neuronpedia_files import cantor, sketch

import cotrace
from cotrace.common.errors import FileError

EXAMPLE = {
    "tokens_acts_list": [0.0, 2.5],
    "train_token_ind": 1,
    "is_repeated_datapoint": False,
    "tokens": ["the", " sky"],
}
CONTENT = {
    "transcoder_id": "clt",
    "index": 7,
    "examples_quantiles": [{"quantile_name": "Top", "examples": [EXAMPLE, EXAMPLE]}],
    "top_logits": [" blue", "blue", " ", " grey"],
    "bottom_logits": [" red"],
    "act_min": 0.5,
    "act_max": 9.0,
    "quantile_values": [1.0],
    "histogram": [3, 1.5],
    "activation_frequency": 0.01,
}


def write(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps({key: value for key, value in {**CONTENT, **changes}.items() if value is not ...}))
    return path


def test_a_feature_file_is_read(tmp_path):
    found = cotrace.read_feature_file(write(tmp_path, f"{cantor(17, 264)}.json"))
    assert (found.layer, found.feature) == (17, 264)
    assert found.top == (" blue", "blue", " ", " grey")
    assert found.label == 'says "blue", "grey"'
    assert len(found.examples) == 2
    assert found.examples[0].tokens[found.examples[0].mark] == " sky"
    assert found.examples[0].activations == (0.0, 2.5)
    assert (found.act_min, found.act_max, found.activation_frequency) == (0.5, 9.0, 0.01)


def test_the_files_of_another_tool_lack_some_entries(tmp_path):
    example = {"tokens_acts_list": [1.0], "train_token_index": 0, "tokens": ["x"]}
    missing = dict.fromkeys(("act_min", "act_max", "histogram", "quantile_values", "activation_frequency"), ...)
    quantiles = [{"quantile_name": "Quantile 0", "examples": [example]}]
    path = write(tmp_path, "feature.json", index=cantor(3, 12), examples_quantiles=quantiles, **missing)
    found = cotrace.read_feature_file(path)
    assert (found.layer, found.feature, found.act_min) == (3, 12, None)
    assert found.examples[0].quantile == "Quantile 0"


WRONG = {
    "no number": ({"index": ...}, "number of a feature"),
    "another kind": ({"examples_quantiles": ..., "top_logits": ...}, "not a feature file"),
    "tokens that are numbers": ({"top_logits": [1]}, "list of texts"),
    "an infinite bin": ({"histogram": [10**400]}, "finite numbers"),
    "a mark outside": ({"examples_quantiles": [{"examples": [{**EXAMPLE, "train_token_ind": 2}]}]}, "mark outside"),
    "examples that are a text": ({"examples_quantiles": "x"}, "not a list"),
    "half a character": ({"top_logits": ["\ud800"]}, "not valid Unicode"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_feature_files_are_refused(name, tmp_path):
    changes, message = WRONG[name]
    with pytest.raises(FileError, match=message) as refused:
        cotrace.read_feature_file(write(tmp_path, "feature.json", **changes))
    assert "\n" not in str(refused.value)


def test_features_are_labelled_by_their_output_tokens(tmp_path, command):
    content = files.circuit_tracer(sketch(1))
    features = [node for node in content["nodes"] if node["feature_type"] == "cross layer transcoder"]
    features[0]["clerp"] = "sky"
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(content))
    folder = tmp_path / "features"
    folder.mkdir()
    with pytest.raises(FileError, match="no feature file for the features of this graph"):
        cotrace.import_graph(path, features=folder)
    for node in features[:2]:
        write(folder, f"{node['feature']}.json")
    graph = cotrace.import_graph(path, features=folder)
    assert {str(node): label for node, label in graph.labels.items()}[
        str(cotrace.Feature.parse(features[0]["node_id"]))
    ] == "sky"
    assert 'says "blue", "grey"' in graph.labels.values()
    assert set(graph.nodes["label_source"].to_pylist()) == {"", "neuronpedia", "outputs"}
    status, out, _ = command("import", path, "--features", folder, "--out", tmp_path / "graph.arrow")
    assert status == 0
    assert "1 from neuronpedia" in out
