"""Active features of one layer: what encode returns and decode takes."""

from typing import NamedTuple

from torch import Tensor


class Active(NamedTuple):
    """Active features of one layer, sorted by position, from encode by (position, feature). n entries."""

    position_n: Tensor  # int64
    feature_n: Tensor  # int64
    activation_n: Tensor
    pre_activation_n: Tensor
