"""Measure what a feature store costs, against the bare forward passes over the same tokens.

    python -m benchmarks.features TEXTS [--tokens 16384] [--store-tokens 1000000] [--transcoders SPEC]

Batches run bare and with features in turn, so that both see the same load of the machine; then their features are tallied and
saved as a run of a build, and all files of the store are written. Writing costs the same for any text: it is spread over
the tokens of a store. Wall time and processor time of every part go to results/features.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.defaults import DEFAULT_MODEL
from cotrace.features.build.build import choose
from cotrace.features.build.config import BuildConfig
from cotrace.features.build.outputs import FrozenReadout
from cotrace.features.build.passes import Batch, run_batch, save_run
from cotrace.features.build.runs import WorkFolder
from cotrace.features.build.sequences import read_text
from cotrace.features.build.source import TranscoderSource
from cotrace.features.build.tally import TallyRules
from cotrace.features.build.write import StoreWriter
from cotrace.training.activations import batch_sequences, to_device

from .measure import machine

RESULT = Path(__file__).parent / "results" / "features.json"
PARTS = ("bare", "features", "tally", "write")


class Clock:
    """Wall and processor seconds of parts of a program."""

    def __init__(self) -> None:
        self.seconds = {part: {"wall": 0.0, "processor": 0.0} for part in PARTS}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds[part]["wall"] += time.perf_counter() - wall
        self.seconds[part]["processor"] += time.process_time() - processor


@torch.no_grad()
def measure(model: LanguageModel, source: TranscoderSource, config: BuildConfig, folder: Path) -> Clock:
    """Measure every part of a build of a store in a folder."""
    ids_SP = read_text(config, model, Progress(), folder / "samples").ids_SP
    rules = TallyRules(model.architecture.vocab_size, config.context, config.top, config.quantiles, config.seed)
    work, clock = WorkFolder(folder), Clock()
    run_both(model, source, ids_SP[: batch_sequences(model, config.context)], Clock())  # compiles kernels
    batches = run_both(model, source, ids_SP, clock)
    with clock("tally"):
        save_run(work, 0, len(ids_SP), batches, source, rules)
    with clock("write"), Progress().phase("writing features", sum(source.widths)) as advance:
        scale = sum(batch.scale_sum for batch in batches) / sum(len(batch.tokens.id_T) for batch in batches)
        writer = StoreWriter(folder, source, config, rules, FrozenReadout(model.weights, scale))
        for index in range(len(source.layers)):
            writer.write_layer(index, work.runs(), advance)
    return clock


def run_both(model: LanguageModel, source: TranscoderSource, ids_SP: np.ndarray, clock: Clock) -> list[Batch]:
    """Run all batches bare and with features."""
    batches, size = [], batch_sequences(model, ids_SP.shape[1])
    with Progress().phase("running the model", len(ids_SP)) as advance:
        for start in range(0, len(ids_SP), size):
            rows = slice(start, min(start + size, len(ids_SP)))
            with clock("bare"):
                resid_BPD = model.weights.embed(to_device(model, ids_SP[rows]))
                ForwardPass(model.weights, resid_BPD, keep_patterns=False).run()
            with clock("features"):
                batches.append(run_batch(model, source, ids_SP, rows))
            advance(rows.stop - rows.start)
    return batches


def ratios(seconds: dict[str, dict[str, float]], tokens: int, store_tokens: int) -> dict[str, float]:
    """Return the cost of a store over that of the bare passes, in wall and processor time."""
    return {
        kind: (seconds["features"][kind] + seconds["tally"][kind] + seconds["write"][kind] * tokens / store_tokens)
        / seconds["bare"][kind]
        for kind in ("wall", "processor")
    }


def features_table(result: dict[str, Any]) -> str:
    """Return the table of a result."""
    from .cells import markdown

    bare, tokens = result["seconds"]["bare"], result["tokens"]
    names = {
        "bare": "bare forward passes",
        "features": "forward passes with features",
        "tally": "counts and examples",
        "write": f"output tokens, neighbours and files, of a store of {result['store_tokens']:,} tokens",
    }
    grid = [["part", "wall time over the bare passes", "processor time over the bare passes"]]
    for part, name in names.items():
        share = tokens / result["store_tokens"] if part == "write" else 1
        grid.append([name, *(f"{result['seconds'][part][kind] * share / bare[kind]:.2f}" for kind in bare)])
    grid.append(["the store", *(f"{result['ratio'][kind]:.2f}" for kind in bare)])
    return f"{markdown(grid)}\n\nMeasured on {tokens:,} tokens of {result['transcoders']}."


def main() -> None:
    """Measure, print the ratios and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a text file or a folder of them")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--transcoders", default="gemma-3-270m-clt")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens to measure on")
    parser.add_argument("--store-tokens", type=int, default=1_000_000, help="tokens of the store that is costed")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    model = load_language_model(arguments.model)
    source = TranscoderSource(load_transcoders(arguments.transcoders, model.architecture), model.weights)
    config = choose(BuildConfig((arguments.data,), tokens=arguments.tokens), source)
    with tempfile.TemporaryDirectory() as folder:
        clock = measure(model, source, config, Path(folder))
    result = {
        "model": arguments.model,
        "transcoders": arguments.transcoders,
        "tokens": arguments.tokens,
        "store_tokens": arguments.store_tokens,
        "seconds": clock.seconds,
        "ratio": ratios(clock.seconds, arguments.tokens, arguments.store_tokens),
        "machine": machine(),
        "versions": package_versions(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(features_table(result))


if __name__ == "__main__":
    main()
