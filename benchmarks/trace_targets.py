"""Performance targets of a trace relative to circuit-tracer, and whether they are met."""

from collections.abc import Callable
from dataclasses import dataclass

from .baselines import CIRCUIT_TRACER, COTRACE, COTRACE_COVERAGE, PATCHED
from .cells import Record, target
from .measure import DONE

Measurement = tuple[float | None, bool]  # a value, and whether it is only a lower bound


def speedup(one: Record | None, other: Record | None) -> Measurement:
    """Return the other run's trace seconds over this one's; a lower bound if the other run was stopped."""
    if not one or not other or one["status"] != DONE:
        return None, False
    if other["status"] == DONE:
        return other["seconds"] / one["seconds"], False
    if "at_least_seconds" in other:
        return other["at_least_seconds"] / one["seconds"], True
    return None, False


def speedup_of(name: str, other: str) -> Callable[[Record], Measurement]:
    """Return a function that computes the speedup of one program over another on a case."""
    return lambda case: speedup(case["runs"].get(name), case["runs"].get(other))


def value_of(name: str, measure: str) -> Callable[[Record], Measurement]:
    """Return a function that looks up a measurement of one program on a case."""
    return lambda case: (case["runs"].get(name, {}).get(measure), False)


def ratio_of(measure: str, peer_measure: str) -> Callable[[Record], Measurement]:
    """Return a function that divides a measurement of cotrace by one of circuit-tracer, if both finished."""

    def ratio(case: Record) -> Measurement:
        own, peer = case["runs"].get(COTRACE, {}).get(measure), case["runs"].get(CIRCUIT_TRACER, {})
        return (own / peer[peer_measure], False) if own and peer.get("status") == DONE else (None, False)

    return ratio


def pruning_speedup(case: Record) -> Measurement:
    """Return circuit-tracer's seconds for influence and pruning of the same adjacency over cotrace's."""
    steps = ("influence_seconds", "prune_seconds")
    seconds = [
        [case.get("pruning", {}).get(name, {}).get(step) for step in steps] for name in (COTRACE, CIRCUIT_TRACER)
    ]
    if not all(value for program in seconds for value in program):
        return None, False
    own, peer = map(sum, seconds)
    return peer / own, False


@dataclass(frozen=True)
class TraceTarget:
    """A performance target for a set of transcoders, a number of tokens (None: any) and a device."""

    transcoders: str
    tokens: int | None
    title: str
    measure: Callable[[Record], Measurement]
    least: float | None = None
    most: float | None = None
    device: str = "cpu"


SPEEDUP = "speedup over circuit-tracer"
MATMUL_SHARE = "share of the matrix-product rate while computing rows"
BOUND = "largest bound, with coverage"
COVERAGE_SPEEDUP = "speedup over circuit-tracer, with coverage"
TARGETS = (
    TraceTarget("clt", 64, SPEEDUP, speedup_of(COTRACE, CIRCUIT_TRACER), least=10),
    TraceTarget("clt", 64, "speedup over circuit-tracer, patched", speedup_of(COTRACE, PATCHED), least=3),
    TraceTarget("clt", 64, "peak memory over circuit-tracer's", ratio_of("peak_bytes", "peak_bytes"), most=1 / 3),
    TraceTarget("clt", 64, MATMUL_SHARE, value_of(COTRACE, "rate_share"), least=0.55),
    TraceTarget("clt", 64, BOUND, value_of(COTRACE_COVERAGE, "bound"), most=0.05),
    TraceTarget("clt", 64, COVERAGE_SPEEDUP, speedup_of(COTRACE_COVERAGE, CIRCUIT_TRACER), least=15),
    TraceTarget("clt", 64, "influence and pruning: speedup over circuit-tracer", pruning_speedup, least=50),
    TraceTarget("clt", 64, "graph file over circuit-tracer's", ratio_of("file_bytes", "file_bytes"), most=1 / 3),
    TraceTarget(
        "clt", 64, "pruned graph file over circuit-tracer's", ratio_of("pruned_bytes", "file_bytes"), most=1 / 20
    ),
    TraceTarget("per-layer", 64, SPEEDUP, speedup_of(COTRACE, CIRCUIT_TRACER), least=4),
    TraceTarget("shipped", None, BOUND, value_of(COTRACE_COVERAGE, "bound"), most=0.05),
    TraceTarget("shipped", None, COVERAGE_SPEEDUP, speedup_of(COTRACE_COVERAGE, CIRCUIT_TRACER), least=40),
    TraceTarget("clt", 64, SPEEDUP, speedup_of(COTRACE, CIRCUIT_TRACER), least=10, device="cuda"),
)


def targets(case: Record, device: str) -> list[Record]:
    """Return the targets of a case; targets without a number of tokens only where they were measured."""
    found = []
    for goal in TARGETS:
        same_tokens = goal.tokens in (None, case["tokens"])
        if goal.transcoders != case["transcoders"] or goal.device != device or not same_tokens:
            continue
        measured, lower_bound = goal.measure(case)
        if measured is not None or goal.tokens is not None:
            record = target(goal.title, measured, goal.least, goal.most)
            found.append(record | ({"more_than": True} if lower_bound else {}))
    return found
