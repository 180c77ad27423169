"""Types of the arguments that several public functions take."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cotrace.faithfulness.transcripts import Transcript
from cotrace.graphs.nodes import Feature

# A text, token ids, a chat (a list of {"role": …, "content": …}), or a transcript.
PromptLike = str | Sequence[int] | Sequence[Mapping[str, str]] | Tensor | np.ndarray[Any, Any] | Transcript

# A token by text or id, the difference of two tokens, a feature, or a direction (D,).
TargetLike = str | int | tuple[str | int, str | int] | Feature | Tensor | np.ndarray[Any, Any]

# Targets read at the positions of `position=`, or a mapping from positions to targets.
TargetsLike = Sequence[TargetLike] | Mapping[int, Sequence[TargetLike]] | Literal["next"] | None
