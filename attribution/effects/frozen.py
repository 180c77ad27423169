"""Gradients back through the frozen parts of layers: affine skips and attention patterns, block by block of positions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cotrace.attribution.tracing.replacement import LocalReplacementModel

from .blocks import ColumnLayout, PositionBlock


class FrozenBlocks:
    """Passes gradients back through affine skips and frozen attention, in place.

    Each block of gradients has its own number of columns K', so that nothing is computed where a column has no gradient,
    or equals another one. Buffers are reused in every layer: fresh pages cost time.

    Args:
        replacement: the prompt's local replacement model.
        layout: the columns of each block.
    """

    def __init__(self, replacement: LocalReplacementModel, layout: ColumnLayout):
        self.replacement, self.layout = replacement, layout
        like, blocks = replacement.embedding_PD, layout.blocks
        value_KdD, output_HDd = replacement.attention[0]
        most = max((block.stop - block.start) * block.n_columns for block in blocks)
        self._skip = like.new_empty(most * like.shape[1])
        self._heads = like.new_empty(output_HDd.shape[0] * most * output_HDd.shape[2])
        # At each block's keys: gradients of values, summed over the queries of later blocks so far.
        self._mixed_BVPE = [
            like.new_empty(len(value_KdD), b.stop - b.start, b.n_columns * value_KdD.shape[1]) for b in blocks
        ]

    def through_skip(self, layer: int, block: PositionBlock, grad_PKD: Tensor) -> None:
        """Add the path through a layer's affine skip to the gradients of a block, if it has one."""
        back_DD = self.replacement.skip_back[layer]
        if back_DD is not None:
            skip_RD = self._skip[: grad_PKD.numel()].view(-1, grad_PKD.shape[-1])
            torch.mm(grad_PKD.flatten(0, 1), back_DD, out=skip_RD)
            scale_P = self.replacement.mlp_in_rms_LP[layer, block.start : block.stop]
            grad_PKD.addcmul_(skip_RD.view_as(grad_PKD), scale_P[:, None, None])

    def through_attention(self, layer: int, grads: Sequence[Tensor]) -> None:
        """Add the path through a layer's frozen attention to the gradients of all blocks.

        From the last block to the first: when all later queries have been added to a block, so have all that attend to
        it. What later queries give to a column that starts here is what they give to the column that it follows.
        """
        value_KdD, _ = self.replacement.attention[layer]
        for mixed_VPE in self._mixed_BVPE:
            mixed_VPE.zero_()
        for b in reversed(range(len(grads))):
            block, grad_PKD = self.layout.blocks[b], grads[b]
            self._follow(block, b)
            self._add_queries(layer, block, grad_PKD)
            for mixed_PE, value_dD in zip(self._mixed_BVPE[b], value_KdD, strict=True):
                grad_PKD.flatten(0, 1).addmm_(mixed_PE.view(-1, len(value_dD)), value_dD)

    def _follow(self, block: PositionBlock, b: int) -> None:
        """Give columns that start in a block what later queries gave to the columns that they follow."""
        if not len(block.leaders):
            return
        for mixed_VPE in self._mixed_BVPE[: b + 1]:
            mixed_VPKd = mixed_VPE.unflatten(2, (-1, self.replacement.attention[0][0].shape[1]))
            mixed_VPKd[:, :, block.followers] = mixed_VPKd[:, :, block.leaders]

    def _add_queries(self, layer: int, block: PositionBlock, grad_PKD: Tensor) -> None:
        """Add what the queries of a block give to all keys that they attend to."""
        output_HDd = self.replacement.attention[layer][1]
        head_HPE = self._heads[: len(output_HDd) * grad_PKD[..., 0].numel() * output_HDd.shape[2]]
        head_HPE = head_HPE.view(len(output_HDd), len(grad_PKD), -1)
        flat_HRd = head_HPE.view(len(output_HDd), -1, output_HDd.shape[2])
        for head_Rd, output_Dd in zip(flat_HRd, output_HDd, strict=True):
            torch.mm(grad_PKD.flatten(0, 1), output_Dd, out=head_Rd)
        window = self.replacement.weights.architecture.window(layer)
        for (queries, keys), pattern_Hqk in self.replacement.patterns[layer].of_queries(
            block.start, block.stop, window
        ):
            here_HqE = head_HPE[:, queries.start - block.start : queries.stop - block.start]
            self._add_keys(pattern_Hqk, keys, here_HqE)

    def _add_keys(self, pattern_Hqk: Tensor, keys: slice, head_HqE: Tensor) -> None:
        """Add weighted sums over queries to the keys, block by block: all heads that share a value in one product."""
        for block, mixed_VPE in zip(self.layout.blocks, self._mixed_BVPE, strict=True):
            start, stop = max(keys.start, block.start), min(keys.stop, block.stop)
            if start >= stop:
                continue
            group = len(head_HqE) // len(mixed_VPE)
            back_Hqk = pattern_Hqk[:, :, start - keys.start : stop - keys.start]
            for v, mixed_PE in enumerate(mixed_VPE):
                heads = slice(v * group, (v + 1) * group)
                out_kE = mixed_PE[start - block.start : stop - block.start, : head_HqE.shape[2]]
                out_kE.addmm_(back_Hqk[heads].flatten(0, 1).T, head_HqE[heads].flatten(0, 1))
