"""Head loadings: which attention heads carry a direct edge.

A direct edge is a sum over paths through frozen attention heads, the residual stream and affine skips. Its loadings are the
parts of this sum whose paths pass a head last (nearest the target), pass it first (nearest the source), or pass it and no
other. Paths that pass no attention are the direct part (docs/heads.md).

One pass of the sources up the layers gives the parts by last head of all their edges, and one pass of the targets' gradients
down gives those by first head.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.tracing.replacement import LocalReplacementModel

from .edge_ends import Edges, EdgeSources, EdgeTargets

# Nodes x positions of a pass: large enough for matrix products at full speed.
BATCH_ROWS = {"cpu": 32768, "cuda": 131072}


class EdgeHeads(NamedTuple):
    """Head loadings of E edges: (E,) without attention, and (E, L, H) by last head, first head and only head."""

    direct_E: Tensor
    last_ELH: Tensor
    first_ELH: Tensor
    one_hop_ELH: Tensor

    def __repr__(self) -> str:
        return f"<EdgeHeads: {len(self.direct_E):,} edges>"


def edge_heads(replacement: LocalReplacementModel, edges: Edges) -> EdgeHeads:
    """Return the head loadings of edges. Direct part and loadings by last head, or by first head, add up to each edge."""
    parts = direct_parts(edges), last_heads(replacement, edges), first_heads(replacement, edges)
    return EdgeHeads(*parts, one_hop_heads(replacement, edges))


def direct_parts(edges: Edges) -> Tensor:
    """Return the part of each edge that passes no attention, (E,)."""
    sources, targets = edges.sources, edges.targets
    direct_E = targets.read_TD.new_zeros(len(edges))
    same_E = sources.position_S[edges.source_E] == targets.position_T[edges.target_E]
    for layer, stream_SD in enumerate(sources.before_attention):
        (edge_e,) = (same_E & (edges.highest_E == layer)).nonzero(as_tuple=True)
        read_eD = targets.read_TD[edges.target_E[edge_e]]
        direct_E[edge_e] = (stream_SD[edges.source_E[edge_e]] * read_eD).sum(-1)
    return direct_E


def last_heads(replacement: LocalReplacementModel, edges: Edges, step: Callable[[int], None] | None = None) -> Tensor:
    """Return the part of each edge that passes each head last, (E, L, H); `step` is called with numbers of sources."""
    loading_ELH, targets = _zeros(replacement, edges), edges.targets
    position_E = targets.position_T[edges.target_E]
    for source_S in _batches(edges.sources.position_S, edges.sources.layer_S, replacement):
        batch = _Upward(replacement, edges, source_S)
        for layer, mixed_HQSd in batch:
            edge_e = batch.edges_at(layer)
            target_e, place_e = edges.target_E[edge_e], (position_E[edge_e] - batch.first, batch.rank_E[edge_e])
            for head, mixed_QSd in enumerate(mixed_HQSd):
                read_Td = targets.after_attention[layer] @ replacement.attention[layer][1][head]
                loading_ELH[edge_e, layer, head] = (read_Td[target_e] * mixed_QSd[place_e]).sum(-1)
        if step is not None:
            step(len(source_S))
    return loading_ELH


def first_heads(replacement: LocalReplacementModel, edges: Edges) -> Tensor:
    """Return the part of each edge that passes each head first, (E, L, H)."""
    loading_ELH, sources = _zeros(replacement, edges), edges.sources
    position_E = sources.position_S[edges.source_E]
    for target_T in _batches(edges.targets.position_T, -edges.targets.layer_T, replacement):
        batch = _Downward(replacement, edges, target_T)
        for layer, mixed_HPTd in batch:
            edge_e = batch.edges_at(layer)
            source_e, place_e = edges.source_E[edge_e], (position_E[edge_e], batch.rank_E[edge_e])
            for head, mixed_PTd in enumerate(mixed_HPTd):
                written_Sd = sources.before_attention[layer] @ _value_map(replacement, layer, head).T
                loading_ELH[edge_e, layer, head] = (written_Sd[source_e] * mixed_PTd[place_e]).sum(-1)
    return loading_ELH


def one_hop_heads(replacement: LocalReplacementModel, edges: Edges) -> Tensor:
    """Return the part of each edge that passes each head and no other, (E, L, H)."""
    loading_ELH = _zeros(replacement, edges)
    sources, targets = edges.sources, edges.targets
    for layer in range(replacement.n_layers):
        edge_e = edges.passing(layer)
        source_e, target_e = edges.source_E[edge_e], edges.target_E[edge_e]
        pattern_HTP = replacement.patterns[layer].query_rows(targets.position_T, replacement.n_positions)
        for head, output_Dd in enumerate(replacement.attention[layer][1]):
            read_Td = targets.after_attention[layer] @ output_Dd
            written_Sd = sources.before_attention[layer] @ _value_map(replacement, layer, head).T
            seen_e = pattern_HTP[head, target_e, sources.position_S[source_e]]
            loading_ELH[edge_e, layer, head] = seen_e * (read_Td[target_e] * written_Sd[source_e]).sum(-1)
    return loading_ELH


class _Upward:
    """One pass of some sources up the layers, between their first position and the last one of their targets.

    Iteration yields each layer with what its heads move to every position, before their output maps, H times (Q, S, d).
    Sources join in the order of their layers. `rank_E` is the place of each edge's source in the batch, or -1.
    """

    def __init__(self, replacement: LocalReplacementModel, edges: Edges, source_S: Tensor):
        self.replacement, self.edges, self.source_S = replacement, edges, source_S
        self.sources: EdgeSources = edges.sources
        self.rank_E = _ranks(source_S, len(edges.sources))[edges.source_E]
        self._own_E = self.rank_E >= 0
        positions = edges.targets.position_T[edges.target_E[self._own_E]]
        self.first = int(self.sources.position_S[source_S].min())
        self.stop = int(positions.max()) + 1
        self.top = int(edges.highest_E[self._own_E].max())

    def edges_at(self, layer: int) -> Tensor:
        """Return the numbers of these sources' edges that can pass a layer's attention."""
        edge_e = self.edges.passing(layer)
        return edge_e[self._own_E[edge_e]]

    def __iter__(self) -> Iterator[tuple[int, list[Tensor]]]:
        replacement, width = self.replacement, self.replacement.embedding_PD.shape[1]
        stream_QSD = replacement.embedding_PD.new_zeros(self.stop - self.first, 0, width)
        for layer in range(min(self.top + 1, replacement.n_layers)):
            stream_QSD = self._with_written(layer - 1, stream_QSD)
            if stream_QSD.shape[1]:
                mixed_HQSd = self._mix(layer, stream_QSD)
                yield layer, mixed_HQSd
                self._through_layer(layer, stream_QSD, mixed_HQSd)

    def _with_written(self, layer: int, stream_QSD: Tensor) -> Tensor:
        """Return the streams after the sources' writes at an MLP output, with columns for new sources."""
        n_active = int((self.sources.layer_S[self.source_S] <= layer).sum())
        new = stream_QSD.new_zeros(len(stream_QSD), n_active - stream_QSD.shape[1], stream_QSD.shape[2])
        stream_QSD = torch.cat([stream_QSD, new], dim=1)
        active_s = self.source_S[:n_active]
        columns = torch.arange(n_active, device=active_s.device)
        stream_QSD[self.sources.position_S[active_s] - self.first, columns] += self.sources.written(layer)[active_s]
        return stream_QSD

    def _mix(self, layer: int, stream_QSD: Tensor) -> list[Tensor]:
        value_KdD, output_HDd = self.replacement.attention[layer]
        flat_RD, pattern = stream_QSD.flatten(0, 1), self.replacement.patterns[layer]
        values = [(flat_RD @ value_dD.T).view(len(stream_QSD), -1) for value_dD in value_KdD]
        mixed_HQE = [torch.zeros_like(values[0]) for _ in output_HDd]
        for head, mixed_QE in enumerate(mixed_HQE):
            pattern.add_forward(head, self.first, values[head * len(value_KdD) // len(output_HDd)], mixed_QE)
        return [mixed_QE.view(*stream_QSD.shape[:2], -1) for mixed_QE in mixed_HQE]

    def _through_layer(self, layer: int, stream_QSD: Tensor, mixed_HQSd: list[Tensor]) -> None:
        """Add the paths through a layer's attention and affine skip, in place."""
        replacement, flat_RD = self.replacement, stream_QSD.flatten(0, 1)
        for mixed_QSd, output_Dd in zip(mixed_HQSd, replacement.attention[layer][1], strict=True):
            flat_RD.addmm_(mixed_QSd.flatten(0, 1), output_Dd.T)
        back_DD = replacement.skip_back[layer]
        if back_DD is not None:
            scale_Q = replacement.mlp_in_rms_LP[layer, self.first : self.stop]
            stream_QSD.addcmul_((flat_RD @ back_DD.T).view_as(stream_QSD), scale_Q[:, None, None])


class _Downward:
    """One pass of the gradients of some targets down the layers, as in tracing/sweep.py, with the heads kept apart.

    Iteration yields each layer with the gradients that its heads move to every position, before their value maps, H times
    (P, T, d). Targets join in the order of their layers, from the last. `rank_E` is the place of each edge's target in the
    batch, or -1.
    """

    def __init__(self, replacement: LocalReplacementModel, edges: Edges, target_T: Tensor):
        self.replacement, self.edges, self.target_T = replacement, edges, target_T
        self.targets: EdgeTargets = edges.targets
        self.rank_E = _ranks(target_T, len(edges.targets))[edges.target_E]
        self._own_E = self.rank_E >= 0
        self.n_positions = int(self.targets.position_T[target_T].max()) + 1
        self.bottom = int(edges.lowest_E[self._own_E].min()) + 1

    def edges_at(self, layer: int) -> Tensor:
        """Return the numbers of these targets' edges that can pass a layer's attention."""
        edge_e = self.edges.passing(layer)
        return edge_e[self._own_E[edge_e]]

    def __iter__(self) -> Iterator[tuple[int, list[Tensor]]]:
        replacement, n_layers = self.replacement, self.replacement.n_layers
        grad_PTD = replacement.embedding_PD.new_zeros(self.n_positions, 0, replacement.embedding_PD.shape[1])
        for layer in reversed(range(self.bottom, n_layers)):
            if layer == n_layers - 1:
                grad_PTD = self._with_reads(n_layers, grad_PTD)
            self._through_skip(layer, grad_PTD)
            grad_PTD = self._with_reads(layer, grad_PTD)
            if grad_PTD.shape[1]:
                mixed_HPTd = self._mix(layer, grad_PTD)
                yield layer, mixed_HPTd
                self._through_attention(layer, grad_PTD, mixed_HPTd)

    def _with_reads(self, layer: int, grad_PTD: Tensor) -> Tensor:
        """Return the gradients with those of the targets that read before a layer's MLP."""
        n_active = int((self.targets.layer_T[self.target_T] >= layer).sum())
        n_before = grad_PTD.shape[1]
        new = grad_PTD.new_zeros(len(grad_PTD), n_active - n_before, grad_PTD.shape[2])
        joining_t = self.target_T[n_before:n_active]
        new[self.targets.position_T[joining_t], torch.arange(len(joining_t), device=joining_t.device)] = (
            self.targets.read_TD[joining_t]
        )
        return torch.cat([grad_PTD, new], dim=1)

    def _through_skip(self, layer: int, grad_PTD: Tensor) -> None:
        back_DD = self.replacement.skip_back[layer]
        if back_DD is not None:
            scale_P = self.replacement.mlp_in_rms_LP[layer, : self.n_positions]
            grad_PTD.addcmul_((grad_PTD.flatten(0, 1) @ back_DD).view_as(grad_PTD), scale_P[:, None, None])

    def _mix(self, layer: int, grad_PTD: Tensor) -> list[Tensor]:
        pattern, flat_RD = self.replacement.patterns[layer], grad_PTD.flatten(0, 1)
        mixed = []
        for head, output_Dd in enumerate(self.replacement.attention[layer][1]):
            head_PE = (flat_RD @ output_Dd).view(self.n_positions, -1)
            mixed.append(torch.zeros_like(head_PE))
            pattern.add_backward(head, head_PE, mixed[-1])
        return [mixed_PE.view(*grad_PTD.shape[:2], -1) for mixed_PE in mixed]

    def _through_attention(self, layer: int, grad_PTD: Tensor, mixed_HPTd: list[Tensor]) -> None:
        flat_RD = grad_PTD.flatten(0, 1)
        for head, mixed_PTd in enumerate(mixed_HPTd):
            flat_RD.addmm_(mixed_PTd.flatten(0, 1), _value_map(self.replacement, layer, head))


def _value_map(replacement: LocalReplacementModel, layer: int, head: int) -> Tensor:
    """Return the value map (d, D) of a head, which several heads may share."""
    value_KdD, output_HDd = replacement.attention[layer]
    return value_KdD[head * len(value_KdD) // len(output_HDd)]


def _zeros(replacement: LocalReplacementModel, edges: Edges) -> Tensor:
    n_heads = len(replacement.attention[0][1])
    return replacement.embedding_PD.new_zeros(len(edges), replacement.n_layers, n_heads)


def _batches(position_S: Tensor, layer_S: Tensor, replacement: LocalReplacementModel) -> Iterator[Tensor]:
    """Yield the numbers of nodes in batches of near positions, each in the order of `layer_S`."""
    order_S = torch.argsort(position_S, stable=True)
    size = max(1, BATCH_ROWS[replacement.device.type] // replacement.n_positions)
    for numbers_S in order_S.split(size):
        yield numbers_S[torch.argsort(layer_S[numbers_S], stable=True)]


def _ranks(numbers_S: Tensor, n: int) -> Tensor:
    """Return the place of each of n nodes in a batch, (n,); -1 for those that are not in it."""
    ranks = numbers_S.new_full((n,), -1)
    ranks[numbers_S] = torch.arange(len(numbers_S), device=numbers_S.device)
    return ranks
