"""Write the result files as tables into the docs: `python -m benchmarks.tables [--page PAGE]`.

The text between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->` is replaced, where NAME is the name of the
result file; the rest of the page does not change.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from .cells import Record, Row, duration, markdown, size
from .cost_model import cost_table
from .effects import effects_table
from .estimates import estimates_table
from .faithfulness_tables import faithfulness_table
from .features import features_table
from .gpu_tables import NOTHING, gpu_table
from .graphs import graphs_table
from .groups import groups_table
from .kernel_tables import kernels_table
from .labels import labels_table
from .measure import DONE
from .sampling_tables import sampling_table
from .trace_tables import trace_table
from .viewer import viewer_table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CARD = ROOT / "data" / "cotrace-gemma-3-270m-clt-1" / "cotrace_gemma_3_270m_clt_1" / "README.md"
FEATURES = ROOT / "docs" / "features.md"
PAGES = {"transcoders": CARD, "groups": ROOT / "docs" / "groups.md", "labels": FEATURES, "features": FEATURES}


def train_table(result: Record) -> str:
    """Return the table of `benchmarks.train`: tokens per second and memory of each trainer, relative to cotrace."""
    heading = ["features per layer", "trainer", "tokens per second", "peak memory", "speedup of cotrace"]
    grid = [[*heading, "memory of cotrace over it"]]
    titles = {"cotrace": "cotrace", "dense": "dense form", "decode_clt": "decode-clt"}
    for case in result["cases"]:
        own = case["cotrace"]
        for name, title in titles.items():
            side, cells = case[name], ["", "", "", ""]
            if side["status"] != DONE:
                cells[0] = side["status"]
            else:
                cells[:2] = f"{side['tokens_per_second']:,.0f}", size(side["peak_bytes"])
                if name != "cotrace" and own["status"] == DONE:
                    cells[2] = f"{own['tokens_per_second'] / side['tokens_per_second']:.2f}"
                    cells[3] = f"{own['peak_bytes'] / side['peak_bytes']:.2f}"
            grid.append([f"{case['width']:,}", title, *cells])
    sizes, machine = result["sizes"], result["machine"]
    note = (
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores; {sizes['layers']} layers of width "
        f"{sizes['d_model']}, {sizes['active']} active features per layer and token, {sizes['batch']:,} tokens per step."
    )
    return f"{markdown(grid)}\n\n{note}"


def transcoders_table(results: list[Record]) -> str:
    """Return the table of `cotrace evaluate`: metrics of transcoders and baselines as replacements of the MLPs."""
    grid = [["", *(result["name"] for result in results)]]
    grid += [[row.title, *(measured(result, row) for result in results)] for row in EVALUATION_ROWS]
    first = results[0]
    tokens, model = first["settings"]["tokens"], first["settings"]["model"]
    layers = [["FVU of layer", *grid[0][1:]]]
    for layer, values in enumerate(zip(*(result["fvu_by_layer"] for result in results), strict=True)):
        layers.append([str(layer), *(f"{value:.3f}" for value in values)])
    note = f"On {tokens:,} held-out tokens; the loss of {model} itself is {first['loss_of_model']:.3f} nats per token."
    return "\n\n".join([markdown(grid), note, markdown(layers)])


def measured(result: Record, row: Row) -> str:
    """Return a measurement of an evaluation; nothing where it has none."""
    value = result[row.name]
    return "" if value is None else row.write(value)


def coverage_table(result: Record) -> str:
    """Return the table of `benchmarks.coverage`: the cost of each coverage and the part of the circuit it keeps."""
    grid = [
        [
            "coverage",
            "rows computed",
            "time",
            "Jaccard, mean",
            "Jaccard, min",
            "largest bound",
            "largest missing influence",
        ]
    ]
    for row in result["summary"]:
        shares = [f"{row[name]:.0%}" for name in ("coverage", "rows", "time")]
        grid.append([*shares, *(f"{row[name]:.3g}" for name in ("jaccard", "jaccard_least", "bound", "lack"))])
    machine, chosen, cases = result["machine"], result["settings"], result["cases"]
    tokens = [case["tokens"] for case in cases]
    note = (
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores; `{chosen['model']}` with "
        f"`{chosen['transcoders']}`, {len(cases)} prompts of {min(tokens)} to {max(tokens)} tokens; rows and time "
        "relative to the whole trace; median time."
    )
    return f"{markdown(grid)}\n\n{note}"


VALIDATION_ROWS = {
    "spearman": "Spearman: influence and effect on the targets, all features",
    "spearman_top": "the same, the 60 most influential",
    "spearman_kl": "influence and KL, all features",
    "spearman_kl_top": "the same, the 60 most influential",
    "spearman_direct": "direct edges to the targets and effect, all features",
    "spearman_direct_top": "the same, the 60 most influential",
    "spearman_activation": "activation and effect, all features",
    "spearman_activation_top": "the same, the 60 most influential",
    "spearman_predicted": "effect size predicted along all edges and effect, all features",
    "spearman_predicted_top": "the same, the 60 most influential",
    "spearman_signed": "predicted and measured effect, signed, all features",
    "spearman_signed_top": "the same, the 60 most influential",
    "sign_agreement": "effects with the predicted sign, all features",
    "sign_agreement_top": "the same, the 60 most influential",
    "larger_than_controls": "larger effect than random features of the same size",
    "times_controls": "ratio to the effect of these controls, median",
    "control_length": "output norm of the controls over that of the features, median",
    "spearman_pairs_clamped": "influence on later features and relative effect on these, MLPs clamped",
    "spearman_pairs": "the same, frozen as in the column heading",
}


def validation_table(result: Record) -> str:
    """Return the table of `benchmarks.validate`: effects of ablations compared with predictions from graphs."""
    columns = result["summary"]
    published = result["published"]
    grid = [["", "published", *(f"{column['basis']}, {column['mode']}" for column in columns)]]
    for name, title in VALIDATION_ROWS.items():
        reference = f"{published[name]:.2f}" if name in published else ""
        grid.append([title, reference, *(with_interval(column[name]) for column in columns)])
    later = [{(row["least"], row["most"]): row for row in column["later"]} for column in columns]
    for least, most in sorted({distance for column in later for distance in column}):
        layers = f"{least}" if least == most else f"{least} and more" if most > 90 else f"{least} to {most}"
        for name, title in (("cosine", "activations {} later: cosine"), ("signs", "the same: signs that agree")):
            cells = (with_interval(column.get((least, most), {}).get(name)) for column in later)
            known = published.get(name, {"least": None})
            reference = f"about {known['value']}" if (known["least"], known.get("most")) == (least, most) else ""
            grid.append([title.format(f"{layers} layer{'s' * (most > 1)}"), reference, *cells])
    machine, prompts = result["machine"], min(column["prompts"] for column in columns)
    note = (
        f"Means over {prompts} prompts with 95% intervals (bootstrap over prompts), measured {result['date']} on "
        f"{machine['cpu']}; `{result['settings']['model']}`. Published: an 18-layer cross-layer transcoder of another "
        'model (Ameisen et al. 2025, "Evaluating Mechanistic Faithfulness").'
    )
    return f"{markdown(grid)}\n\n{note}"


def with_interval(found: dict[str, float] | None) -> str:
    """Return a mean with its interval; nothing where nothing was measured."""
    if found is None:
        return ""
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def contention_table(result: Record) -> str:
    """Return the table of `benchmarks.contention`: times over those alone, by the number of busy processes."""
    grid = [["busy processes", "threads spin", "adaptive (default)", "equal shares", "target"]]
    for row in result["summary"]:
        ratios = [f"{row[f'{mode}_ratio']:.2f}" for mode in ("spin", "adaptive")]
        cells = ratios if row["busy"] else [duration(row[mode]) for mode in ("spin", "adaptive")]
        limit = f"at most {row['limit']:g}" if row["limit"] else ""
        grid.append([str(row["busy"]), *cells, f"{row['fair']:g}", limit])
    machine, chosen, runs = result["machine"], result["settings"], result["runs"]
    said = (
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores; `{chosen['model']}` with "
        f"`{result['transcoders']}`, {chosen['tokens']} tokens, coverage {chosen['coverage']:g}, {result['threads']} "
        f"threads; medians of {chosen['repeats']} repeats. Other processes kept up to "
        f"{max(run['others_cores'] for run in runs):.1f} cores busy meanwhile."
    )
    return f"{markdown(grid)}\n\n{said}"


HOP_COUNTS = ("several_hops", "matched", "single_hop", "direct_there_too")  # of paths, in the order of the table


def hops_table(result: dict[str, Any]) -> str:
    """Return the table of `benchmarks.hops`: paths of per-layer transcoders beside those of a cross-layer transcoder."""
    heading = ["prompt", "paths of several hops, per-layer", "with a counterpart", "single hops in the CLT"]
    heading += ["single hops in the per-layer graph too", "mean hops, per-layer", "CLT"]
    grid = [heading]
    for case in result["cases"]:
        counts = [case[name] for name in HOP_COUNTS]
        lengths = [f"{case[name]['influence_length']:.2f}" for name in ("per_layer", "clt")]
        grid.append([case["prompt"], *map(str, counts), *lengths])
    sums = [str(sum(case[name] for case in result["cases"])) for name in HOP_COUNTS]
    means = [mean([case[name]["influence_length"] for case in result["cases"]]) for name in ("per_layer", "clt")]
    grid.append(["all", *sums, *(f"{hops:.2f}" for hops in means)])
    chosen = result["settings"]
    share = mean([case["share"] for case in result["cases"]])
    effect = [mean([case[name]["effect_length"] for case in result["cases"]]) for name in ("per_layer", "clt")]
    note = (
        f"The {chosen['paths']} strongest paths of each per-layer graph, {share:.0%} of its influence. Mean hops of all paths "
        f"from tokens and error nodes, weighted by influence (by absolute effect: {effect[0]:.2f} and {effect[1]:.2f}). "
        "Counterpart: the feature of the CLT at the same layer and position with the most similar encoder, "
        f"cosine at least {chosen['similar']}. {chosen['note']} Measured {result['date']}."
    )
    return f"{markdown(grid)}\n\n{note}"


EVALUATION_ROWS = (
    Row("FVU, mean over layers", "fvu", "{:.4f}".format),
    Row("active features per layer and token", "l0", "{:.1f}".format),
    Row("features never active", "dead", "{:.1%}".format),
    Row("features active on over 10% of tokens", "dense", "{:.1%}".format),
    Row("loss with every MLP replaced, nats per token", "loss", "{:.3f}".format),
    Row("KL divergence from the model, nats per token", "kl", "{:.3f}".format),
    Row("same top token", "top1_agreement", "{:.1%}".format),
    Row("replacement score, mean of ten prompts", "replacement_score", "{:.3f}".format),
    Row("completeness score, mean of ten prompts", "completeness_score", "{:.3f}".format),
)

TABLES: dict[str, Callable[[Any], str]] = {
    "trace": trace_table,
    "trace-cuda": trace_table,
    "train": train_table,
    "transcoders": transcoders_table,
    "coverage": coverage_table,
    "contention": contention_table,
    "effects": effects_table,
    "faithfulness": faithfulness_table,
    "validation": validation_table,
    "hops": hops_table,
    "graphs": graphs_table,
    "sampling": sampling_table,
    "viewer": viewer_table,
    "groups": groups_table,
    "labels": labels_table,
    "features": features_table,
    "kernels": kernels_table,
    "kernels-cuda": kernels_table,
    "gpu": gpu_table,
    "cost": cost_table,
}
FURTHER = {"validation": {"estimates": estimates_table}}  # tables of the same result file, by name
UNMEASURED = {"gpu": NOTHING}  # instead of a table, where there is no result file


def rewrite(page: str, name: str, table: str) -> str:
    """Return the page with the table between its markers, which are added at the end if they are missing."""
    begin, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
    block = f"{begin}\n{table}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, help="page for all tables; default: the page of each table")
    args = parser.parse_args()
    found = dict(UNMEASURED)
    for path in sorted(args.results.glob("*.json")):
        result = json.loads(path.read_text())
        name = result.get("benchmark") if isinstance(result, dict) else path.stem
        if name in TABLES:
            found[name] = TABLES[name](result)
            found |= {further: table(result) for further, table in FURTHER.get(name, {}).items()}
    for name, table in found.items():
        page = args.page or PAGES.get(name, PAGE)
        text = page.read_text() if page.exists() else "# Benchmarks\n"
        page.write_text(rewrite(text, name, table))


if __name__ == "__main__":
    main()
