"""`cotrace validate`: does the model do what a graph says?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import CotraceError

from .steer import HOW_TO_FREEZE, HOW_TO_TREAT_ERRORS, WHERE_IT_HOLDS

HOW_TO_NAME_GROUPS = (
    "Also ablate these nodes of the graph together: NAME=12,45,77, numbers as `cotrace show` prints them. Repeatable."
)


def validate(
    file: Annotated[
        Path,
        typer.Argument(help="A graph file. Of a pruned one, edges predict less and the sample is of what was kept."),
    ],
    nodes: Annotated[int, typer.Option(help="So many of the most influential features, one by one.", min=1)] = 60,
    sample: Annotated[int, typer.Option(help="So many features drawn at random from the whole graph.", min=1)] = 60,
    controls: Annotated[
        int, typer.Option(help="For each of them, so many random active features of its size.", min=1)
    ] = 3,
    paths: Annotated[int, typer.Option(help="So many of the strongest paths, each as a whole.", min=0)] = 5,
    group: Annotated[list[str] | None, typer.Option(help=HOW_TO_NAME_GROUPS)] = None,
    freeze: Annotated[str, typer.Option(help=HOW_TO_FREEZE)] = "none",
    layer: Annotated[list[str] | None, typer.Option(help=WHERE_IT_HOLDS)] = None,
    errors: Annotated[str, typer.Option(help=HOW_TO_TREAT_ERRORS)] = "recomputed",
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    model: Annotated[
        str | None, typer.Option(help="Where the graph's model is. Default: the name in the file.")
    ] = None,
    transcoders: Annotated[
        str | None, typer.Option(help="Where its transcoders are. Default: the name in the file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, float64, or bfloat16 (storage only). Default: that of the graph.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the graph here instead of into FILE.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="The plot: .svg, .png or .pdf. Default: NAME.validation.svg beside the graph.")
    ] = None,
) -> None:
    """Ablate what the graph in FILE says matters, and compare what the model does with what the edges predict.

    The result is kept in the graph's metadata, where `cotrace show` finds it, and drawn.
    """
    import cotrace
    from cotrace.attribution.interventions.config import InterventionConfig
    from cotrace.attribution.validation.plot import FORMATS, plot_validation

    from .edit_syntax import parse_layers
    from .output_paths import check_target
    from .report import print_validation, say_written

    graph = cotrace.open(file)
    setting: dict[str, Any] = {"freeze": freeze, "layers": parse_layers(layer or []), "errors": errors}
    InterventionConfig(**setting)
    groups = parse_groups(group or [], graph)
    target = out or file
    picture = plot or target.with_name(f"{target.name.partition('.arrow')[0]}.validation.svg")
    if picture.suffix not in FORMATS:
        raise CotraceError(f"--plot {picture} should end in {', '.join(FORMATS)}")
    check_target(target)
    check_target(picture, "--plot")
    info = graph.info
    of_graph = "float64" if info["settings"].get("dtype") == "float64" else "auto"
    spec = transcoders or info["transcoders"]["name"]
    loaded = cotrace.load(model or info["model"]["name"], spec, device=device, dtype=dtype or of_graph)
    sizes: dict[str, Any] = {"nodes": nodes, "sample": sample, "controls": controls, "paths": paths, "seed": seed}
    validated = loaded.validate(graph, groups=groups, **setting, **sizes)
    written = [validated.save(target), plot_validation(validated, picture)]
    print_validation(validated)
    for path in written:
        say_written(path)


def parse_groups(texts: list[str], graph: Any) -> dict[str, list[int]]:
    """Read --group; ValueError for a malformed one, for a name given twice, and for nodes that cannot be ablated."""
    found: dict[str, list[int]] = {}
    changeable = graph.order.n_features + graph.order.n_errors
    for text in texts:
        name, _, numbers = text.rpartition("=")
        parts = numbers.split(",")
        if not name or not all(part.strip().isdecimal() for part in parts):
            raise CotraceError(f"--group {text!r} should be NAME=12,45,77, with numbers of nodes")
        nodes = [int(part) for part in parts]
        if max(nodes) >= changeable or len(set(nodes)) < len(nodes):
            raise CotraceError(
                f"--group {text!r} should name features and error nodes, each once: the nodes 0 … {changeable - 1} of "
                "this graph"
            )
        if name in found:
            raise CotraceError(f"--group {name!r} is given twice; give each group a name of its own")
        found[name] = nodes
    return found
