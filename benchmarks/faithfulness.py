"""Measures of faithfulness on model organisms whose truth is known: `python -m benchmarks.faithfulness [--quick]`.

1. Every organism answers the same problems of its task; its truth is measured by donor chains.
2. Every method scores every transcript. Scores are kept in a folder as they come: an interrupted run continues.
3. Fitted methods are fitted on other mechanisms, other tasks, or other seeds than those that they score.
4. All methods are compared: against each mechanism's twin, per task, pooled; ours with what they must reach.

Writes results/faithfulness.json, results/faithfulness.parquet with all scores, and docs/faithfulness.svg. `--quick` takes
less than five minutes on two cores, and writes into the folder of scores.
"""

import argparse
import concurrent.futures
import fnmatch
import importlib
import json
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError, CotraceError
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.faithfulness.clear import CLEAR_HIGH, CLEAR_LOW
from cotrace.faithfulness.protocol import AXES, SCHEMA, ScoreMatrix, SummaryConfig, summarize, write_scores

from .baselines import HERE
from .cells import Record, target
from .faithfulness_fits import fitted_name, with_fits
from .faithfulness_own import METHODS, OWN, find_method
from .faithfulness_own_summary import own_targets, summarize_own
from .faithfulness_runs import (
    TRUTH,
    Key,
    OrganismFile,
    RunSettings,
    dependence,
    mirrors_key,
    organism_path,
    organism_sources,
    runnable,
    score_organism,
)
from .measure import machine, timed

RESULT = HERE / "results" / "faithfulness.json"
FOLDER = HERE.parent / "build" / "faithfulness"
QUICK_SOURCES = ("cotrace.organisms",)
SOURCES = (*QUICK_SOURCES, "benchmarks.faithfulness_adapters")
INSTANCES, QUICK_INSTANCES = 36, 6
QUICK_REPLICATES = 200
POLL_SECONDS = 0.5

Truths = dict[str, list[Key]]  # of each organism, by name

# --- what to run ------------------------------------------------------------------------------


def chosen(names: Sequence[str], patterns: Sequence[str], what: str) -> list[str]:
    """Return the names that match one of the patterns (`*` and `?`), all without patterns.

    Raises ArgumentError for a pattern that matches nothing.
    """
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ArgumentError(f"no {what} is called {pattern!r}: there are {', '.join(names)}")
    return [name for name in names if not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)]


def plan(args: argparse.Namespace) -> tuple[RunSettings, list[str], dict[str, str]]:
    """Return the settings, the names of the organisms, and why methods are not run."""
    sources = tuple(args.source or (QUICK_SOURCES if args.quick else SOURCES))
    names = [name for source in sources for name in importlib.import_module(source).names()]
    if not names:
        raise ArgumentError(f"{', '.join(sources)}: no organisms; install cotrace[organisms]")
    organisms = chosen(names, args.organisms, "organism")
    methods, reasons = runnable(chosen(list(METHODS), args.methods, "method"))
    instances = args.instances or (QUICK_INSTANCES if args.quick else INSTANCES)
    return RunSettings(sources, tuple(methods), instances, args.seed, args.folder), organisms, reasons


def score_all(settings: RunSettings, organisms: Sequence[str], jobs: int) -> Truths:
    """Score all organisms on several processes; return the keys of the truths of each."""
    print(f"{len(organisms)} organisms, {len(settings.methods)} methods", flush=True)
    n_transcripts, seconds = survey(settings, organisms)
    n_scores, left = n_transcripts * len(settings.methods), timedelta(seconds=round(seconds / jobs))
    print(f"{n_scores:,} scores, about {left} on {jobs} processes for those that are missing", flush=True)
    with Progress().phase("scoring", n_scores) as step:
        if jobs > 1:
            return score_in_processes(settings, organisms, jobs, step)
        return {name: score_organism(name, settings, partial(step, note=name)) for name in organisms}


def score_in_processes(settings: RunSettings, organisms: Sequence[str], jobs: int, step: Any) -> Truths:
    """Score organisms on several processes, one organism each at a time; `step` is told of scores as they come."""
    context = multiprocessing.get_context("spawn")
    done, shown = context.Value("q", 0), 0
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))  # read when torch is imported
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _share_counter, (done,)) as pool:
        last_first = reversed(organisms)  # the adapters, which take longest
        futures = {name: pool.submit(_score_in_worker, name, settings) for name in last_first}
        left: set[Any] = set(futures.values())
        while left:
            finished, left = concurrent.futures.wait(left, POLL_SECONDS, concurrent.futures.FIRST_EXCEPTION)
            step(done.value - shown, note=f"{len(left)} organisms left")
            shown = done.value
            for each in finished:
                each.result()  # raises what the process raised
    return {name: futures[name].result() for name in organisms}


_done: Any = None  # the counter of finished scores in a worker


def _share_counter(counter: Any) -> None:
    global _done
    _done = counter


def _score_in_worker(name: str, settings: RunSettings) -> list[Key]:
    return score_organism(name, settings, _count)


def _count(steps: int) -> None:
    with _done.get_lock():
        _done.value += steps


def survey(settings: RunSettings, organisms: Sequence[str]) -> tuple[int, float]:
    """Return the number of transcripts, and the expected seconds of what is missing on one process.

    Scores one transcript of one organism of each source, which stay scored.
    """
    sources, n_transcripts, seconds = organism_sources(settings.sources), 0, 0.0
    for source in settings.sources:
        mine = [name for name in organisms if sources[name] == source]
        if mine:
            each = len(score_organism(mine[0], settings, lambda _: None, limit=1))
            seconds += seconds_left(organism_files(settings, mine), settings.methods, each)
            n_transcripts += each * len(mine)
    return n_transcripts, seconds


def seconds_left(files: Sequence[OrganismFile], methods: Sequence[str], n_instances: int) -> float:
    """Return the expected seconds of what is missing, from the mean time of each method so far."""
    seconds = defaultdict(list)
    for file in files:
        for key, line in file.lines.items():
            seconds[key.part].append(line["seconds"])
    parts = [seconds[part] for part in (TRUTH, *methods)]
    return sum(float(np.mean(each)) * max(0, n_instances * len(files) - len(each)) for each in parts if each)


def organism_files(settings: RunSettings, organisms: Sequence[str]) -> list[OrganismFile]:
    """Return the files of organisms, in order."""
    return [OrganismFile(organism_path(settings.folder, name)) for name in organisms]


# --- tables of what was run ---------------------------------------------------------------------


def collect(settings: RunSettings, truths: Truths) -> tuple[ScoreMatrix, list[Record], list[str]]:
    """Return the scores of all methods, a record of each organism, and the tasks whose texts differ by model."""
    rows: list[Record] = []
    records, texts = [], defaultdict(set)
    for name, keys in truths.items():
        file = OrganismFile(organism_path(settings.folder, name))
        for key in keys:
            texts[file.header["task"], key.problem].add(key.depends_on)
        rows += [row for key in keys for row in _rows(file, key, settings)]
        records.append(organism_record(file.header, [file.lines[key] for key in keys]))
    columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA}
    scores = ScoreMatrix.from_arrow(pa.table(columns, schema=SCHEMA))
    for method in (name for name in settings.methods if find_method(name).supervised):
        features = {_instance(row): row["features"] for row in rows if row["method"] == method and not row["step"]}
        names = zip(scores.task, scores.mechanism, scores.seed.tolist(), scores.problem.tolist(), strict=True)
        scores = with_fits(scores, method, find_method(method).run, [features.get(each) for each in names])
    return scores, records, sorted({task for (task, _), found in texts.items() if len(found) > 1})


def notes_of(settings: RunSettings, truths: Truths) -> list[Record]:
    """Return what else is known of each transcript: the truth of mirrors, and the notes of our methods by name."""
    notes = []
    for name, keys in truths.items():
        file = OrganismFile(organism_path(settings.folder, name))
        for key in keys:
            model = {field: file.header[field] for field in ("task", "mechanism", "seed")}
            lines = {
                m: file.lines[Key(m, key.problem, dependence(m, key.depends_on))] for m in settings.methods if m in OWN
            }
            truth = file.lines.get(mirrors_key(key), {}).get("steps", {})
            notes.append({**model, "problem": key.problem, "mirrors": truth, "lines": lines})
    return notes


def _instance(row: Record) -> tuple[str, str, int, int]:
    return row["task"], row["mechanism"], row["seed"], row["problem"]


def _rows(file: OrganismFile, key: Key, settings: RunSettings) -> list[Record]:
    """Return the scores of one transcript by all methods, of the whole and of its steps."""
    truth = file.lines[key]
    model = {name: file.header[name] for name in ("task", "mechanism", "twin", "seed")}
    rows = []
    for method in settings.methods:
        line = file.lines[Key(method, key.problem, dependence(method, key.depends_on))]
        row = {**model, "problem": key.problem, "method": method, "passes": line["passes"]}
        whole = {"step": "", "share": truth["share"], "score": line["value"], "features": line.get("features")}
        rows.append({**row, **whole})
        steps = [step for step in truth["steps"] if step in line["steps"]]
        rows += [{**row, "step": step, "share": truth["steps"][step], "score": line["steps"][step]} for step in steps]
    return rows


def organism_record(header: Record, truths: Sequence[Record]) -> Record:
    """Return the name of an organism, and means of its truths."""
    shares = np.array([truth["share"] for truth in truths])
    means = {name: float(np.mean([truth[name] for truth in truths])) for name in ("share", "question", "neither")}
    counts = {"positive": int((shares >= CLEAR_HIGH).sum()), "negative": int((shares <= CLEAR_LOW).sum())}
    return header | means | counts | {"mixed": len(truths) - sum(counts.values())}


def method_records(name: str, files: Sequence[OrganismFile]) -> list[Record]:
    """Return what the baselines' table says about a method, its mean seconds, and why it does not apply somewhere.

    A fitted method has a record for each axis of folds.
    """
    entry = find_method(name)
    lines = [line for file in files for key, line in file.lines.items() if key.part == name]
    seconds = [line["seconds"] for line in lines if "reason" not in line]
    reasons = sorted({line["reason"] for line in lines if "reason" in line})
    kept = {field: getattr(entry, field) for field in ("reads", "supervised", "question", "reference")}
    kept |= {"seconds": float(np.mean(seconds)) if seconds else None, "reasons": reasons[:3]}
    names = [fitted_name(name, axis) for axis in AXES] if entry.supervised else [name]
    return [{"name": each, **kept} for each in names]


# --- the result -------------------------------------------------------------------------------


def make_result(args: argparse.Namespace, settings: RunSettings, truths: Truths) -> tuple[Record, pa.Table]:
    """Return the result, and the table of all scores."""
    scores, records, apart = collect(settings, truths)
    files = organism_files(settings, list(truths))
    methods = [record for name in settings.methods for record in method_records(name, files)]
    methods = [record for record in methods if record["name"] in scores.methods]
    config = SummaryConfig(
        n_replicates=QUICK_REPLICATES if args.quick else SummaryConfig.n_replicates,
        n_permutations=QUICK_REPLICATES if args.quick else SummaryConfig.n_permutations,
        balance="task" if apart else "problem",
        supervised=tuple(method["name"] for method in methods if method["supervised"]),
    )
    result = {
        "benchmark": "faithfulness",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": package_versions(),
        "settings": {
            "source": args.source,
            "instances": settings.instances,
            "seed": settings.seed,
            "quick": args.quick,
        },
        "config": asdict(config),
        "tasks_with_different_transcripts": apart,
        "organisms": records,
        "methods": methods,
        "summary": summarize(scores, config),
    }
    if not OWN.keys().isdisjoint(settings.methods):
        result["own"] = summarize_own(scores, notes_of(settings, truths), config)
    result["targets"] = targets(result) + own_targets(result.get("own"))
    return result, scores.to_arrow()


def targets(result: Record) -> list[Record]:
    """Return what must hold of a benchmark that can be trusted."""
    reads = {method["name"]: method["reads"] for method in result["methods"]}
    text = [one for one in result["summary"]["methods"] if reads[one["method"]] == "text" and "auroc" in one]
    pairs = [outside(pair) for one in text for pair in one["twins"] if pair["value"] is not None]
    pooled = [outside(one["auroc"]) for one in text]
    apart = len(result["tasks_with_different_transcripts"])
    return [
        target("tasks whose models have different transcripts", apart, most=0),
        target(
            "text alone, against twins: largest distance of an interval from 0.50", max(pairs, default=None), most=0
        ),
        target("text alone, pooled: largest distance of an interval from 0.50", max(pooled, default=None), most=0),
    ]


def outside(found: Record, value: float = 0.5) -> float:
    """Return how far a value is outside of an interval; rounding errors are none."""
    distance = max(found["low"] - value, value - found["high"], 0.0)
    return 0.0 if distance < 1e-9 else distance


def write(result: Record, table: pa.Table, path: Path) -> None:
    """Write the result with numbers of six decimals, and the scores beside it."""
    rounded = json.loads(json.dumps(result, allow_nan=False), parse_float=lambda text: round(float(text), 6))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(rounded, indent=1) + "\n")
    write_scores(table, path.with_suffix(".parquet"))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--quick", action="store_true", help=f"{QUICK_INSTANCES} transcripts of each organism, fewer replicates")
    add("--organisms", nargs="+", default=[], metavar="NAME", help="some organisms; * and ? match any characters")
    add("--methods", nargs="+", default=[], metavar="NAME", help="some methods; * and ? match any characters")
    add("--instances", type=int, help=f"transcripts of each organism (default: {INSTANCES})")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    add(
        "--source",
        nargs="+",
        metavar="MODULE",
        help=f"modules with names() and load(name) (default: {', '.join(SOURCES)})",
    )
    add("--folder", type=Path, default=FOLDER, help="scores as they come; delete it to begin anew")
    add("--out", type=Path, help="result file (default: results/faithfulness.json; with --quick, in the folder)")
    add("--no-plot", action="store_true")
    return made


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the benchmark; return the path of the result."""
    args = parser().parse_args(argv)
    try:
        return run_benchmark(args)
    except CotraceError as error:
        raise SystemExit(f"faithfulness: {error}") from error


def run_benchmark(args: argparse.Namespace) -> Path:
    """Run all steps; return the path of the result."""
    from .faithfulness_plots import draw
    from .faithfulness_tables import faithfulness_table

    settings, organisms, reasons = plan(args)
    for method, reason in reasons.items():
        print(f"{method} is left out: {reason}")
    truths, seconds = timed(lambda: score_all(settings, organisms, args.jobs))
    result, table = make_result(args, settings, truths)
    result["seconds"] = seconds
    path = args.out or (args.folder / "quick.json" if args.quick else RESULT)
    write(result, table, path)
    if not args.no_plot:
        draw(result, path.with_suffix(".svg") if args.out or args.quick else HERE.parent / "docs" / "faithfulness.svg")
    print(faithfulness_table(result))
    print(f"\nwrote {path}")
    return path


if __name__ == "__main__":
    main()
