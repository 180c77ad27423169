"""What the runs of `benchmarks.sampling` are compared by: shares of spans, found features, times; and their targets."""

import json
from pathlib import Path

import numpy as np

from .baselines import CIRCUIT_TRACER
from .cells import Record, target
from .measure import DONE

EARLIER = Path(__file__).parent / "results" / "trace.json"
MOST_HALF_WIDTH, LEAST_SPEEDUP = 0.01, 150.0  # 64 tokens, random CLT
LEAST_FOUND, LEAST_SPEEDUP_OVER_FULL = 95, 10.0  # 64 tokens, shipped CLT
MOST_LONG_HALF_WIDTH, LONG_SECONDS, MOST_BYTES = 0.02, {"512": 60.0, "2000": 300.0}, 12e9


def done(runs: Record, name: str) -> Record | None:
    """Return the record of a run that ended, if there is one."""
    record = runs.get(name, {})
    return record if record.get("status") == DONE else None


def own_shares(record: Record) -> np.ndarray:
    """Return the shares of spans and errors of a trace by cotrace, (S,)."""
    return np.array(record["shares"]["share"])


def peer_shares(record: Record) -> np.ndarray | None:
    """Return the shares of the same spans and of errors in circuit-tracer's graph, of which they are all, (S,)."""
    from cotrace.graphs.shares import covering_spans

    found = record.get("sources", {})
    if found.get("status") != DONE:
        return None
    tokens_P = np.array(found["tokens"])
    spans = [tokens_P[list(span)].sum() for span in covering_spans(len(tokens_P)).values()]
    shares = np.array([*spans, found["errors"]])
    return shares / shares.sum()


def largest_error(shares: np.ndarray | None, exact: np.ndarray | None) -> float | None:
    """Return the largest difference between shares, if both are known."""
    return None if shares is None or exact is None else float(np.abs(shares - exact).max())


def covered(record: Record, exact: np.ndarray) -> tuple[int, int]:
    """Return how many of the intervals of shares contain the exact share, and the number of intervals."""
    low, high = (np.array(record["shares"][name]) for name in ("low", "high"))
    return int(((low <= exact) & (exact <= high)).sum()), len(exact)


def n_found(record: Record, exact: Record) -> int:
    """Return how many of the strongest features of a trace of every row are among those of another trace."""
    return len(set(record["strongest"]) & set(exact["strongest"]))


def peer_seconds(runs: Record, earlier: Path = EARLIER) -> tuple[float | None, str]:
    """Return circuit-tracer's seconds for every row of the random CLT, and a note if they are of another run."""
    record = done(runs, "peer")
    if record:
        return record["seconds"], ""
    if earlier.exists():
        result = json.loads(earlier.read_text())
        for case in result["cases"]:
            found = case["runs"].get(CIRCUIT_TRACER, {})
            if (case["transcoders"], case["tokens"], found.get("status")) == ("clt", 64, DONE):
                rows, date = found["rows"], result["date"]
                return found["seconds"], f"of another run, {date}, and another random CLT with {rows:,} active features"
    return None, ""


def targets(runs: Record) -> list[Record]:
    """Return the targets that the runs are measured for, each with the case `on` which it was."""
    found = [*_shares_targets(runs), *_strongest_targets(runs)]
    for tokens, seconds in LONG_SECONDS.items():
        record = done(runs, f"drawn_{tokens}")
        if record:
            on = f"shipped CLT, {int(tokens):,} tokens"
            found.append({"on": on} | target("half-width of a share", record["half_width"], most=MOST_LONG_HALF_WIDTH))
            found.append({"on": on} | target("seconds", record["seconds"], most=seconds))
            if tokens == "2000":
                found.append({"on": on} | target("peak memory in bytes", record["peak_bytes"], most=MOST_BYTES))
    return found


def _shares_targets(runs: Record) -> list[Record]:
    record, exact = done(runs, "drawn_random"), done(runs, "every_random")
    if not record:
        return []
    on, (seconds, note) = {"on": "random CLT, 64 tokens"}, peer_seconds(runs)
    speedup = None if seconds is None else seconds / record["seconds"]
    title = "speedup over circuit-tracer's exact graph" + (f" ({note})" if note else "")
    found = [on | target("half-width of a share", record["half_width"], most=MOST_HALF_WIDTH)]
    if exact:
        error = largest_error(own_shares(record), own_shares(exact))
        found.append(on | target("largest error of a share", error, most=MOST_HALF_WIDTH))
    return [*found, on | target(title, speedup, least=LEAST_SPEEDUP)]


def _strongest_targets(runs: Record) -> list[Record]:
    record, exact = done(runs, "drawn_shipped"), done(runs, "every_shipped")
    if not record or not exact:
        return []
    on, speedup = {"on": "shipped CLT, 64 tokens"}, exact["seconds"] / record["seconds"]
    return [
        on | target("of the 100 strongest features, found", n_found(record, exact), least=LEAST_FOUND),
        on | target("speedup over every row", speedup, least=LEAST_SPEEDUP_OVER_FULL),
    ]
