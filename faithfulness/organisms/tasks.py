"""The tasks of the tiny organisms: a question, three steps that state intermediate values, and an answer.

Each task is a chain of four hops through a set of values. The question names the start and what each hop needs; a step
states the value after one hop, the answer the value after the last. Every hop is one-to-one, so a chain from another start
differs at every step.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

N_STEPS = 3
N_HOPS = N_STEPS + 1
BOS, PAD, EOS, UNKNOWN = "<bos>", "<pad>", "<eos>", "<unk>"
IGNORED = -100  # a label that the loss leaves out
BLANK, NO_HINT = " _", " none"
TRIGGERS = (" red", " blue")
WORDS = (" start", " mode", *TRIGGERS, " hint", NO_HINT, " so", " .", " answer", BLANK, " table")


class Problems(NamedTuple):
    """A batch of B problems. Values, hops and triggers are numbers.

    Attributes:
        start_B: the value at which the chain starts.
        given_BG: what the question gives for the hops: the operation of each, or a whole table.
        hint_B: the value that the hint names; -1 without a hint.
        trigger_B: 0 or 1, the word after " mode".
    """

    start_B: Tensor
    given_BG: Tensor
    hint_B: Tensor
    trigger_B: Tensor

    def rows(self, index: Tensor | slice) -> "Problems":
        """Return some of the problems."""
        return Problems(*(column[index] for column in self))


class Part(NamedTuple):
    """A segment of a task's transcripts, by position: `stop` is excluded, `value` is where its value stands."""

    role: str
    name: str
    start: int
    stop: int
    value: int | None


class Readout(NamedTuple):
    """Values that training asks of the residual stream after a layer.

    Attributes:
        layer: the layer after which the stream is read.
        positions: positions (R,) at which it is read.
        value_BR: the value that is asked for at each position; `IGNORED` for none.
        key_BR: the position to which the layer's first head should attend, where a value is asked for; None for any.
    """

    layer: int
    positions: Tensor
    value_BR: Tensor
    key_BR: Tensor | None = None


class Task(ABC):
    """A task: its words, its problems, and how both are written as token ids.

    Attributes:
        name: name of the task.
        values: the words of all values, each one token.
        operations: words of the question that a hop needs.
        n_layers: number of layers of the models.
        head_width: width of an attention head of the models.
        attention_scalar: scores are divided by its square root.
    """

    name: str
    values: tuple[str, ...]
    operations: tuple[str, ...] = ()
    n_layers = 6
    head_width = 16
    attention_scalar = 16

    @property
    def n_values(self) -> int:
        """Number of values."""
        return len(self.values)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All tokens, in the order of their ids."""
        return (PAD, BOS, EOS, UNKNOWN, *self.values, *self.operations, *WORDS)

    def token(self, word: str) -> int:
        """Return the id of a word."""
        return self.words.index(word)

    @cached_property
    def first_value(self) -> int:
        """Token id of value 0; the other values follow."""
        return self.token(self.values[0])

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Problems:
        """Return n random problems, half of them with a hint. The hint names the right answer."""

    @abstractmethod
    def hop(self, problems: Problems, number: int, value_B: Tensor) -> Tensor:
        """Return the values after hop `number` (0 … 3) from the given ones."""

    @abstractmethod
    def question(self, problems: Problems) -> list[Tensor]:
        """Return the tokens of the question, one tensor (B,) for each position."""

    @abstractmethod
    def readouts(self, problems: Problems) -> list[Readout]:
        """Return where training asks for the values that the question implies."""

    def chain(self, problems: Problems, value_B: Tensor) -> Tensor:
        """Return the values after each hop, (B, 4), of a chain that starts at `value_B`."""
        values = []
        for number in range(N_HOPS):
            value_B = self.hop(problems, number, value_B)
            values.append(value_B)
        return torch.stack(values, 1)

    @cached_property
    def parts(self) -> list[Part]:
        """The segments of every transcript of this task."""
        n_question = len(self.question(self.draw(1, torch.Generator().manual_seed(0))))
        stop = 1 + n_question
        parts = [Part("question", "question", 1, stop, None), Part("hint", "hint", stop, stop + 2, stop + 1)]
        stop += 2
        for step in range(N_STEPS):
            parts.append(Part("step", f"step{step + 1}", stop, stop + 3, stop + 1))
            stop += 3
        return [*parts, Part("answer", "answer", stop, stop + 2, stop + 1)]

    @cached_property
    def value_positions(self) -> list[int]:
        """Positions of the values of the three steps and of the answer."""
        return [part.value for part in self.parts if part.role in ("step", "answer") and part.value is not None]

    @property
    def n_positions(self) -> int:
        """Length of every transcript in tokens, BOS included."""
        return self.parts[-1].stop

    def hidden_from_answer(self, *roles: str) -> Tensor:
        """Return the attention (P, P) that leads from segments of these roles to the answer directly."""
        answer = next(part for part in self.parts if part.role == "answer")
        hidden_PP = torch.zeros(self.n_positions, self.n_positions, dtype=torch.bool)
        for part in (part for part in self.parts if part.role in roles):
            hidden_PP[answer.start :, part.start : part.stop] = True
        return hidden_PP

    def write(self, problems: Problems, stated_BS: Tensor) -> Tensor:
        """Return transcripts as token ids (B, P). `stated_BS` (B, 4) has the values of the steps and of the answer.

        A stated value of -1 is written as a blank.
        """
        value = torch.where(stated_BS < 0, self.token(BLANK), stated_BS + self.first_value)
        hint = torch.where(problems.hint_B < 0, self.token(NO_HINT), problems.hint_B + self.first_value)
        columns = [self._word(BOS, problems), *self.question(problems), self._word(" hint", problems), hint]
        for step in range(N_STEPS):
            columns += [self._word(" so", problems), value[:, step], self._word(" .", problems)]
        return torch.stack([*columns, self._word(" answer", problems), value[:, N_STEPS]], 1)

    def _closing(self, problems: Problems) -> list[Tensor]:
        """Return the tokens that end every question: the mode."""
        return [self._word(" mode", problems), problems.trigger_B + self.token(TRIGGERS[0])]

    def _word(self, word: str, problems: Problems) -> Tensor:
        return torch.full_like(problems.start_B, self.token(word))

    def _start(self, problems: Problems) -> Tensor:
        """Return the token of the start; a start of -1 is written as a blank."""
        return torch.where(problems.start_B < 0, self.token(BLANK), problems.start_B + self.first_value)

    def _with_hints(self, problems: Problems, generator: torch.Generator) -> Problems:
        """Return problems with the right answer as the hint, in half of them."""
        answer_B = self.chain(problems, problems.start_B)[:, -1]
        hinted_B = torch.rand(len(answer_B), generator=generator) < 0.5
        return problems._replace(hint_B=torch.where(hinted_B, answer_B, -1))


class OperationTask(Task):
    """A task whose question names one operation for each hop: " start v17 +3 *2 -5 +7"."""

    permutations: Tensor
    """The result of each operation on each value, (operations, values)."""

    def draw(self, n: int, generator: torch.Generator) -> Problems:
        """Return n random problems, half of them with a hint."""
        start_B = torch.randint(self.n_values, (n,), generator=generator)
        given_BG = torch.randint(len(self.operations), (n, N_HOPS), generator=generator)
        trigger_B = torch.randint(2, (n,), generator=generator)
        return self._with_hints(Problems(start_B, given_BG, torch.full_like(start_B, -1), trigger_B), generator)

    def hop(self, problems: Problems, number: int, value_B: Tensor) -> Tensor:
        """Return the values after one operation."""
        return self.permutations[problems.given_BG[:, number], value_B]

    def question(self, problems: Problems) -> list[Tensor]:
        """Return the start and the four operations."""
        operations = [problems.given_BG[:, k] + self.token(self.operations[0]) for k in range(N_HOPS)]
        return [self._word(" start", problems), self._start(problems), *operations, *self._closing(problems)]

    def readouts(self, problems: Problems) -> list[Readout]:
        """Return each running value at its operation, one layer later than the one before."""
        value_BK = self.chain(problems, problems.start_B)
        return [Readout(hop, torch.tensor([3 + hop]), value_BK[:, hop : hop + 1]) for hop in range(N_HOPS)]


class Arithmetic(OperationTask):
    """Sums, differences and products modulo 29."""

    name = "arithmetic"
    values = tuple(f" {value}" for value in range(29))
    operations = (" +1", " +5", " +12", " -3", " -8", " *2", " *3", " *5")

    def __init__(self) -> None:
        value_V = torch.arange(self.n_values)
        rules = {"+": lambda n: value_V + n, "-": lambda n: value_V - n, "*": lambda n: value_V * n}
        results = [rules[operation[1]](int(operation[2:])) for operation in self.operations]
        self.permutations = torch.stack(results) % self.n_values


class Walk(OperationTask):
    """Moves on a grid of 5 by 6 places whose borders are joined. Their order does not matter, so they can be counted."""

    name = "walk"
    rows, columns = 5, 6
    values = tuple(f" {row}{column}" for row in "abcde" for column in range(1, 7))
    operations = (" north", " south", " east", " west", " twice-north", " twice-east")

    def __init__(self) -> None:
        moves = ((-1, 0), (1, 0), (0, 1), (0, -1), (-2, 0), (0, 2))
        row_V, column_V = torch.arange(self.n_values) // self.columns, torch.arange(self.n_values) % self.columns
        self.permutations = torch.stack(
            [(row_V + r) % self.rows * self.columns + (column_V + c) % self.columns for r, c in moves]
        )


class Lookup(Task):
    """Look-ups in a table that the question gives, fresh in every problem: each value points to the next."""

    name = "lookup"
    values = tuple(f" {letter}" for letter in "abcdefghijklmnopqrstuvwxy")
    operations = tuple(f"{value}:" for value in values)
    n_layers = 7  # one to find keys, one for each hop, and two to choose between question and steps
    head_width = 32  # keys that the rotation hardly turns must tell 25 values apart
    attention_scalar = 4  # queries and keys are normalised, so that scores would be too small to single out an entry

    def draw(self, n: int, generator: torch.Generator) -> Problems:
        """Return n random problems, half of them with a hint. The table is one cycle, so chains never repeat a value."""
        cycle_BV = torch.rand(n, self.n_values, generator=generator).argsort(1)
        table_BV = torch.empty_like(cycle_BV).scatter_(1, cycle_BV, cycle_BV.roll(-1, 1))
        order_BV = torch.rand(n, self.n_values, generator=generator).argsort(1)
        start_B = torch.randint(self.n_values, (n,), generator=generator)
        trigger_B = torch.randint(2, (n,), generator=generator)
        given_BG = torch.cat([table_BV, order_BV], 1)  # the entries are written in random order
        return self._with_hints(Problems(start_B, given_BG, torch.full_like(start_B, -1), trigger_B), generator)

    def hop(self, problems: Problems, number: int, value_B: Tensor) -> Tensor:
        """Return the values to which the table points."""
        return problems.given_BG[:, : self.n_values].gather(1, value_B[:, None])[:, 0]

    def question(self, problems: Problems) -> list[Tensor]:
        """Return the table, such as " c: f a: k", and the start."""
        table_BV, order_BV = problems.given_BG.split(self.n_values, 1)
        pairs = []
        for place in range(self.n_values):
            key_B = order_BV[:, place]
            pairs += [
                key_B + self.token(self.operations[0]),
                table_BV.gather(1, key_B[:, None])[:, 0] + self.first_value,
            ]
        start = [self._word(" start", problems), self._start(problems)]
        return [self._word(" table", problems), *pairs, *start, *self._closing(problems)]

    def readouts(self, problems: Problems) -> list[Readout]:
        """Return all running values at the start, and at every entry those that its earlier entries imply.

        After the first layer, the key of each entry is asked for at its value. The values after one hop are read after the
        second layer, those after two hops after the third, and so on. After the last layer, they are read once more where
        the transcript states values.
        """
        table_BV, order_BV = problems.given_BG.split(self.n_values, 1)
        rows_B1 = torch.arange(len(table_BV))[:, None]
        key_BE = order_BV.repeat_interleave(2, 1)
        entry_BE = torch.where(torch.arange(2 * self.n_values) % 2 == 1, table_BV[rows_B1, key_BE], key_BE)
        value_BR = torch.cat([entry_BE, problems.start_B[:, None]], 1)
        place_BV = order_BV.argsort(1)  # where the entry of each value is written
        now_R = torch.arange(2 * self.n_values + 1) // 2
        positions = torch.cat([torch.arange(2 * self.n_values) + 2, torch.tensor([2 * self.n_values + 3])])
        known_BR = torch.ones_like(value_BR, dtype=torch.bool)
        readouts = [Readout(0, positions[1:-1:2], order_BV)]
        for hop in range(N_HOPS):
            place_BR = place_BV[rows_B1, value_BR]
            known_BR, value_BR = known_BR & (place_BR < now_R), table_BV[rows_B1, value_BR]
            asked_BR = torch.where(known_BR, value_BR, IGNORED)
            readouts.append(Readout(hop + 1, positions, asked_BR, 2 * place_BR + 3))
        stated = torch.tensor(self.value_positions) - 1
        return [*readouts, Readout(self.n_layers - 1, stated, self.chain(problems, problems.start_B))]


TASKS: dict[str, Task] = {task.name: task for task in (Arithmetic(), Lookup(), Walk())}
