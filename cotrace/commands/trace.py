"""`cotrace trace`: a prompt's circuit as a graph file and a picture."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

import typer

HOW_TO_NAME_TARGETS = (
    "A target: a token's exact text (' cold', with its space), id:1234, 'diff: cold| hot' for a logit difference, "
    "or feature:LAYER:POSITION:ID. Repeatable; default: the likeliest tokens."
)

HOW_TO_NAME_TRANSCODERS = (
    "gemma-3-270m-clt (ships with cotrace), neurons, neurons:K, a folder or a Hub id. Default: what ships for the "
    "model, or else its neurons."
)


def trace(
    prompt: Annotated[str, typer.Argument(help="The text to trace.")],
    model: Annotated[str, typer.Option(help="gemma-3-270m, a Hub id, a folder or a .gguf file.")] = "gemma-3-270m",
    transcoders: Annotated[str | None, typer.Option(help=HOW_TO_NAME_TRANSCODERS)] = None,
    target: Annotated[list[str] | None, typer.Option(help=HOW_TO_NAME_TARGETS)] = None,
    max_targets: Annotated[int, typer.Option(help="At most so many of the likeliest tokens.", min=1)] = 10,
    target_mass: Annotated[float, typer.Option(help="Probability that the targets should hold together.")] = 0.95,
    coverage: Annotated[
        float, typer.Option(help="Rows may be left out of features with the rest of the influence.")
    ] = 1.0,
    max_features: Annotated[int | None, typer.Option(help="At most so many features' rows.", min=0)] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop computing rows after about so long.")] = None,
    position: Annotated[int, typer.Option(help="Where the targets are read; negative counts from the end.")] = -1,
    node_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept nodes hold.")] = 0.8,
    edge_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept edges hold.")] = 0.98,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float64, or bfloat16 (storage only).")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results; made if it does not exist.")] = Path("out"),
    chat: Annotated[bool, typer.Option(help="Wrap the prompt as a user's turn of the model's chat template.")] = False,
    full: Annotated[bool, typer.Option(help="Also keep the graph before pruning, as NAME.full.arrow.")] = False,
    max_nodes: Annotated[int, typer.Option(help="At most so many nodes on the picture.", min=2)] = 60,
) -> None:
    """Trace PROMPT and write its circuit: NAME.arrow, NAME.svg and a summary."""
    from cotrace.graphs.prune import check_threshold

    from .places import check_writable

    if not prompt:
        raise ValueError("the prompt is empty; write some text")
    check_threshold("--node-threshold", node_threshold)
    check_threshold("--edge-threshold", edge_threshold)
    check_threshold("--target-mass", target_mass)
    check_limits(coverage, max_features, max_seconds)
    targets = [parse_target(text) for text in target] if target else None
    check_writable(out)

    import cotrace

    from .report import console

    loaded = cotrace.load(model, transcoders, device=device, dtype=dtype)
    graph = loaded.trace(
        [{"role": "user", "content": prompt}] if chat else prompt,
        targets,
        position=position,
        max_targets=max_targets,
        target_mass=target_mass,
        coverage=coverage,
        max_features=max_features,
        max_seconds=max_seconds,
    )
    with console.status("pruning"):
        circuit = graph.prune(node_threshold, edge_threshold)
    name = slug(prompt)
    written = [circuit.save(out / f"{name}.arrow")]
    if full:
        written.append(graph.save(out / f"{name}.full.arrow"))
    finish(circuit, written, out / f"{name}.svg", max_nodes)


def check_limits(coverage: float, max_features: int | None, max_seconds: float | None) -> None:
    """Raise ValueError for limits that make no sense."""
    from cotrace.attribution.expansion import Limits

    Limits(coverage, max_features, max_seconds)


def finish(circuit: Any, written: list[Path], picture: Path, max_nodes: int) -> None:
    """Draw the picture where Graphviz is installed, then tell the circuit and where it is."""
    from .report import console, print_paths, print_summary, say_written

    print_summary(circuit)
    print_paths(circuit, 8)
    try:
        written.append(circuit.render(picture, max_nodes=max_nodes))
    except ValueError as error:
        picture.unlink(missing_ok=True)  # one of an earlier trace would show another graph
        console.print(f"no picture: {error}", style="yellow", markup=False)
    for path in written:
        say_written(path)


def parse_target(text: str) -> Any:
    """Read one --target as `Model.trace` wants it; ValueError for a malformed one."""
    kind, _, rest = text.partition(":")
    if kind == "id" and rest.isdecimal():
        return int(rest)
    if kind == "diff":
        pair = tuple(rest.split("|"))
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"--target {text!r} should be 'diff:FIRST|SECOND', with the exact texts of two tokens")
        return pair
    if kind == "feature" and rest:
        parts = rest.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"--target {text!r} should be feature:LAYER:POSITION:ID, three numbers")
        return ("feature", *map(int, parts))
    return text


def slug(prompt: str, length: int = 60) -> str:
    """A file name for a prompt: its words, with a hash where they are cut short or none is left.

    Prompts that differ in case or punctuation only share a name; --out keeps them apart.
    """
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")
    name = words[:length].rstrip("-")
    if name and name == words:
        return name
    return f"{name or 'prompt'}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
