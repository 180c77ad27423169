"""Feature stores: opening, cards, search, differences, and damaged files."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import stores
from helpers.cli import REFERENCE

import cotrace
from cotrace.common.errors import ArgumentError, CotraceError, FileError
from cotrace.features.store.files import read_part, write_part
from cotrace.features.store.schema import EXAMPLES, FEATURES, SEQUENCES_FILE, TOKENS, TOKENS_FILE, file_of


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    labels = {(0, stores.HOT): ("temperatures", "user"), (1, stores.NEVER): ("nothing", "file")}
    return stores.write_store(tmp_path_factory.mktemp("stores") / "words", labels=labels)


@pytest.fixture
def store(written):
    return cotrace.FeatureStore.open(written)


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


@pytest.mark.parametrize("key", ["L0#2", "L0#2@5", "0_2", (0, 2), (np.int64(0), np.int32(2)), cotrace.Feature(0, 2)])
def test_a_feature_can_be_named_in_every_form(store, key):
    assert store[key].feature == cotrace.Feature(0, 2)
    assert key in store


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("L0#99", "L0#99 does not exist: layer 0 of words-clt has 5 features"),
        ("L7#0", "has no layer 7; it has 0, 1"),
        ("L0#error", "is not a feature"),
        ("hot", "invalid node"),
        ((0, -1), "does not exist"),
        ((0, True), "must be an integer"),
        (3, "is not a feature"),
        ((0, 1, 2), "is not a feature"),
    ],
)
def test_a_key_that_is_no_feature_is_refused(store, key, message):
    with pytest.raises(ArgumentError, match=message):
        store[key]
    assert key not in store


def test_a_card_holds_what_the_text_shows(store):
    card = store[0, stores.HOT]
    rows = stores.sentences(seed=3)[:, 1:]
    ids = [stores.token(word) for word in ("hot", "cold", "warm")]
    counts = {f" {word}": int((rows == stores.token(word)).sum()) for word in ("hot", "cold", "warm")}
    assert card.count == np.isin(rows, ids).sum()
    assert card.density == card.count / rows.size
    assert {each.token: each.times for each in card.fires_on} == counts
    assert sum(each.share for each in card.fires_on) == pytest.approx(1)
    assert all(each.of_token == 1 for each in card.fires_on)
    assert sum(card.histogram) == card.count
    assert card.label == ("temperatures", "user", None, None)
    assert card.out_of_format == ""


def test_several_cards_are_those_of_each_feature_in_their_order(store):
    keys = ["L1#0", (0, stores.HOT), cotrace.Feature(1, stores.NEVER), "L1#0@3"]
    assert [card.to_dict() for card in store.cards(keys)] == [store[key].to_dict() for key in keys]
    assert store.cards([]) == []
    with pytest.raises(ArgumentError, match="L0#99 does not exist"):
        store.cards(["L1#0", "L0#99"])


def test_examples_show_the_marked_token_in_its_context(store):
    rows = stores.sentences(seed=3)
    for example in store[1, stores.BEFORE_TUESDAY].examples:
        first = example.position - example.mark
        context = rows[example.sequence, max(first, 1) : first + len(example.tokens)]
        assert list(example.tokens) == [stores.VOCABULARY[id] for id in context]
        assert example.tokens[example.mark + 1] == " Tuesday"
        assert example.mark <= stores.BEFORE
        assert len(example.tokens) - example.mark - 1 <= stores.AFTER
        assert "<bos>" not in example.tokens


def test_examples_come_strongest_first(store):
    card = store[0, stores.AFTER_OPPOSITE]
    for kind, least in (("top", 24), ("quantile", 16)):
        values = [each.activation for each in card.examples if each.kind == kind]
        assert len(values) == least
        assert values == sorted(values, reverse=True)


def test_the_text_of_a_card_names_its_parts(store):
    text = str(store["L0#2"])
    assert text == repr(store["L0#2"])
    for part in (
        "L0#2",
        "(no label)",
        "fires on",
        "promotes    ' Tuesday' +3.00",
        "suppresses  ' a' -1.00",
        "» Tuesday",
    ):
        assert part in text
    assert "«hot»" in str(store[0, stores.HOT])
    assert "temperatures  (user)" in str(store[0, stores.HOT])
    assert "never active" in str(store[0, stores.NEVER])


def test_the_html_of_a_card_escapes_texts(copied):
    store = cotrace.FeatureStore.open(copied)
    store.add_labels({"L0#2": "<script>alert(1)</script>"})
    html = store["L0#2"]._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<mark" in html


def test_a_card_can_be_written_as_json(store):
    card = json.loads(json.dumps(store["L1#2"].to_dict(), allow_nan=False))
    assert card["feature"] == "L1#2"
    assert card["label"] is None
    assert card["outputs"][0]["top"][0] == {"token": " Tuesday", "logit": 3.0}
    assert card["near_encoder"] == [{"feature": "L1#1", "cosine": 0.5, "label": ""}]


def _with_counts(folder, count, markup):
    path = folder / file_of("features", 0)
    table = read_part(path, FEATURES)
    for name, value in (("count", count), ("markup_count", markup)):
        column = pa.array([value] * table.num_rows, pa.int64())
        table = table.set_column(FEATURES.get_field_index(name), FEATURES.field(name), column)
    write_part(path, table)
    return cotrace.FeatureStore.open(folder)


@pytest.mark.parametrize(
    ("count", "markup", "expected"),
    [(5, 0, ""), (0, 3, "chat markup only"), (2, 3, "mostly chat markup"), (3, 3, ""), (0, 0, "")],
)
def test_a_feature_of_chat_markup_says_so(copied, count, markup, expected):
    store = _with_counts(copied, count, markup)
    card = store["L0#0"]
    assert card.out_of_format == expected
    assert ("not a feature of text" in str(card)) == bool(expected)
    assert store.summary()["layers"][0]["out_of_format"] == (store.widths[0] if markup > count else 0)


def test_labels_are_read_by_layer_and_only_when_asked(written, monkeypatch):
    store, read = cotrace.FeatureStore.open(written), []
    original = store.features
    monkeypatch.setattr(store, "features", lambda layer, columns=None: read.append(layer) or original(layer, columns))
    assert store.labels[0, stores.HOT] == ("temperatures", "user")
    assert store.labels.get((0, 1)) is None
    assert (9, 9) not in store.labels
    assert (0, 99) not in store.labels
    assert read == [0]
    assert dict(store.labels) == {(0, 0): ("temperatures", "user"), (1, 4): ("nothing", "file")}


def test_a_stronger_label_stays(copied):
    store = cotrace.FeatureStore.open(copied)
    assert store.add_labels({"L0#0": "weaker", "L0#1": "first"}, "file") == 1
    assert store.labels[0, 0] == ("temperatures", "user")
    assert store.labels[0, 1] == ("first", "file")
    assert store.add_labels({(0, 1): "mine"}) == 1
    assert cotrace.FeatureStore.open(copied).labels[0, 1] == ("mine", "user")
    assert store.add_labels({(0, 1): ""}) == 1
    assert (0, 1) not in store.labels
    assert store["L0#1"].label is None
    for labels, source in (({"L0#1": 3}, "user"), ({"L0#1": "x"}, "me"), ({"L0#1": "\ud800"}, "user")):
        with pytest.raises(ArgumentError):
            store.add_labels(labels, source)


def test_search_finds_labels_tokens_and_outputs(store):
    assert [(str(hit.feature), hit.where) for hit in store.search("TEMPERATURE")] == [("L0#0", "label")]
    assert next((str(hit.feature), hit.where) for hit in store.search("warm"))[1] == "fires on"
    tuesday = store.search(" Tuesday ")
    assert {(str(hit.feature), hit.where, hit.value) for hit in tuesday} == {
        ("L0#2", "promotes", 3.0),
        ("L1#2", "promotes", 3.0),
    }
    assert [str(hit.feature) for hit in store.search("tuesday", layer=1)] == ["L1#2"]
    assert len(store.search("the", n=3)) == 3
    assert store.search("zebra") == []
    with pytest.raises(ArgumentError, match="empty"):
        store.search("  ")


def test_search_lists_each_feature_once_labels_first(copied):
    store = cotrace.FeatureStore.open(copied)
    store.add_labels({"L1#2": "before tuesday"})
    assert [(str(hit.feature), hit.where) for hit in store.search("Tuesday")] == [
        ("L1#2", "label"),
        ("L0#2", "promotes"),
    ]


def test_a_store_equals_itself(store):
    diff = store.diff(store)
    assert diff.match == "number"
    assert diff.mean_similarity == pytest.approx(1)
    assert not diff.only_first
    assert not diff.only_second
    assert all(each.feature == each.other for each in diff.changes)
    assert diff.labels() == {"same": 1, "changed": 0, "only first": 0, "only second": 0, "neither": 7}


def test_a_changed_feature_is_the_least_similar(store, tmp_path):
    rules = list(stores.RULES)
    rules[stores.HOT] = stores.on("river", "stone")
    rules[stores.AFTER_OPPOSITE] = stores.RULES[stores.NEVER]
    other = cotrace.FeatureStore.open(stores.write_store(tmp_path / "other", tuple(rules)))
    diff = store.diff(other)
    assert {str(each.feature) for each in diff.changes[:2]} == {"L0#0", "L1#0"}
    assert diff.changes[0].similarity == pytest.approx(0.5)  # no token in common, the same outputs
    assert [str(each) for each in diff.only_first] == ["L0#1", "L1#1"]
    assert not diff.only_second
    assert json.loads(json.dumps(diff.to_dict()))["only_first"] == ["L0#1", "L1#1"]


def test_stores_of_other_widths_match_by_profile(store, tmp_path):
    rules = (*reversed(stores.RULES), stores.on("king", "queen"))
    other = cotrace.FeatureStore.open(stores.write_store(tmp_path / "other", rules, layers=(0,)))
    diff = store.diff(other)
    assert diff.match == "profile"
    partners = {str(each.feature): str(each.other) for each in diff.changes}
    assert partners["L0#0"] == "L0#4"
    assert partners["L1#2"] == "L0#2"
    assert "L0#5" in map(str, diff.only_second)
    with pytest.raises(ArgumentError, match="profile"):
        store.diff(other, "number")
    with pytest.raises(ArgumentError, match="invalid match"):
        store.diff(other, "name")


def test_a_summary_counts_features(store):
    layer = store.summary()["layers"][1]
    assert layer == {"layer": 1, "features": 5, "active": 4, "labelled": 1, "out_of_format": 0}
    assert len(store) == 10
    assert [str(each) for each in store][:2] == ["L0#0", "L0#1"]


# --- the store of a model ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def neurons(tmp_path_factory):
    """A store of the first layer of the reference model's neurons."""
    rules = (stores.RULES * 26)[:128]
    dictionary = {"name": "neurons:8", "kind": "neurons", "site": "mlp_in", "sha256": None}
    return stores.write_store(tmp_path_factory.mktemp("neurons") / "store", rules, layers=(0,), dictionary=dictionary)


def _load(**options):
    return cotrace.load(REFERENCE / "model", "neurons:8", device="cpu", progress=False, **options)


def test_a_model_has_the_store_it_was_loaded_with(neurons):
    for given in (neurons, cotrace.FeatureStore.open(neurons)):
        assert _load(features=given).features["L0#2"].promotes[0].token == " Tuesday"


def test_a_model_without_a_store_says_how_to_make_one():
    model = _load()
    assert model.feature_store is None
    with pytest.raises(ArgumentError, match="cotrace features build"):
        model.features["L0#2"]


def test_a_store_of_other_transcoders_is_refused(written, neurons):
    with pytest.raises(ArgumentError, match=r"words-clt \(clt\), not of neurons:8"):
        _load(features=written)
    with pytest.raises(FileError, match=r"store\.json"):
        _load(features=neurons.parent / "missing")


# --- damaged stores -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["store.json", "features-1.parquet", "examples-0.parquet", SEQUENCES_FILE, TOKENS_FILE]
)
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(FileError, match=name.replace(".", r"\.")):
        cotrace.FeatureStore.open(copied)


@pytest.mark.parametrize("name", ["features-0.parquet", "examples-0.parquet", SEQUENCES_FILE, TOKENS_FILE])
@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "text", "bit"])
def test_a_damaged_file_is_one_error(copied, name, damage):
    path = copied / name
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[_last_byte_of_a_page(path)] ^= 4
    changed = {
        "cut": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "empty": b"",
        "text": b"hello",
        "bit": content,
    }
    path.write_bytes(changed[damage])
    with pytest.raises(FileError):
        _read_everything(copied)


def _last_byte_of_a_page(path):
    """Checksums are of pages; a bit of a page's statistics changes nothing that is read."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    return column.data_page_offset + column.total_compressed_size - 1


def _read_everything(folder):
    store = cotrace.FeatureStore.open(folder)
    for feature in store:
        str(store[feature])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "upgrade"),
        ({"layers": [0]}, "do not fit together"),
        ({"layers": [0, 0]}, "do not fit together"),
        ({"widths": [5, "5"]}, "widths"),
        ({"tokens": None}, "tokens"),
        ({"context": 3}, "context"),
        ({"context": {"before": -1, "after": 3, "bos": None}}, "negative"),
    ],
)
def test_damaged_metadata_is_one_error(copied, changes, message):
    path = copied / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FileError, match=message):
        cotrace.FeatureStore.open(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"a": NaN}'])
def test_a_file_that_is_not_json_is_one_error(copied, content):
    (copied / "store.json").write_bytes(content)
    with pytest.raises(FileError):
        cotrace.FeatureStore.open(copied)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for path in (tmp_path, tmp_path / "missing", file):
        with pytest.raises(FileError, match=r"store\.json"):
            cotrace.FeatureStore.open(path)


@pytest.mark.parametrize(
    ("part", "column", "value"),
    [
        ("features", "feature", 7),
        ("examples", "sequence", 9999),
        ("examples", "position", 9999),
        ("examples", "position", -1),
    ],
)
def test_values_out_of_range_are_one_error(copied, part, column, value):
    schema = {"features": FEATURES, "examples": EXAMPLES}[part]
    path = copied / file_of(part, 0)
    table = read_part(path, schema)
    values = table[column].to_pylist()
    values[0] = value
    index = schema.get_field_index(column)
    write_part(path, table.set_column(index, schema.field(column), pa.array(values, schema.field(column).type)))
    with pytest.raises(CotraceError):
        _read_everything(copied)


def test_a_token_without_text_is_one_error(copied):
    table = read_part(copied / TOKENS_FILE, TOKENS)
    write_part(copied / TOKENS_FILE, table.slice(0, 20))
    with pytest.raises(FileError, match="no text for token"):
        _read_everything(copied)


def test_other_columns_are_refused(copied):
    path = copied / file_of("features", 0)
    pq.write_table(read_part(path, FEATURES).drop_columns("label"), path)
    with pytest.raises(FileError, match="label"):
        _read_everything(copied)


def test_a_wide_layer_reads_only_the_rows_of_a_feature(tmp_path, monkeypatch):
    path = tmp_path / "examples.parquet"
    rows = [
        {"feature": i, "kind": "top", "rank": 0, "activation": 1.0, "sequence": 0, "position": 1} for i in range(9000)
    ]
    write_part(path, pa.Table.from_pylist(rows, EXAMPLES))
    groups = []
    original = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, *args, **kw: groups.append(args[0]) or original(self, *args, **kw),
    )
    assert read_part(path, EXAMPLES, features=[5000]).num_rows == 1
    assert groups == [[1]]


# --- the command line -----------------------------------------------------------------------


def test_show_prints_cards_and_the_store(written, command):
    status, printed, errors = command("features", "show", "L0#0", "L1#2", "--features", written)
    assert (status, errors) == (0, "")
    assert "temperatures" in printed
    assert "L1#2" in printed
    cards = json.loads(command("features", "show", "L0#0", "--features", written, "--json")[1])
    assert [card["feature"] for card in cards] == ["L0#0"]
    assert "words-clt" in command("features", "show", "--features", written)[1]


def test_search_and_diff_print_tables(written, command):
    assert "L1#2" in command("features", "search", "tuesday", "--features", written)[1]
    hits = json.loads(command("features", "search", "tuesday", "--features", written, "--json")[1])
    assert {hit["feature"] for hit in hits} == {"L0#2", "L1#2"}
    assert "no feature has 'zebra'" in command("features", "search", "zebra", "--features", written)[1]
    assert "mean similarity 1.000" in command("features", "diff", written, written)[1]
    assert json.loads(command("features", "diff", written, written, "--json")[1])["match"] == "number"


def test_label_writes_labels(copied, tmp_path, command):
    labels = tmp_path / "labels.csv"
    labels.write_text("L0#1,after opposite\nL9#9,elsewhere\nL0#0,weaker\n")
    status, printed, _ = command("features", "label", "L0#2", "Tuesdays", "--labels", labels, "--features", copied)
    assert status == 0
    assert "labelled 2 features" in printed
    assert "1 labels are of features" in printed
    found = cotrace.FeatureStore.open(copied).labels
    assert found[0, 2] == ("Tuesdays", "user")
    assert found[0, 1] == ("after opposite", "file")
    assert found[0, 0] == ("temperatures", "user")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "L0#99"), "does not exist"),
        (("show", "hot"), "invalid node"),
        (("search", " "), "empty"),
        (("search", "x", "--layer", "9"), "no layer 9"),
        (("label",), "nothing to label"),
        (("label", "L0#1"), "nothing to label"),
        (("label", "L0#99", "x"), "does not exist"),
        (("label", "--labels", "missing.csv"), "does not exist"),
    ],
)
def test_mistakes_are_one_line(written, command, arguments, message):
    status, _, errors = command("features", *arguments, "--features", written)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
