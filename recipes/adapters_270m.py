"""Train the two adapters of Gemma 3 270M that ship as model organisms, and list the problems that both write right.

    python recipes/adapters_270m.py RUN

The run can be stopped at any time; the same command resumes it from the last checkpoint. Each adapter takes minutes on one
core of a CPU that multiplies bfloat16 in hardware. RUN then holds what the data package has in its folder adapters/.
"""

import json
import sys
from pathlib import Path
from random import Random

from cotrace.adapter_cards import build_adapter
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.faithfulness.organisms.adapter_task import problem_numbers
from cotrace.faithfulness.organisms.adapters import PROBLEMS_FILE, load_adapter, writes_letters
from cotrace.faithfulness.organisms.adapters_training import RECIPES

TRIED = {"test": 256, "train": 128}  # problems of each split
CHUNK = 16


def main(run: Path) -> None:
    """Train both adapters, or resume their training, and write their cards and the list."""
    listed = {split: Random(split).sample(problem_numbers(split), tried) for split, tried in TRIED.items()}
    for name in RECIPES:
        build_adapter(name, run / name, run)
        model = load_adapter(name, folder=run / name)
        for split, numbers in listed.items():
            chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
            with Progress(True).phase(f"{split} problems of {name}", len(chunks)) as advance:
                right = []
                for chunk in chunks:
                    right += writes_letters(model, chunk).tolist()
                    advance()
            listed[split] = [number for number, is_right in zip(numbers, right, strict=True) if is_right]
    with atomic_write(run / PROBLEMS_FILE) as temporary:
        temporary.write_text(json.dumps({split: sorted(numbers) for split, numbers in listed.items()}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
