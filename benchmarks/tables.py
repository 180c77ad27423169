"""Result files as tables in the docs: `python -m benchmarks.tables [--page PAGE]`.

A table stands between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->`, where NAME is the
result file's; what is between them is rewritten, the rest of the page is left alone.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cells import Record, Row, case_title, count, duration, markdown, size, size_words, targets_table
from .measure import DONE
from .trace_tables import trace_table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CARD = ROOT / "data" / "cotrace-gemma-3-270m-clt-1" / "cotrace_gemma_3_270m_clt_1" / "README.md"
PAGES = {"transcoders": CARD}


def others_of(records: list[Record]) -> list[str]:
    """What the backends of some cases are held against, in the result file's order."""
    return list(dict.fromkeys(other for record in records for ratio in record["ratios"].values() for other in ratio))


def kernel_grid(record: Record) -> list[list[str]]:
    """A record as rows of cells, the first of them the heading."""
    return curve_grid(record) if "points" in record else case_grid(record)


def case_grid(record: Record) -> list[list[str]]:
    """One row a contestant."""
    others = others_of([record])
    share = f"share of {record['work']['ceiling_name']}"
    grid = [["", "time", "quartiles", "repeats", *[f"over {other}" for other in others], share]]
    for name, run in record["runs"].items():
        if run["status"] != DONE:
            grid.append([name, run["status"], *[""] * (len(others) + 3)])
            continue
        spread = " … ".join(duration(value) for value in run["quartiles"])
        ratios = [ratio_cell(record["ratios"].get(name, {}).get(other)) for other in others]
        reached = f"{run['share']:.0%}" if "share" in run else ""
        grid.append([name, duration(run["seconds"]), spread, count(run["repeats"]), *ratios, reached])
    return grid


def ratio_cell(ratio: float | None) -> str:
    """A ratio with three significant digits, if there is one."""
    return "" if ratio is None else f"{ratio:.3g}"


def curve_grid(record: Record) -> list[list[str]]:
    """One row a point, and the exponents."""
    names = list(record["points"][0]["runs"])
    grid = [[record["axis"], *names]]
    grid += [[count(p[record["axis"]]), *[point_cell(p["runs"][n], record) for n in names]] for p in record["points"]]
    return [*grid, ["exponent", *[exponent_cell(record, name) for name in names]]]


def point_cell(run: Record, record: Record) -> str:
    """What was measured at one point, or how it ended."""
    if record["measure"] not in run:
        return str(run["status"])
    return (size if record["measure"].endswith("bytes") else duration)(run[record["measure"]])


def exponent_cell(record: Record, name: str) -> str:
    """The fitted exponent, if there is one."""
    return f"{record['exponents'][name]:.2f}" if name in record["exponents"] else ""


def kernels_table(result: Record) -> str:
    """The tables of `benchmarks.kernels`: targets, every operation, curves."""
    cases = [record for record in result["cases"] if "runs" in record]
    curves = [record for record in result["cases"] if "points" in record]
    operations = dict.fromkeys(record["operation"] for record in cases)
    grouped = [[record for record in cases if record["operation"] == operation] for operation in operations]
    parts = [targets_table(result["cases"]), *map(operation_table, grouped), *map(curve_section, curves)]
    parts += [images(result["benchmark"]) if curves else "", *kernel_facts(result, cases)]
    return "\n\n".join(part for part in parts if part)


def operation_table(records: list[Record]) -> str:
    """One row a case: times of all contestants, ratios and share of the backend that is used by default."""
    others, default = others_of(records), records[0]["default"]
    names = list(dict.fromkeys(name for r in records for name, run in r["runs"].items() if "share" in run))
    names += [other for other in others if other not in names]
    grid = [["case", *names, *[f"{default} over {other}" for other in others], "share of ceiling"]]
    for record in records:
        runs, ratios = record["runs"], record["ratios"].get(default, {})
        times = [time_cell(runs.get(name)) for name in names]
        share = runs[default].get("share")
        reached = "" if share is None else f"{share:.0%} of {record['work']['ceiling_name']}"
        grid.append([case_title(record), *times, *[ratio_cell(ratios.get(other)) for other in others], reached])
    return markdown(grid)


def time_cell(run: Record | None) -> str:
    """A median, or the word for why there is none."""
    if run is None:
        return ""
    return duration(run["seconds"]) if run["status"] == DONE else str(run["status"])


def curve_section(record: Record) -> str:
    """A curve's table, under what it is of and what stays fixed along it."""
    points = record["points"]
    fixed = {name: v for name, v in points[0].items() if name != "runs" and all(p.get(name) == v for p in points)}
    title = case_title(record)
    return f"**{title[0].upper()}{title[1:]}** ({size_words(fixed)})\n\n{markdown(curve_grid(record))}"


def images(benchmark: str) -> str:
    """The plots that `benchmarks.kernels --plot-only` draws beside the page."""
    kinds = {"layers": "layers", "width": "dictionary width", "active": "active features"}
    return "\n\n".join(f"![Curves against {words}]({benchmark}-{name}.svg)" for name, words in kinds.items())


def kernel_facts(result: Record, cases: list[Record]) -> list[str]:
    """Machine, settings, versions, and why something is missing."""
    machine, chosen = result["machine"], result["settings"]
    found = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    absent = {f"{name}: {run['detail']}" for r in cases for name, run in r["runs"].items() if run["status"] != DONE}
    repeats = [run["repeats"] for r in cases for run in r["runs"].values() if run["status"] == DONE]
    quick = "A quick run on tiny sizes, which says nothing about speed. " if chosen["quick"] else ""
    facts = [
        f"{quick}Measured {result['date']} on {chosen['device_name']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {chosen['threads']} threads, {chosen['dtype']}; {found}."
    ]
    if repeats:
        busy = max(run.get("others_cores", 0) for r in cases for run in r["runs"].values())
        facts[0] += f" Medians of {min(repeats)} to {max(repeats)} repeats; quartiles are in the result file."
        facts[0] += f" Other processes kept up to {busy:.1f} cores busy meanwhile."
    return [*facts, *([f"Not timed: {'; '.join(sorted(absent))}."] if absent else [])]


def train_table(result: Record) -> str:
    """The table of `benchmarks.train`: tokens a second and memory of every trainer, and how many times ours."""
    heading = ["features a layer", "trainer", "tokens a second", "peak memory", "ours, times as fast"]
    grid = [[*heading, "ours, memory over"]]
    titles = {"sparse": "cotrace", "dense": "dense form", "peer": "decode-clt"}
    for case in result["cases"]:
        ours = case["sparse"]
        for name, title in titles.items():
            side, cells = case[name], ["", "", "", ""]
            if side["status"] != DONE:
                cells[0] = side["status"]
            else:
                cells[:2] = f"{side['tokens_per_second']:,.0f}", size(side["peak_bytes"])
                if name != "sparse" and ours["status"] == DONE:
                    cells[2] = f"{ours['tokens_per_second'] / side['tokens_per_second']:.2f}"
                    cells[3] = f"{ours['peak_bytes'] / side['peak_bytes']:.2f}"
            grid.append([f"{case['width']:,}", title, *cells])
    sizes, machine = result["sizes"], result["machine"]
    said = (
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores; {sizes['layers']} layers of width "
        f"{sizes['d_model']}, {sizes['active']} active features a layer and token, {sizes['batch']:,} tokens a step."
    )
    return f"{markdown(grid)}\n\n{said}"


def transcoders_table(results: list[Record]) -> str:
    """The table of `cotrace evaluate`: what stands in for the MLPs, and how well."""
    grid = [["", *(result["name"] for result in results)]]
    grid += [[row.title, *(measured(result, row) for result in results)] for row in STAND_IN_ROWS]
    first = results[0]
    tokens, model = first["settings"]["tokens"], first["settings"]["model"]
    layers = [["FVU of layer", *grid[0][1:]]]
    for layer, values in enumerate(zip(*(result["fvu_by_layer"] for result in results), strict=True)):
        layers.append([str(layer), *(f"{value:.3f}" for value in values)])
    said = f"On {tokens:,} held-out tokens; the loss of {model} itself is {first['loss_of_model']:.3f} nats a token."
    return "\n\n".join([markdown(grid), said, markdown(layers)])


def measured(result: Record, row: Row) -> str:
    """A measurement of one stand-in; nothing where it has none."""
    value = result[row.name]
    return "" if value is None else row.write(value)


def coverage_table(result: Record) -> str:
    """The table of `benchmarks.coverage`: what a coverage saves, and what it keeps."""
    grid = [["coverage", "rows computed", "time", "Jaccard, mean", "least", "largest bound", "most a node lacked"]]
    for row in result["summary"]:
        shares = [f"{row[name]:.0%}" for name in ("coverage", "rows", "time")]
        grid.append([*shares, *(f"{row[name]:.3g}" for name in ("jaccard", "jaccard_least", "bound", "lack"))])
    machine, chosen, cases = result["machine"], result["settings"], result["cases"]
    tokens = [case["tokens"] for case in cases]
    said = (
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores; `{chosen['model']}` with "
        f"`{chosen['transcoders']}`, {len(cases)} prompts of {min(tokens)} to {max(tokens)} tokens; rows and time as "
        "shares of the whole trace's, median time."
    )
    return f"{markdown(grid)}\n\n{said}"


VALIDATION_ROWS = {
    "spearman": "Spearman: influence and effect on the targets, all features",
    "spearman_top": "the same, the 60 most influential",
    "spearman_kl": "influence and KL, all features",
    "spearman_kl_top": "the same, the 60 most influential",
    "spearman_direct": "direct edges to the targets and effect, all features",
    "spearman_direct_top": "the same, the 60 most influential",
    "spearman_activation": "activation and effect, all features",
    "spearman_activation_top": "the same, the 60 most influential",
    "spearman_predicted": "size that is predicted along all edges and effect, all features",
    "spearman_predicted_top": "the same, the 60 most influential",
    "spearman_signed": "predicted and measured effect, signed, all features",
    "spearman_signed_top": "the same, the 60 most influential",
    "sign_agreement": "right signs of effects, all features",
    "sign_agreement_top": "the same, the 60 most influential",
    "larger_than_controls": "do more than random features of their size",
    "times_controls": "how many times as much, median",
    "control_length": "length of what these write, in lengths of theirs, median",
    "spearman_pairs_clamped": "influence on later features and relative effect on these, MLPs clamped",
    "spearman_pairs": "the same, held as the column says",
}


def validation_table(result: Record) -> str:
    """The table of `benchmarks.validate`: what ablations did, beside what graphs say."""
    columns = result["summary"]
    published = result["published"]
    grid = [["", "published", *(f"{column['basis']}, {column['mode']}" for column in columns)]]
    for name, title in VALIDATION_ROWS.items():
        said = f"{published[name]:.2f}" if name in published else ""
        grid.append([title, said, *(with_interval(column[name]) for column in columns)])
    later = [{(row["least"], row["most"]): row for row in column["later"]} for column in columns]
    for least, most in sorted({distance for column in later for distance in column}):
        layers = f"{least}" if least == most else f"{least} and more" if most > 90 else f"{least} to {most}"
        for name, title in (("cosine", "activations {} later: cosine"), ("signs", "the same: right signs")):
            cells = (with_interval(column.get((least, most), {}).get(name)) for column in later)
            known = published.get(name, {"least": None})
            said = f"about {known['value']}" if (known["least"], known.get("most")) == (least, most) else ""
            grid.append([title.format(f"{layers} layer{'s' * (most > 1)}"), said, *cells])
    machine, prompts = result["machine"], min(column["prompts"] for column in columns)
    said = (
        f"Means over {prompts} prompts with 95% intervals (bootstrap over prompts), measured {result['date']} on "
        f"{machine['cpu']}; `{result['settings']['model']}`. Published: of an 18-layer cross-layer transcoder of another "
        'model (Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness").'
    )
    return f"{markdown(grid)}\n\n{said}"


def with_interval(found: dict[str, float] | None) -> str:
    """A mean with its interval; nothing where nothing was measured."""
    if found is None:
        return ""
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


STAND_IN_ROWS = (
    Row("FVU, mean over layers", "fvu", "{:.4f}".format),
    Row("active features of a layer and token", "l0", "{:.1f}".format),
    Row("features never active", "dead", "{:.1%}".format),
    Row("features active on over 10% of tokens", "dense", "{:.1%}".format),
    Row("every MLP replaced: loss, nats a token", "loss", "{:.3f}".format),
    Row("KL from the model's prediction, nats", "kl", "{:.3f}".format),
    Row("same likeliest token", "top1_agreement", "{:.1%}".format),
    Row("replacement score, mean of ten prompts", "replacement_score", "{:.3f}".format),
    Row("completeness score, mean of ten prompts", "completeness_score", "{:.3f}".format),
)

TABLES: dict[str, Callable[[Any], str]] = {
    "trace": trace_table,
    "trace-cuda": trace_table,
    "train": train_table,
    "transcoders": transcoders_table,
    "coverage": coverage_table,
    "validation": validation_table,
    "kernels": kernels_table,
    "kernels-cuda": kernels_table,
}


def rewrite(page: str, name: str, table: str) -> str:
    """The page with the table between its markers; a page without them gets both at its end."""
    begin, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
    block = f"{begin}\n{table}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, help="for all tables; default: each one's own")
    args = parser.parse_args()
    for path in sorted(args.results.glob("*.json")):
        result = json.loads(path.read_text())
        name = result.get("benchmark") if isinstance(result, dict) else path.stem
        if name in TABLES:
            page = args.page or PAGES.get(name, PAGE)
            text = page.read_text() if page.exists() else "# Benchmarks\n"
            page.write_text(rewrite(text, name, TABLES[name](result)))


if __name__ == "__main__":
    main()
