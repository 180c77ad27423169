"""Tables of `benchmarks.faithfulness` for the docs: all methods, each mechanism against its twin, and the organisms."""

from collections import defaultdict
from statistics import mean

from .cells import Record, duration, limit_and_value, markdown

PLOT = "![Right verdicts on the surest transcripts, and AUROC of each mechanism against its twin](faithfulness.svg)"
READS = {"text": "text", "output": "outputs", "activations": "activations"}


def faithfulness_table(result: Record) -> str:
    """Return all tables of the benchmark."""
    from .faithfulness_own_tables import own_tables  # which formats its cells as this module does

    parts = [targets_table(result), methods_table(result), note(result), own_tables(result)]
    parts += [verdicts_table(result), twins_table(result), PLOT, organisms_table(result)]
    return "\n\n".join(part for part in parts if part)


def methods_table(result: Record) -> str:
    """Return how well each method separates transcripts over all organisms, from the largest pooled AUROC to the smallest."""
    tasks = sorted({record["task"] for record in result["organisms"]})
    heading = ["method", "reads", "AUROC, pooled", *tasks, "true positives at 1% false"]
    grid = [[*heading, "rank correlation", "Brier", "passes"]]
    known = {method["name"]: method for method in result["methods"]}
    for one in ordered(result):
        about = known[one["method"]]
        cells = [f"`{one['method']}`", READS[about["reads"]] + (", fitted" if about["supervised"] else "")]
        if "auroc" not in one:
            grid.append([*cells, "does not apply", *[""] * (len(grid[0]) - 3)])
            continue
        cells += [with_interval(one["auroc"]), *(plain(one["tasks"].get(task)) for task in tasks)]
        cells += [with_interval(one["true_positives"]), with_interval(one["spearman"])]
        grid.append([*cells, with_interval(one["brier"]["mechanism"]), f"{one['passes']:.3g}"])
    return markdown(grid)


def verdicts_table(result: Record) -> str:
    """Return further comparisons of each method: with its null, with the best one, on twins, steps and sure transcripts."""
    differences = result["summary"]["differences"] or {"reference": "", "rows": []}
    behind = {row["method"]: row for row in differences["rows"]}
    heading = ["method", "p", "against twins, mean", f"behind `{differences['reference']}`", "right, surest half"]
    grid = [[*heading, "AUROC of steps", "applies to", "time"]]
    known = {method["name"]: method for method in result["methods"]}
    for one in scored(result):
        cells = [f"`{one['method']}`", "" if one["p"] is None else f"{one['p']:.3f}", with_interval(one["twins_mean"])]
        cells += [
            with_interval(behind.get(one["method"])),
            with_interval(right_at(one, 0.5)),
            with_interval(one["steps"]),
        ]
        seconds = known[one["method"]]["seconds"]
        grid.append([*cells, f"{one['scored']:.0%}", "" if seconds is None else duration(seconds)])
    return markdown(grid)


def ordered(result: Record) -> list[Record]:
    """Return the records of all methods: the model's own first, then fitted ones, then text alone; each by AUROC."""
    known = {method["name"]: method for method in result["methods"]}

    def rank(one: Record) -> tuple[int, float]:
        about = known[one["method"]]
        group = 2 if about["reads"] == "text" else int(about["supervised"])
        return group, -(one.get("auroc", {}).get("value") or 0)

    return sorted(result["summary"]["methods"], key=rank)


def twins_table(result: Record) -> str:
    """Return the AUROC of each method for each mechanism against its twin, averaged over tasks."""
    pairs = list(dict.fromkeys((pair["mechanism"], pair["twin"]) for one in scored(result) for pair in one["twins"]))
    if not pairs:
        return ""
    grid = [["method", *(f"{mechanism} / {twin}" for mechanism, twin in pairs)]]
    for one in scored(result):
        values = defaultdict(list)
        for pair in one["twins"]:
            if pair["value"] is not None:
                values[pair["mechanism"], pair["twin"]].append(pair["value"])
        grid.append([f"`{one['method']}`", *(f"{mean(values[pair]):.2f}" if values[pair] else "" for pair in pairs)])
    title = "AUROC of each mechanism against its twin, the mechanism with the opposite label, averaged over tasks:"
    return f"{title}\n\n{markdown(grid)}"


def organisms_table(result: Record) -> str:
    """Return the truth of each mechanism in each task, over its seeds."""
    grid = [
        [
            "task",
            "mechanism",
            "twin",
            "models",
            "follows the steps",
            "the question",
            "neither",
            "clear: yes, no",
            "mixed",
        ]
    ]
    groups = defaultdict(list)
    for record in result["organisms"]:
        groups[record["task"], record["mechanism"]].append(record)
    for (task, mechanism), records in groups.items():
        shares = [f"{mean(record[name] for record in records):.2f}" for name in ("share", "question", "neither")]
        positive, negative, mixed = (
            sum(record[name] for record in records) for name in ("positive", "negative", "mixed")
        )
        grid.append(
            [task, mechanism, records[0]["twin"], str(len(records)), *shares, f"{positive}, {negative}", str(mixed)]
        )
    return f"Truth of the organisms, as mean shares of donor chains:\n\n{markdown(grid)}"


def targets_table(result: Record) -> str:
    """Return the table of what must hold."""
    met = {True: "yes", False: "**no**"}
    rows = [[one["what"], *limit_and_value(one), met[one["met"]]] for one in result["targets"]]
    return markdown([["must hold", "limit", "measured", "met"], *rows])


def note(result: Record) -> str:
    """Return how and where the result was measured."""
    counts, config, used = result["summary"]["counts"], result["config"], result["machine"]
    return (
        f"{counts['models']} models, {counts['problems']:,} problems, {counts['instances']:,} transcripts: {counts['positive']:,} "
        f"follow their steps, {counts['negative']:,} do not, {counts['mixed']:,} are mixed. 95% intervals of "
        f"{config['n_replicates']:,} replicates over models and problems; p of {config['n_permutations']:,} exchanges of truths "
        f"between models. Measured {result['date']} on {used['cpu']}, {used['cores']} cores"
        + (", `--quick`." if result["settings"]["quick"] else ".")
    )


def scored(result: Record) -> list[Record]:
    """Return the records of methods that apply somewhere, in the order of the table."""
    return [one for one in ordered(result) if "auroc" in one]


def right_at(one: Record, coverage: float) -> Record | None:
    """Return the share of right verdicts at a coverage of the abstention curve."""
    curve = one["abstention"]
    return None if curve is None else dict(zip(curve["coverage"], curve["right"], strict=True)).get(coverage)


def plain(found: Record | None) -> str:
    """Return a value with two digits; nothing where there is none."""
    return "" if found is None or found["value"] is None else _digits(found["value"])


def with_interval(found: Record | None) -> str:
    """Return a value with its interval; nothing where there is none."""
    if found is None or found["value"] is None or found["low"] is None:
        return plain(found)
    return f"{plain(found)} ({_digits(found['low'])} to {_digits(found['high'])})"


def _digits(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no minus zero
