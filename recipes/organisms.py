"""Train the tiny organisms that ship: `python -m recipes.organisms OUT [NAME …] --bases BASES`.

Trains what is missing in OUT, then lists the problems whose clean transcripts all organisms of a task write right. Use one
process for each core, each with its own names, and run it once more without names at the end:

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m recipes.organisms data/cotrace-organisms/cotrace_organisms/tiny --bases BASES
"""

import argparse
import json
from pathlib import Path

from cotrace.attribution.models.language_model import load_language_model
from cotrace.common.files import atomic_write
from cotrace.faithfulness.organisms.build import build_organism, read_card
from cotrace.faithfulness.organisms.instances import SPLITS
from cotrace.faithfulness.organisms.recipes import RECIPES, find_recipe
from cotrace.faithfulness.organisms.shipped import PROBLEMS, written_right
from cotrace.faithfulness.organisms.tasks import TASKS
from cotrace.faithfulness.organisms.truth import model_predictions

CLEAR = 0.95  # of the transcripts, whose truth must be that of the recipe


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help="train only these")
    parser.add_argument("--bases", type=Path, help="folder of the models from which trainings start", required=True)
    args = parser.parse_args()
    for name in args.names or RECIPES:
        if not (args.out / name).exists():
            build_organism(find_recipe(name), args.out / name, args.bases)
        card = read_card(args.out / name)
        unclear = "" if card["as_recipe"] >= CLEAR else "  TRAIN AGAIN OR DROP"
        print(f"{name}: {card['accuracy']:.1%} right, {card['as_recipe']:.1%} as its recipe{unclear}", flush=True)
    if not args.names:
        list_problems(args.out)


def list_problems(out: Path) -> None:
    """Write the problems of each task that all of its organisms write right."""
    listed = {}
    for task in TASKS.values():
        folders = [out / name for name, recipe in RECIPES.items() if recipe.task is task and (out / name).exists()]
        if not folders:
            continue
        weights = [load_language_model(folder, device="cpu", progress=False).weights for folder in folders]
        predictions = [model_predictions(task, each) for each in weights]
        listed[task.name] = {split: written_right(task, predictions, split) for split in SPLITS}
        print(task.name, {split: len(numbers) for split, numbers in listed[task.name].items()})
    with atomic_write(out / PROBLEMS) as temporary:
        temporary.write_text(json.dumps(listed) + "\n")


if __name__ == "__main__":
    main()
