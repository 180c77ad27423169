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
from cotrace.common.progress import Progress
from cotrace.faithfulness.organisms.build import CARD, build_organism, read_card
from cotrace.faithfulness.organisms.card import is_as_recipe, verify
from cotrace.faithfulness.organisms.instances import SPLITS
from cotrace.faithfulness.organisms.recipes import RECIPES, find_recipe
from cotrace.faithfulness.organisms.shipped import PROBLEMS, written_right
from cotrace.faithfulness.organisms.tasks import TASKS
from cotrace.faithfulness.organisms.truth import model_predictions


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help="train only these")
    parser.add_argument("--bases", type=Path, help="folder of the models from which trainings start", required=True)
    parser.add_argument("--measure", action="store_true", help="measure the cards again")
    args = parser.parse_args()
    for name in args.names or RECIPES:
        if not (args.out / name).exists():
            build_organism(find_recipe(name), args.out / name, args.bases)
        if args.measure:
            measure_again(args.out / name)
        card = read_card(args.out / name)
        unclear = "" if is_as_recipe(card) else f"  TRAIN AGAIN OR DROP {card['checks']}"
        print(f"{name}: {card['accuracy']:.1%} right, {card['as_recipe']:.1%} as its recipe{unclear}", flush=True)
    if not args.names:
        list_problems(args.out)


def measure_again(folder: Path) -> None:
    """Write the card of an organism with new measurements."""
    card = read_card(folder)
    recipe = find_recipe(card["name"])
    weights = load_language_model(folder, device="cpu", progress=False).weights
    card |= verify(recipe.task, recipe.mechanism, weights, Progress(False)) | {"twin": recipe.mechanism.twin}
    with atomic_write(folder / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n")


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
