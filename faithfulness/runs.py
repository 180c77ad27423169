"""Forward passes over a transcript and edited copies of it: what measures of faithfulness share.

A copy is a row of token ids; the rows of a batch run together. Rows whose steps are removed are packed to the left and
filled up on the right, which no earlier position can see. Masks and donors go through the hooks of `ForwardPass`. Nothing
here knows transcoders, graphs, or any particular measure. Letters of shapes: B rows, P positions, T tokens of a value,
R other values, V vocabulary, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.forward import AttentionEdit, ForwardPass, QueriesKeysValues
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.kv_cache import KVCache
from cotrace.common.errors import ArgumentError

from .model_like import ModelLike
from .transcripts import StatedTranscript, Transcript, tokenized
from .transcripts.offsets import stands_alone
from .transcripts.tokenized import first_difference

BATCH_TOKENS = 2**14  # tokens that run at once; more rows run one batch after the other
QUESTION_ROLES = ("question", "hint")

Value = tuple[int, ...]  # its token ids


@dataclass(frozen=True)
class ValueTarget:
    """A stated value as a target: its tokens, and where each other value first differs from it.

    A margin compares the value with another one at the first token where they differ, given the tokens they share: one
    pass over the transcript suffices for values of any number of tokens. The value wins every comparison exactly if
    greedy decoding among the values writes it.
    """

    name: str
    start: int  # position of the value's first token
    said: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]  # all other values
    split_R: Tensor  # how many tokens another value shares with this one
    token_R: Tensor  # the first token of another value that differs

    @property
    def reads(self) -> tuple[int, ...]:
        """Positions whose logits predict the value's tokens."""
        return tuple(range(self.start - 1, self.start - 1 + len(self.said)))

    def leads(self, logits_BTV: Tensor) -> Tensor:
        """Return by how much each other value leads this one, (B, R) in logits, from the logits at `reads`."""
        said_R = torch.tensor(self.said, device=logits_BTV.device)[self.split_R]
        return logits_BTV[:, self.split_R, self.token_R] - logits_BTV[:, self.split_R, said_R]

    def margins(self, logits_BTV: Tensor) -> Tensor:
        """Return the logit of the value minus that of the best other value, (B,)."""
        return -self.leads(logits_BTV).amax(-1)

    def log_probs(self, logits_BTV: Tensor) -> Tensor:
        """Return the log-probability of the value among all texts, (B,)."""
        said_T = torch.tensor(self.said, device=logits_BTV.device)
        return logits_BTV.log_softmax(-1).gather(-1, said_T.expand(len(logits_BTV), -1)[..., None]).sum((-1, -2))

    def index_of(self, value: Sequence[int]) -> int:
        """Return the place of another value among `others`. Raises ArgumentError for one that is not there."""
        try:
            return self.others.index(tuple(value))
        except ValueError as error:
            raise ArgumentError(
                f"the value with token ids {list(value)} is none of the transcript's other values: add its text to `values`"
            ) from error


class TranscriptRuns:
    """Runs of a model over one transcript and its edits, up to the token that predicts the end of the answer's value.

    Args:
        model: a `cotrace.Model` or a `LanguageModel`.
        transcript: has an answer with a value, at least one step before it, and `values` with other values; or what
            `state_values` found.

    Raises ArgumentError for a transcript without these, and for values that the model's tokens do not tell apart.

    Attributes:
        ids_P: token ids of the prompt.
        steps: the first and last position + 1 of each step before the answer, by name.
        questions: the same of question and hint.
        answer: the target that the answer states.
        values: token ids of the transcript's `values`, or all values that `state_values` found.
        tokens_run: tokens of all rows run so far; `passes` is the same in prompts.
    """

    def __init__(self, model: ModelLike, transcript: Transcript | StatedTranscript):
        self.weights: Gemma3 = model.weights
        self.tokenizer = model.tokenizer
        self.transcript, self.tokens = tokenized(transcript, model)
        self.values = _checked_values(self.tokens.alternatives)
        self.answer = self.target(self.transcript.require_answer().name)
        stop = self.answer.reads[-1] + 1
        self.ids_P = torch.tensor(self.tokens.token_ids[:stop], device=self.weights.device)
        self.steps = self._spans(("step",))
        self.questions = self._spans(QUESTION_ROLES)
        if not self.steps:
            raise ArgumentError("the transcript has no step before its answer: give its reasoning the role 'step'")
        self.tokens_run = 0.0

    @property
    def passes(self) -> float:
        """Cost so far: one row over the whole prompt is one pass."""
        return self.tokens_run / len(self.ids_P)

    # --- what the transcript states ---------------------------------------------------------

    def target(self, name: str) -> ValueTarget:
        """Return the value that a segment states, as a target. Raises ArgumentError for a segment without value."""
        if name not in self.tokens.value_spans:
            raise ArgumentError(f"the segment {name!r} states no value: give it `value=`, as it stands in its text")
        start, said = self.tokens.read_position(name) + 1, tuple(self.tokens.value_ids(name))
        others = tuple(dict.fromkeys(map(tuple, self.tokens.foils(name))))
        if not others and name in self.tokens.alternatives_of:  # none was found: any other token is another value
            others = tuple((token,) for token in range(self.weights.architecture.vocab_size) if token != said[0])
        if not others:
            raise ArgumentError(
                f"the transcript has no other value than that of {name!r}: pass `values=` with all alternatives"
            )
        splits = [_first_difference(said, other) for other in others]
        tokens = [other[split] for other, split in zip(others, splits, strict=True)]
        device = self.weights.device
        return ValueTarget(
            name, start, said, others, torch.tensor(splits, device=device), torch.tensor(tokens, device=device)
        )

    def stated_steps(self) -> list[str]:
        """Return the names of the steps that state a value. Raises ArgumentError if none does."""
        named = [name for name in self.steps if name in self.tokens.value_spans]
        if not named:
            raise ArgumentError("no step states a value: give a step `value=`, as it stands in its text")
        return named

    def positions(self, spans: Sequence[tuple[int, int]]) -> Tensor:
        """Return a mask (P,) that is True in any of the spans."""
        inside_P = torch.zeros(len(self.ids_P), dtype=torch.bool, device=self.ids_P.device)
        for start, stop in spans:
            inside_P[start:stop] = True
        return inside_P

    def from_position(self, first: int) -> Tensor:
        """Return a mask (P,) that is True from a position on."""
        return self.positions([(first, len(self.ids_P))])

    @property
    def step_mask_P(self) -> Tensor:
        """Mask (P,) of the positions of all steps."""
        return self.positions(list(self.steps.values()))

    @property
    def question_mask_P(self) -> Tensor:
        """Mask (P,) of the positions of question and hint. Raises ArgumentError if there is neither."""
        if not self.questions:
            raise ArgumentError("the transcript has no question: give the segment before its steps the role 'question'")
        return self.positions(list(self.questions.values()))

    def _spans(self, roles: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the spans of segments with these roles before the answer."""
        first = self.tokens.spans[self.answer.name][0]
        spans = {each.name: self.tokens.spans[each.name] for each in self.transcript.segments if each.role in roles}
        return {name: (start, stop) for name, (start, stop) in spans.items() if start < stop <= first}

    # --- edited copies ----------------------------------------------------------------------

    def copies(self, n_rows: int) -> Tensor:
        """Return copies (B, P) of the prompt's token ids, to be edited."""
        return self.ids_P.repeat(n_rows, 1)

    def other_values(self, name: str, n_values: int, rng: np.random.Generator, besides: tuple[int, ...] = ()) -> Tensor:
        """Return up to `n_values` different values of as many tokens as a segment's value, (n, T), drawn at random.

        The value `besides` is left out too. Raises ArgumentError if no other value has as many tokens.
        """
        said = tuple(self.tokens.value_ids(name))
        others = dict.fromkeys(map(tuple, self.tokens.foils(name)))
        fitting = [value for value in others if len(value) == len(said) and value != besides]
        if not fitting:
            raise ArgumentError(
                f"no other value has {len(said)} tokens like that of {name!r}: add values of as many tokens to `values`"
            )
        drawn = rng.choice(len(fitting), min(n_values, len(fitting)), replace=False)
        return torch.tensor([fitting[i] for i in drawn], device=self.ids_P.device)

    def with_values(self, name: str, values_NT: Tensor) -> Tensor:
        """Return copies (N, P) in which a segment states the given values."""
        start, stop = self.tokens.value_spans[name]
        rows_NP = self.copies(len(values_NT))
        rows_NP[:, start:stop] = values_NT
        return rows_NP

    def with_shifted_values(self, spans: Sequence[tuple[int, int]], n_rows: int, rng: np.random.Generator) -> Tensor:
        """Return copies (B, P) in which every value in the spans is replaced by another one, equal ones alike.

        Each row moves all values on by a random number of places in `values`, in a circle, among those of as many tokens.
        Raises ArgumentError if the spans hold none of the values, or values without another of as many tokens.
        """
        found = [each for span in spans for each in self._occurrences(*span)]
        if not found:
            raise ArgumentError(
                "none of the transcript's values occurs there: pass other transcripts, or `values=` in the text's spelling"
            )
        rows_BP = self.copies(n_rows)
        fraction_B = rng.permutation(np.linspace(0, 1, n_rows, endpoint=False)) + rng.random() / n_rows
        for start, value in found:
            ring = [other for other in self._kind(value) if len(other) == len(value)]
            first = ring.index(value) + 1 if value in ring else 0
            n_others = len(ring) - (value in ring)
            if n_others == 0:
                raise ArgumentError(f"no other value has {len(value)} tokens: add values of as many tokens to `values`")
            moved_B = torch.from_numpy((first + np.floor(fraction_B * n_others).astype(int)) % len(ring))
            rows_BP[:, start : start + len(value)] = torch.tensor(ring)[moved_B].to(rows_BP.device)
        return rows_BP

    def _kind(self, value: Value) -> list[Value]:
        """Return the values that a value is one of: those of the first segment which may state it, or all."""
        for name, foils in self.tokens.alternatives_of.items():
            kind = {tuple(self.tokens.value_ids(name)), *map(tuple, foils)}
            if value in kind:
                return sorted(kind)
        return self.values

    def _occurrences(self, start: int, stop: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return the positions and tokens of all values in a span: those that segments state, and `values` in between.

        At each place the longest value is meant, and none that is part of a longer word or number.
        """
        ids = self.tokens.token_ids
        stated = {first: tuple(ids[first:last]) for first, last in self.tokens.value_spans.values()}
        by_first: dict[int, list[Value]] = {}
        for value in sorted(self.values, key=len, reverse=True):
            by_first.setdefault(value[0], []).append(value)
        found, position = [], start
        while position < stop:
            fits = (each for each in by_first.get(ids[position], ()) if self._stands_alone(each, position, stop))
            here = stated.get(position) or next(fits, None)
            found += [] if here is None else [(position, here)]
            position += 1 if here is None else len(here)
        return found

    def _stands_alone(self, value: tuple[int, ...], start: int, stop: int) -> bool:
        """Return whether a value stands at a position, and letters and digits end where it does."""
        ids, last = self.tokens.token_ids, start + len(value)
        if last > stop or tuple(ids[start:last]) != value:
            return False
        decode = self.tokenizer.decode_token
        before, after = (decode(ids[start - 1]) if start else ""), (decode(ids[last]) if last < len(ids) else "")
        return stands_alone(before, "".join(map(decode, value)), after)

    def kept_lengths(self, keep_BP: Tensor, rows_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows (B, P) without the positions that are not kept, packed to the left, and their lengths (B,)."""
        order_BP = (~keep_BP).to(torch.uint8).argsort(dim=1, stable=True)
        return rows_BP.gather(1, order_BP), keep_BP.sum(1)

    # --- runs -------------------------------------------------------------------------------

    @torch.no_grad()
    def answer_logits(
        self,
        rows_BP: Tensor,
        *,
        lengths_B: Tensor | None = None,
        blocked: Tensor | None = None,
        attention_edit: AttentionEdit | None = None,
    ) -> Tensor:
        """Return the logits (B, T, V) that predict the answer's value: those of the last T positions of each row.

        Args:
            rows_BP: token ids that end like the prompt does.
            lengths_B: lengths of rows that are filled up on the right; None if none is.
            blocked: (Q, K) or (B, Q, K) bool, True where a query may not attend to a key.
            attention_edit: replaces queries, keys or values in each layer; all rows then run in one batch.
        """
        last_T = torch.arange(-len(self.answer.said), 0, device=rows_BP.device)
        ends_B = torch.full((len(rows_BP),), rows_BP.shape[1]) if lengths_B is None else lengths_B
        reads_BT = ends_B.to(rows_BP.device)[:, None] + last_T
        return self.logits_at(rows_BP, reads_BT, lengths_B=lengths_B, blocked=blocked, attention_edit=attention_edit)

    @torch.no_grad()
    def logits_at(
        self,
        rows_BP: Tensor,
        reads_BT: Tensor,
        *,
        lengths_B: Tensor | None = None,
        blocked: Tensor | None = None,
        attention_edit: AttentionEdit | None = None,
    ) -> Tensor:
        """Return the logits (B, T, V) at the given positions of each row; the other arguments are those of `answer_logits`."""
        self.tokens_run += float(rows_BP.numel() if lengths_B is None else lengths_B.sum())
        n_rows = len(rows_BP) if attention_edit is not None else max(1, BATCH_TOKENS // rows_BP.shape[1])
        found = []
        for start in range(0, len(rows_BP), n_rows):
            part = slice(start, start + n_rows)
            mask = blocked[part] if blocked is not None and blocked.dim() == 3 else blocked
            resid_BPD = ForwardPass(
                self.weights,
                self.weights.embed(rows_BP[part]),
                keep_patterns=False,
                blocked=mask,
                attention_edit=attention_edit,
            ).run()
            found.append(self.weights.logits(_gathered(resid_BPD, reads_BT[part])))
        return torch.cat(found)

    @torch.no_grad()
    def rewritten(self, rows_BP: Tensor, rewrite_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows whose marked positions the model rewrites greedily, and the logits (B, T, V) at the answer's value.

        Every token runs once, with a KV cache: the cost is one pass a row, as without rewriting.
        """
        self.tokens_run += float(rows_BP.numel())
        rows_BP = rows_BP.clone()
        return rows_BP, self.weights.logits(rewrite(self.weights, rows_BP, rewrite_BP, len(self.answer.said)))

    def margin_gradients(self, targets: Sequence[ValueTarget]) -> Tensor:
        """Return the gradients (B, P, D) of the targets' margins in the prompt's embeddings, one target a row."""

        def total(resid_BPD: Tensor) -> Tensor:
            logits = (self.weights.logits(resid_BPD[i, list(t.reads)]) for i, t in enumerate(targets))
            return torch.stack([t.margins(each[None])[0] for t, each in zip(targets, logits, strict=True)]).sum()

        return self.gradients(self.copies(len(targets)), total)

    def gradients(self, rows_BP: Tensor, total: Callable[[Tensor], Tensor], *, blocked: Tensor | None = None) -> Tensor:
        """Return the gradients (B, P, D) of `total(final residual streams (B, P, D))`, a scalar, in the rows' embeddings.

        A row costs three passes: one forward, two backward.
        """
        self.tokens_run += 3.0 * rows_BP.numel()
        with torch.enable_grad():
            embeddings_BPD = self.weights.embed(rows_BP).requires_grad_()
            resid_BPD = ForwardPass(self.weights, embeddings_BPD, keep_patterns=False, blocked=blocked).run()
            (gradients_BPD,) = torch.autograd.grad(total(resid_BPD), embeddings_BPD)
        return gradients_BPD

    @torch.no_grad()
    def mean_patterns(self) -> Tensor:
        """Return the attention probabilities of the prompt, (layers, P, P), averaged over heads."""
        self.tokens_run += float(len(self.ids_P))
        n_positions, means = len(self.ids_P), []
        for done in ForwardPass(self.weights, self.weights.embed(self.ids_P)):
            mean_PP = done.mlp_in_PD.new_zeros(n_positions, n_positions)
            for (queries, keys), pattern_Hqk in done.pattern.blocks:
                mean_PP[queries, keys] = pattern_Hqk.mean(0)
            means.append(mean_PP)
        return torch.stack(means)


def rewrite(
    weights: Gemma3,
    rows_BP: Tensor,
    rewrite_BP: Tensor,
    n_last: int,
    before_run: Callable[[int, int], None] = lambda first, stop: None,
) -> Tensor:
    """Rewrite the marked positions of rows greedily, in place; return the final residual streams (B, T, D) of the last T.

    Every token runs once, with a KV cache.

    Args:
        weights: the model.
        rows_BP: token ids.
        rewrite_BP: True where a row is rewritten; not at position 0.
        n_last: T.
        before_run: called with the first and last position + 1 of each range before it runs; it may edit the rows there.
    """
    kv_cache, done, last_BTD = KVCache(), 0, weights.embed(rows_BP[:, :0])
    for stop in [*rewrite_BP.any(0).nonzero()[:, 0].tolist(), rows_BP.shape[1]]:
        before_run(done, stop)
        embeddings_BPD = weights.embed(rows_BP[:, done:stop])
        resid_BPD = ForwardPass(weights, embeddings_BPD, kv_cache=kv_cache, keep_patterns=False).run()
        last_BTD, done = torch.cat([last_BTD, resid_BPD], 1)[:, -n_last:], stop
        if stop < rows_BP.shape[1]:
            likeliest_B = weights.logits(last_BTD[:, -1]).argmax(-1)
            rows_BP[:, stop] = torch.where(rewrite_BP[:, stop], likeliest_B, rows_BP[:, stop])
    return last_BTD


def donor_rows(source_B: Tensor, where_BP: Tensor) -> AttentionEdit:
    """Return an attention edit: row b reads keys and values of row `source_B[b]` at positions where `where_BP[b]` is True.

    Queries at a replaced position read the donor's keys too. No later position can tell, because every layer replaces
    the keys and values there; a row must not be read at a replaced position.
    """
    where_B1P1 = where_BP[:, None, :, None]

    def edit(layer: int, qkv: QueriesKeysValues) -> QueriesKeysValues:
        keys, values = qkv.k_KPd, qkv.v_KPd
        assert keys is not None  # no pattern is frozen
        return qkv._replace(
            k_KPd=torch.where(where_B1P1, keys[source_B], keys),
            v_KPd=torch.where(where_B1P1, values[source_B], values),
        )

    return edit


def relative_drop(clean: Tensor, edited_B: Tensor, floor: float = 1.0) -> Tensor:
    """Return by how much margins fall below a clean one, in units of it: 1 is level with another value, 2 reversed.

    A clean margin below `floor` logits counts as `floor`, so that undecided answers are not blown up.
    """
    return (clean - edited_B) / clean.abs().clamp(min=floor)


def _gathered(resid_BPD: Tensor, reads_BT: Tensor) -> Tensor:
    return resid_BPD.gather(1, reads_BT[..., None].expand(-1, -1, resid_BPD.shape[-1]))


def _checked_values(alternatives: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    values = list(dict.fromkeys(tuple(value) for value in alternatives))
    if not values:
        raise ArgumentError("the transcript has no `values`: pass the texts of all values that the answer could take")
    return values


def _first_difference(said: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many first tokens two values share. Raises ArgumentError if one begins with the other."""
    shared = first_difference(said, other)
    if shared is None:
        raise ArgumentError(
            f"of the values with token ids {list(said)} and {list(other)} one begins with the other: use values of as many "
            "tokens, or include the character that ends them"
        )
    return shared
