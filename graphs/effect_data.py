"""The contents of effects: targets, nodes and numbers, with tables and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from .effect_sums import ledger, sums_by_group
from .nodes import ErrorNode, Feature, Token
from .order import KINDS, NodeKind
from .segments import segment_of_positions

NODE_KINDS = KINDS[: NodeKind.LOGIT]
NODE_FIELDS = (
    pa.field("kind", pa.dictionary(pa.int8(), pa.string()), nullable=False),
    *(pa.field(name, pa.int32()) for name in ("layer", "position", "feature", "token")),
    pa.field("text", pa.string(), nullable=False),
)
ROW_KINDS = (*NODE_KINDS, "bias")
Grouping = Literal["segment", "token", "layer", "position"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
NODES_SHOWN = 10


class EffectData:
    """Effects of M nodes on K targets, each with or without a cut. `Effects` adds files and pictures.

    Attributes:
        targets: K rows with the keys target (number of the target), label, kind, position, probability, token_ids, avoiding
            (the cut, "" for none) and value (centred logit, difference, dot product or pre-activation).
        nodes: M rows: kind ("feature", "error", "token"), layer, position, feature, token (id) and text, of a
            token, or the label of a feature or error node.
        effect_KM: signed effects, in units of the targets.
        bias_K: effects of all constants and biases together.
        info: model, transcoders, prompt, tokens, token_ids, masked_positions and settings.
        through_qk_KM: credit through attention scores, beside the effects; None if it was not asked for.
    """

    def __init__(
        self,
        targets: list[dict[str, Any]],
        nodes: pa.Table,
        effect_KM: np.ndarray,
        bias_K: np.ndarray,
        info: dict[str, Any],
        through_qk_KM: np.ndarray | None = None,
    ):
        self.targets, self.nodes, self.info = targets, _as_nodes(nodes), info
        self.effect_KM, self.bias_K, self.through_qk_KM = effect_KM, bias_K, through_qk_KM
        shape = len(targets), len(nodes)
        assert effect_KM.shape == shape, f"effects {effect_KM.shape}, expected {shape}"
        assert len(bias_K) == len(targets)
        assert through_qk_KM is None or through_qk_KM.shape == shape

    # --- tables -----------------------------------------------------------------------------

    @property
    def table(self) -> pa.Table:
        """All effects that are not zero, in long form, with one row for each target's bias.

        Columns: target (its number), label, avoiding (if there are cuts), kind ("feature", "error", "token", "bias"), layer,
        position, feature, text, effect and, if it was asked for, through_qk.
        """
        n_nodes, rows = len(self.nodes), []
        for k, effect_M in enumerate(self.effect_KM):
            there_M = effect_M != 0
            if self.through_qk_KM is not None:
                there_M = there_M | (self.through_qk_KM[k] != 0)
            rows.append(np.append(np.flatnonzero(there_M), n_nodes))
        return self._rows(rows)

    @property
    def ledger(self) -> pa.Table:
        """Contributions of leaves and constants to each target, a row for each target and cut.

        Columns: target (its number), label, avoiding ("" for no cut), position, value, tokens, errors, bias, remainder (value −
        tokens − errors − bias) and cancellation: the sum of the absolute effects of tokens and errors over the absolute value of
        their sum, which is 1 if all have one sign; null if they add up to 0.
        """
        return ledger(self.targets, self.effect_KM, self.bias_K, self.kind_M)

    def by(self, group: Grouping) -> pa.Table:
        """Return the sums of effects by "segment", "token", "layer" or "position", a row for each target, cut and group.

        Columns: target, label, avoiding (if there are cuts), the group, then tokens and errors, which add up to those of the
        `ledger` over all groups; features, which stand beside them and are never added to them; and through_qk, of tokens and
        errors, if it was asked for. Positions outside every segment are the segment "other". The layer of tokens is null,
        and layers without nodes are left out.

        Raises ArgumentError for an unknown group, and for "segment" without segments.
        """
        group_M, columns = self._groups(group)
        n_groups = len(next(iter(columns.values())))
        sums = sums_by_group(self.effect_KM, self.kind_M, group_M, n_groups)
        values = {name: pa.array(sum_KG.reshape(-1)) for name, sum_KG in sums._asdict().items()}
        if self.through_qk_KM is not None:
            credit = sums_by_group(self.through_qk_KM, self.kind_M, group_M, n_groups)
            values["through_qk"] = pa.array((credit.tokens + credit.errors).reshape(-1))
        k_R = np.repeat(np.arange(len(self.targets)), n_groups)
        group_R = pa.array(np.tile(np.arange(n_groups), len(self.targets)))
        return pa.table(
            {**self._target_columns(k_R), **{name: each.take(group_R) for name, each in columns.items()}, **values}
        )

    def top(self, n: int = NODES_SHOWN, kind: str | None = None) -> pa.Table:
        """Return the n nodes with the largest absolute effects on each target, the largest first.

        The columns are those of `table`, with the node's name, such as `L17#264@5`. `kind` is "feature", "error" or "token".
        Raises ArgumentError for another kind, and for an n below 1.
        """
        n = as_index(n, "n")
        if n < 1:
            raise ArgumentError(f"n is {n}: it must be at least 1")
        if kind not in (None, *NODE_KINDS):
            raise ArgumentError(f"kind={kind!r} is not one of {', '.join(NODE_KINDS)}, or None for all")
        among_S = np.flatnonzero(self.kind_M == NODE_KINDS.index(kind)) if kind else np.arange(len(self.nodes))
        rows = []
        for effect_M in self.effect_KM:
            size_S = np.abs(effect_M[among_S])
            strongest = among_S[np.argsort(-size_S, kind="stable")[:n]]
            rows.append(strongest[effect_M[strongest] != 0])
        table = self._rows(rows)
        names = [self.name(node) for row in rows for node in row.tolist()]
        return table.add_column(table.column_names.index("kind"), "node", pa.array(names, pa.string()))

    def name(self, node: int) -> str:
        """Return the name of a node of `nodes`: `L17#264@5`, `L17#error@5` or `token@5`."""
        layer, position, feature = (self.nodes[name][node].as_py() for name in ("layer", "position", "feature"))
        kind = NodeKind(self.kind_M[node])
        if kind == NodeKind.TOKEN:
            return str(Token(position))
        return str(ErrorNode(layer, position) if kind == NodeKind.ERROR else Feature(layer, feature, position))

    # --- columns ----------------------------------------------------------------------------

    @cached_property
    def kind_M(self) -> np.ndarray:
        """The code of `NodeKind` of every node, (M,) int8."""
        return self.nodes["kind"].chunk(0).indices.to_numpy()

    @property
    def segments(self) -> dict[str, list[int]]:
        """The positions of each segment."""
        return self.info["settings"].get("segments") or {}

    def _groups(self, group: str) -> tuple[np.ndarray, dict[str, pa.Array]]:
        """Return the group of every node, (M,), and the columns that name the groups."""
        position_M, n_positions = self.nodes["position"].to_numpy(), len(self.info["tokens"])
        if group not in GROUPINGS:
            raise ArgumentError(f"invalid group {group!r}: expected one of {', '.join(GROUPINGS)}")
        if group == "segment":
            if not self.segments:
                raise ArgumentError('there are no segments: compute effects with segments={"question": (1, 12)}')
            number_P, names = segment_of_positions(self.segments, n_positions)
            return number_P[position_M], {"segment": pa.array(names)}
        if group == "layer":
            layers, group_M = np.unique(self.nodes["layer"].fill_null(-1).to_numpy(), return_inverse=True)
            return group_M, {"layer": pa.array(layers, pa.int32(), mask=layers < 0)}
        columns = {"position": pa.array(np.arange(n_positions, dtype=np.int32))}
        return position_M, {**columns, "token": pa.array(self.info["tokens"])} if group == "token" else columns

    def _target_columns(self, k_R: np.ndarray) -> dict[str, pa.Array]:
        """Return the columns that say which target and cut each of R rows is about."""
        columns = {
            "target": pa.array([row["target"] for row in self.targets], pa.int32()).take(pa.array(k_R)),
            "label": _categories(k_R, [row["label"] for row in self.targets]),
        }
        if any(row["avoiding"] for row in self.targets):
            columns["avoiding"] = _categories(k_R, [row["avoiding"] for row in self.targets])
        return columns

    def _rows(self, rows: Sequence[np.ndarray]) -> pa.Table:
        """Return a long table of some nodes of each target; node number M is the target's bias."""
        k_R = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        node_R = np.concatenate(rows) if rows else np.empty(0, np.int64)
        is_bias_R = node_R == len(self.nodes)
        take = pa.array(node_R, mask=is_bias_R)  # a null takes a null

        value_R = np.where(is_bias_R, 0, node_R)  # of a bias, any node's
        bias_K = np.asarray(self.bias_K).astype(self.effect_KM.dtype)
        codes_R = np.append(self.kind_M, len(NODE_KINDS)).astype(np.int8)[node_R]
        columns = {
            **self._target_columns(k_R),
            "kind": pa.DictionaryArray.from_arrays(pa.array(codes_R), pa.array(ROW_KINDS)),
            **{name: self.nodes[name].take(take) for name in ("layer", "position", "feature", "text")},
            "effect": pa.array(np.where(is_bias_R, bias_K[k_R], self.effect_KM[k_R, value_R])),
        }
        if self.through_qk_KM is not None:
            columns["through_qk"] = pa.array(self.through_qk_KM[k_R, value_R], mask=is_bias_R)
        return pa.table(columns)


def _as_nodes(nodes: pa.Table) -> pa.Table:
    """Return nodes with the columns and types of `NODE_FIELDS`, in one part; their kinds may be texts."""
    kind = nodes["kind"].combine_chunks()
    plain = kind.dictionary_decode() if isinstance(kind, pa.DictionaryArray) else kind
    codes = pc.index_in(plain, pa.array(NODE_KINDS)).cast(pa.int8())
    columns = [pa.DictionaryArray.from_arrays(codes, pa.array(NODE_KINDS))]
    columns += [nodes[field.name].combine_chunks().cast(field.type) for field in NODE_FIELDS[1:]]
    return pa.Table.from_arrays(columns, schema=pa.schema(NODE_FIELDS))


def _categories(k_R: np.ndarray, texts: list[str]) -> pa.Array:
    """Return the text of each row's target, stored once."""
    distinct = list(dict.fromkeys(texts))
    code_K = np.array([distinct.index(text) for text in texts], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(code_K[k_R]), pa.array(distinct, pa.string()))
