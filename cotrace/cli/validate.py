"""`cotrace validate`: compare a graph with ablations in the model."""

import itertools
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.validation.config import ValidationConfig
from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, open_graph
from cotrace.graphs.annotations import numbers_of
from cotrace.graphs.verdicts import validation_verdict

from . import graph_model, options


def validate(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A graph file, best an unpruned one: the edges of a pruned graph predict less, and the sample contains "
            "only features that were kept.",
        ),
    ],
    nodes: Annotated[
        int, typer.Option(help="Ablate this many of the most influential features, one by one.", min=1)
    ] = ValidationConfig.nodes,
    sample: Annotated[
        int, typer.Option(help="Ablate this many features drawn at random from the whole graph.", min=1)
    ] = ValidationConfig.sample,
    controls: Annotated[
        int, typer.Option(help="For each ablated set, ablate this many random sets of the same size.", min=1)
    ] = ValidationConfig.controls,
    paths: Annotated[
        int, typer.Option(help="Ablate the features of this many of the strongest paths, each path as a whole.", min=0)
    ] = ValidationConfig.paths,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NODES",
            help="Also ablate these nodes together: NAME=12,L17#264@5,LABEL, with numbers, names or labels that `cotrace "
            "show` prints, or only the NAME of a group of the graph. Repeatable. Default: all groups of the graph.",
        ),
    ] = None,
    freeze: options.FreezeOption = InterventionConfig.freeze,
    layers: options.LayersOption = None,
    errors: options.ErrorsOption = InterventionConfig.errors,
    seed: Annotated[int, typer.Option(help="Seed of the random draws.", min=0)] = ValidationConfig.seed,
    model: graph_model.ModelOption = None,
    transcoders: graph_model.TranscodersOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.GraphDtypeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the graph. Default: NAME.validated.arrow beside FILE.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the plot: .svg, .png or .pdf. Default: NAME.validation.svg beside the graph."
        ),
    ] = None,
    force: options.ForceOption = False,
    full: Annotated[
        bool, typer.Option("--full", help="Print every ablation and all numbers that summarize them.")
    ] = False,
    json: options.JsonOption = False,
) -> None:
    """Ablate the nodes that the graph in FILE ranks highest, and compare the model's response with its edges.

    Writes the graph with the measurements in its metadata, which `cotrace show` prints, and a plot of them.
    """
    from cotrace.attribution.validation.plot import plot_validation

    from .console import print_json
    from .output_paths import check_free, save_result
    from .report import print_written
    from .report_validation import print_validation

    freezing: dict[str, Any] = {"freeze": freeze, "layers": options.positions("--layers", layers), "errors": errors}
    sizes: dict[str, Any] = {"nodes": nodes, "sample": sample, "controls": controls, "paths": paths, "seed": seed}
    InterventionConfig(**freezing)
    ValidationConfig(**sizes)
    graph = open_graph(file)
    parsed_groups = parse_groups(groups or [], graph)
    target, picture = output_files(file, out, plot)
    for path, given, option in ((target, out, "--out"), (picture, plot, "--plot")):
        if given:  # before the work, whose result would be lost
            check_free(path, option, force)
    loaded = graph_model.load_model(graph, model, transcoders, device, dtype)
    validated = loaded.validate(graph, groups=parsed_groups, **freezing, **sizes)
    written = save_result(target, validated.save, force=force, option="--out" if out else "")
    if plot is None:
        picture = picture.with_name(f"{plot_stem(written)}.validation.svg")
    plotted = save_result(
        picture, lambda at: plot_validation(validated, at), force=force, option="--plot" if plot else ""
    )
    files = {written: target, plotted: picture}
    if json:
        record = validated.info["validation"]
        print_json(
            {"verdict": validation_verdict(record), "validation": record, "files": [str(path) for path in files]}
        )
        return
    print_validation(validated, full=full)
    for path, planned in files.items():
        print_written(path, planned)


def output_files(file: Path, out: Path | None, plot: Path | None) -> tuple[Path, Path]:
    """Return the paths of the graph and of the plot, after a check that they can be written.

    Raises ArgumentError for a plot of an unknown format, FileError for a path that cannot be written.
    """
    from cotrace.graphs.drawing.figures import FIGURE_SUFFIXES

    from .output_paths import check_file

    target = out or file.with_name(f"{file.name.partition('.arrow')[0]}.validated.arrow")
    picture = plot or target.with_name(f"{plot_stem(target)}.validation.svg")
    if picture.suffix not in FIGURE_SUFFIXES:
        raise ArgumentError(f"--plot {picture}: expected a name that ends in {', '.join(FIGURE_SUFFIXES)}")
    check_file(target)
    check_file(picture, "--plot")
    return target, picture


def plot_stem(graph: Path) -> str:
    """Return the name of a validated graph's plot without its suffix."""
    return graph.name.partition(".arrow")[0].replace(".validated", "")


def parse_groups(texts: list[str], graph: Graph) -> dict[str, list[int]] | None:
    """Return the groups of nodes that the texts of --groups name; None for those of the graph if there are no texts.

    Raises ArgumentError for a malformed one, for a name given twice, and for nodes that cannot be ablated.
    """
    groups: dict[str, list[int]] = {}
    n_editable = graph.order.n_editable
    for text in texts:
        name, equals, members = text.rpartition("=") if "=" in text else (text, "", text)
        names = parse_names(members) if equals else [text]
        if not name or not all(names) or not (equals or text in graph.groups):
            raise ArgumentError(f"--groups {text!r}: expected NAME=12,45,77 or a group of the graph")
        try:
            nodes = numbers_of(graph, names)
        except ArgumentError as error:
            raise ArgumentError(f"--groups {text!r}: {error}") from error
        if max(nodes) >= n_editable or len(set(nodes)) < len(nodes):
            raise ArgumentError(
                f"--groups {text!r}: expected features, error nodes and tokens, each once; in this graph they are the "
                f"nodes 0 … {n_editable - 1}"
            )
        if name in groups:
            raise ArgumentError(f"--groups names {name!r} twice; give each group another name")
        groups[name] = nodes
    return groups or None


def parse_names(text: str) -> list[str]:
    """Return the names of nodes in a list with commas.

    Raises ArgumentError for one with several positions, whose commas could as well separate node numbers.
    """
    names = [name.strip() for name in text.split(",")]
    for name, following in itertools.pairwise(names):
        if "@" in name and re.fullmatch(r"-?[0-9]+(:-?[0-9]+)?", following):
            raise ArgumentError(f"{name},{following}: write each position as a separate node, {name},L…@{following}")
    return names
