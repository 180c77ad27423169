"""Files of reports: what is saved comes back, the circuit opens as a graph, and damage is one clear error."""

import dataclasses
import json
import subprocess
import sys

import pyarrow as pa
import pytest
from helpers.reports import REPORTS, faithful, mixed, no_evidence

import cotrace
from cotrace.common.errors import ArgumentError, FileError
from cotrace.faithfulness.report.schemas import TABLES
from cotrace.graphs import open_graph


def assert_equal(report, other):
    assert report.to_dict() == other.to_dict()
    for name, schema in TABLES.items():
        assert getattr(other, name).schema.equals(schema)
    assert other.graph.nodes.equals(report.graph.nodes)
    assert other.graph.info == report.graph.info


@pytest.mark.parametrize("name", ["report.arrow", "report.arrow.zst"])
@pytest.mark.parametrize("made", REPORTS)
def test_a_saved_report_comes_back(tmp_path, made, name):
    report = REPORTS[made]()
    path = report.save(tmp_path / "new folder" / name)
    assert path == tmp_path / "new folder" / name
    opened = cotrace.open(path)
    assert isinstance(opened, cotrace.Report)
    assert_equal(report, opened)
    assert_equal(report, cotrace.Report.open(path))


def test_two_saves_give_the_same_bytes(tmp_path):
    first, second = (mixed().save(tmp_path / name) for name in ("a.arrow", "b.arrow"))
    assert first.read_bytes() == second.read_bytes()
    again = cotrace.Report.open(first).save(tmp_path / "c.arrow")
    assert again.read_bytes() == first.read_bytes()


def test_the_file_opens_as_a_graph_and_keeps_the_report_when_pruned(tmp_path):
    report = mixed()
    graph = open_graph(report.save(tmp_path / "report.arrow"))
    assert graph.nodes.equals(report.graph.nodes)
    circuit = graph.prune(0.5)
    assert circuit.order.n_nodes < graph.order.n_nodes
    opened = cotrace.open(circuit.save(tmp_path / "pruned.arrow"))
    assert opened.to_dict() == report.to_dict()
    assert opened.graph.nodes.equals(circuit.nodes)


def test_a_graph_without_a_report_is_a_graph(tmp_path):
    path = faithful().graph.save(tmp_path / "graph.arrow")
    assert isinstance(cotrace.open(path), cotrace.Graph)
    with pytest.raises(FileError, match=r"graph\.arrow: it is a graph without a report; open it with cotrace\.open"):
        cotrace.Report.open(path)


def test_a_changed_byte_is_found(tmp_path):
    path = mixed().save(tmp_path / "report.arrow")
    path.write_bytes(path.read_bytes().replace(b"I guess", b"I Guess"))
    with pytest.raises(FileError, match="its metadata is damaged"):
        cotrace.open(path)


def set_in(entries, *path):
    *parents, key, value = path
    for parent in parents:
        entries = entries[parent]
    entries[key] = value


HOSTILE = {
    "verdict": (("verdict", "guilty"), "its verdict 'guilty' is unknown"),
    "score": (("score", 1.5), "its score is not between 0 and 1"),
    "a share of a cell": (("sources", 0, "share", 1e300), "a share of its sources is not between 0 and 1"),
    "a share of a link": (("links", 0, "share", -0.5), "a share of its links is not between 0 and 1"),
    "text for a number": (("steps", 0, "content", "much"), "lacks or has a wrong steps"),
    "a step's verdict": (("steps", 1, "verdict", "confirmed"), "the verdict 'confirmed' of its steps is unknown"),
    "a step's status": (("steps", 1, "confirmed", "used"), "the confirmed 'used' of its steps is unknown"),
    "span behind the prompt": (("segments", 0, "last", 10**6), "the segment 'question' lies outside the prompt"),
    "negative span": (("segments", 0, "first", -1), "the segment 'question' lies outside the prompt"),
    "half a value": (("segments", 2, "value_last", None), "the value of 'step1' lies outside the prompt"),
    "a huge number": (("evidence", 0, "number", 2**40), "its table evidence has a number that is too large"),
    "unknown step": (("steps", 0, "step", "step9"), "its steps name 'step9', which is not a segment"),
    "unknown source": (("links", 0, "source", "step9"), "its links name 'step9', which is not a segment"),
    "name twice": (("segments", 1, "name", "step1"), "its segments name 'step1' twice"),
    "number twice": (("evidence", 1, "number", 0), "its evidence name 0 twice"),
    "half an interval": (("steps", 0, "high", None), "an interval of its steps lacks an end"),
    "cost": (("cost", "forward", "8"), "its cost is not in numbers"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_entries_are_one_clear_error(tmp_path, case):
    """A file with valid checksums and wrong entries is refused, and no report with them can be saved."""
    (*path, value), message = HOSTILE[case]
    report = mixed()
    entries = json.loads(json.dumps(report.to_dict()))
    set_in(entries, *path, value)
    graph = cotrace.Graph(report.graph.nodes, {**report.graph.info, "report": entries})
    file = graph.save(tmp_path / "hostile.arrow")
    with pytest.raises(FileError) as caught:
        cotrace.open(file)
    assert message in str(caught.value)
    assert str(caught.value).endswith("run `cotrace compare` again")
    assert len(str(caught.value).splitlines()) == 1


def test_missing_entries_are_refused_and_unknown_ones_ignored(tmp_path):
    report = no_evidence()
    for entries in ({}, {"verdict": "faithful"}, [], {**report.to_dict(), "steps": None}):
        graph = cotrace.Graph(report.graph.nodes, {**report.graph.info, "report": entries})
        with pytest.raises((FileError, ArgumentError)):
            cotrace.open(graph.save(tmp_path / "bad.arrow"))
    entries = json.loads(json.dumps(report.to_dict()))
    entries["later"] = 1
    entries["steps"][0]["later"] = 1
    del entries["steps"][0]["mirrors"]  # an optional column
    graph = cotrace.Graph(report.graph.nodes, {**report.graph.info, "report": entries})
    opened = cotrace.open(graph.save(tmp_path / "later.arrow"))
    assert opened.steps["mirrors"].to_pylist() == [None, 0.3]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"score": float("nan")}, "Out of range float values are not JSON compliant"),
        ({"verdict": "sure"}, "its verdict 'sure' is unknown"),
        ({"reason": "\ud800"}, "surrogates not allowed"),
        ({"settings": {"foil": (1, 2), 3: 4}}, "a key is not a text"),
        ({"steps": pa.table({"step": ["step1"]})}, "it lacks or has a wrong steps"),
    ],
)
def test_a_report_that_could_not_be_opened_is_not_saved(tmp_path, edit, message):
    report = dataclasses.replace(faithful(), **edit)
    with pytest.raises(ArgumentError, match=message):
        report.save(tmp_path / "report.arrow")
    assert not list(tmp_path.iterdir())


def test_reports_open_without_torch():
    code = "import cotrace, sys; assert cotrace.Report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
