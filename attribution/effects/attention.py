"""Why a head attends where it does: what every node adds to a query and to a key (docs/attention.md)."""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer
from cotrace.attribution.models.gemma3 import LayerWeights
from cotrace.attribution.models.memory import check_memory
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.batches import BatchSize, stream_batches
from cotrace.attribution.tracing.plan import spare_memory
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.sweep import SourceColumns, compute_rows
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.graphs import NodeOrder
from cotrace.graphs.attention_scores import AttentionScore, ScoreSide
from cotrace.graphs.nodes import resolve_position
from cotrace.kernels.workers import Workers

from .node_table import node_table

FACTOR_COPIES = 3  # of what nodes add to a query or key: in batches, in one piece, and with a node's numbers in a row


@dataclass(frozen=True)
class AttentionPlace:
    """A head and a query, and a key unless it is the most attended one."""

    layer: int
    head: int
    query: int
    key: int | None

    @classmethod
    def parse(
        cls, layer: Any, head: Any, query: Any, key: Any, arch: Architecture, n_positions: int
    ) -> "AttentionPlace":
        """Return the place that the arguments of `Model.attention` name.

        Raises ArgumentError for a layer or head that the model does not have, a position outside the prompt, and a key
        that the query does not see.
        """
        layer, head = as_index(layer, "layer"), as_index(head, "head")
        for value, name, count in ((layer, "layer", arch.n_layers), (head, "head", arch.n_heads)):
            if not 0 <= value < count:
                raise ArgumentError(f"{name} is {value}: the model has the {name}s 0 … {count - 1}")
        query = resolve_position(query, n_positions, "query")
        if key is not None:
            key = resolve_position(key, n_positions, "key")
            _check_seen(layer, query, key, arch.window(layer))
        return cls(layer, head, query, key)


def _check_seen(layer: int, query: int, key: int, window: int | None) -> None:
    if key > query:
        raise ArgumentError(f"key {key} comes after query {query}: a query sees itself and earlier positions only")
    if window is not None and query - key >= window:
        raise ArgumentError(
            f"key {key} is outside the window of layer {layer}: query {query} sees the last {window} positions, "
            f"{query - window + 1} … {query}"
        )


def explain_attention(
    activations: PromptActivations,
    replacement: LocalReplacementModel,
    place: AttentionPlace,
    info: dict[str, Any],
    size: BatchSize,
    *,
    memory: int | None,
    progress: Progress,
) -> AttentionScore:
    """Return the score of a head from a query to a key as a sum over pairs of nodes.

    Args:
        activations: the model's activations on the prompt.
        replacement: its local replacement model, with decoder vectors.
        place: the head, the query, and the key or None for the most attended one.
        info: the caller's metadata; `info["tokens"]` are the texts of the prompt's tokens.
        size: the number of rows that are computed together.
        memory: limit in bytes for the memory of the process; None for what is free.
        progress: progress bars.

    Raises:
        ResourceError: what the nodes add to the query and the key does not fit into memory.
    """
    head = FrozenHead(activations, place)
    _check_factor_memory(replacement, head, memory)
    score_K, key_Kd = head.scores()
    key = head.first_key + int(score_K.argmax()) if place.key is None else place.key
    sides = []
    with progress.phase("computing what nodes add to query and key", 2) as step:
        for position, read_TD in ((place.query, head.query_reads()), (key, head.key_reads(key))):
            sides.append(_side(replacement, place.layer, position, read_TD, info["tokens"], size))
            step()
    named = place.layer, place.head, place.query, key
    return AttentionScore(named, score_K.cpu().numpy(), key_Kd.cpu().numpy(), sides[0], sides[1], info)


class FrozenHead:
    """One head at one query of a prompt, with the scales of its norms.

    Args:
        activations: the model's activations on the prompt.
        place: the head and the query.
    """

    def __init__(self, activations: PromptActivations, place: AttentionPlace):
        self.weights, self.place = activations.weights, place
        arch, cache = self.weights.architecture, activations.layer_caches[place.layer]
        self.w = _one_head(self.weights.layer(place.layer), place.head, arch)
        window = arch.window(place.layer)
        self.first_key = 0 if window is None else max(0, place.query - window + 1)
        self.rms_attn_in_P = cache.rms_attn_in_P
        resid_PD = _stream_before(activations, place.layer)
        self.normed_PD = self.weights.rms_norm(resid_PD, self.w.norm_attn_in_D, self.rms_attn_in_P)[0]
        self.rms_q_1P, self.rms_k_1P = self.weights.head_rms(self.w, self.normed_PD)

    def scores(self) -> tuple[Tensor, Tensor]:
        """Return the scores (K,) of the keys that the query sees, before the softmax, and the keys (K, d)."""
        seen = slice(self.first_key, self.place.query + 1)
        q_1Kd, k_1Kd = self.weights.queries_keys(
            self.place.layer,
            self.w,
            self.normed_PD[seen],
            self.first_key,
            self.rms_q_1P[:, seen],
            self.rms_k_1P[:, seen],
        )
        return k_1Kd[0] @ q_1Kd[0, -1] * self.weights.architecture.attention_scale, k_1Kd[0]

    def query_reads(self) -> Tensor:
        """Return read vectors (d, D) at the residual stream, whose dot products are the query, times the scale."""
        return self._reads(self.place.query, 0) * self.weights.architecture.attention_scale

    def key_reads(self, key: int) -> Tensor:
        """Return read vectors (d, D) at the residual stream, whose dot products are the key."""
        return self._reads(key, 1)

    def _reads(self, position: int, part: int) -> Tensor:
        """Return the map from the residual stream to the query or key: with frozen scales it is linear.

        Its columns are the queries or keys of unit vectors, each in a separate prompt at the same position.
        """
        unit_D1D = torch.diag(self.w.norm_attn_in_D * self.rms_attn_in_P[position]).to(self.normed_PD)[:, None]
        rms_q_11, rms_k_11 = self.rms_q_1P[:, [position]], self.rms_k_1P[:, [position]]
        maps = self.weights.queries_keys(self.place.layer, self.w, unit_D1D, position, rms_q_11, rms_k_11)
        return maps[part][:, 0, 0].T.contiguous()


def _one_head(w: LayerWeights, head: int, arch: Architecture) -> LayerWeights:
    """Return the weights of a layer with only one query head, and the key head that it shares."""
    d, shared = arch.d_head, head * arch.n_kv_heads // arch.n_heads
    return replace(w, w_q=w.w_q[head * d : (head + 1) * d], w_k=w.w_k[shared * d : (shared + 1) * d])


def _stream_before(activations: PromptActivations, layer: int) -> Tensor:
    """Return the residual stream (P, D) before a layer: the prompt's run again, with its patterns and MLP outputs."""
    caches = activations.layer_caches
    forward_pass = ForwardPass(
        activations.weights,
        activations.weights.embed(activations.token_ids_P),
        frozen=[FrozenLayer(pattern=cache.pattern) for cache in caches],
        mlp=lambda before, w: caches[before.layer],
    )
    for _ in islice(forward_pass, layer):
        pass
    return forward_pass.resid_PD


def _side(
    replacement: LocalReplacementModel,
    layer: int,
    position: int,
    read_TD: Tensor,
    tokens: list[str],
    size: BatchSize,
) -> ScoreSide:
    """Return what every node adds to the dot products of read vectors (T, D) before a layer's attention."""
    n_positions, n_layers = replacement.n_positions, replacement.n_layers
    order = NodeOrder(len(replacement.features), n_layers * n_positions, n_positions, len(read_TD))
    position_T = torch.full((len(read_TD),), position, device=replacement.device)
    batches = stream_batches(position_T, read_TD, layer, order.logits.start, size)
    columns = SourceColumns(replacement, order)
    with Workers(size.n_workers) as workers:
        parts = [*workers.map(lambda batch: compute_rows(replacement, batch, columns), batches)][::-1]
    block_TM = torch.cat([torch.cat([rows.block_TC, rows.bias_T[:, None]], dim=1) for rows in parts])
    nodes = node_table(replacement, tokens).take(parts[0].columns_C.cpu().numpy())
    return ScoreSide(pa.concat_tables([nodes, _bias_row(nodes.schema)]), block_TM.cpu().numpy().T)


def _bias_row(schema: pa.Schema) -> pa.Table:
    """Return the row of all constants together."""
    return pa.Table.from_pylist([{"kind": "bias", "text": ""}], schema)


def _check_factor_memory(replacement: LocalReplacementModel, head: FrozenHead, memory: int | None) -> None:
    """Raise ResourceError if what nodes add to the query and to the key does not fit into memory."""
    features, place = replacement.features, head.place
    reaching = (features.layer_N < place.layer) & (features.position_N <= place.query)
    n_nodes = int(reaching.sum()) + (place.layer + 1) * (place.query + 1) + 1
    d_head = replacement.weights.architecture.d_head
    check_memory(
        2 * FACTOR_COPIES * d_head * n_nodes * replacement.read_scale_N.itemsize,
        spare_memory(memory, replacement.device),
        f"the score of {n_nodes:,} nodes on each side",
        "shorten the prompt, choose an earlier layer or query, or allow more with memory=",
    )
