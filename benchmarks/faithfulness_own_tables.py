"""Tables of our methods for the docs: groups of mechanisms, each mechanism against its twin, verdicts, and mirrors."""

from collections import Counter

from .cells import Record, markdown
from .faithfulness_own import OWN
from .faithfulness_own_summary import NONE, PARTS, QUICK, holds, is_expected
from .faithfulness_tables import plain, with_interval


def own_tables(result: Record) -> str:
    """Return the tables of our methods; nothing where they were not run."""
    own = result.get("own")
    if own is None:
        return ""
    parts = [groups_table(own), pairs_table(own), verdicts_table(own), counts_table(own), mirrors_table(own)]
    return "\n\n".join(part for part in parts if part)


def groups_table(own: Record) -> str:
    """Return the AUROC of our methods over each group of mechanisms."""
    methods = [name for name in OWN if any(one["method"] == name for one in own["groups"])]
    if not methods:
        return ""
    cells = {(one["group"], one["part"], one["method"]): with_interval(one) for one in own["groups"]}
    grid = [["mechanisms", "of", *(f"`{name}`" for name in methods)]]
    grid += [
        [group, part, *(cells.get((group, part, name), "") for name in methods)]
        for group in dict.fromkeys(one["group"] for one in own["groups"])
        for part in PARTS
    ]
    title = "Our methods, AUROC. Score and rules were chosen on the task `arithmetic`; `lookup` and `walk` are held out, but for one choice (below):"
    return f"{title}\n\n{markdown(grid)}"


def pairs_table(own: Record) -> str:
    """Return each mechanism against its twin, beside the best baselines of at most equal cost."""
    grid = [["task", "mechanism / twin", "of"]]
    for name in (NONE, QUICK):
        grid[0] += [f"`{name}`", "best baseline", "ours − best"]
    grid[0] += ["best without edits", f"`{NONE}` − best without edits", "holds, both"]
    rows: dict[tuple[str, ...], dict[str, Record]] = {}
    for pair in own["pairs"]:
        key = pair["task"], f"{pair['mechanism']} / {pair['twin']}", pair["part"]
        rows.setdefault(key, {})[pair["method"]] = pair
    for key, pairs in rows.items():
        cells = [cell for name in (NONE, QUICK) for cell in _against(pairs.get(name), "best")]
        without = _against(pairs.get(NONE), "best_without_edits")[1:]
        grid.append([*key, *cells, *without, ", ".join(_holds(pairs[name]) for name in (NONE, QUICK) if name in pairs)])
    title = (
        "Each mechanism against its twin, beside the best baseline that is not fitted and costs at most as many passes. It *holds* "
        "if the lower end of the paired difference is above 0, or above −0.01 where the baseline reaches 0.98:"
    )
    return f"{title}\n\n{markdown(grid)}" if rows else ""


def _against(pair: Record | None, key: str) -> list[str]:
    """Return our AUROC, the best baseline, and the difference."""
    if pair is None:
        return ["", "", ""]
    best = pair[key]
    return [plain(pair), *(["", ""] if best is None else [_named(best), with_interval(best["difference"])])]


def _holds(pair: Record) -> str:
    return "yes" if holds(pair) else "no, as expected" if is_expected(pair) else "**no**"


def _named(best: Record) -> str:
    return f"{plain(best)} `{best['method']}`"


def verdicts_table(own: Record) -> str:
    """Return how often verdicts abstain and are wrong."""
    grid = [["mechanisms", "of", "rows", "undetermined", "wrong among determined"]]
    grid[0] += [f"wrong at 20% undetermined, `{name}`" for name in (NONE, QUICK)]
    for one in own["verdicts"]:
        row = [one["group"], one["part"], f"{one['rows']:,}"]
        row += [_percent(one.get(key)) for key in ("undetermined", "wrong", NONE, QUICK)]
        grid.append(row)
    title = (
        "Verdicts with quick evidence: `mixed` counts as wrong where the truth is clear. At 20% undetermined: the surest 80% of the "
        "scores, calibrated on the other mechanisms:"
    )
    return f"{title}\n\n{markdown(grid)}" if len(grid) > 1 else ""


def counts_table(own: Record) -> str:
    """Return which verdicts are given to the transcripts of each mechanism, by label."""
    verdicts = sorted({one["verdict"] for one in own["verdict_counts"]})
    counts: Counter = Counter()
    for one in own["verdict_counts"]:
        counts[one["mechanism"], one["follows"], one["verdict"]] += one["transcripts"]
    rows = dict.fromkeys((one["mechanism"], one["follows"]) for one in own["verdict_counts"])
    grid = [[*key, *(str(counts[(*key, verdict)] or "") for verdict in verdicts)] for key in rows]
    heading = ["mechanism", "follows its steps", *(verdict or "no report" for verdict in verdicts)]
    return f"Transcripts with each verdict:\n\n{markdown([heading, *grid])}" if grid else ""


def mirrors_table(own: Record) -> str:
    """Return how well `mirrors` tells steps that are computed inside from those that follow from the text."""
    grid = [["mechanisms", "steps", "AUROC", "mean where computed inside", "mean where not"]]
    for one in own["mirrors"]:
        means = ["" if one[side] is None else f"{one[side]:.2f}" for side in ("inside", "stated")]
        grid.append([one["group"], f"{one['rows']:,}", with_interval(one), *means])
    title = (
        "`mirrors` of steps after the first, against its own truth: how often the model writes the value that another question "
        "implies, while the text before the step stays:"
    )
    return f"{title}\n\n{markdown(grid)}" if len(grid) > 1 else ""


def _percent(found: Record | None) -> str:
    """Return a share with its interval in percent; nothing where there is none."""
    if found is None or found["value"] is None:
        return ""
    said = f"{found['value']:.1%}"
    return said if found["low"] is None else f"{said} ({found['low']:.1%} to {found['high']:.1%})"
