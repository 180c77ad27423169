"""Automatic labels, against features whose rule is known; labels from files."""

import gzip
import json

import numpy as np
import pytest
from helpers import stores

import cotrace
from cotrace.common.errors import FileError
from cotrace.features.store import labels as automatic
from cotrace.features.store.label_files import read_label_file
from cotrace.features.store.labels import automatic_labels, layer_examples, write_labels
from cotrace.features.store.relations import NONE, LabelText, Relation
from cotrace.features.store.words import CLASSES, Words

NOISE = tuple(stores.random(0.02, seed) for seed in range(40))
RULES = (
    *stores.RULES,
    *(stores.on(word) for word in stores.WORDS[30:50]),
    stores.on("Monday", "Tuesday", "Wednesday"),
    stores.phrase("of", "the"),
    *NOISE,
)
DAYS = len(stores.RULES) + 20


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = stores.write_store(tmp_path_factory.mktemp("labels") / "words", RULES, layers=(0,), labels=USER)
    assert write_labels(folder) == len(cotrace.FeatureStore.open(folder).labels)
    return cotrace.FeatureStore.open(folder)


USER = {(0, stores.RANDOM): ("mine", "user")}


@pytest.mark.parametrize(
    ("feature", "text", "source"),
    [
        (stores.AFTER_OPPOSITE, 'after "opposite"', "examples"),
        (stores.BEFORE_TUESDAY, 'says "Tuesday"', "outputs"),
        (len(stores.RULES), stores.WORDS[30], "examples"),
        (DAYS + 1, '"of the"', "examples"),
    ],
)
def test_a_feature_with_a_rule_gets_its_label(labelled, feature, text, source):
    label = labelled[0, feature].label
    assert label[:2] == (text, source)
    assert label.score > 0.97 > 0.7 > label.null


def test_words_of_a_label_are_those_of_the_rule(labelled):
    assert set(labelled.labels[0, stores.HOT].text.split(", ")) == {"hot", "cold", "warm"}
    assert set(labelled.labels[0, DAYS].text.split(", ")) == {"Monday", "Tuesday", "Wednesday"}


def test_features_without_a_meaning_rarely_get_a_label(labelled):
    noise = range(len(RULES) - len(NOISE), len(RULES))
    assert sum((0, feature) in labelled.labels for feature in noise) <= 0.1 * len(NOISE)
    assert (0, stores.NEVER) not in labelled.labels


def test_a_label_by_hand_stays(labelled):
    assert labelled[0, stores.RANDOM].label == ("mine", "user", None, None)


def test_labels_are_the_same_again(labelled):
    text, found = automatic_labels(labelled)
    again = {
        (0, feature): label[:2] for feature in range(len(RULES)) if (label := found[0].label(text, feature)) is not None
    }
    assert {key: label for key, label in labelled.labels.items() if label.source != "user"} == {
        key: label for key, label in again.items() if key not in USER
    }


def test_scores_and_nulls_are_areas_under_the_curve(labelled):
    """Compared with areas that are counted pair by pair, on labels that are looked up word by word."""
    _, found = automatic_labels(labelled)
    scored = found[0]
    words = Words(labelled.tokens.all_texts, labelled.tokens.all_counts, np.ones(len(stores.VOCABULARY), bool))
    text = LabelText(labelled.sequences, labelled.tokens.rows(labelled.sequences.ids), words)
    held_out = layer_examples(labelled, 0, words).held_out
    simple = [
        f for f in range(len(RULES)) if scored.candidates.relation[f] in (Relation.AT, Relation.AFTER, Relation.SAYS)
    ]
    for feature in simple[:12]:
        positives = _fit(text, scored, feature, held_out[feature][held_out[feature] != NONE])
        negatives = _fit(text, scored, feature, text.open)
        above = (positives[:, None] > negatives).mean() + (positives[:, None] == negatives).mean() / 2
        assert scored.score[feature] == pytest.approx(above, abs=1e-12)


def test_held_out_examples_are_from_other_sequences(tmp_path):
    """A rare feature's drawn examples are all of its activations, those that labels are scored on among them."""
    rules = (stores.on(stores.WORDS[60]), *(stores.random(rate, 7) for rate in (0.0005, 0.001, 0.3)))
    store = cotrace.FeatureStore.open(stores.write_store(tmp_path / "rare", rules, layers=(0,)))
    words = Words(store.tokens.all_texts, store.tokens.all_counts, np.ones(len(store.tokens.ids), bool))
    examples = layer_examples(store, 0, words)
    for made_from, held_out in zip(examples.made_from, examples.held_out, strict=True):
        sequence_of = [np.searchsorted(store.sequences.starts, at[at != NONE], "right") for at in (made_from, held_out)]
        assert not np.isin(*sequence_of).any()
    rows = store.examples(0).to_pylist()
    odd = {(row["feature"], row["sequence"]) for row in rows if row["kind"] == "top" and row["rank"] % 2}
    drawn = [row for row in rows if row["kind"] == "quantile" and row["rank"] % 2 == 0]
    assert any((row["feature"], row["sequence"]) in odd for row in drawn), "nothing had to be left out"


def _fit(text, scored, feature, places):
    relation, keys = Relation(scored.candidates.relation[feature]), scored.candidates.keys[feature]
    offset = {Relation.AT: 0, Relation.AFTER: -1, Relation.SAYS: 1}[relation]
    fits = []
    for place in places + offset:
        inside = text.first[place - offset] <= place < text.stop[place - offset]
        fits.append(inside and text.word[place] in keys[keys != NONE])
    return np.array(fits, float)


def test_a_label_that_other_features_share_is_not_kept(tmp_path):
    rules = tuple(stores.on("the") for _ in range(30)) + tuple(stores.on(word) for word in stores.WORDS[10:40])
    store = cotrace.FeatureStore.open(stores.write_store(tmp_path / "words", rules, layers=(0,)))
    write_labels(store.path)
    kept = {feature for _, feature in cotrace.FeatureStore.open(store.path).labels}
    assert kept == set(range(30, 60))


def test_a_label_is_compared_with_those_of_other_features_only(tmp_path, monkeypatch):
    monkeypatch.setattr(automatic, "NULL_PERCENTILE", 100)
    rules = tuple(stores.on(word) for word in stores.WORDS[10:30])
    store = cotrace.FeatureStore.open(stores.write_store(tmp_path / "words", rules, layers=(0,)))
    assert automatic_labels(store)[1][0].kept.all()


def test_too_few_features_have_no_labels(tmp_path):
    rules = (stores.on("the"), stores.on("of"))
    assert write_labels(stores.write_store(tmp_path / "words", rules, layers=(0, 1))) == 0


def test_classes_do_not_hold_what_they_should_not():
    members = {each.names: each.test for each in CLASSES}
    assert members["digits"]("7")
    assert not members["digits"]("a7")
    assert members["words in -ing"]("walking")
    assert not members["words in -ing"]("ing")
    assert members["prepositions"]("From")
    assert members["Cyrillic"]("слово")
    assert not members["Cyrillic"]("word")
    assert len({each.names for each in CLASSES}) == len(CLASSES)


def test_automatic_labels_can_be_made_again(tmp_path, command):
    folder = stores.write_store(tmp_path / "words", RULES[:40], layers=(0,))
    status, printed, _ = command("features", "label", "--automatic", "--features", folder)
    assert status == 0
    assert "of 40 features have a label" in printed


# --- label files ----------------------------------------------------------------------------

EXPLANATION = {
    "modelId": "gemma-3-270m",
    "layer": "17-gemmascope-2-clt-16k",
    "index": "264",
    "description": " not  cold",
}
GRAPH = {
    "metadata": {},
    "nodes": [
        {"node_id": "17_264_5", "feature": 99, "layer": "17", "clerp": "not cold"},
        {"node_id": "E_2_0", "layer": "E", "clerp": "Emb: hot"},
        {"node_id": "3_4_5", "layer": "3", "clerp": ""},
    ],
    "links": [],
}


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("a.json", {"L17#264": "not cold"}, "file"),
        ("a.json", {"L17#264": {"label": "not cold"}}, "file"),
        ("a.json", [{"feature": "L17#264", "label": "not cold"}], "file"),
        ("a.json", [{"layer": 17, "feature": 264, "label": "not cold"}], "file"),
        ("a.json", {"labels": {"17_264": "not cold"}}, "file"),
        ("a.json", [EXPLANATION, EXPLANATION | {"description": "second"}], "neuronpedia"),
        ("a.json", {"explanations": [EXPLANATION], "count": 1}, "neuronpedia"),
        ("a.json", EXPLANATION | {"explanations": [{"description": ""}, {"description": "not cold"}]}, "neuronpedia"),
        ("a.json", GRAPH, "neuronpedia"),
        ("a.jsonl", "\n".join([json.dumps(EXPLANATION)] * 2), "neuronpedia"),
        ("a.jsonl.gz", json.dumps(EXPLANATION | {"index": 264}), "neuronpedia"),
        ("a.csv", "feature,label\nL17#264,not cold\n", "file"),
        ("a.csv", 'Layer,Feature,Label\n17,264,"not cold"\n', "file"),
        ("a.csv", "\ufeffL17#264,not cold\n\n", "file"),
        ("a.tsv", "modelId\tlayer\tindex\tdescription\ng\t17-clt\t264\tnot cold\n", "neuronpedia"),
    ],
)
def test_label_files_of_each_layout_are_read(tmp_path, name, content, source):
    text = content if isinstance(content, str) else json.dumps(content)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert read_label_file(path) == {(17, 264): ("not cold", source)}


DAMAGED_GZIP = gzip.compress(b'{"L1#2": "x"}', mtime=0)[:10] + b"\xff" * 16


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "damaged"),
        ("a.json", "[]", "no labels"),
        ("a.json", "3", "not a record"),
        ("a.json", '{"hot": "x"}', "invalid node"),
        ("a.json", '{"L1#2": 3}', "not a text"),
        ("a.json", '[{"label": "x"}]', "names no feature"),
        ("a.json", '{"L1#2": "\\ud800"}', "not valid Unicode"),
        ("a.json", '[{"layer": "res", "index": 3, "description": "x"}]', "not numbers"),
        ("a.json", '[{"feature": "L1#2", "label": "x"}, {"feature": "1_2", "label": "y"}]', "two labels"),
        ("a.csv", "L1#2,a,b\n", "quotes"),
        ("a.csv", "", "no labels"),
        ("a.txt", "hello", "use .json"),
        ("a.json", '{"L1#2": "x", "L1#2": "y"}', "twice"),
        ("a.json", f'{{"layer": {"9" * 5000}, "index": 1, "label": "x"}}', "damaged"),
        ("a.jsonl", f'{{"layer": {"9" * 5000}, "index": 1, "label": "x"}}', "damaged"),
        ("a.json.gz", "not gzip", "cannot read"),
        ("a.json.gz", DAMAGED_GZIP, "cannot read"),
    ],
)
def test_damaged_label_files_are_one_error(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FileError, match=message):
        read_label_file(path)


def test_label_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_label_file(tmp_path / "missing.json")
    path = tmp_path / "latin.csv"
    path.write_bytes("L1#2,caf\u00e9".encode("latin-1"))
    with pytest.raises(FileError, match="UTF-8"):
        read_label_file(path)
