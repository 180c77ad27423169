"""A pytest plugin that stops after a number of seconds and writes a summary: `-p benchmarks.pytest_budget`.

The environment variables COTRACE_TEST_SECONDS and COTRACE_TEST_REPORT give the seconds and the summary's file.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any


class TimeBudget:
    """Counts outcomes, keeps tracebacks of failures, and stops the session when its time is over."""

    def __init__(self, seconds: float, report: Path):
        self.stop_at, self.report = time.monotonic() + seconds, report
        self.counts: Counter[str] = Counter()
        self.failures: list[dict[str, str]] = []
        self.collected = 0

    def pytest_collection_finish(self, session: Any) -> None:
        """Count the tests."""
        self.collected = len(session.items)

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool | None:
        """Leave a test out when the time is over."""
        if time.monotonic() < self.stop_at:
            return None
        self.counts["out of time"] += 1
        return True

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count an outcome; keep the traceback of a failure, also of one in a fixture."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            self.failures.append({"test": report.nodeid, "traceback": report.longreprtext})

    def pytest_collectreport(self, report: Any) -> None:
        """Keep the traceback of a file that cannot be imported."""
        if report.failed:
            self.failures.append({"test": report.nodeid, "traceback": report.longreprtext})

    def pytest_sessionfinish(self) -> None:
        """Write the summary."""
        found = {"collected": self.collected, "outcomes": dict(self.counts), "failures": self.failures}
        self.report.write_text(json.dumps(found))


def pytest_configure(config: Any) -> None:
    """Register the plugin."""
    seconds, report = os.environ["COTRACE_TEST_SECONDS"], os.environ["COTRACE_TEST_REPORT"]
    config.pluginmanager.register(TimeBudget(float(seconds), Path(report)))
