"""`benchmarks.gpu_check`: a dry run of every section, and what happens without a GPU, after failures and crashes."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed
pytest.importorskip("triton", reason="NOT TESTED: triton is not installed")

from benchmarks import gpu_check, gpu_sections, tables
from benchmarks.gpu_sections import SECTIONS, CheckSettings, check
from benchmarks.measure import DONE, FAILED, OVER_TIME

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def settings(tmp_path):
    return CheckSettings("cpu", True, "gemma-3-270m", str(tmp_path), 60.0)


def test_a_dry_run_runs_every_section(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--dry-run", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert list(result["sections"]) == list(SECTIONS)
    for section in result["sections"].values():
        assert section["status"] == DONE
        assert section["records"]
    checks = [t for s in result["sections"].values() for r in s["records"] for t in r["targets"] if t.get("must")]
    assert all(one["met"] for one in checks)
    assert sum("triton" in one["what"] for one in checks) >= 6  # every kernel was compared
    page = tables.gpu_table(result)
    assert "A dry run" in page
    assert "| kernels | done |" in page


def test_without_a_gpu_nothing_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "gpu.json")]) == gpu_check.NO_CUDA
    assert "no CUDA device" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()


def failing(settings):
    yield {"case": "before", "targets": []}
    raise ValueError("the kernel is wrong")


def working(settings):
    yield {"case": "after", "targets": []}


def test_a_failure_is_recorded_and_the_rest_runs(tmp_path, monkeypatch):
    sections = {"first": (failing, 60), "second": (working, 60)}
    for module in (gpu_check, gpu_sections):
        monkeypatch.setattr(module, "SECTIONS", sections)
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--dry-run", "--out", str(out)]) == 1
    first, second = json.loads(out.read_text())["sections"].values()
    assert first["status"] == FAILED
    assert [record["case"] for record in first["records"]] == ["before"]
    assert "ValueError: the kernel is wrong" in first["traceback"]
    assert second["status"] == DONE


def test_a_wrong_result_fails_the_run(monkeypatch):
    record = {"case": "edges", "targets": [check("error", 1.0, most=1e-4)]}
    assert gpu_check.failed({"kernels": {"status": DONE, "records": [record]}})
    slow = {"case": "edges", "targets": [{"what": "share", "value": 0.1, "met": False, "least": 0.6}]}
    assert not gpu_check.failed({"kernels": {"status": DONE, "records": [slow]}})


@pytest.mark.parametrize(("script", "seconds", "status"), [("exit 3", 60, FAILED), ("exec sleep 60", 0.5, OVER_TIME)])
def test_a_process_that_crashes_or_hangs_is_recorded(tmp_path, monkeypatch, settings, script, seconds, status):
    """The records that it had reported are kept: the stand-in for Python writes a report, and ends."""
    report = json.dumps({"status": FAILED, "records": [{"case": "kept", "targets": []}]})
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nfor last; do :; done\necho '{report}' > \"$last\"\necho lost the device\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(gpu_check.sys, "executable", str(python))
    found = gpu_check.in_child("kernels", gpu_check.replace(settings, seconds=seconds))
    assert found["status"] == status
    assert found["records"][0]["case"] == "kept"
    assert "lost the device" in found["traceback"]


def test_sections_beyond_the_total_time_are_left_out(monkeypatch, settings):
    monkeypatch.setattr(gpu_check, "TOTAL_SECONDS", 0.0)
    found = gpu_check.measure(["tests"], settings, gpu_check.in_child, lambda sections: None)
    assert found["tests"]["status"] == gpu_check.OUT_OF_TIME
    assert gpu_check.failed(found)


def test_all_sections_fit_into_eight_minutes():
    assert gpu_check.TOTAL_SECONDS < 480
    assert sum(seconds for _, seconds in SECTIONS.values()) <= 480


def test_the_page_says_not_measured_without_a_result_file(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["tables", "--results", str(tmp_path), "--page", str(page)])
    tables.main()
    assert "Not measured" in page.read_text()
