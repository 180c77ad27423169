"""The sections of `benchmarks.gpu_check`. Each yields records as it goes, so that a crash keeps what was measured.

    python -m benchmarks.gpu_sections NAME --settings JSON --report FILE     one section, in a separate process

A new feature adds a generator here, and its name to `SECTIONS`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .cells import Record, target
from .effects import ledger_gap
from .gpu_inputs import (
    RANDOM,
    random_ids,
    random_model_folder,
    text_ids,
    tiny_model,
    write_random_clt,
)
from .measure import DONE, FAILED, MEMORY_ERRORS, NOT_MEASURED, OUT_OF_MEMORY, timed

ROOT = Path(__file__).parent.parent
IDENTITY_TOLERANCE = 1e-4  # in float32
KERNEL_TOLERANCE = 1e-5  # of sums of a few thousand products, in units of the largest
EFFECT_TARGETS = 32
RATE_SHARE = 0.6  # target of the longest trace
RANDOM_FEATURES, RANDOM_ACTIVE = 16384, 14
TEST_FILES = ("test_gpu", "test_kernel_edge_rows", "test_kernel_decode", "test_kernel_encode")  # most telling first


@dataclass(frozen=True)
class CheckSettings:
    """What a section runs on.

    Attributes:
        device: "cuda", or "cpu" for a dry run.
        dry_run: use tiny sizes, whose times mean nothing.
        model: as `cotrace.load` takes it, or "random" for random weights with the sizes of Gemma 3 270M.
        work: folder for models, transcoders and graphs, shared by all sections.
        seconds: time for the section.
        peer_python: Python of an environment with circuit-tracer; empty if there is none.
    """

    device: str
    dry_run: bool
    model: str
    work: str
    seconds: float
    peer_python: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder for files."""
        return Path(self.work)

    @property
    def tokens(self) -> tuple[int, int]:
        """Return the lengths of the traced prompts."""
        return (3, 4) if self.dry_run else (64, 512)

    @property
    def spec(self) -> str:
        """Return the model as `cotrace.load` takes it."""
        return str(random_model_folder(self.folder)) if self.model == RANDOM else self.model

    def load(self, transcoders: str = "gemma-3-270m-clt") -> Any:
        """Return the model with transcoders; in a dry run the tiny one."""
        import cotrace

        if self.dry_run and transcoders == "gemma-3-270m-clt":
            return tiny_model(self.folder, self.device)
        spec = str(self.folder / "tiny-model") if self.dry_run else self.spec
        return cotrace.load(spec, transcoders, device=self.device, dtype="float32", progress=False)

    def prompt(self, model: Any, length: int) -> list[int]:
        """Return token ids: text for a real model, random ids for a random one."""
        return (random_ids if self.dry_run or self.model == RANDOM else text_ids)(model, length)


def check(title: str, value: float, most: float) -> Record:
    """Return the record of a result that must be right; the run fails if it is not."""
    return target(title, value, most=most) | {"must": True}


# Sections


def gpu_tests(settings: CheckSettings) -> Iterator[Record]:
    """Run the tests that need a GPU, the most telling files first; a dry run takes some that Triton's interpreter runs."""
    files = [f"tests/{name}.py" for name in TEST_FILES]
    chosen = (
        [files[1], "-k", "position_rows_of_arrays_that_are_not_contiguous and triton-cpu"]
        if settings.dry_run
        else [*files, "-m", "gpu"]
    )
    report = settings.folder / "tests.json"
    report.unlink(missing_ok=True)
    environment = os.environ | {"COTRACE_TEST_SECONDS": str(settings.seconds - 15), "COTRACE_TEST_REPORT": str(report)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "benchmarks.pytest_budget",
        "-p",
        "no:cacheprovider",
        *chosen,
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    found = json.loads(report.read_text())
    passed = found["outcomes"].get("passed", 0)
    nothing = target("tests that passed", passed, least=1) | {"must": True}
    yield {"case": "tests"} | found | {"targets": [nothing, check("tests that failed", len(found["failures"]), 0)]}


def identities(settings: CheckSettings) -> Iterator[Record]:
    """Check conservation, frozen edits and equal bytes of reruns, and rows against those of the CPU in float64."""
    from helpers.identities import relative
    from tiny import KINDS, prompt

    import cotrace

    for kind in ("clt-affine",) if settings.dry_run else KINDS:
        model = tiny_model(settings.folder, settings.device, kind)
        spec = settings.folder / f"tiny-{kind}" if kind != "neurons" else "neurons:5"
        exact = cotrace.load(settings.folder / "tiny-model", spec, device="cpu", dtype="float64", progress=False)
        ids = prompt(settings.tokens[1] if settings.dry_run else 11)
        graph, expected = (one.trace(ids, progress=False) for one in (model, exact))
        error = relative(graph.adjacency().toarray(), expected.adjacency().toarray())
        rows = check("rows over those of the CPU in float64", error, IDENTITY_TOLERANCE)
        yield {"case": f"tiny model, {kind}", "targets": [rows, *_identity_checks(settings, model, ids, graph)]}
    if not settings.dry_run:
        model = settings.load()
        ids = settings.prompt(model, 16)
        graph = model.trace(ids, progress=False)
        yield {"case": "shipped CLT, 16 tokens", "targets": _identity_checks(settings, model, ids, graph)}


def _identity_checks(settings: CheckSettings, model: Any, ids: list[int], graph: Any) -> list[Record]:
    from helpers.identities import conservation_gap

    files = [settings.folder / name for name in ("a.arrow", "b.arrow")]
    graph.save(files[0]), model.trace(ids, progress=False).save(files[1])
    differs = files[0].read_bytes() != files[1].read_bytes()
    return [
        check("edges and bias minus pre-activation", float(conservation_gap(graph).max()), IDENTITY_TOLERANCE),
        check("frozen ablation minus edges", _frozen_gap(model, ids, graph)[0], IDENTITY_TOLERANCE),
        check("bytes differ between two runs", differs, 0),
    ]


def _frozen_gap(model: Any, ids: list[int], graph: Any) -> tuple[float, float]:
    """Return the largest difference between edges and the effect of ablating the most influential feature; and seconds."""
    import cotrace

    node = int(graph.influence()[graph.order.features].argmax())
    (edit,) = cotrace.nodes_of(graph, [node])
    result, seconds = timed(lambda: model.intervene(ids, {edit: cotrace.ablate()}, freeze="all"))
    column = graph.adjacency()[:, [node]].toarray()[:, 0]
    change = (result.logits - result.logits_before)[-1]
    targets = [t for t in graph.info["targets"] if t["token_ids"]]
    found = [float(change[t["token_ids"][0]] - change.mean()) for t in targets]
    gaps = [abs(f + column[t["node"]]) for f, t in zip(found, targets, strict=True)]
    size = max(float(result.logits_before.abs().max()), 1e-30)
    return max(gaps) / size, seconds


def kernels(settings: CheckSettings) -> Iterator[Record]:
    """Measure every kernel: errors against the reference in float64, then speed of all backends and their ceilings."""
    from .gpu_kernels import kernel_errors, kernel_speeds

    yield from kernel_errors(settings.device, settings.dry_run, KERNEL_TOLERANCE)
    yield from kernel_speeds(settings.device, settings.dry_run)


def launches(settings: CheckSettings) -> Iterator[Record]:
    """Count the launches of a batch of rows for prompts of several lengths."""
    from .launches import launches_by_tokens

    model = settings.load()
    lengths = settings.tokens if settings.dry_run else (64, 128, 256)
    count_effects = not settings.dry_run
    for record in launches_by_tokens(model, lambda n: settings.prompt(model, n), lengths, count_effects):
        yield {"case": f"{record['of']} at {record['tokens']} tokens"} | record | {"targets": []}


def trace_shipped(settings: CheckSettings) -> Iterator[Record]:
    """Trace two prompts with the shipped CLT."""
    yield from _traces(settings, settings.load(), "shipped CLT")


def trace_random(settings: CheckSettings) -> Iterator[Record]:
    """Trace two prompts with a random CLT that is as wide as published ones."""
    folder = settings.folder / "random-clt"
    features, active = (32, 4) if settings.dry_run else (RANDOM_FEATURES, RANDOM_ACTIVE)

    def write() -> None:
        model = settings.load()
        write_random_clt(model, settings.prompt(model, 16 if settings.dry_run else 64), folder, features, active)

    yield {"case": "writing the random CLT", "seconds": timed(write)[1], "features": features, "targets": []}
    yield from _traces(settings, settings.load(str(folder)), "random CLT")


def _traces(settings: CheckSettings, model: Any, title: str) -> Iterator[Record]:
    """Trace within a share of the section's time each; a short trace before compiles the kernels."""
    model.trace(settings.prompt(model, 4), progress=False, max_features=4)
    for tokens in settings.tokens:
        yield _trace(settings, model, tokens, f"{title}, {tokens} tokens")


def _trace(settings: CheckSettings, model: Any, tokens: int, title: str) -> Record:
    from cotrace.attribution.tracing.flops import SweepShape, matmul_flops_per_second

    from .run_cotrace import SWEEP, facts, phases_timed, rate_reached
    from .sweep_flops import sweep_flops

    ids, limit = settings.prompt(model, tokens), settings.seconds / 4
    rate = 1e9 if settings.dry_run else matmul_flops_per_second(settings.device)
    reset_peak(settings.device)
    with phases_timed() as phases:
        graph, seconds = timed(lambda: model.trace(ids, progress=False, max_seconds=limit))
    found = {"case": title, "tokens": tokens, "seconds": seconds, "phases": phases, **facts(graph)}
    found |= {"device_peak_bytes": device_peak(settings.device)}
    operations = sweep_flops(graph, SweepShape.of(model.architecture, model.transcoders))
    found |= rate_reached(operations, phases.get(SWEEP), rate)
    found["targets"] = [check("edges and bias minus pre-activation", conservation(graph), IDENTITY_TOLERANCE)]
    if tokens == settings.tokens[-1] and not settings.dry_run:
        found["targets"].append(target("share of the float32 matmul rate", found["rate_share"], least=RATE_SHARE))
    return found


def conservation(graph: Any) -> float:
    """Return the largest gap of the conservation identity, in units of each row's absolute mass."""
    from helpers.identities import conservation_gap

    return float(conservation_gap(graph).max())


def effects(settings: CheckSettings) -> Iterator[Record]:
    """Compute effects on the likeliest tokens at several positions of a prompt, which must add up to their values."""
    model, length = settings.load(), settings.tokens[-1]
    n_targets = 2 if settings.dry_run else EFFECT_TARGETS
    ids = settings.prompt(model, length)
    positions = [length * (i + 1) // n_targets - 1 for i in range(n_targets)]

    def compute() -> Any:
        return model.effects(ids, position=positions, max_targets=1, progress=False)

    if not settings.dry_run:
        compute()  # compiles
    reset_peak(settings.device)
    found, seconds = timed(compute)
    ledger = [check("value minus tokens, errors and bias", ledger_gap(found), IDENTITY_TOLERANCE)]
    yield {
        "case": f"{n_targets} targets, {length} tokens",
        "seconds": seconds,
        "device_peak_bytes": device_peak(settings.device),
        "targets": ledger,
    }


def intervention(settings: CheckSettings) -> Iterator[Record]:
    """Ablate the most influential feature of a prompt, with everything frozen and in the live model."""
    import cotrace

    model = settings.load()
    ids = settings.prompt(model, settings.tokens[0])
    graph = model.trace(ids, progress=False, max_seconds=settings.seconds / 4)
    error, seconds = _frozen_gap(model, ids, graph)
    frozen = [check("frozen ablation minus edges", error, IDENTITY_TOLERANCE)]
    yield {"case": f"ablation, all frozen, {len(ids)} tokens", "seconds": seconds, "targets": frozen}
    (edit,) = cotrace.nodes_of(graph, [int(graph.influence()[graph.order.features].argmax())])
    result, seconds = timed(lambda: model.intervene(ids, {edit: cotrace.ablate()}))
    yield {"case": f"ablation, live model, {len(ids)} tokens", "seconds": seconds, "kl": result.kl(), "targets": []}


def training(settings: CheckSettings) -> Iterator[Record]:
    """Train a CLT for a few steps on the model's activations, from token ids to files."""
    from helpers.training import CONFIG, write_tokens

    from cotrace.training import TrainingConfig, train_transcoders

    model = str(settings.folder / "tiny-model") if settings.dry_run else settings.spec
    if settings.dry_run:
        tiny_model(settings.folder, settings.device)
        config = replace(CONFIG, model=model, tokens=2 * CONFIG.batch_tokens, fit_tokens=CONFIG.batch_tokens)
    else:
        sizes = {"width": 4096, "batch_tokens": 4096, "tokens": 16 * 4096, "buffer_tokens": 16384, "fit_tokens": 8192}
        config = TrainingConfig(model=model, **sizes)
    folder = settings.folder / "training"
    write_tokens(folder, config)
    reset_peak(settings.device)
    _, seconds = timed(lambda: train_transcoders(config, folder, device=settings.device, progress=False))
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    first, last = history[0]["loss"], history[-1]["loss"]
    found = {"case": f"{config.n_steps} steps of {config.batch_tokens} tokens, width {config.width}"}
    found |= {"seconds": seconds, "tokens_per_second": config.tokens / seconds, "loss": [first, last]}
    must = [check("last loss over the first", last / first, 2.0 if settings.dry_run else 1.0)]
    yield found | {"device_peak_bytes": device_peak(settings.device), "targets": must}


def peer(settings: CheckSettings) -> Iterator[Record]:
    """Trace with circuit-tracer on the same device, where an environment with it is named."""
    if not settings.peer_python:
        reason = 'no --peer-python; docs/benchmarks.md, "Reproduce", creates the environment'
        yield {"case": "circuit-tracer", "status": NOT_MEASURED, "detail": reason, "targets": []}
        return
    out, spec = settings.folder / "peer.json", settings.load().language_model.source.folder
    options = ["--model", spec, "--device", settings.device, "--out", out, "--peer-python", settings.peer_python]
    options += [
        "--transcoders",
        "shipped=gemma-3-270m-clt",
        "--case",
        f"shipped:16:cotrace,circuit_tracer:{settings.seconds / 2}",
    ]
    command = [sys.executable, "-m", "benchmarks.trace", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmarks.trace ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    for record in json.loads(out.read_text())["cases"]:
        yield {"case": record["case"], "targets": record["targets"], "runs": record["runs"]}


SECTIONS: dict[str, tuple[Callable[[CheckSettings], Iterator[Record]], float]] = {  # and the seconds of each
    "tests": (gpu_tests, 75),
    "identities": (identities, 40),
    "kernels": (kernels, 90),
    "trace_shipped": (trace_shipped, 55),
    "trace_random": (trace_random, 65),
    "launches": (launches, 25),
    "effects": (effects, 25),
    "intervention": (intervention, 20),
    "training": (training, 45),
    "peer": (peer, 40),
}


def reset_peak(device: str) -> None:
    """Forget the device's peak memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def device_peak(device: str) -> int | None:
    """Return the device's peak memory in bytes; None on the CPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def run_section(name: str, settings: CheckSettings, save: Callable[[Record], None]) -> Record:
    """Run a section; return its records, how it ended, and the traceback of a failure. `save` gets every state."""
    function, _ = SECTIONS[name]
    result: Record = {"status": FAILED, "records": []}
    start = time.monotonic()
    try:
        for record in function(settings):
            result["records"].append(record)
            save(result)
        result["status"] = DONE
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        result["traceback"] = traceback.format_exc()
        result["status"] = OUT_OF_MEMORY if any(word in words for word in MEMORY_ERRORS) else FAILED
    result["section_seconds"] = time.monotonic() - start
    save(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()

    def save(result: Record) -> None:
        args.report.write_text(json.dumps(result, default=float))

    run_section(args.section, CheckSettings(**args.settings), save)


if __name__ == "__main__":
    main()
