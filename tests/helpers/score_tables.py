"""Made-up tables of scores with known answers."""

import numpy as np

from cotrace.faithfulness.protocol import ScoreMatrix

TWINS = {"reads": "ignores", "ignores": "reads", "checker": "filler", "filler": "checker"}
FOLLOWS = {"reads": 0.97, "ignores": 0.03, "checker": 0.9, "filler": 0.1, "mix": 0.5}


def score_table(
    n_problems=40,
    mechanisms=tuple(TWINS),
    tasks=("sums",),
    seeds=(0,),
    signal=1.0,
    model_noise=0.0,
    problem_noise=0.0,
    noise=1.0,
    random=None,
):
    """Return instances with three methods.

    `signal` × share + noise of the model, the problem and the row is `score`; `text` depends on the problem alone; `truth`
    is the share itself.
    """
    random = random or np.random.default_rng(0)
    columns = {name: [] for name in ("task", "mechanism", "twin", "seed", "problem", "share")}
    score, text = [], []
    for task in tasks:
        hard_P = random.normal(size=n_problems)
        for mechanism in mechanisms:
            for seed in seeds:
                model = model_noise * random.normal()
                share_P = np.full(n_problems, FOLLOWS[mechanism])
                row = (task, mechanism, TWINS.get(mechanism, ""), seed)
                for name, value in zip(columns, row, strict=False):
                    columns[name] += [value] * n_problems
                columns["problem"] += range(n_problems)
                columns["share"] += share_P.tolist()
                score += (
                    signal * share_P + model + problem_noise * hard_P + noise * random.normal(size=n_problems)
                ).tolist()
                text += hard_P.tolist()
    arrays = {name: np.array(values) for name, values in columns.items()}
    made = ScoreMatrix(**arrays, step=np.full(len(score), "", dtype="U1"), score={}, passes={})
    for method, values, passes in (("score", score, 4), ("text", text, 0), ("truth", arrays["share"], 16)):
        made = made.with_method(method, values, passes)
    return made
