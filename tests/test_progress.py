"""Progress on a terminal, in a notebook and in a log, and what is printed on standard output and error."""

import io
import json
import logging
import os
import subprocess
import sys
import warnings

import pytest
from helpers.cli import MODEL, run
from rich.table import Table

import cotrace
from cotrace.cli import verbosity
from cotrace.cli.console import PipeConsole
from cotrace.common import progress
from cotrace.common.errors import CotraceWarning


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose number is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def run_phase(clock, seconds_a_step, steps, total, note=""):
    with progress.Progress().phase("training", total) as step:
        for _ in range(steps):
            clock[0] += seconds_a_step
            step(note=note)


def test_without_a_terminal_a_line_is_printed_every_minute(clock, capsys):
    run_phase(clock, 10, 13, 3600, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "training: 6 of 3,600 (0%), 0:01:00 elapsed, about 9:59:00 left, loss 0.5",
        "training: 12 of 3,600 (0%), 0:02:00 elapsed, about 9:58:00 left, loss 0.5",
    ]


def test_short_phases_print_nothing_and_unknown_totals_have_no_end(clock, capsys):
    run_phase(clock, 1, 59, 59)
    assert capsys.readouterr().err == ""
    run_phase(clock, 61, 1, None)
    assert capsys.readouterr().err == "training: 1, 0:01:01 elapsed\n"


def test_a_notebook_without_widgets_rewrites_one_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    run_phase(clock, 1, 2, 2)
    written = capsys.readouterr().err
    assert "\n" not in written
    assert "training: 2 of 2 (100%), 0:00:02 elapsed, about 0:00:00 left" in written
    assert written.split("\r")[-1] == ""


def test_progress_can_be_silenced_and_asked_for(clock, capsys):
    progress.silence()
    run_phase(clock, 61, 1, 1)
    assert capsys.readouterr().err == ""
    with progress.Progress(True).phase("asked for") as step:
        clock[0] += 61
        step()
    progress.silence(False)
    assert "asked for: 1" in capsys.readouterr().err


def test_a_pipe_gets_whole_lines_without_padding(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    table = Table("name", "text", title="a title", title_justify="left", box=None)
    table.add_row("x", "word " * 500)
    table.add_row("longer name", "y")
    console = PipeConsole()
    console.print(table)
    console.print("z" * 5000)
    lines = sys.stdout.getvalue().splitlines()
    assert lines[0] == "a title"
    assert lines[2] == " x            " + ("word " * 500).rstrip()
    assert lines[-1] == "z" * 5000
    assert all(line == line.rstrip() for line in lines)


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    """Return a pruned graph file, and everything that tracing it printed."""
    out = tmp_path_factory.mktemp("out")
    prompt = cotrace.load(MODEL[1], device="cpu").tokenizer.hf_tokenizer.decode([20, 30, 40])
    # a new process: what libraries print when they are imported counts too
    command = [sys.executable, "-m", "cotrace", "trace", prompt, *MODEL, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.arrow")), done


def test_piped_output_is_neither_padded_nor_cut_and_nothing_leaks(graph_file):
    done = graph_file[1]
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert "…" not in done.stdout
    assert max(map(len, lines)) > 80


def test_quiet_prints_the_names_of_files_only(graph_file, tmp_path, command):
    prompt = cotrace.open(graph_file[0]).info["prompt"]
    status, out, error = command("trace", prompt, *MODEL, "--out", tmp_path, "--quiet")
    assert (status, error) == (0, "")
    assert [line.partition(" ")[0] for line in out.splitlines()] == ["wrote"] * 3  # graph, picture and page


def test_show_prints_json(graph_file, command):
    file = graph_file[0]
    status, out, error = command("show", file, "--json", "--top", 3, "--paths", 2)
    assert (status, error) == (0, "")
    shown, graph = json.loads(out), cotrace.open(file)
    assert shown["info"] == json.loads(json.dumps(graph.info))
    assert shown["counts"]["edges"] == graph.n_edges
    assert len(shown["nodes"]) == 3
    assert all({"name", "node", "influence", "activation", "effects"} <= {*node} for node in shown["nodes"])
    assert [len(path["names"]) for path in shown["paths"]] == [len(path["nodes"]) for path in shown["paths"]]


def test_doctor_prints_json(command):
    status, out, _ = command("doctor", "--json")
    assert status == 0
    assert json.loads(out)["cotrace"] == cotrace.__version__


def warn_in_three_ways():
    warnings.warn("of another library", UserWarning, stacklevel=1)
    warnings.warn("ours", CotraceWarning, stacklevel=1)
    logging.getLogger("another").warning("logged")


@pytest.mark.parametrize(
    ("options", "shown"),
    [((False, False), "warning: ours\n"), ((True, False), ""), ((False, True), "of another library")],
)
def test_warnings_of_other_libraries_are_shown_only_when_verbose(options, shown, capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with verbosity.applied(*options):
        warnings.simplefilter("always")
        warn_in_three_ways()
    error = capsys.readouterr().err
    assert shown in error
    assert ("of another library" in error) == options[1]
    assert ("ours" in error) == (not options[0])
    assert logging.root.manager.disable == logging.NOTSET


def test_verbose_shows_the_traceback_of_a_mistake(command):
    error = command("show", "/no/such.arrow", "--verbose")[2]
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("name", ["", "trace", "show"])
def test_h_is_help(command, name):
    status, out, _ = command(*([name] if name else []), "-h")
    assert status == 0
    assert "Usage" in out


def test_completion_offers_commands_and_options():
    for words, position, expected in (("cotrace tr", 1, "trace"), ("cotrace trace --max-f", 2, "--max-features")):
        environment = {"_COTRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        assert expected in run(**environment).stdout.split()
