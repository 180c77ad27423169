"""Count how many of the strongest features of everyday prompts have an automatic label.

    python -m benchmarks.labels [--features STORE] [--out FILE]

For each prompt the 100 features with the largest expected effect on the likeliest next tokens are looked up: their mean size over the
targets, as `Model.effects` computes it in the live model. Labels are made again from the store. As a check the labels of a layer are
exchanged between its features at random and scored in the same way: about 5% of these should be kept, those that happen to fit.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import cotrace
from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
from cotrace.common.versions import package_versions
from cotrace.features.store.labels import LabelTest
from cotrace.features.store.relations import Relation

from .cells import Record, markdown
from .measure import machine

RESULT = Path(__file__).parent / "results" / "labels.json"
STRONGEST = 100
SHOWN = 5  # labels of a prompt in the result file
# The rules of labels were chosen with the everyday prompts in view; these were first used when they were fixed.
OTHER_PROMPTS = (
    "The doctor told the patient to take two",
    "Water is made of hydrogen and",
    "The president signed the law on the",
    "import numpy as",
    "My sister and I are going to visit our",
    "A year has twelve",
    "The king and the",
    "Please close the window, because it is",
    "The ship sailed across the",
    "He could not sleep, so he got up and",
)


def strongest_features(model: cotrace.Model, prompt: str, n: int = STRONGEST) -> list[tuple[int, int]]:
    """Return the layer and number of the n features with the largest expected effects on the next tokens, each once."""
    effects = model.effects(prompt, freeze="none", progress=False)
    size_M = np.abs(effects.effect_KM).mean(axis=0)
    rows = effects.nodes.select(["kind", "layer", "feature"]).to_pylist()
    found: dict[tuple[int, int], None] = {}
    for node in np.argsort(-size_M, kind="stable"):
        if rows[node]["kind"] == "feature":
            found[rows[node]["layer"], rows[node]["feature"]] = None
        if len(found) == n:
            break
    return list(found)


def measure_labels(store: cotrace.FeatureStore, strongest: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """Return the shares of features with a label: of each prompt's strongest, of all, and with exchanged labels."""
    test = LabelTest(store)
    scored = {layer: test.score(layer) for layer in store.layers}
    exchanged = [test.score(layer, exchanged=True) for layer in store.layers]
    kinds: Counter[str] = Counter()
    for labels in scored.values():
        kinds.update(Relation(code).name.lower() for code in labels.candidates.relation[labels.kept])
    cases = []
    for prompt, features in strongest.items():
        labels = [scored[layer].label(test.text, feature) for layer, feature in features]
        shown = [
            f"L{layer}#{feature} {label.text}"
            for (layer, feature), label in zip(features, labels, strict=True)
            if label is not None
        ]
        share = sum(label is not None for label in labels) / len(labels)
        others = prompt in OTHER_PROMPTS
        cases.append(
            {"prompt": prompt, "others": others, "features": len(labels), "labelled": share, "labels": shown[:SHOWN]}
        )
    return {
        "labelled": _mean(case["labelled"] for case in cases if not case["others"]),
        "labelled_others": _mean(case["labelled"] for case in cases if case["others"]),
        "labelled_all": _share([labels.kept for labels in scored.values()]),
        "labelled_exchanged": _share([labels.kept[labels.score > 0] for labels in exchanged]),
        "kinds": dict(kinds.most_common()),
        "cases": cases,
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _share(kept: list[np.ndarray]) -> float:
    return float(np.concatenate(kept).mean())


def labels_table(result: Record) -> str:
    """Return the table of `benchmarks.labels`: shares of features with a label."""
    grid = [["prompt", f"of the {STRONGEST} strongest features with a label", "some of the labels"]]
    for case in result["cases"]:
        shown = ", ".join(f"`{label}`" for label in case["labels"])
        grid.append([case["prompt"], f"{case['labelled']:.0%}", shown.replace("|", "\\|")])
    tokens = result["settings"]["tokens"]
    note = (
        f"Mean of the first ten prompts, with which the rules were chosen, {result['labelled']:.0%}; of the other ten "
        f"{result['labelled_others']:.0%}; of all features {result['labelled_all']:.0%}. Of labels that are exchanged between the "
        f"features of a layer, {result['labelled_exchanged']:.1%} pass. Measured {result['date']} with "
        f"`{result['settings']['transcoders']}` on a store of {tokens:,} tokens."
    )
    return f"{markdown(grid)}\n\n{note}"


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, help="a feature store; by default the one that comes with cotrace")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    model = cotrace.load("gemma-3-270m", device="cpu", features=args.features)
    store = model.features
    strongest = {prompt: strongest_features(model, prompt) for prompt in (*EVERYDAY_PROMPTS, *OTHER_PROMPTS)}
    settings = {"model": "gemma-3-270m", "transcoders": store.name, "tokens": store.info["tokens"]}
    head = {"benchmark": "labels", "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    result = {**head, "versions": package_versions(), "settings": settings, **measure_labels(store, strongest)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{result['labelled']:.1%} of the strongest features have a label, {result['labelled_others']:.1%} on other prompts, "
        f"{result['labelled_exchanged']:.1%} exchanged"
    )


if __name__ == "__main__":
    main()
