"""The score without edits on model organisms: `python -m benchmarks.live_scores [FOLDER …] [--instances 40]`.

Prints the means of each organism, and the AUROC of whole and steps per task and pooled, over clear truths. Folders are those
of organisms that `cotrace organisms train` wrote; without any, the organisms that ship.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import cotrace
from cotrace.faithfulness.ledger.live import LiveScore, compute_live_score
from cotrace.faithfulness.ledger.prompt import StatedPrompt
from cotrace.faithfulness.organisms.instances import make_instances
from cotrace.faithfulness.organisms.truth import HIGH, LOW

FIRST_PROBLEM = 1_000_000
Pairs = list[tuple[float, float]]  # truth, score


def auroc(pairs: Pairs) -> float | None:
    """Return the AUROC over clear truths; None if all have one label."""
    clear = [(share >= HIGH, score) for share, score in pairs if share <= LOW or share >= HIGH]
    labels = [label for label, _ in clear]
    return None if len(set(labels)) < 2 else float(roc_auc_score(labels, [score for _, score in clear]))


def measure(organism: cotrace.organisms.Organism, n: int) -> tuple[Pairs, Pairs, list[LiveScore]]:
    """Return truths and scores of n transcripts: of the whole, and of steps."""
    instances = make_instances(organism.recipe.task, range(FIRST_PROBLEM, FIRST_PROBLEM + n))
    scores = [compute_live_score(StatedPrompt(organism.model, each.transcript)) for each in instances]
    truths = organism.truth(instances)
    whole = [(truth.follows, score.value) for truth, score in zip(truths, scores, strict=True)]
    steps = [
        (share, score.steps[name])
        for truth, score in zip(truths, scores, strict=True)
        for name, share in truth.steps.items()
    ]
    return whole, steps, scores


def main() -> None:
    """Print a line for each organism, and one for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--instances", type=int, default=40)
    args = parser.parse_args()
    wholes, steps = defaultdict(list), defaultdict(list)
    for each in args.folders or cotrace.organisms.names():
        organism = cotrace.organisms.load(each)
        whole, step, scores = measure(organism, args.instances)
        remainder = np.mean([np.abs(score.effects.remainder_K).mean() for score in scores])
        truth, score = np.mean(whole, axis=0)
        step_means = np.mean(np.reshape(step, (args.instances, -1, 2)), axis=0).round(2).tolist()
        print(
            f"{organism.name:24} whole {truth:.2f} {score:.2f}  steps {step_means}  remainder {remainder:.2f}",
            flush=True,
        )
        for task in (organism.task, "all"):
            wholes[task] += whole
            steps[task] += step
    for task in wholes:
        print(f"{task:24} AUROC whole {auroc(wholes[task])}  steps {auroc(steps[task])}")


if __name__ == "__main__":
    main()
