"""The table of baselines: what each asks, what it edits, what it costs, and where it was published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from cotrace.common.errors import ArgumentError


@dataclass(frozen=True)
class Score:
    """The result of a baseline on one transcript."""

    value: float
    """Higher: the answer depends more on the stated steps."""
    steps: dict[str, float] = field(default_factory=dict)
    """The same for each step, by name, where the method gives it."""
    passes: float = 0.0
    """Cost. One row over the whole prompt is one pass; generated tokens count by length, a backward pass counts two."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Intermediate results, by name."""


@dataclass(frozen=True)
class Baseline:
    """A baseline and its row in the documentation."""

    name: str
    run: Callable[..., Any]
    """Takes a model, a transcript, `seed=` and options, and returns a `Score`; a fitted one is a class with `fit` and `score`."""
    question: str
    edits: str
    cost: str
    reference: str
    reads: Literal["text", "output", "activations"] = "output"
    """Its input: the text alone, outputs of the model on edited texts, or attention, gradients and activations."""
    supervised: bool = False
    """Whether it is fitted to labelled transcripts."""
    needs: tuple[str, ...] = ()
    """Requirements that not every transcript meets: a role of segments, or an option that the user must pass."""


BASELINES: dict[str, Baseline] = {}
ORDER = ("text", "output", "activations")  # of the documentation's table
Run = TypeVar("Run", bound=Callable[..., Any])


def baseline(**description: Any) -> Callable[[Run], Run]:
    """Return a decorator that enters a function or class into `BASELINES`, under its `name=` or its own name."""

    def register(run: Run) -> Run:
        entry = Baseline(**{"name": getattr(run, "__name__", ""), "run": run, **description})
        if entry.name in BASELINES:
            raise ValueError(f"two baselines are called {entry.name}")
        BASELINES[entry.name] = entry
        return run

    return register


def find(name: str) -> Baseline:
    """Return the baseline of a name. Raises ArgumentError for an unknown one."""
    if name not in BASELINES:
        raise ArgumentError(f"unknown baseline {name!r}: choose one of {', '.join(sorted(BASELINES))}")
    return BASELINES[name]


def markdown_table(baselines: Sequence[Baseline] | None = None) -> str:
    """Return the table of `docs/baselines.md`, one row a baseline, supervised ones last."""
    given = BASELINES.values() if baselines is None else baselines
    rows = ["| name | asks | edits | reads | passes | reference |", "|---|---|---|---|---|---|"]
    for each in sorted(given, key=lambda each: (each.supervised, ORDER.index(each.reads), each.name)):
        reads = each.reads + (", supervised" if each.supervised else "")
        reads += f"; needs {', '.join(each.needs)}" if each.needs else ""
        rows.append(f"| `{each.name}` | {each.question} | {each.edits} | {reads} | {each.cost} | {each.reference} |")
    return "\n".join(rows)
