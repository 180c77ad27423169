"""What a trace is to reach beside circuit-tracer, and whether it did."""

from collections.abc import Callable
from dataclasses import dataclass

from .cells import Record, target
from .contestants import COVERED, OURS, REPAIRED, THEIRS
from .measure import DONE

Measured = tuple[float | None, bool]  # a value, and whether the true one is larger


def times_as_fast(one: Record | None, other: Record | None) -> Measured:
    """How many times as long the other traced; of one that was stopped, at least so many."""
    if not one or not other or one["status"] != DONE:
        return None, False
    if other["status"] == DONE:
        return other["seconds"] / one["seconds"], False
    if "at_least_seconds" in other:
        return other["at_least_seconds"] / one["seconds"], True
    return None, False


def times(name: str, other: str) -> Callable[[Record], Measured]:
    """How many times as fast one contestant of a case is as another."""
    return lambda case: times_as_fast(case["runs"].get(name), case["runs"].get(other))


def value(name: str, measure: str) -> Callable[[Record], Measured]:
    """What was measured of one contestant."""
    return lambda case: (case["runs"].get(name, {}).get(measure), False)


def share(measure: str, of: str) -> Callable[[Record], Measured]:
    """A measure of ours over one of theirs, both run to their ends."""

    def found(case: Record) -> Measured:
        ours, theirs = case["runs"].get(OURS, {}).get(measure), case["runs"].get(THEIRS, {})
        return (ours / theirs[of], False) if ours and theirs.get("status") == DONE else (None, False)

    return found


def influence_and_pruning(case: Record) -> Measured:
    """How many times as fast as theirs ours are, one after the other, over the same adjacency."""
    steps = ("influence_seconds", "prune_seconds")
    sides = [[case.get("pruning", {}).get(name, {}).get(step) for step in steps] for name in (OURS, THEIRS)]
    if not all(seconds for side in sides for seconds in side):
        return None, False
    ours, theirs = map(sum, sides)
    return theirs / ours, False


@dataclass(frozen=True)
class Goal:
    """A target: on which transcoders, how many tokens (None: any) and which device."""

    transcoders: str
    tokens: int | None
    what: str
    measure: Callable[[Record], Measured]
    least: float | None = None
    most: float | None = None
    device: str = "cpu"


FASTER = "how many times as fast as circuit-tracer"
GOALS = (
    Goal("clt", 64, FASTER, times(OURS, THEIRS), least=10),
    Goal("clt", 64, f"{FASTER} with its gather repaired", times(OURS, REPAIRED), least=3),
    Goal("clt", 64, "peak memory over circuit-tracer's", share("peak_bytes", "peak_bytes"), most=1 / 3),
    Goal("clt", 64, "share of the machine's matrix-product rate over the rows", value(OURS, "rate_share"), least=0.55),
    Goal("clt", 64, "largest bound with a coverage", value(COVERED, "bound"), most=0.05),
    Goal("clt", 64, f"with a coverage, {FASTER}", times(COVERED, THEIRS), least=15),
    Goal("clt", 64, f"influence and pruning of one adjacency, {FASTER}", influence_and_pruning, least=50),
    Goal("clt", 64, "graph file over circuit-tracer's", share("file_bytes", "file_bytes"), most=1 / 3),
    Goal("clt", 64, "pruned graph file over circuit-tracer's", share("pruned_bytes", "file_bytes"), most=1 / 20),
    Goal("per-layer", 64, FASTER, times(OURS, THEIRS), least=4),
    Goal("shipped", None, "largest bound with a coverage", value(COVERED, "bound"), most=0.05),
    Goal("shipped", None, f"with a coverage, {FASTER}", times(COVERED, THEIRS), least=40),
    Goal("clt", 64, FASTER, times(OURS, THEIRS), least=10, device="cuda"),
)


def targets(case: Record, device: str) -> list[Record]:
    """The targets that a case is held to; of a length without one of its own, only those it was measured for."""
    found = []
    for goal in GOALS:
        if (
            goal.transcoders != case["transcoders"]
            or goal.device != device
            or goal.tokens not in (None, case["tokens"])
        ):
            continue
        measured, more = goal.measure(case)
        if measured is not None or goal.tokens is not None:
            found.append(target(goal.what, measured, goal.least, goal.most) | ({"more_than": True} if more else {}))
    return found
