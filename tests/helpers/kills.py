"""Kill processes that write files at random points: what was finished stays, and nothing is half-written.

    python -m helpers.kills [--kills N] [--seed N] [TASK ...]      # in tests/; `make kills` runs 200

Every process is forked from this one, which computes nothing itself, so that it can be killed after any instruction.
A third of them are killed at a random time, a third at a random one of their operations on files, and a third right after
a file was seen to appear or grow, in the middle of a write. After that a process checks the files, and another one runs
the task again, to its end.
"""

import argparse
import filecmp
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tiny
from safetensors import safe_open

import cotrace
from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.model_source import find_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.transcoders.export import write_layout
from cotrace.batch.file_layout import CIRCUIT_FILE, RECORDS
from cotrace.common.progress import Progress
from cotrace.training import checkpoints, loop
from cotrace.training.run import resume_training, train_transcoders
from helpers import gguf_files
from helpers.training import CONFIG, write_tokens

DEFAULT_KILLS = 200
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}
PROMPTS = [tiny.prompt(length) for length in (25, 26, 27)]


class Task(NamedTuple):
    """Work on files in a folder: `prepare` makes what it needs, `run` can be repeated, `check` raises for damage."""

    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    check: Callable[[Path], object]
    processes: int = 1


def record_finished(folder: Path, name: str) -> None:
    """Note that a result is finished, from when on it must not get lost."""
    with (folder / "finished.txt").open("a") as file:
        file.write(f"{name}\n")


def finished(folder: Path) -> list[str]:
    path = folder / "finished.txt"
    return path.read_text().split() if path.is_file() else []


def prepare_model(folder: Path) -> None:
    tiny.write_model(folder / "model")


def load_model(folder: Path) -> cotrace.Model:
    return cotrace.load(folder / "model", "neurons:5", device="cpu", progress=False)


def trace(folder: Path) -> None:
    """Trace two prompts into one file after the other, and draw them."""
    model = load_model(folder)
    for prompt in PROMPTS[:2]:
        graph = model.trace(prompt, progress=False)
        graph.save(folder / "graph.arrow")
        record_finished(folder, "graph.arrow")
        graph.save(folder / "graph.arrow.zst")
        record_finished(folder, "graph.arrow.zst")
        graph.render(folder / "graph.svg")
        record_finished(folder, "graph.svg")


def prepare_graph(folder: Path) -> None:
    prepare_model(folder)
    load_model(folder).trace(PROMPTS[0], progress=False).save(folder / "graph.arrow")
    record_finished(folder, "graph.arrow")


def prune(folder: Path) -> None:
    graph = cotrace.open(folder / "graph.arrow")
    for share in (0.9, 0.5):
        graph.prune(share).save(folder / "pruned.arrow")
        record_finished(folder, "pruned.arrow")


def check_graphs(folder: Path) -> None:
    assert all((folder / name).is_file() for name in finished(folder))
    for path in [*folder.glob("*.arrow"), *folder.glob("*.zst")]:
        cotrace.open(path)
    for path in folder.glob("*.svg"):
        assert path.read_text().endswith(("</svg>\n", "</svg>"))


def trace_many(folder: Path) -> None:
    cotrace.trace_many(PROMPTS, folder / "out", model=load_model(folder), progress=False)
    record_finished(folder, "out")


def check_many(folder: Path) -> None:
    records = folder / "out" / RECORDS
    lines = records.read_bytes().splitlines(keepends=True) if records.is_file() else []
    done = [json.loads(line) for line in lines if line.endswith(b"\n")]  # an unfinished last line is removed by a rerun
    for record in done:
        cotrace.open(folder / "out" / f"id={record['id']}" / CIRCUIT_FILE)
    for path in (folder / "out").rglob("*.arrow"):
        cotrace.open(path)
    assert len(done) == len(PROMPTS) or not finished(folder)


def prepare_run(folder: Path) -> None:
    prepare_model(folder)
    write_tokens(folder / "run", training_config(folder))


def training_config(folder: Path):
    return type(CONFIG)(**{**CONFIG.to_json(), "model": str(folder / "model"), "matryoshka": (), "data": ("text",)})


def train(folder: Path) -> None:
    loop.SAVE_SECONDS = 0
    run = folder / "run"
    if checkpoints.is_run(run):
        result = resume_training(run, device="cpu", progress=False)
    else:
        result = train_transcoders(training_config(folder), run, device="cpu", progress=False)
    record_finished(folder, str(result.relative_to(folder)))


def check_run(folder: Path) -> None:
    """Check that results which were finished, and every file that has its name, are whole."""
    assert all((folder / name).is_dir() for name in finished(folder))
    arch = read_architecture(find_model(folder / "model").config())
    for name in finished(folder):
        load_transcoders(folder / name, arch)
    for path in (folder / "run").rglob("*.safetensors"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            with safe_open(path, framework="pt") as file:
                list(file.keys())
    for path in (folder / "run").glob("*.json*"):
        [json.loads(line) for line in path.read_text().splitlines()]


def prepare_set(folder: Path) -> None:
    prepare_model(folder)
    tiny.write_transcoders(folder / "set", "clt-affine")
    convert_to(folder, "expected")


def convert_to(folder: Path, name: str) -> None:
    arch = read_architecture(find_model(folder / "model").config())
    transcoders = load_transcoders(next((folder / "set").rglob("*.safetensors")).parent, arch)
    write_layout(transcoders, arch.n_layers, folder / name, "gemma-scope-2", Progress(False))


def convert(folder: Path) -> None:
    if not (folder / "out").exists():
        convert_to(folder, "out")
    record_finished(folder, "out")


def check_set(folder: Path) -> None:
    if (folder / "out").exists():
        names = sorted(path.name for path in (folder / "expected").iterdir())
        assert sorted(path.name for path in (folder / "out").iterdir()) == names
        assert filecmp.cmpfiles(folder / "expected", folder / "out", names, shallow=False) == (names, [], [])
    assert (folder / "out").exists() or not finished(folder)


def prepare_gguf(folder: Path) -> None:
    gguf_files.write(folder / "model.gguf", gguf_files.model())


def use_gguf(folder: Path) -> None:
    os.environ["COTRACE_CACHE"] = str(folder / "cache")
    source = find_model(folder / "model.gguf")
    cotrace.load(source.folder, "neurons:5", device="cpu", progress=False)
    record_finished(folder, str(source.folder.relative_to(folder)))


def check_gguf(folder: Path) -> None:
    for path in [*(folder / "cache" / "models").glob("[!.]*"), *(folder / name for name in finished(folder))]:
        cotrace.load(path, "neurons:5", device="cpu", progress=False)
        assert (path / "NOTICE").is_file()


TASKS = {
    "trace": Task(prepare_model, trace, check_graphs),
    "prune": Task(prepare_graph, prune, check_graphs),
    "trace_many": Task(prepare_model, trace_many, check_many),
    "train": Task(prepare_run, train, check_run),
    "convert": Task(prepare_set, convert, check_set),
    "first conversion": Task(prepare_gguf, use_gguf, check_gguf, processes=2),
}


# --- processes ------------------------------------------------------------------------------


def start(work: Callable[[], object], log: Path) -> int:
    """Run a function in a forked process, whose output and traceback go to a file; return the process id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def finish(process: int) -> int:
    """Return the exit status of a process, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def complete(work: Callable[[], object], log: Path) -> None:
    """Run a function in a process to its end. Raises AssertionError, with its output, if it fails."""
    status = finish(start(work, log))
    assert status == 0, f"exit status {status}\n{log.read_text()}"


def killed_at_event(number: int, folder: Path, work: Callable[[], object]) -> Callable[[], object]:
    """Return work that kills itself at its N-th operation on files in a folder; the number is written beside it."""
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in FILE_EVENTS and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)
        work()
        print("events", count)

    return watched


class Measured(NamedTuple):
    """How long a task takes that nothing interrupts."""

    seconds: float
    events: int


def measure(task: Task, folder: Path, log: Path) -> Measured:
    began = time.monotonic()
    complete(killed_at_event(0, folder, lambda: task.run(folder)), log)
    return Measured(time.monotonic() - began, int(log.read_text().split()[-1]))


def interrupt(task: Task, folder: Path, measured: Measured, rng: np.random.Generator, log: Path) -> str:
    """Start a task, kill one of its processes at a random point, and wait for the others; return what was done."""
    how = ["time", "operation", "growth"][rng.integers(3)]
    number = int(rng.integers(1, (measured.events if how == "operation" else measured.events // 2) + 1))
    seconds = float(rng.random() * measured.seconds * 1.1)

    def work() -> None:
        task.run(folder)

    first = start(killed_at_event(number, folder, work) if how == "operation" else work, log)
    others = [start(work, log.with_suffix(f".{index}")) for index in range(1, task.processes)]
    if how == "time":
        time.sleep(seconds)
    elif how == "growth":
        wait_for_growth(folder, number, first)
    if how != "operation":
        os.kill(first, signal.SIGKILL)
    status = finish(first)
    for index, other in enumerate(others, 1):
        assert finish(other) == 0, log.with_suffix(f".{index}").read_text()
    assert status in (0, -signal.SIGKILL), log.read_text()
    return (
        f"killed after {seconds:.2f} s"
        if how == "time"
        else f"killed at {how} {number} of {measured.events} operations"
    )


def wait_for_growth(folder: Path, number: int, process: int) -> None:
    """Return right after files of a folder were seen to appear or grow N times, or when the process has ended."""
    before, changes = sizes(folder), 0
    while changes < number and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = sizes(folder)
        changes += now != before
        before = now


def sizes(folder: Path) -> dict[str, int]:
    found = {}
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # it was renamed or removed meanwhile
            found |= sizes(Path(entry.path)) if entry.is_dir() else {entry.path: entry.stat().st_size}
    return found


def run_task(name: str, kills: int, rng: np.random.Generator) -> list[str]:
    """Kill a task again and again; return what went wrong."""
    task, faults = TASKS[name], []
    with tempfile.TemporaryDirectory() as scratch:
        folder, prepared, log = Path(scratch) / "work", Path(scratch) / "prepared", Path(scratch) / "log.txt"

        def renew() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(prepared, folder)

        folder.mkdir()
        complete(lambda: task.prepare(folder), log)
        folder.rename(prepared)
        renew()
        measured = measure(task, folder, log)
        for number in range(kills):
            if rng.random() < 0.7:  # else on top of finished results of the run before
                renew()
            what = "not started"
            try:
                what = interrupt(task, folder, measured, rng, log)
                complete(lambda: task.check(folder), log)
                complete(lambda: task.run(folder), log)
                complete(lambda: task.check(folder), log)
            except AssertionError as error:
                faults.append(f"{name}, kill {number}, {what}: {error}")
                renew()
    return faults


def main() -> None:
    """Run the command line: print a line for each task and all faults; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--kills", type=int, default=DEFAULT_KILLS, help="of all tasks together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names, any_fault = options.tasks or list(TASKS), False
    for index, name in enumerate(names):
        kills = len(range(index, options.kills, len(names)))
        faults = run_task(name, kills, np.random.default_rng([options.seed, index]))
        print(f"{name:20} {kills} kills, {len(faults)} faults", *faults, sep="\n", flush=True)
        any_fault |= bool(faults)
    sys.exit(any_fault)


if __name__ == "__main__":
    main()
