"""Time the interactive page in a headless Chromium, on a graph of 10,000 nodes and 1,000,000 edges.

    python -m benchmarks.viewer [--only WORD] [--out FILE]

Writes results/viewer.json, from which `benchmarks.tables` makes the table. Rows come from functions with the decorator `case`.
"""

import argparse
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cotrace.common.versions import package_versions
from cotrace.graphs import Graph
from cotrace.viewer.page.payload import PageFile, write_page

from .cells import Record, duration, markdown
from .chromium import launch
from .frames import FrameTimes, record_frames
from .measure import busy_seconds, machine
from .synthetic_graphs import GraphSize, synthetic_graph

RESULT = Path(__file__).parent / "results" / "viewer.json"
PATIENCE_MS = 120_000
OPENINGS, OPEN_SECONDS = 8, 1.0  # the first opening is not counted: the system reads the file and the browser
SEE = """globalThis.seen = {};
new MutationObserver(() => {
    if (document.documentElement.dataset.ready) seen.ready ??= performance.now();
    const picture = document.querySelector("[data-picture]")?.dataset.picture;
    if (!picture || seen[picture]) return;
    seen[picture] = true;
    requestAnimationFrame(() => setTimeout(() => (seen[picture] = performance.now())));
}).observe(document, { subtree: true, attributeFilter: ["data-picture", "data-ready"] })"""
SEEN = """() => new Promise((resolve) => {
    const look = () => (seen.whole > 1 && seen.ready ? resolve(seen) : setTimeout(look, 10));
    look();
})"""
SHOWN_NODES, SHOWN_EDGES, PAN_STEPS, FRAME_SECONDS, TASK_SECONDS = 2_000, 20_000, 300, 0.008, 0.05
PRUNE_REQUESTS, PRUNE_SECONDS, PRUNE_SECONDS_P95 = 100, 0.05, 0.1

PRUNE = """async (asked) => {
    const { pruner } = cotrace.files[0];
    const seconds = [];
    for (const [nodeThreshold, edgeThreshold] of asked) {
        const began = performance.now();
        await pruner.prune({ nodeThreshold, edgeThreshold, keepErrors: false });
        seconds.push((performance.now() - began) / 1000);
    }
    return seconds;
}"""


@dataclass(frozen=True)
class Row:
    """A time that was measured, and the most seconds that it may take."""

    title: str
    seconds: float
    limit: float | None = None


@dataclass
class Bench:
    """What cases measure with: a browser, and a folder for pages."""

    browser: Any
    """Of Playwright."""
    folder: Path

    @cached_property
    def graph(self) -> Graph:
        """The large graph, without suggested groups and cards."""
        return synthetic_graph()

    @cached_property
    def large_page(self) -> Path:
        """The page of the large graph."""
        return write_page([PageFile("large.arrow", self.graph)], self.folder / "large.html")

    @contextlib.contextmanager
    def opened(self, path: Path, **options: Any) -> Iterator[Any]:
        """Yield the page at a path, once it is ready; `options` are those of a browser context."""
        context = self.browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready=true]")
        yield page
        context.close()


Case = Callable[[Bench], list[Row]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], None]:
    """Return a decorator that adds a function, which measures and returns its rows."""
    return lambda call: CASES.update({name: call})


@case("open")
def _(bench: Bench) -> list[Row]:
    """Open the page several times, each in a new context, and measure from the start to the frame after a picture."""
    seen = []
    for _ in range(OPENINGS):
        context = bench.browser.new_context(viewport={"width": 1400, "height": 900})
        context.add_init_script(SEE)
        page = context.new_page()
        page.goto(bench.large_page.resolve().as_uri())
        seen.append(page.evaluate(SEEN))
        context.close()
    first = [min(each.get("draft", each["whole"]), each["whole"]) / 1000 for each in seen[1:]]
    return [
        Row("from the file to the first picture, with the strongest edges, median", median(first), OPEN_SECONDS),
        Row("from the file to the whole picture, median", median(each["whole"] / 1000 for each in seen[1:])),
        Row("from the file to a page that can be used, median", median(each["ready"] / 1000 for each in seen[1:])),
    ]


@case("prune")
def _(bench: Bench) -> list[Row]:
    """Ask for pruning at random thresholds, and measure from the request to the answer in the page."""
    rng = random.Random(0)
    asked = [(rng.uniform(0.4, 1), rng.uniform(0.8, 1)) for _ in range(PRUNE_REQUESTS)]
    with bench.opened(bench.large_page) as page:
        page.evaluate(PRUNE, asked[:10])  # compiles
        seconds = page.evaluate(PRUNE, asked)
        of_all_edges = page.evaluate(PRUNE, [(1, edge_threshold) for _, edge_threshold in asked])
    return [
        Row("pruning and both scores, median", median(seconds), PRUNE_SECONDS),
        Row("pruning and both scores, 95th percentile", float(np.quantile(seconds, 0.95)), PRUNE_SECONDS_P95),
        Row("the same with every node kept, median", median(of_all_edges), PRUNE_SECONDS),
        Row(
            "the same with every node kept, 95th percentile", float(np.quantile(of_all_edges, 0.95)), PRUNE_SECONDS_P95
        ),
        Row("pruning and both scores in Python, median", median(_python_seconds(bench.graph, asked))),
    ]


def _python_seconds(graph: Graph, asked: list[tuple[float, float]]) -> list[float]:
    """Return the seconds of each pruning with its scores in Python, after a first one, which compiles."""
    seconds = []
    for thresholds in [asked[0], *asked]:
        start = time.perf_counter()
        graph.prune(*thresholds).scores()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


# --- smoothness -----------------------------------------------------------------------------

# Show the threshold at which some nodes are kept, every cell whole.
SHOW_NODES = """async (count) => {
    const { graph, pruner } = cotrace.files[0];
    const cells = new Set(Array.from({ length: graph.size }, (_, node) => `L${graph.layer[node]}@${graph.position[node]}`));
    let [low, high] = [0, 1];
    for (let step = 0; step < 20; step++) {
        const nodeThreshold = (low + high) / 2;
        const { nodes } = await pruner.prune({ nodeThreshold, edgeThreshold: 1, keepErrors: false });
        if (nodes.reduce((sum, kept) => sum + kept, 0) < count) low = nodeThreshold;
        else high = nodeThreshold;
    }
    const pruned = new Promise((resolve) => cotrace.on("pruned", resolve));
    cotrace.store.update(0, { nodeThreshold: high, edgeThreshold: 1, opened: [...cells] });
    await pruned;
    await cotrace.circuit.settled();
    return [cotrace.circuit.scene.shapes.length, cotrace.circuit.scene.edges.key.length];
}"""


@case("pan")
def _(bench: Bench) -> list[Row]:
    """Drag and zoom the circuit with 2,000 nodes and 20,000 edges."""
    with bench.opened(bench.large_page) as page:
        page.keyboard.press("Escape")  # ends the tour
        nodes, edges = page.evaluate(SHOW_NODES, SHOWN_NODES)
        assert nodes >= SHOWN_NODES, nodes
        assert edges > 0.99 * SHOWN_EDGES, edges
        times = {title: record_frames(bench.browser, page, lambda act=act: act(page)) for title, act in ACTS.items()}
    return [row for title, each in times.items() for row in _frame_rows(title, each)]


def _drag(page: Any) -> None:
    box = page.locator(".circuit-stage").bounding_box()
    left, top = box["x"] + 20, box["y"] + 20
    page.mouse.move(left, top)
    page.mouse.down()
    for step in range(PAN_STEPS):
        page.mouse.move(left + 4 * (step % 150), top + 2 * (step % 120))
    page.mouse.up()
    page.wait_for_timeout(500)


def _zoom(page: Any) -> None:
    box = page.locator(".circuit-stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for step in range(PAN_STEPS):
        page.mouse.wheel(0, -40 if step % 100 < 50 else 40)
    page.wait_for_timeout(500)


ACTS = {"panning": _drag, "zooming": _zoom}


def _frame_rows(title: str, times: FrameTimes) -> list[Row]:
    where = f"{title} at {SHOWN_NODES:,} nodes and {SHOWN_EDGES:,} edges"
    return [
        Row(f"{where}: script per frame, 95th percentile", float(np.quantile(times.script, 0.95)), FRAME_SECONDS),
        Row(f"{where}: longest task", times.longest_task, TASK_SECONDS),
        Row(f"{where}: longest task, processor time", times.longest_task_busy),
    ]


def viewer_table(result: Record) -> str:
    """Return the table of this benchmark: each time beside its limit."""
    grid = [["", "measured", "limit"]]
    grid += [
        [row["title"], duration(row["seconds"]), "" if row["limit"] is None else duration(row["limit"])]
        for row in result["rows"]
    ]
    size, where = result["size"], result["machine"]
    note = (
        f"A synthetic graph of {size['nodes']:,} nodes and {size['edges']:,} edges where no other is named, in headless Chromium "
        f"{result['chromium']}. Measured {result['date']} on {where['cpu']}, {where['cores']} cores, "
        f"of which {result['busy_cores']:.1f} were busy."
    )
    return f"{markdown(grid)}\n\n{note}"


def run(only: str) -> Record:
    """Return the record of all cases whose name contains a word."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright)
        bench, rows, busy, began = Bench(browser, Path(folder)), [], busy_seconds(), time.perf_counter()
        for name, measure in CASES.items():
            if only in name:
                found = measure(bench)
                rows += found
                for row in found:
                    limit = "" if row.limit is None else f" (at most {duration(row.limit)})"
                    print(f"{row.title}: {duration(row.seconds)}{limit}", flush=True)
        busy_cores = (busy_seconds() - busy) / (time.perf_counter() - began)
        return {"rows": [asdict(row) for row in rows], "chromium": browser.version, "busy_cores": busy_cores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure only cases whose name has this word, and write nothing")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    measured = run(args.only)
    if args.only:
        return
    result = {"benchmark": "viewer", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result |= {"versions": package_versions(), "size": vars(GraphSize()), **measured}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
