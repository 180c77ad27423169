"""Damage the files of every reader at random: each must be read, or refused by a `CotraceError`.

python -m helpers.fuzz [--mutations N] [--seed N] [READER ...]      # in tests/; `make fuzz` runs all of them
"""

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import tiny
import tiny_checkpoints
import torch
from safetensors.torch import save_file

import cotrace
from cotrace.attribution.models import hashing
from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.language_model import load_language_model
from cotrace.attribution.models.model_source import find_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.batch.file_layout import RECORDS
from cotrace.batch.prompts import check_prompts
from cotrace.batch.result_store import open_folder
from cotrace.batch.transcripts import check_transcripts, read_transcripts, transcript_of
from cotrace.cli.edit_syntax import read_direction
from cotrace.cli.report_compare import print_report
from cotrace.common.errors import CotraceError, FileError
from cotrace.common.progress import Progress
from cotrace.faithfulness.report.files import take_report
from cotrace.faithfulness.report.summary import row_of
from cotrace.graphs.json_metadata import decode_entries
from cotrace.training import checkpoints, data
from cotrace.training.dictionary import Normalization
from cotrace.training.text_sources import read_files
from cotrace.training.trainer import Trainer
from cotrace.viewer.page.pages import page_file
from cotrace.viewer.page.payload import page_html
from helpers import gguf_files, neuronpedia_files
from helpers.mutations import mutated
from helpers.random_graphs import random_graph
from helpers.reports import mixed
from helpers.sampled_graphs import sampled_graph
from helpers.training import CONFIG, write_tokens

DEFAULT_MUTATIONS = 10_000
LIMIT_SECONDS = 60


class Reader(NamedTuple):
    """A reader: `write` makes its files in a folder, all are damaged in turn, and `read` reads the folder."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    files: str = "**/*"


def write_graph(name: str) -> Callable[[Path], object]:
    graph = random_graph(3, n_layers=3, n_positions=3, n_features=8, n_errors=4)
    return lambda folder: graph.save(folder / name)


def write_sampled_graph(folder: Path) -> object:
    return sampled_graph(3, n_layers=3, n_positions=3, n_features=8, n_errors=4)[0].save(folder / "graph.arrow")


def read_graph(folder: Path) -> None:
    """Open a graph; without its checksums too, and use everything in what opens."""
    path = next(folder.iterdir())
    try:
        graph = cotrace.open(path, verify=False)
        graph.influence(), graph.prune(), graph.nodes.to_pylist(), repr(graph)
        graph.shares(), graph.scores(), graph.influence_kind(), graph.influence_interval()
    finally:
        cotrace.open(path)


def write_export(name: str) -> Callable[[Path], object]:
    graph = random_graph(3, n_layers=3, n_positions=3, n_features=8, n_errors=4, feature_targets=1)
    graph.label(0, "sky")
    graph.group("both", [0, 1])
    return lambda folder: graph.export(folder / name)


def write_llamascopium(folder: Path) -> None:
    content = neuronpedia_files.llamascopium(neuronpedia_files.sketch(3, attention=True))
    (folder / "graph.json").write_text(json.dumps(content))


def read_import(folder: Path) -> None:
    """Import a graph of another tool, and use everything in what is read."""
    graph = cotrace.import_graph(next(folder.iterdir()))
    graph.export(folder / "again.json").paths[0].unlink()


def write_effects(name: str) -> Callable[[Path], object]:
    graph = random_graph(3, n_layers=3, n_positions=3, n_features=8, n_errors=4)
    return lambda folder: graph.effects(segments={"first": (0, 1)}).save(folder / name)


def read_effects(folder: Path) -> None:
    """Open effects; without their checksums too, and use everything in what opens."""
    path = next(folder.iterdir())
    try:
        effects = cotrace.Effects.open(path, verify=False)
        effects.table, effects.ledger, effects.top(3), repr(effects), effects._repr_html_()
        [effects.by(group) for group in ("token", "layer", *(["segment"] if effects.segments else []))]
    finally:
        cotrace.Effects.open(path)


def write_report(folder: Path) -> None:
    mixed().save(folder / "report.arrow")


def read_report(folder: Path) -> None:
    """Open a report; without its checksums too, and use everything in what opens."""
    path = next(folder.iterdir())
    try:
        report = cotrace.Report.open(path, verify=False)
        report.to_dict(), repr(report), report.graph.prune(), report.save(folder / "again.arrow").unlink()
    finally:
        cotrace.open(path)


def write_report_entries(folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(mixed().to_dict()))


def read_report_entries(folder: Path) -> None:
    """Open a report whose entries are valid JSON with wrong values, as a hostile file has them."""
    graph = mixed().graph
    try:
        entries = decode_entries((folder / "report.json").read_bytes())
    except ValueError as error:  # as of a file's metadata
        raise FileError("damaged") from error
    entries, graph = take_report(cotrace.Graph(graph.nodes, graph.info | {"report": entries}), folder)
    report = cotrace.Report.from_dict(entries, graph)
    report.to_dict(), row_of(report), report._repr_svg_(), page_html([page_file(report, "report.arrow")])
    with redirect_stdout(io.StringIO()):
        print_report(report, full=True)


def write_transcoders(kind: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        tiny.write_model(folder / "model")
        tiny.write_transcoders(folder / "set", kind)
        for layer_file in sorted((folder / "set").rglob("*.safetensors")):
            name = "config.json" if "params" in layer_file.name else "config.yaml"
            (layer_file.parent / name).write_text(json.dumps({"architecture": "jump_relu", "k": 3}))

    return write


def read_transcoders(folder: Path) -> None:
    arch = read_architecture(find_model(folder / "model").config())
    sets = sorted({path.parent for path in (folder / "set").rglob("*.safetensors")})
    named = sets[0] if len(sets) == 1 else sets[0].parent
    opened = load_transcoders(named, arch)
    for layer in range(arch.n_layers):
        opened.tensors(layer)
    opened.content_hash()


def write_checkpoint(folder: Path) -> None:
    tiny.write_model(folder)
    tiny_checkpoints.write_tokenizer(folder)


def read_checkpoint(folder: Path) -> None:
    model = load_language_model(folder, progress=False, device="cpu")
    if model.tokenizer.hf_tokenizer is not None:
        model.tokenizer.encode("The opposite of hot is")
        model.tokenizer.encode([{"role": "user", "content": "hot"}])


PROMPTS = [
    {"prompt": "The opposite", "id": "a", "targets": [" cold", "L1#2@-1", "diff: cold| hot"]},
    {"prompt": [2, 3, 4], "id": 7},
    {"prompt": [{"role": "user", "content": "hot"}]},
]


MESSAGES = [{"role": "user", "content": "hot?"}, {"role": "assistant", "content": "<think>It is.</think>hot"}]
TRANSCRIPTS = [
    {"question": "2 + 3?", "hint": "2", "reasoning": "It is 5.", "answer": "5", "id": "a", "foil": "6"},
    {"segments": [["question", "2 + 3?"], ["step", " 5", "5"], ["answer", [4, 5]]], "question_id": 1},
    {"chat": MESSAGES, "alternatives": ["cold", "warm"]},
    {"transcript": json.loads(cotrace.Transcript([("question", "2?"), ("answer", " 2")]).to_json())},
]


def write_transcripts(folder: Path) -> None:
    turns = [("user", ["question"]), ("assistant", ["step", "answer"])]
    segments = [("question", "2 + 3?"), ("step", " It is 5.", "", "5"), ("answer", " 5")]
    cotrace.Transcript(segments, ["4", "5"], turns).save(folder / "chat.json")
    cotrace.Transcript([("question", [2, 3]), ("answer", [4, 5], "", [5])], [[6], [7]]).save(folder / "ids.json")


def read_saved_transcripts(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        opened = cotrace.Transcript.open(path)
        assert cotrace.Transcript.from_json(opened.to_json()) == opened


def write_json_lines(rows: list) -> Callable[[Path], object]:
    return lambda folder: (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(rows: list) -> Callable[[Path], object]:
    return lambda folder: parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")


def read_prompts(folder: Path) -> None:
    check_prompts(next(folder.iterdir()))


def read_text(folder: Path) -> None:
    list(read_files(folder, 0))


def read_transcript_rows(folder: Path) -> None:
    """Read rows, and the transcript of each; one that is wrong fails alone."""
    path = next(folder.iterdir())
    check_transcripts(path)
    for row in read_transcripts(path):
        transcript_of(row.given)


def write_vectors(folder: Path) -> None:
    np.save(folder / "vector.npy", np.arange(1, 5, dtype=np.float32))
    save_file({"direction": torch.arange(1.0, 5.0)}, folder / "vector.safetensors")


def read_vectors(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_direction(path)


def write_results(folder: Path) -> None:
    with open_folder(folder) as store:
        store.record_settings({"chat": False, "trace": {"max_targets": 3}})
    records = [{"id": name, "status": "done", "sha256": "0" * 64} for name in ("a", "b")]
    write_json_lines(records)(folder)
    (folder / "rows.jsonl").rename(store.path / RECORDS)


def read_results(folder: Path) -> None:
    with open_folder(folder) as store:
        store.is_done("id=a", "0" * 64)
        store.check_settings({"chat": False, "trace": {"max_targets": 3}})


def new_trainer() -> Trainer:
    return Trainer(CONFIG, tiny.LAYERS, tiny.WIDTH, torch.device("cpu"))


def write_run(folder: Path) -> None:
    trainer = new_trainer()
    trainer.normalization = Normalization(
        *(torch.ones(tiny.LAYERS, tiny.WIDTH) for _ in range(3)), torch.ones(tiny.LAYERS)
    )
    checkpoints.create_run(folder, CONFIG)
    write_tokens(folder, CONFIG)
    trainer.history = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    checkpoints.save_checkpoints([trainer], [folder])


def read_run(folder: Path) -> None:
    config = checkpoints.read_config(folder)
    checkpoints.restore(new_trainer(), folder)
    model = SimpleNamespace(architecture=SimpleNamespace(vocab_size=tiny.VOCABULARY))
    data.prepare_sequences(config, model, folder, Progress(False))


def write_hashes(folder: Path) -> None:
    (folder / "hashes.json").write_text(json.dumps({"/a:1:2": "0" * 64}))


def read_hashes(folder: Path) -> None:
    """Damage in this cache is never an error: the files are hashed again."""
    found = hashing.content_hash([Path(__file__)])
    assert len(found) == 64


def write_gguf(folder: Path) -> None:
    gguf_files.write(folder / "model.gguf", gguf_files.model())


def read_gguf(folder: Path) -> None:
    shutil.rmtree(folder / "models", ignore_errors=True)  # of the cache
    load_language_model(folder / "model.gguf", progress=False, device="cpu")


READERS = {
    "graph": Reader(write_graph("graph.arrow"), read_graph),
    "packed-graph": Reader(write_graph("graph.arrow.zst"), read_graph),
    "sampled-graph": Reader(write_sampled_graph, read_graph),
    "effects": Reader(write_effects("effects.arrow"), read_effects),
    "packed-effects": Reader(write_effects("effects.arrow.zst"), read_effects),
    "neuronpedia": Reader(write_export("graph.json"), read_import),
    "llamascopium": Reader(write_llamascopium, read_import),
    "graphml": Reader(write_export("graph.graphml"), read_import),
    "report": Reader(write_report, read_report),
    "report-entries": Reader(write_report_entries, read_report_entries),
    **{
        f"transcoders-{kind}": Reader(write_transcoders(kind), read_transcoders, "set/**/*")
        for kind in ("clt-affine", "per-layer", "ct-clt", "ct-per-layer")
    },
    "gguf": Reader(write_gguf, read_gguf, "*.gguf"),
    "checkpoint": Reader(write_checkpoint, read_checkpoint),
    "prompts-jsonl": Reader(write_json_lines(PROMPTS), read_prompts),
    "prompts-parquet": Reader(write_parquet([{"prompt": "a", "id": "a"}, {"prompt": "b", "id": "b"}]), read_prompts),
    "text-jsonl": Reader(write_json_lines([{"text": "a"}, {"text": "b"}]), read_text),
    "text-parquet": Reader(write_parquet([{"text": "a"}, {"text": "b"}]), read_text),
    "transcripts": Reader(write_transcripts, read_saved_transcripts),
    "transcripts-jsonl": Reader(write_json_lines(TRANSCRIPTS), read_transcript_rows),
    "directions": Reader(write_vectors, read_vectors),
    "results": Reader(write_results, read_results),
    "training-run": Reader(write_run, read_run),
    "hashes": Reader(write_hashes, read_hashes),
}


def fuzz(name: str, mutations: int, seed: int = 0) -> tuple[Counter, list[str]]:
    """Return how many damaged files were read and refused, and a traceback for each kind of fault."""
    reader, rng, outcomes, faults = READERS[name], np.random.default_rng(seed), Counter(), {}
    with tempfile.TemporaryDirectory() as scratch, _cache_in(scratch):
        folder = Path(scratch)
        reader.write(folder)
        reader.read(folder)
        originals = {path: path.read_bytes() for path in sorted(folder.glob(reader.files)) if path.is_file()}
        for number in range(mutations):
            path = list(originals)[rng.integers(len(originals))]
            _replace(path, mutated(originals[path], path.suffix, rng))
            outcome, fault = _read(reader, folder)
            outcomes[outcome] += 1
            if fault:
                faults.setdefault(_kind_of(fault), f"{name}, mutation {number}, of {path.name}:\n{fault}")
            for changed, content in originals.items():  # some readers write too
                _replace(changed, content)
    return outcomes, list(faults.values())


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    before = os.environ.get("COTRACE_CACHE")
    os.environ["COTRACE_CACHE"] = folder
    try:
        yield
    finally:
        os.environ.pop("COTRACE_CACHE")
        if before is not None:
            os.environ["COTRACE_CACHE"] = before


def _replace(path: Path, content: bytes) -> None:
    """Write a file under a new inode: the older one may be mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _kind_of(fault: str) -> str:
    """Return the place of a fault, by which faults are counted as the same."""
    places = [line for line in fault.splitlines() if line.startswith("  File ")]
    return (places or [fault])[-1]


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_) -> None:
        raise TimeoutError(f"reading took more than {LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _read(reader: Reader, folder: Path) -> tuple[str, str]:
    """Return the outcome, and the traceback of a fault."""
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except CotraceError as error:
        one_line = len(str(error).splitlines()) == 1
        return ("refused", "") if one_line else ("fault", f"a message of several lines:\n{str(error)!r}")
    except Exception:
        return "fault", traceback.format_exc()
    return "read", ""


def main() -> None:
    """Run the command line: print a line for each reader and all faults; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("--mutations", type=int, default=DEFAULT_MUTATIONS, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    any_fault = False
    for name in options.readers or READERS:
        outcomes, faults = fuzz(name, options.mutations, options.seed)
        print(f"{name:28} {dict(sorted(outcomes.items()))}", *faults, sep="\n", flush=True)
        any_fault |= bool(faults)
    sys.exit(any_fault)


if __name__ == "__main__":
    main()
