"""Record values of donor prompts, and put them in place of those of a run.

Keys and values of a span are replaced for the queries after it. A span with gaps is several spans. The attention of a layer
is then computed once with the keys and values of the run, and once more for each end of a span; each query takes its
output from the last end before it. So every product has the shape that it has without donors, and replacing values
by themselves changes no bit.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.forward import AttentionEdit, ForwardPass, LaterKeysValues, QueriesKeysValues
from cotrace.attribution.models.gemma3 import Gemma3

from .context import PromptContext
from .edit_plan import EditPlan
from .span_plan import ResolvedDonor, contiguous_runs

ATTENTION_PARTS = {"queries": "q_HPd", "keys": "k_KPd", "values": "v_KPd"}


class DonorActivations(NamedTuple):
    """Values of a donor, by what they are and layer: (heads, n, d) for its n positions, or (n, D) of the residual stream."""

    donor: ResolvedDonor
    values: dict[tuple[str, int], Tensor]


def donor_memory(context: PromptContext, plans: Iterable[EditPlan]) -> int:
    """Return the bytes of the values of all donors."""
    arch, size = context.weights.architecture, context.weights.dtype.itemsize
    kv = arch.n_kv_heads * arch.d_head
    width = {"keys": kv, "values": kv, "queries": arch.n_heads * arch.d_head, "residual": arch.d_model}
    donors = (donor for plan in plans for donor in plan.donors)
    return sum(size * len(d.positions) * len(d.layers) * sum(width[part] for part in d.donor.parts) for d in donors)


# 1. Record.


class _DonorRun(NamedTuple):
    """Rows of one pass over donor prompts, and the donors that are read in them: (row of the pass, row of the run, donor)."""

    ids: list[tuple[int, ...]]
    read: list[tuple[int, int, ResolvedDonor]]


@torch.no_grad()
def record_donors(context: PromptContext, plans: Sequence[EditPlan]) -> list[list[DonorActivations]]:
    """Return the values of the donors of every row, from runs of their prompts without edits."""
    recorded: list[list[DonorActivations]] = [[] for _ in plans]
    for run in _donor_runs(context, plans):
        activations = [(index, DonorActivations(donor, {})) for index, _, donor in run.read]
        _record(context.weights, torch.tensor(run.ids, device=context.weights.device), activations)
        for (_, row, _), (_, each) in zip(run.read, activations, strict=True):
            recorded[row].append(each)
    return recorded


def _donor_runs(context: PromptContext, plans: Sequence[EditPlan]) -> Iterable[_DonorRun]:
    """Yield passes that run each donor prompt, those of the prompt's length in batches of the run's shape.

    In such a batch a prompt gives the same bits as in the run.
    """
    prompts = [list(dict.fromkeys(donor.donor_ids for donor in plan.donors)) for plan in plans]
    same_length = [[ids for ids in own if len(ids) == context.n_positions] for own in prompts]
    own_ids = tuple(context.tokens.ids)
    for number in range(max(map(len, same_length), default=0)):
        batch = [own[number] if number < len(own) else own_ids for own in same_length]
        given = [row for row, own in enumerate(same_length) if number < len(own)]
        yield _DonorRun(batch, [(row, row, d) for row in given for d in plans[row].donors if d.donor_ids == batch[row]])
    others = dict.fromkeys(ids for own in prompts for ids in own if len(ids) != context.n_positions)
    for ids in others:
        yield _DonorRun(
            [ids], [(0, row, d) for row, plan in enumerate(plans) for d in plan.donors if d.donor_ids == ids]
        )


def _record(weights: Gemma3, ids_BP: Tensor, read: Sequence[tuple[int, DonorActivations]]) -> None:
    """Run prompts without edits and store the values that donors read, each in its row."""

    def keep(layer: int, inputs: QueriesKeysValues) -> QueriesKeysValues:
        for row, (resolved, values) in read:
            if layer in resolved.layers:
                for part in resolved.donor.parts:
                    if part in ATTENTION_PARTS:
                        values[part, layer] = _moved(weights, layer, part, inputs, row, resolved)
        return inputs

    last = max(layer for _, (resolved, _) in read for layer in resolved.layers)
    forward_pass = ForwardPass(weights, weights.embed(ids_BP), attention_edit=keep)
    for layer_cache in forward_pass:
        layer = layer_cache.layer
        for row, (resolved, values) in read:
            if layer in resolved.layers and "residual" in resolved.donor.parts:
                values["residual", layer] = forward_pass.resid_PD[row, list(resolved.donor_positions)]
        if layer == last:
            return


def _moved(
    weights: Gemma3, layer: int, part: str, inputs: QueriesKeysValues, row: int, resolved: ResolvedDonor
) -> Tensor:
    """Return the values of a donor's positions (heads, n, d), keys and queries rotated to the positions of the prompt."""
    value_hnd = getattr(inputs, ATTENTION_PARTS[part])[row][:, list(resolved.donor_positions)]
    if part == "values" or resolved.positions == resolved.donor_positions:
        return value_hnd
    shift_n = torch.tensor(resolved.positions) - torch.tensor(resolved.donor_positions)
    return weights.rotated_by(layer, value_hnd, shift_n.to(value_hnd.device))


# 2. Replace.


class _Run(NamedTuple):
    """Positions without a gap whose keys or values a donor gives, and where they start in the donor's values."""

    positions: range
    offset: int
    activations: DonorActivations


class DonorEdits:
    """Puts values of donors into the rows of a pass. Spans of keys and values must lie inside one pass each."""

    def __init__(self, rows: Sequence[Sequence[DonorActivations]]):
        self._rows = rows
        self._runs = [
            [run for each in row if {"keys", "values"} & {*each.donor.donor.parts} for run in _runs(each)]
            for row in rows
        ]
        self._edits_attention = any({*ATTENTION_PARTS} & {*each.donor.donor.parts} for row in rows for each in row)

    def attention_edit(self, first: int) -> AttentionEdit | None:
        """Return what replaces queries, keys and values in a pass from position `first` on; None if nothing does."""
        return partial(self._edit_attention, first) if self._edits_attention else None

    def replace_residual(self, layer: int, resid_BPD: Tensor, first: int) -> None:
        """Replace the residual stream after a layer, in place, in a pass from position `first` on."""
        for row, donors in enumerate(self._rows):
            for each in donors:
                if ("residual", layer) in each.values:
                    here, inside = _inside(each.donor.positions, first, resid_BPD.shape[1])
                    resid_BPD[row, here] = each.values["residual", layer][inside]

    def _edit_attention(self, first: int, layer: int, inputs: QueriesKeysValues) -> QueriesKeysValues:
        n = inputs.v_KPd.shape[-2]
        return inputs._replace(
            q_HPd=self._queries(first, layer, inputs.q_HPd), later=tuple(self._later(first, layer, inputs, n))
        )

    def _queries(self, first: int, layer: int, q_BHPd: Tensor | None) -> Tensor | None:
        edits = [
            (row, each) for row, donors in enumerate(self._rows) for each in donors if ("queries", layer) in each.values
        ]
        if not edits or q_BHPd is None:
            return q_BHPd
        q_BHPd = q_BHPd.clone()
        for row, each in edits:
            here, inside = _inside(each.donor.positions, first, q_BHPd.shape[-2])
            q_BHPd[row][:, here] = each.values["queries", layer][:, inside]
        return q_BHPd

    def _later(self, first: int, layer: int, inputs: QueriesKeysValues, n: int) -> Iterable[LaterKeysValues]:
        """Yield the keys and values that queries after the first, second, … end of a span in their row read."""
        ends = [self._by_end(runs, layer, first, n) for runs in self._runs]
        k_BKPd, v_BKPd = inputs.k_KPd, inputs.v_KPd
        for number in range(max(map(len, ends))):
            v_BKPd, k_BKPd = v_BKPd.clone(), None if k_BKPd is None else k_BKPd.clone()
            reader_BP = torch.zeros(len(ends), n, dtype=torch.bool, device=v_BKPd.device)
            for row, own in enumerate(ends):
                for run in own[number] if number < len(own) else ():
                    here, there = slice(run.positions.start - first, run.positions.stop - first), run.offset
                    for part, tensor in (("keys", k_BKPd), ("values", v_BKPd)):
                        value_hnd = run.activations.values.get((part, layer))
                        if value_hnd is not None and tensor is not None:
                            tensor[row, :, here] = value_hnd[:, there : there + len(run.positions)]
                    reader_BP[row, here.stop :] = True
            yield LaterKeysValues(reader_BP, k_BKPd, v_BKPd)

    @staticmethod
    def _by_end(runs: Iterable[_Run], layer: int, first: int, n: int) -> list[list[_Run]]:
        """Return the runs of a row that a layer has inside a pass, those of each end together, in order."""
        by_end = defaultdict[int, list[_Run]](list)
        for run in runs:
            if layer in run.activations.donor.layers and first <= run.positions.start < first + n:
                assert run.positions.stop <= first + n, "a span of keys or values is cut by the end of a pass"
                by_end[run.positions.stop].append(run)
        return [by_end[stop] for stop in sorted(by_end)]


def _runs(each: DonorActivations) -> Iterable[_Run]:
    """Yield the runs without gaps of a donor's positions."""
    offset = 0
    for run in contiguous_runs(each.donor.positions):
        yield _Run(range(run[0], run[-1] + 1), offset, each)
        offset += len(run)


def _inside(positions: Sequence[int], first: int, n: int) -> tuple[list[int], list[int]]:
    """Return positions inside a pass, counted from its first, and which of the given positions they are."""
    pairs = [(position - first, index) for index, position in enumerate(positions) if first <= position < first + n]
    return [position for position, _ in pairs], [index for _, index in pairs]
