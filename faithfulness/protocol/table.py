"""The table of scores: one row per instance and method; and its wide form, one column per method.

Knows nothing about models. An *instance* is one problem as one model answers it: (task, mechanism, seed, problem). Models of a
task answer the same problems, so that a problem identifies the transcript.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cotrace.common.errors import ArgumentError, FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.faithfulness.clear import CLEAR_HIGH, CLEAR_LOW

SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("mechanism", pa.string(), nullable=False),
        pa.field("twin", pa.string(), nullable=False),  # mechanism with the opposite label, or empty
        pa.field("seed", pa.int32(), nullable=False),  # of the model
        pa.field("problem", pa.int32(), nullable=False),
        pa.field("step", pa.string(), nullable=False),  # empty: the whole chain
        pa.field("share", pa.float32(), nullable=False),  # truth: how often the answer follows the stated values
        pa.field("method", pa.string(), nullable=False),
        pa.field("score", pa.float32()),  # null where the method does not apply
        pa.field("passes", pa.float32(), nullable=False),
    ]
)
INSTANCE = ("task", "mechanism", "twin", "seed", "problem", "step", "share")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of N instances by several methods.

    Args:
        task: (N,) names of tasks.
        mechanism: (N,) names of the models' mechanisms.
        twin: (N,) names of the mechanisms with the opposite label; empty for none.
        seed: (N,) seeds of the models.
        problem: (N,) numbers of the problems; equal numbers of one task are the same transcript.
        step: (N,) names of steps; empty for the whole chain.
        share: (N,) truth, between 0 and 1: how often the answer follows the stated values.
        score: (N,) scores of each method, higher for more dependence on the steps; NaN where it does not apply.
        passes: (N,) cost of each method in forward passes.
    """

    task: np.ndarray
    mechanism: np.ndarray
    twin: np.ndarray
    seed: np.ndarray
    problem: np.ndarray
    step: np.ndarray
    share: Floats
    score: dict[str, Floats]
    passes: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.share)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the table."""
        return list(self.score)

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the answer clearly follows the stated values."""
        return self.share >= CLEAR_HIGH

    @property
    def clear(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the label is clear: a share of at most 0.15, or at least 0.85."""
        return (self.share <= CLEAR_LOW) | self.positive

    @property
    def model(self) -> npt.NDArray[np.intp]:
        """(N,) numbers of the models: one for each task, mechanism and seed."""
        return numbered(self.task, self.mechanism, self.seed)

    @property
    def transcript(self) -> npt.NDArray[np.intp]:
        """(N,) numbers of the transcripts: one for each task, problem and step."""
        return numbered(self.task, self.problem, self.step)

    def take(self, rows: npt.NDArray) -> "ScoreMatrix":
        """Return the matrix of some rows, given by a mask or by numbers."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in INSTANCE}
        for name in ("score", "passes"):
            columns[name] = {method: values[rows] for method, values in getattr(self, name).items()}
        return ScoreMatrix(**columns)

    def with_method(self, method: str, score: npt.ArrayLike, passes: npt.ArrayLike) -> "ScoreMatrix":
        """Return the matrix with another method; `score` and `passes` are (N,) or one number for all."""
        added = {
            name: getattr(self, name) | {method: np.broadcast_to(np.asarray(values, float), len(self)).copy()}
            for name, values in (("score", score), ("passes", passes))
        }
        return replace(self, **added)

    def without_method(self, method: str) -> "ScoreMatrix":
        """Return the matrix without a method."""
        score, passes = (
            {name: values for name, values in each.items() if name != method} for each in (self.score, self.passes)
        )
        return replace(self, score=score, passes=passes)

    def of_steps(self, steps: bool) -> "ScoreMatrix":
        """Return the rows of single steps, or those of whole chains."""
        return self.take((self.step != "") == steps)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "ScoreMatrix":
        """Return the wide form of a table in `SCHEMA`; order of instances and methods as they first appear.

        Raises ArgumentError for missing columns, two scores of one instance by one method, and two truths of one instance.
        """
        table = checked(table)
        columns = {name: table[name].to_pylist() for name in SCHEMA.names}
        keys = list(zip(*(columns[name] for name in INSTANCE if name not in ("share", "twin")), strict=True))
        row_of = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        rows = np.array([row_of[key] for key in keys], np.intp)
        first = np.zeros(len(row_of), np.intp)
        first[rows[::-1]] = np.arange(len(rows))[::-1]
        instance = {name: _array(columns[name])[first] for name in INSTANCE}
        for name in ("share", "twin"):
            _check_equal(name, _array(columns[name]), instance[name][rows], keys)
        score, passes = ({m: np.full(len(row_of), np.nan) for m in dict.fromkeys(columns["method"])} for _ in range(2))
        for row, method, value, cost in zip(rows, columns["method"], columns["score"], columns["passes"], strict=True):
            if not np.isnan(passes[method][row]):
                raise ArgumentError(f"two scores by {method!r} of one instance: {_words(keys, row, rows)}; keep one")
            score[method][row] = np.nan if value is None else value
            passes[method][row] = cost
        return cls(**instance, score=score, passes=passes)

    def to_arrow(self) -> pa.Table:
        """Return the long form in `SCHEMA`: a row for each instance that a method was run on."""
        parts = []
        for method in self.methods:
            ran = ~np.isnan(self.passes[method])
            columns = {name: getattr(self, name)[ran] for name in INSTANCE}
            score = pa.array(self.score[method][ran], from_pandas=True)  # NaN becomes null
            columns |= {"method": [method] * int(ran.sum()), "score": score, "passes": self.passes[method][ran]}
            parts.append(
                pa.table({name: _cast(columns[name], SCHEMA.field(name)) for name in SCHEMA.names}, schema=SCHEMA)
            )
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def numbered(*columns: np.ndarray) -> npt.NDArray[np.intp]:
    """Return (N,) numbers from 0 of the distinct rows of some columns, in sorted order of their values."""
    codes = np.stack([np.unique(column, return_inverse=True)[1] for column in columns], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def checked(table: pa.Table) -> pa.Table:
    """Return a table with the columns and types of `SCHEMA`; a missing `step` is empty.

    Raises ArgumentError for missing columns, values of another type, and shares outside of 0 to 1.
    """
    if "step" not in table.column_names:
        table = table.append_column("step", pa.array([""] * len(table), pa.string()))
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise ArgumentError(
            f"the table of scores has no column {', '.join(missing)}; it needs {', '.join(SCHEMA.names)}"
        )
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ArgumentError(f"the table of scores has a value of the wrong type: {one_line(error)}") from error
    share = table["share"].to_numpy()
    if not ((share >= 0) & (share <= 1)).all():
        raise ArgumentError("the table of scores has a share outside of 0 to 1; shares are fractions, not percentages")
    return table


def write_scores(table: pa.Table, path: Path) -> None:
    """Write a table in `SCHEMA` as a Parquet file, atomically."""
    with atomic_write(path) as temporary:
        pq.write_table(checked(table), temporary, compression="zstd", compression_level=15)


def read_scores(path: Path) -> pa.Table:
    """Return the table of a Parquet file. Raises FileError where it is missing or damaged."""
    try:
        return checked(pq.read_table(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise FileError(f"cannot read scores from {path}: {one_line(error)}; run the benchmark again") from error


def join_scores(tables: Iterable[pa.Table]) -> pa.Table:
    """Return several tables in `SCHEMA` as one."""
    return pa.concat_tables([SCHEMA.empty_table(), *map(checked, tables)])


def _array(values: list) -> np.ndarray:
    return np.array(values, dtype=str if values and isinstance(values[0], str) else None)


def _cast(values: np.ndarray | list | pa.Array, field: pa.Field) -> pa.Array:
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values).cast(field.type)


def _check_equal(name: str, all_R: np.ndarray, first_R: np.ndarray, keys: list) -> None:
    wrong = np.flatnonzero(all_R != first_R)
    if len(wrong):
        raise ArgumentError(f"two values of {name!r} for one instance: {keys[wrong[0]]}; an instance has one truth")


def _words(keys: list, row: int, rows: npt.NDArray) -> tuple:
    return keys[int(np.flatnonzero(rows == row)[0])]
