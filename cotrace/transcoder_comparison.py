"""`cotrace.compare_transcoders`: one prompt traced with several sets of transcoders."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.dtypes import DtypeName
from cotrace.attribution.models.language_model import find_source, load_language_model
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.transcoders import find_transcoders, load_transcoders
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.graphs import Graph
from cotrace.graphs.diff.diff import GraphDiff

from .defaults import DEFAULT_MODEL
from .model import Model
from .types import PromptLike, TargetsLike


class TranscoderComparison:
    """The graphs of one prompt with several sets of transcoders; `compare_transcoders` makes one.

    Attributes:
        graphs: the unpruned graphs, by the names of the sets as they were given.
    """

    def __init__(self, graphs: dict[str, Graph]):
        self.graphs = graphs

    def __repr__(self) -> str:
        prompt = next(iter(self.graphs.values())).info["prompt"]
        return f"<TranscoderComparison of {prompt!r} with {', '.join(self.graphs)}>"

    @property
    def table(self) -> pa.Table:
        """One row for each set of transcoders.

        Columns: transcoders, features (active ones), errors, edges, per_site (active features per layer and position that is
        not masked), coverage, replacement, completeness.
        """
        return pa.Table.from_pylist([_row(name, graph) for name, graph in self.graphs.items()])

    @property
    def similarity(self) -> pa.Table:
        """`GraphDiff.similarity` of every pair of sets, with their names in the columns a and b."""
        return pa.Table.from_pylist(
            [
                {"a": a, "b": b, **row}
                for a, b in itertools.combinations(self.graphs, 2)
                for row in self.diff(a, b).similarity.to_pylist()
            ]
        )

    def diff(self, a: str, b: str, **options: Any) -> GraphDiff:
        """Return the graphs of two sets side by side; `options` and errors are those of `Graph.diff`.

        Raises ArgumentError for a name that is not among the sets.
        """
        for name in (a, b):
            if name not in self.graphs:
                raise ArgumentError(f"{name!r} was not compared; the sets are {', '.join(self.graphs)}")
        return self.graphs[a].diff(self.graphs[b], **options)


def compare_transcoders(
    prompt: PromptLike,
    transcoders: Sequence[str | os.PathLike[str]],
    targets: TargetsLike = None,
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    position: int | Sequence[int] = TraceConfig.position,
    coverage: float = TraceConfig.coverage,
    max_features: int | None = TraceConfig.max_features,
    masked_positions: Sequence[int] | None = TraceConfig.masked_positions,
    memory: int | None = TraceConfig.memory,
    device: str = "auto",
    dtype: DtypeName = "auto",
    progress: bool | None = None,
) -> TranscoderComparison:
    """Trace one prompt with several sets of transcoders of one model, which is loaded once.

    The targets are the same with every set: the likeliest next tokens are those of the model itself.

    Args:
        prompt: as in `Model.trace`.
        transcoders: at least two sets, as `cotrace.load` takes them, such as `["gemma-3-270m-clt", "neurons"]`.
        targets: as in `Model.trace`.
        model: the model they belong to.
        position, coverage, max_features, masked_positions, memory: as in `Model.trace`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: as in `cotrace.load`.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        ArgumentError: fewer than two sets, or one twice.
        CotraceError: as `cotrace.load` and `Model.trace`.
    """
    names = [os.fspath(spec) for spec in ([transcoders] if isinstance(transcoders, str) else transcoders)]
    check_sets(names)
    for name in names:
        find_transcoders(name)  # a misspelt name is reported before anything is loaded
    bars = Progress(progress)
    source = find_source(model, bars)
    arch = read_architecture(source.config())
    with bars.phase("opening transcoders"):
        sets = {name: load_transcoders(name, arch) for name in names}
    language_model = load_language_model(source, device=device, dtype=dtype, progress=progress)
    options: dict[str, Any] = {"coverage": coverage, "max_features": max_features, "memory": memory}
    options |= {"position": position, "masked_positions": masked_positions, "progress": progress}
    return TranscoderComparison(
        {name: Model(language_model, one).trace(prompt, targets, **options) for name, one in sets.items()}
    )


def check_sets(names: Sequence[str]) -> None:
    """Raise ArgumentError unless there are at least two names of transcoders, all different."""
    if len(names) < 2:
        raise ArgumentError(f"{len(names)} set of transcoders: name at least two, such as gemma-3-270m-clt and neurons")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(f"the transcoders {twice} are named twice; name each set once")


def _row(name: str, graph: Graph) -> dict[str, Any]:
    features, errors, _, _ = graph.order.counts
    info = graph.info
    sites = info["model"]["n_layers"] * (len(info["tokens"]) - len(set(info["masked_positions"])))
    return {
        "transcoders": name,
        "features": features,
        "errors": errors,
        "edges": graph.n_edges,
        "per_site": features / max(1, sites),
        "coverage": info["traced"]["coverage"],
        **{score: info["traced"]["scores"][score] for score in ("replacement", "completeness")},
    }
