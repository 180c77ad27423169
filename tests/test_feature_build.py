"""Building feature stores: against a float64 reference in plain Python, after interruptions, and with chats."""

import functools
import json
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
import pytest
import tiny
import torch
from tiny_checkpoints import WORDS, write_tokenizer

import cotrace
from cotrace.attribution.models.language_model import load_language_model
from cotrace.attribution.models.tokenizer import ChatTokens
from cotrace.attribution.transcoders import load_transcoders
from cotrace.common.errors import ArgumentError, FileError
from cotrace.features.build import build, outputs, passes, runs, sequences, write
from cotrace.features.build.build import build_store
from cotrace.features.build.config import BuildConfig
from cotrace.features.build.outputs import FrozenReadout
from cotrace.features.build.sequences import as_chat, markup_positions
from cotrace.features.build.source import TranscoderSource
from cotrace.features.build.tally import Entries, TallyRules, Tokens, merge, tally_entries
from cotrace.features.store.schema import EXAMPLES, FEATURES, HISTOGRAM_BINS, SEQUENCES, TOKENS
from cotrace.training import activations

CONTEXT, KINDS = 12, ("clt-affine", "ct-per-layer", "neurons")
BOS, CHAT = 2, ChatTokens(start=4, end=5, line_end=8, user=6, model=7)


@pytest.fixture(scope="module", autouse=True)
def _short_turns(one_thread):
    """Use one thread, and turns so short that a sequence holds several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "TURN_TOKENS", 2)
        yield


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """Return the folder of a model with a tokenizer, and a file with text of its words."""
    root = tmp_path_factory.mktemp("worded")
    words = np.random.default_rng(0).choice([word for word in WORDS if word.strip()], 3000)
    (root / "text.txt").write_text("\n".join(" ".join(line) for line in words.reshape(-1, 30)))
    return write_tokenizer(tiny.write_model(root / "model")), root / "text.txt"


@pytest.fixture(scope="module")
def model(worded):
    return load_language_model(worded[0], dtype="float64", device="cpu", progress=False)


@pytest.fixture(scope="module")
def source_of(model, transcoder_spec):
    """Return a function from a kind of transcoders to a source of features."""
    return functools.cache(
        lambda kind: TranscoderSource(load_transcoders(transcoder_spec(kind), model.architecture), model.weights)
    )


def config_of(worded, **changes) -> BuildConfig:
    settings = {"tokens": 400, "context": CONTEXT, "chat_share": 0.25, "top": 4, "quantiles": 3, "fires_on": 3}
    return BuildConfig((str(worded[1]),), **{**settings, **changes})


@pytest.fixture(scope="module")
def store_of(worded, model, source_of, tmp_path_factory):
    """Return a function from a kind to the folder of its store, built once."""

    @functools.cache
    def built(kind):
        out = tmp_path_factory.mktemp("store")
        return build_store(model, source_of(kind), out, config_of(worded), labels=False, progress=False)

    return built


def read_sequences(worded, model, **changes) -> np.ndarray:
    from cotrace.common.progress import Progress

    return build.read_text(config_of(worded, **changes), model, Progress(False), worded[0]).ids_SP


class Firing(NamedTuple):
    """A feature that is active at a token."""

    layer: int
    feature: int
    sequence: int
    position: int
    token: int
    activation: float
    markup: bool


def reference(model, source, ids_SP) -> list[Firing]:
    """Return all features that are active at tokens that are not masked, one sequence at a time."""
    firings = []
    for sequence, ids in enumerate(ids_SP.tolist()):
        prefix = 4 if ids[1:4] == [CHAT.start, CHAT.user, CHAT.line_end] else 1
        kept = torch.tensor([position >= prefix and token != BOS for position, token in enumerate(ids)])
        resid_BPD = model.weights.embed(torch.tensor([ids]))
        positions = kept.nonzero()[:, 0].tolist()
        for layer, active in source.active(source.forward_pass(model.weights, resid_BPD), kept[None]):
            for row, feature, activation, _ in zip(*(column.tolist() for column in active), strict=True):
                at = positions[row]
                firings.append(Firing(layer, feature, sequence, at, ids[at], activation, is_markup(ids, at)))
    return firings


def is_markup(ids: list[int], at: int) -> bool:
    """Return whether a token is chat markup, by a rule for single tokens."""
    before = [-1, -1, *ids[:at]][-2:]
    role = ids[at] in (CHAT.user, CHAT.model) and before[1] == CHAT.start
    after_role = before[1] in (CHAT.user, CHAT.model) and before[0] == CHAT.start
    line_end = ids[at] == CHAT.line_end and (after_role or before[1] == CHAT.end)
    return ids[at] in (CHAT.start, CHAT.end) or role or line_end


def bin_of(activation: float) -> int:
    """Return the bin of an activation, from exact squares."""
    square = float(np.float32(activation)) ** 2
    return next((b for b in range(HISTOGRAM_BINS - 1) if square < 2.0 ** (b + 1 - 24)), HISTOGRAM_BINS - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_and_examples_are_those_of_a_float64_reference(kind, worded, model, source_of, store_of):
    source, ids_SP = source_of(kind), read_sequences(worded, model)
    firings = reference(model, source, ids_SP)
    assert any(firing.markup for firing in firings)
    for layer, width in zip(source.layers, source.widths, strict=True):
        rows = read(store_of(kind), f"features-{layer}.parquet", FEATURES)
        examples = read(store_of(kind), f"examples-{layer}.parquet", EXAMPLES)
        assert [row["feature"] for row in rows] == list(range(width))
        for row in rows:
            of_feature = [f for f in firings if (f.layer, f.feature) == (layer, row["feature"])]
            check_feature(row, of_feature, [e for e in examples if e["feature"] == row["feature"]])


def check_feature(row, firings: list[Firing], examples) -> None:
    text = [firing for firing in firings if not firing.markup]
    assert (row["count"], row["markup_count"]) == (len(text), len(firings) - len(text))
    assert row["histogram"] == [Counter(bin_of(f.activation) for f in text)[b] for b in range(HISTOGRAM_BINS)]
    assert row["total"] == pytest.approx(sum(f.activation for f in text), rel=1e-6, abs=1e-6)
    assert row["max"] == pytest.approx(max((f.activation for f in text), key=abs, default=0), rel=1e-6)
    tokens = sorted(Counter(f.token for f in text).items(), key=lambda item: (-item[1], item[0]))
    assert [(t["token"], t["count"]) for t in row["fires_on"]] == tokens[:3]
    strongest = sorted(text, key=lambda f: (-abs(np.float32(f.activation)), f.sequence, f.position))
    first = {f.sequence: f for f in reversed(strongest)}  # one of each sequence
    expected = [f for f in strongest if first[f.sequence] is f][:4]
    top = [e for e in examples if e["kind"] == "top"]
    assert [(e["sequence"], e["position"]) for e in top] == [(f.sequence, f.position) for f in expected]
    assert [e["activation"] for e in top] == pytest.approx([f.activation for f in expected], rel=1e-6)
    drawn = [e for e in examples if e["kind"] == "quantile"]
    values = {(f.sequence, f.position): f.activation for f in text}
    assert len(drawn) == min(3, len(text))
    for example in drawn:
        assert example["activation"] == pytest.approx(values[example["sequence"], example["position"]], rel=1e-6)
    assert drawn == sorted(drawn, key=lambda e: abs(e["activation"]))
    for side in (top, drawn):
        assert [e["rank"] for e in side] == list(range(len(side)))


def read(folder, name: str, schema) -> list[dict]:
    table = parquet.read_table(folder / name)
    assert table.schema.equals(schema)
    return table.to_pylist()


def test_sequences_and_tokens_are_those_of_the_text(worded, model, store_of):
    folder, ids_SP = store_of("clt-affine"), read_sequences(worded, model)
    for row in read(folder, "sequences.parquet", SEQUENCES):
        assert row["token_ids"] == ids_SP[row["sequence"]].tolist()
    info = json.loads((folder / "store.json").read_text())
    text = Counter()
    n_markup = 0
    for ids in ids_SP.tolist():
        prefix = 4 if ids[1] == CHAT.start else 1
        for at in range(prefix, CONTEXT):
            n_markup += is_markup(ids, at)
            text[ids[at]] += ids[at] != BOS and not is_markup(ids, at)
    assert (info["tokens"], info["markup_tokens"]) == (text.total(), n_markup)
    assert sum(part["tokens"] for part in info["data"]) == info["tokens"]
    for row in read(folder, "tokens.parquet", TOKENS):
        assert row["text"] == model.tokenizer.decode_token(row["token"])
        assert row["count"] == text[row["token"]]


@pytest.mark.parametrize("kind", KINDS)
def test_output_tokens_are_those_of_the_frozen_norm_and_unembedding(kind, model, source_of, store_of):
    source, weights = source_of(kind), model.weights
    scale = json.loads((store_of(kind) / "store.json").read_text())["settings"]["final_norm_scale"]
    unembedding_VD = weights.unembedding(torch.arange(model.architecture.vocab_size)).double()
    for layer, width in zip(source.layers, source.widths, strict=True):
        rows_FJD = source.decoder_rows(layer, torch.arange(width)).double()
        vectors = {-1: rows_FJD.sum(1)}
        if rows_FJD.shape[1] > 1:
            vectors |= dict(zip(source.written_layers(layer), rows_FJD.unbind(1), strict=True))
        for row in read(store_of(kind), f"features-{layer}.parquet", FEATURES):
            assert [part["layer"] for part in row["written"]] == list(vectors)
            for part in row["written"]:
                vector_D = vectors[part["layer"]][row["feature"]]
                logit_V = unembedding_VD @ (vector_D * weights.final_norm_D * scale)
                check_outputs(part, logit_V - logit_V.mean(), vector_D)


def check_outputs(part, logit_V: torch.Tensor, vector_D: torch.Tensor) -> None:
    n_top, n_bottom = (10, 5) if part["layer"] == -1 else (5, 3)
    assert part["norm"] == pytest.approx(vector_D.norm().item(), rel=1e-3)
    order = logit_V.argsort(descending=True)
    assert [t["token"] for t in part["top"]] == order[:n_top].tolist()
    assert [t["token"] for t in part["bottom"]] == order.flip(0)[:n_bottom].tolist()
    logits = [t["logit"] for t in part["top"] + part["bottom"]]
    expected = logit_V[[t["token"] for t in part["top"] + part["bottom"]]].tolist()
    assert logits == pytest.approx(expected, rel=1e-3, abs=1e-5)  # stored with 11 binary digits


def test_output_tokens_of_a_large_vocabulary_are_found_in_tiles(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(outputs, "TILE_VECTORS", 7)
    monkeypatch.setattr(outputs, "TILE_TOKENS", 1000)

    class Weights:
        final_norm_D = torch.rand(24, generator=generator) + 0.5
        unembedding_VD = torch.randn(5003, 24, generator=generator) + 1
        mean_unembedding_D = unembedding_VD.mean(0)

        architecture = SimpleNamespace(vocab_size=5003)

        @classmethod
        def unembedding(cls, ids):
            return cls.unembedding_VD[ids]

    vectors_nD = torch.randn(20, 24, generator=generator)
    vectors_nD[3] = 0
    top, bottom = FrozenReadout(Weights, 0.5).extremes(vectors_nD, 10, 5)  # type: ignore[arg-type]
    exact_nD = vectors_nD.double() * Weights.final_norm_D * 0.5
    logit_nV = exact_nD @ (Weights.unembedding_VD.double() - Weights.mean_unembedding_D).T
    for row in (row for row in range(20) if row != 3):
        assert top.token_nk[row].tolist() == logit_nV[row].topk(10).indices.tolist()
        assert bottom.token_nk[row].tolist() == (-logit_nV[row]).topk(5).indices.tolist()
        assert top.logit_nk[row] == pytest.approx(logit_nV[row].topk(10).values.numpy(), rel=1e-5)
    assert not top.logit_nk[3].any()


@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_neighbours_have_the_largest_cosines_of_all_layers(kind, source_of, store_of):
    source = source_of(kind)
    names = [(layer, f) for layer, width in zip(source.layers, source.widths, strict=True) for f in range(width)]
    encoders, decoders = [], []
    for layer, width in zip(source.layers, source.widths, strict=True):
        encoders.append(source.encoder_rows(layer, torch.arange(width)).double())
        decoder_FLD = torch.zeros(width, len(source.layers), tiny.WIDTH, dtype=torch.float64)
        decoder_FLD[:, list(source.written_layers(layer))] = source.decoder_rows(layer, torch.arange(width)).double()
        decoders.append(decoder_FLD.flatten(1))
    for column, vectors in (("near_encoder", encoders), ("near_decoder", decoders)):
        unit_ND = torch.nn.functional.normalize(torch.cat(vectors), dim=1)
        cosine_NN = (unit_ND @ unit_ND.T).fill_diagonal_(-2)
        rows = [row for layer in source.layers for row in read(store_of(kind), f"features-{layer}.parquet", FEATURES)]
        for row, cosine_N in zip(rows, cosine_NN, strict=True):
            best = cosine_N.topk(5)
            assert [(n["layer"], n["feature"]) for n in row[column]] == [names[n] for n in best.indices]
            assert [n["cosine"] for n in row[column]] == pytest.approx(best.values.tolist(), rel=1e-3)


def tables(folder) -> dict[str, list]:
    return {path.name: parquet.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))}


def without_totals(content: dict[str, list]) -> dict[str, list]:
    """Return tables without sums, which depend on the order in which runs are added."""
    return {name: [{**row, "total": 0} for row in rows] for name, rows in content.items()}


@pytest.mark.parametrize("stop_at", [0, 3, 6])
def test_a_build_that_is_stopped_continues_to_the_same_store(
    stop_at, worded, model, source_of, store_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(activations, "BATCH_TOKENS", {"cpu": 5 * CONTEXT})
    monkeypatch.setattr(passes, "RUN_TOKENS", 8 * CONTEXT)  # two batches
    computed = []

    def failing(model, source, ids_SP, rows):
        if len(computed) == stop_at:
            raise KeyboardInterrupt
        computed.append(rows)
        return passes_run_batch(model, source, ids_SP, rows)

    passes_run_batch = passes.run_batch
    monkeypatch.setattr(passes, "run_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        build_store(model, source_of("neurons"), tmp_path, config_of(worded), labels=False, progress=False)
    assert not (tmp_path / "store.json").exists()
    stop_at = -1
    build_store(model, source_of("neurons"), tmp_path, config_of(worded), labels=False, progress=False)
    starts = [rows.start for rows in computed]
    assert starts == sorted(set(starts))  # no sequence is run twice
    assert without_totals(tables(tmp_path)) == without_totals(tables(store_of("neurons")))
    assert not (tmp_path / "unfinished").exists()


def test_a_killed_build_repeats_only_its_last_run(worded, model, source_of, store_of, tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "BATCH_TOKENS", {"cpu": 5 * CONTEXT})
    monkeypatch.setattr(passes, "RUN_TOKENS", 8 * CONTEXT)
    saved = passes.save_run
    count = iter(range(100))

    def killed(*arguments):
        if next(count) == 2:
            raise MemoryError  # as if the process ended: nothing of this run is saved
        saved(*arguments)

    monkeypatch.setattr(passes, "save_run", killed)
    with pytest.raises(cotrace.ResourceError):
        build_store(model, source_of("neurons"), tmp_path, config_of(worded), labels=False, progress=False)
    (tmp_path / "unfinished" / "runs" / ".0-4.abc.part").mkdir()  # a run that was being written
    build_store(model, source_of("neurons"), tmp_path, config_of(worded), labels=False, progress=False)
    assert without_totals(tables(tmp_path)) == without_totals(tables(store_of("neurons")))


def test_blocks_of_features_do_not_change_a_store(worded, model, source_of, store_of, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "BLOCK_FEATURES", 7)
    build_store(model, source_of("clt-affine"), tmp_path, config_of(worded), labels=False, progress=False)
    assert tables(tmp_path) == tables(store_of("clt-affine"))


def test_a_finished_store_is_left_alone_and_other_settings_are_refused(worded, model, source_of, store_of, monkeypatch):
    folder = store_of("clt-affine")
    before = (folder / "store.json").stat().st_mtime_ns
    build_store(model, source_of("clt-affine"), folder, config_of(worded), labels=False, progress=False)
    assert (folder / "store.json").stat().st_mtime_ns == before
    with pytest.raises(FileError, match="another settings"):
        build_store(model, source_of("clt-affine"), folder, config_of(worded, seed=1), progress=False)
    with pytest.raises(FileError, match="another dictionary"):
        build_store(model, source_of("neurons"), folder, config_of(worded), labels=False, progress=False)


def test_an_unfinished_build_with_other_settings_is_refused(worded, model, source_of, tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "run_passes", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_store(model, source_of("neurons"), tmp_path, config_of(worded), labels=False, progress=False)
    with pytest.raises(FileError, match="another settings"):
        build_store(model, source_of("neurons"), tmp_path, config_of(worded, top=5), progress=False)


def test_another_folder_of_the_same_name_is_left_alone(worded, model, source_of, tmp_path):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "mine.txt").write_text("")
    with pytest.raises(FileError, match="not of a build"):
        build_store(model, source_of("neurons"), tmp_path, config_of(worded), progress=False)
    assert (tmp_path / "unfinished" / "mine.txt").exists()


def test_merged_tallies_equal_the_tally_of_everything():
    rng, rules = np.random.default_rng(0), TallyRules(50, 8, 3, 4, 7)
    n_tokens, width = 64, 6
    token_n, feature_n = np.nonzero(rng.random((n_tokens, width)) < 0.4)
    entries = Entries(feature_n.astype(np.int32), token_n.astype(np.int32), rng.normal(size=len(token_n)).astype("f4"))
    tokens = Tokens(rng.integers(0, 50, n_tokens).astype(np.int32), np.arange(n_tokens), rng.random(n_tokens) < 0.2)
    whole = tally_entries(entries, tokens, 1, width, rules)
    parts = []
    for start in range(0, n_tokens, 16):
        inside = (entries.token_n >= start) & (entries.token_n < start + 16)
        part = Entries(*(column[inside] for column in entries))
        of_part = Tokens(*(column[start : start + 16] for column in tokens))
        parts.append(tally_entries(part._replace(token_n=part.token_n - start), of_part, 1, width, rules))
    merged = merge([merge(parts[:3], rules), parts[3]], rules)
    for mine, expected in zip(
        (*merged[1:5], *merged.top, *merged.drawn), (*whole[1:5], *whole.top, *whole.drawn), strict=True
    ):
        assert (mine == expected).all()
    assert merged.total_F == pytest.approx(whole.total_F, rel=1e-12)


def test_drawn_examples_are_a_uniform_sample():
    rules, n_tokens = TallyRules(5, 8, 1, 5, 3), 400
    token_n = np.arange(n_tokens, dtype=np.int32)
    tokens = Tokens(np.zeros(n_tokens, np.int32), np.arange(n_tokens), np.zeros(n_tokens, bool))
    places = []
    for feature in range(60):
        entries = Entries(np.full(n_tokens, feature, np.int32), token_n, np.ones(n_tokens, np.float32))
        tally = tally_entries(entries, tokens, 0, 60, rules)
        places += tally.drawn.place_n.tolist()
    quarters = np.bincount(np.array(places) // 100, minlength=4)
    assert quarters.sum() == 300
    assert abs(quarters - 75).max() < 4 * np.sqrt(75 * 0.75)


def test_runs_are_merged_so_that_few_remain(tmp_path):
    rules = TallyRules(5, 4, 2, 2, 0)
    work = runs.WorkFolder(tmp_path)
    tokens = Tokens(np.zeros(4, np.int32), np.arange(4), np.zeros(4, bool))
    for first in range(40):
        places = tokens._replace(place_T=np.arange(4) + 4 * first)
        entries = Entries(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), np.full(4, 1 + first, np.float32))
        work.add(first, first + 1, [tally_entries(entries, places, 0, 2, rules)], {"scale_sum": 1.0})
        work.merge_small([2], rules)
    found = work.runs()
    assert (found[0].first, found[-1].stop) == (0, 40)
    assert len(found) <= 8
    tally = runs.merged(found, 0, slice(0, 2), rules)
    assert tally.count_n[tally.key_n == 0].tolist() == [160]
    assert tally.top.activation_n.tolist() == [40.0, 39.0]
    assert runs.sum_up(found) == {"scale_sum": 40.0}


def test_chats_hold_the_text_in_turns_of_the_same_length():
    ids_P = np.array([BOS, *range(10, 19), BOS, 20])
    chat = as_chat(np.tile(ids_P, 20)[:200], CHAT, BOS)
    assert len(chat) == 200
    assert chat[:5].tolist() == [BOS, CHAT.start, CHAT.user, CHAT.line_end, 10]
    assert markup_positions(chat[None], CHAT)[0].tolist() == [is_markup(chat.tolist(), at) for at in range(200)]
    assert set(chat.tolist()) >= {CHAT.model, CHAT.end}
    assert (chat == BOS).sum() == 1
    assert not markup_positions(ids_P[None], None).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": 0}, "tokens 0"),
        ({"context": 1}, "context 1"),
        ({"chat_share": 1.5}, "chat_share 1.5"),
        ({"top": 0}, "top 0"),
        ({"outputs": "most"}, "auto, layers, sum, none"),
        ({"neighbours": "near"}, "auto, all, layer, none"),
        ({"data": ()}, "data is empty"),
        ({"data": "text.txt"}, "must be a list"),
    ],
)
def test_settings_out_of_range_are_refused(change, words):
    with pytest.raises(ArgumentError, match=words):
        BuildConfig(**{"data": ("text.txt",), **change})


def test_the_command_builds_a_store_without_outputs_and_neighbours(worded, tmp_path, command):
    options = ("--data", worded[1], "--model", worded[0], "--transcoders", "neurons:3", "--tokens", 100, "--context", 9)
    labelled = tmp_path / "labelled"
    assert command("features", "build", *options, "--out", labelled, "--quiet")[0] == 0
    assert cotrace.FeatureStore.open(labelled)["L2#0"].feature == cotrace.Feature(2, 0)
    status, printed, _ = command(
        *(
            "features",
            "build",
            *options,
            "--out",
            tmp_path / "s",
            "--outputs",
            "none",
            "--neighbours",
            "none",
            "--quiet",
        )
    )
    assert status == 0
    assert str(tmp_path / "s") in printed
    row = read(tmp_path / "s", "features-2.parquet", FEATURES)[0]
    assert (row["written"], row["near_encoder"]) == ([], [])


def test_the_command_names_the_cure(worded, tmp_path, command):
    status, _, errors = command("features", "build", "--out", tmp_path / "s")
    assert status == 2
    assert "--data" in errors
    options = ("--model", worded[0], "--transcoders", "neurons", "--out", tmp_path / "s")
    status, _, errors = command("features", "build", *options, "--data", worded[1], "--tokens", 10**7)
    assert status == 2
    assert "add data, or ask for fewer tokens" in errors
