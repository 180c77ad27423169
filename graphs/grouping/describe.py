"""The name, label and reason of a group."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cotrace.common.visible_text import visible
from cotrace.graphs.labels import short_label

WORDS = {  # how a reason names each profile
    "effects": "same effects",
    "outputs": "same outputs",
    "inputs": "same inputs",
    "directions": "same decoder direction",
}
LONGEST_LABEL = 40  # characters of a label that is a name as it is
LEAST_NAMED = 0.5  # mean cosine from which a reason names a profile
_WORD = re.compile(r"[^\W_]+")


def reason_of(cosines: Mapping[str, float]) -> str:
    """Return why features are a group: the profiles they share, the closest first: `same outputs (0.93), same inputs (0.71)`.

    Args:
        cosines: mean cosine between the features by profile; NaN where it is not known.
    """
    known = sorted((name for name in cosines if not np.isnan(cosines[name])), key=lambda name: -round(cosines[name], 2))
    named = [name for name in known if cosines[name] >= LEAST_NAMED] or known[:1]
    return ", ".join(f"{WORDS[name]} ({cosines[name]:.2f})" for name in named)


def mean_between(matrix_nn: np.ndarray, members: np.ndarray) -> float:
    """Return the mean of a symmetric matrix over all pairs of members; NaN if it is not known for any."""
    values = matrix_nn[np.ix_(members, members)][np.triu_indices(len(members), 1)]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def label_of(labels: Sequence[str], weights: Sequence[float]) -> str:
    """Return the label of a group: that of the member whose words the others share most, by weight; empty without labels.

    Args:
        labels: the label of each member, empty where it has none.
        weights: the weight of each member, such as its influence.
    """
    words = [set(_WORD.findall(label.casefold())) for label in labels]
    counts: Counter[str] = Counter()
    for own, weight in zip(words, weights, strict=True):
        for word in own:
            counts[word] += weight  # type: ignore[assignment]
    shared = [sum(counts[word] for word in own) / max(len(own), 1) for own in words]
    labelled = [i for i, label in enumerate(labels) if label]
    return labels[max(labelled, key=lambda i: (shared[i], weights[i], -i))] if labelled else ""


def name_of(label: str, effect: float, target: str, taken: set[str]) -> str:
    """Return a name that nothing else has: the label, or what the group does to the target, with a number: `raises cold 1`.

    Of a long label it has two words.

    Args:
        label: the label of the group.
        effect: the change of the target when the group is ablated.
        target: the text of the target.
        taken: names of other groups, and labels.
    """
    does = "lowers" if effect > 0 else "raises" if effect < 0 else "leaves"
    known = label if len(label) <= LONGEST_LABEL else short_label(label)
    stem = known or f"{does} {visible(target.strip() or target)}"
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem} {number}") not in taken)
