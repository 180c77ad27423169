"""cotrace: trace circuits in Gemma 3 models.

    import cotrace
    model = cotrace.load("gemma-3-270m")
    graph = model.trace("The opposite of hot is")
    graph.prune().render("circuit.svg")
    cotrace.trace_many("prompts.jsonl", "traces", model=model)
    model.intervene("The opposite of hot is", {cotrace.Feature(12, 345, position=4): cotrace.ablate()})

Opening and drawing graphs does not import torch. The names below that need it are imported when they are first used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cotrace.common.errors import (
    ArgumentError,
    CotraceError,
    CotraceWarning,
    DependencyError,
    FileError,
    HubError,
    PromptError,
    ResourceError,
)
from cotrace.faithfulness.report.files import has_report, take_report
from cotrace.faithfulness.report.report import Report
from cotrace.graphs import AttentionScore, Effects, Graph, open_graph
from cotrace.graphs.diff.diff import GraphDiff
from cotrace.graphs.head_loadings import HeadLoadings
from cotrace.graphs.nodes import ErrorNode, Feature, Token
from cotrace.graphs.pages import PageMaker, register_pages

if TYPE_CHECKING:
    from cotrace.attribution.interventions.edits import (
        Direction,
        Edit,
        Supernode,
        TokenReplacement,
        ablate,
        add,
        multiply,
        nodes_of,
        replace_with,
        set_to,
    )
    from cotrace.attribution.interventions.generate import Generation
    from cotrace.attribution.interventions.patch import PatchResult
    from cotrace.attribution.interventions.result import InterventionResult
    from cotrace.attribution.interventions.span_edits import Donor, Swap
    from cotrace.attribution.tracing.plan import TracePlan
    from cotrace.batch import BatchSummary, CompareSummary, compare_many, trace_many
    from cotrace.dictionary import FeatureDictionary, load_dictionary
    from cotrace.evaluation import evaluate_transcoders
    from cotrace.faithfulness.transcripts import Segment, Transcript
    from cotrace.feature_building import build_features
    from cotrace.features.store import FeatureCard, FeatureLabel, FeatureStore
    from cotrace.graphs.exchange.feature_files import read_feature_file
    from cotrace.graphs.exchange.from_networkx import from_networkx
    from cotrace.graphs.exchange.importing import import_graph
    from cotrace.loading import load
    from cotrace.model import Model
    from cotrace.transcoder_comparison import TranscoderComparison, compare_transcoders

__version__ = "0.1.0"
__all__ = [  # without `open`: `from cotrace import *` must not replace the built-in
    "ArgumentError",
    "AttentionScore",
    "BatchSummary",
    "CompareSummary",
    "CotraceError",
    "CotraceWarning",
    "DependencyError",
    "Direction",
    "Donor",
    "Edit",
    "Effects",
    "ErrorNode",
    "Feature",
    "FeatureCard",
    "FeatureDictionary",
    "FeatureLabel",
    "FeatureStore",
    "FileError",
    "Generation",
    "Graph",
    "GraphDiff",
    "HeadLoadings",
    "HubError",
    "InterventionResult",
    "Model",
    "PatchResult",
    "PromptError",
    "Report",
    "ResourceError",
    "Segment",
    "Supernode",
    "Swap",
    "Token",
    "TokenReplacement",
    "TracePlan",
    "TranscoderComparison",
    "Transcript",
    "__version__",
    "ablate",
    "add",
    "build_features",
    "compare_many",
    "compare_transcoders",
    "evaluate_transcoders",
    "from_networkx",
    "import_graph",
    "load",
    "load_dictionary",
    "merge",
    "multiply",
    "nodes_of",
    "read_feature_file",
    "replace_with",
    "set_to",
    "trace_many",
]

EDITS = "cotrace.attribution.interventions.edits"
SPAN_EDITS = "cotrace.attribution.interventions.span_edits"
LAZY_MODULES = {"faithfulness": "cotrace.faithfulness", "organisms": "cotrace.organisms"}  # import torch
LAZY_IMPORTS = {  # name: the module that defines it; most import torch
    "BatchSummary": "cotrace.batch",
    "CompareSummary": "cotrace.batch",
    "FeatureDictionary": "cotrace.dictionary",
    "Generation": "cotrace.attribution.interventions.generate",
    "InterventionResult": "cotrace.attribution.interventions.result",
    "Model": "cotrace.model",
    "PatchResult": "cotrace.attribution.interventions.patch",
    "Segment": "cotrace.faithfulness.transcripts",
    "TracePlan": "cotrace.attribution.tracing.plan",
    "TranscoderComparison": "cotrace.transcoder_comparison",
    "Transcript": "cotrace.faithfulness.transcripts",
    "build_features": "cotrace.feature_building",
    "compare_many": "cotrace.batch",
    "compare_transcoders": "cotrace.transcoder_comparison",
    "evaluate_transcoders": "cotrace.evaluation",
    "from_networkx": "cotrace.graphs.exchange.from_networkx",
    "import_graph": "cotrace.graphs.exchange.importing",
    "read_feature_file": "cotrace.graphs.exchange.feature_files",
    "load": "cotrace.loading",
    "load_dictionary": "cotrace.dictionary",
    "trace_many": "cotrace.batch",
    **dict.fromkeys(("FeatureCard", "FeatureLabel", "FeatureStore"), "cotrace.features.store"),
    **dict.fromkeys(("Direction", "Edit", "Supernode", "TokenReplacement"), EDITS),
    **dict.fromkeys(("Donor", "Swap"), SPAN_EDITS),
    **dict.fromkeys(("ablate", "add", "multiply", "nodes_of", "replace_with", "set_to"), EDITS),
}


def _page_maker() -> PageMaker:
    from cotrace.viewer.page import pages

    return pages


register_pages(_page_maker)


def open(path: str | os.PathLike[str], *, verify: bool = True) -> Graph | Report:
    """Open the file of a graph or a report: check it and map it into memory.

    `verify` compares its contents with the checksums in the file. `cotrace.graphs.open_graph` opens the circuit of a report as
    a graph. Raises FileError for a file that is missing, damaged, or neither.
    """
    graph = open_graph(path, verify=verify)
    return Report.from_dict(*take_report(graph, Path(path))) if has_report(graph) else graph


def merge(graphs: Iterable[Graph]) -> Graph:
    """Return the sampled graph of all rows and replicates of several, with smaller errors; see `Graph.merge`.

    Args:
        graphs: two or more graphs that were traced with `sampled=True` and different seeds, and not pruned. Labels, groups and
            notes are those of the first.

    Raises ArgumentError, which says what differs, for graphs that are not samples of one graph.
    """
    given = [graphs] if isinstance(graphs, Graph) else list(graphs)
    if len(given) < 2 or not all(isinstance(graph, Graph) for graph in given):
        raise ArgumentError("merge takes a list of two or more graphs: open their files with cotrace.open")
    return given[0].merge(*given[1:])


def __getattr__(name: str) -> Any:
    """Import a name that needs torch."""
    if name in LAZY_MODULES:
        return import_module(LAZY_MODULES[name])
    module = LAZY_IMPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'cotrace' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    """Return the public names, including those that are not imported yet."""
    return sorted({*__all__, "open"})
