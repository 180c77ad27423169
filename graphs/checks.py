"""Checks of everything in a graph that a corrupt file, or an edit, could get wrong."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError, FileError

from .annotations import node_groups
from .data import GraphData, csr_of
from .labels import RANKS
from .order import KINDS, NodeKind
from .saved_heads import check_heads
from .schema import DRAWS, EFFECTS, HEADS, LABELS, LEFT_OUT, NULLABLE_VALUES, SAMPLED, VALUES, schema
from .segments import parse_segments

MOST_REPLICATES = (
    10_000  # more than any merged graph has; a hostile file without draws could ask for any amount of memory
)


def check_table(table: pa.Table) -> None:
    """Raise FileError unless a table has the columns of a graph with valid values; ArrowException for damaged arrays."""
    check_types(table.schema)
    table.validate(full=True)
    _check_values(table)


def check_graph(graph: GraphData) -> None:
    """Raise FileError unless the nodes, edges and metadata of a graph fit together.

    All functions of a graph rely on what is checked here. `check_table` must have passed before.
    """
    check_nodes(graph, graph.nodes)
    check_edges(graph, graph.nodes)


def check_types(found: pa.Schema) -> None:
    """Raise FileError unless a table has exactly the columns of a graph, with or without effects, in their order."""
    weights = found.field(found.names.index("weights")).type if "weights" in found.names else pa.null()
    if not (pa.types.is_list(weights) or pa.types.is_large_list(weights)):
        raise FileError("its column 'weights' is missing or not a list; it was edited, trace the prompt again")
    groups = EFFECTS, (HEADS,), (LEFT_OUT,), SAMPLED, (DRAWS,)
    optional = [any(name in found.names for name in group) for group in groups]
    expected = schema(weights.value_type, pa.types.is_large_list(weights), *optional)
    shown = [str(field) for field in found]  # equality ignores the names of list items
    if weights.value_type not in (pa.float32(), pa.float64()) or shown != [str(field) for field in expected]:
        wrong = [field.name for field in expected if str(field) not in shown] or ["extra ones, or another order"]
        raise FileError(f"its columns are not those of a graph ({', '.join(wrong)}); trace the prompt again")


def check_nodes(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless the nodes of a graph, whose table is `nodes`, and its metadata fit together."""
    _check_order(graph, nodes)
    _check_sites(graph, nodes)
    _check_labels(graph, nodes)
    _check_info(graph)
    _check_effects(graph, nodes)
    _check_sampling(graph, nodes)


def _check_values(nodes: pa.Table) -> None:
    """Raise FileError unless complete columns have no nulls, all numbers are finite and kinds are those of a graph."""
    columns = {name: nodes[name].chunk(0) for name in nodes.column_names}
    complete = [columns[field.name] for field in nodes.schema if not field.nullable]
    complete += [columns[name].values for name in ("sources", "weights")]
    if any(column.null_count for column in complete):
        raise FileError("a column that must be complete has nulls; trace the prompt again")
    values = [name for name in (*NULLABLE_VALUES, *VALUES, *SAMPLED, LEFT_OUT) if name in columns]
    if not all(np.isfinite(columns[name].fill_null(0.0).to_numpy()).all() for name in values):
        raise FileError("its nodes have values that are not finite; trace the prompt again")
    sizes = [columns[name].fill_null(0.0) for name in ("influence_bound", *SAMPLED, LEFT_OUT) if name in columns]
    if any((column.to_numpy() < 0).any() for column in sizes):
        raise FileError(
            "its nodes have negative bounds or errors of influence or negative sizes; trace the prompt again"
        )
    if columns["kind"].dictionary.to_pylist() != list(KINDS):
        raise FileError("its node kinds are not those of a graph; trace the prompt again")


def _check_order(graph: GraphData, nodes: pa.Table) -> None:
    order = graph.order
    codes = nodes["kind"].chunk(0).indices.to_numpy()
    if not np.array_equal(codes, order.kind_codes()):
        raise FileError("its nodes are not in the order features, errors, tokens, logits; trace the prompt again")
    if not np.array_equal(nodes["node"].to_numpy(), np.arange(order.n_nodes)):
        raise FileError("its node numbers are not 0, 1, 2, …; trace the prompt again")


def _check_sites(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless layers, positions and features exist for the right kinds, are in range, sorted and unique."""
    n_layers, n_positions = graph.info["model"]["n_layers"], len(graph.info["token_ids"])
    needs = {"layer": (NodeKind.FEATURE, NodeKind.ERROR), "position": tuple(NodeKind), "feature": (NodeKind.FEATURE,)}
    sites = {name: graph.column(name, missing=-1) for name in needs}
    for name, kinds in needs.items():
        wanted = graph.order.has_kind(*kinds)
        if not np.array_equal(sites[name] >= 0, wanted) or nodes[name].null_count != (~wanted).sum():
            raise FileError(
                f"its column {name!r} has values where it should have none, or lacks some; trace the prompt again"
            )
    if (sites["layer"] >= n_layers).any() or (sites["position"] >= n_positions).any():
        raise FileError("a node lies outside the model's layers or the prompt; trace the prompt again")
    for part in (graph.order.features, graph.order.errors, graph.order.tokens):
        steps = np.diff([sites[name][part].astype(np.int64) for name in ("layer", "position", "feature")])
        first = np.take_along_axis(steps, (steps != 0).argmax(axis=0)[None], axis=0)
        if (first <= 0).any():
            raise FileError("its nodes are not sorted by layer, position and feature; trace the prompt again")


def _check_labels(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless only features and error nodes have labels, in place of texts, and each a known source."""
    has_label_M, has_source_M, has_text_M = (pc.binary_length(nodes[name]).to_numpy() > 0 for name in (*LABELS, "text"))
    labelled = graph.order.has_kind(NodeKind.FEATURE, NodeKind.ERROR)
    if has_label_M[~labelled].any() or has_text_M[labelled].any():
        raise FileError("a token or target has a label, or a feature a text; trace the prompt again")
    known = pc.all(pc.is_in(nodes["label_source"], value_set=pa.array(RANKS, pa.string()))).as_py()
    if not np.array_equal(has_label_M, has_source_M) or known is False:
        raise FileError("a label has no source or an unknown one, or a source no label; trace the prompt again")


def _check_effects(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless effects, if there are any, are a finite number for each target, null for logits only."""
    n_targets, is_logit = len(graph.info["targets"]), graph.order.has_kind(NodeKind.LOGIT)
    for name in (name for name in EFFECTS if name in nodes.column_names):
        column = nodes[name].chunk(0)
        lengths = np.where(column.is_null().to_numpy(zero_copy_only=False), -1, np.diff(column.offsets.to_numpy()))
        if not np.array_equal(lengths, np.where(is_logit, -1, n_targets)):
            raise FileError(f"its column {name!r} does not have a number for each target; trace the prompt again")
        if column.values.null_count or not np.isfinite(column.values.to_numpy()).all():
            raise FileError(f"its column {name!r} has values that are not finite; trace the prompt again")


def _check_sampling(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless columns of sampled rows are probabilities and draws of features, and fit the metadata."""
    sampling, is_feature = graph.info["traced"].get("sampling"), graph.order.has_kind(NodeKind.FEATURE)
    if not (sampling is not None) == graph.estimated >= graph.sampled:
        raise FileError("it lacks columns or metadata of sampled rows; trace the prompt again")
    if sampling is None:
        return
    seeds, sizes = sampling["seeds"], [sampling[name] for name in ("rows", "rows_added", "features", "span_error")]
    in_range = 2 <= sampling["replicates"] <= MOST_REPLICATES
    if not (len(set(seeds)) == len(seeds) > 0 and in_range and min(*sizes, *seeds) >= 0):
        raise FileError("its record of sampled rows is damaged; trace the prompt again")
    inclusion = nodes["inclusion"].chunk(0)
    has_value_M = inclusion.is_valid().to_numpy(zero_copy_only=False)
    if not np.array_equal(has_value_M, is_feature) or (inclusion.fill_null(0.0).to_numpy() > 1).any():
        raise FileError("its column 'inclusion' does not have a probability for each feature; trace the prompt again")
    if graph.sampled:
        _check_draws(graph, nodes[DRAWS].chunk(0), sampling["replicates"])


def _check_draws(graph: GraphData, column: pa.Array, n_replicates: int) -> None:
    """Raise FileError unless draws are a factor for each replicate, 0 or at least 1, of features whose rows are there."""
    drawn_M = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.diff(column.offsets.to_numpy())[drawn_M]
    if (drawn_M & ~(graph.computed & graph.order.has_kind(NodeKind.FEATURE))).any() or (lengths != n_replicates).any():
        raise FileError(
            "its column 'draws' does not have a factor in each replicate for features that were computed; trace the "
            "prompt again"
        )
    factors = column.drop_null().flatten()
    values = factors.to_numpy(zero_copy_only=False)
    if factors.null_count or not np.isfinite(values).all() or not ((values >= 1) | (values == 0)).all():
        raise FileError("its column 'draws' has factors that are neither 0 nor at least 1; trace the prompt again")
    assert graph.draws is not None
    if not (graph.draws.factor_DR > 0).any(axis=1).all():
        raise FileError("its column 'draws' lists rows that no replicate drew; trace the prompt again")


def _check_info(graph: GraphData) -> None:
    info, order = graph.info, graph.order
    if not len(info["tokens"]) == len(info["token_ids"]) == order.n_tokens > info["position"] >= 0:
        raise FileError("its prompt does not fit its nodes; trace the prompt again")
    weights = {target["node"]: target["weight"] for target in info["targets"]}
    if not len(weights) == len(info["targets"]) > 0 or any(weight < 0 for weight in weights.values()):
        raise FileError("it has no targets, a target twice or one of negative weight; trace the prompt again")
    for node, weight in weights.items():
        is_feature, is_logit = (part.start <= node < part.stop for part in (order.features, order.logits))
        if not (is_logit or (is_feature and weight > 0)):
            raise FileError("a target is neither a logit nor a feature of the graph; trace the prompt again")
    if abs(sum(weights.values()) - 1) > 1e-3:
        raise FileError("its target weights do not sum to 1; trace the prompt again")
    try:
        parse_segments(info.get("segments"), order.n_tokens)
    except ArgumentError as error:
        raise FileError(f"its segments are damaged ({error}); trace the prompt again") from error
    try:
        distinct = len(node_groups(graph)) == len(info.get("groups", []))
    except ArgumentError as error:
        raise FileError(f"a group is damaged ({error}); trace the prompt again") from error
    if not distinct:
        raise FileError("two groups have one name; trace the prompt again")


def check_edges(graph: GraphData, nodes: pa.Table) -> None:
    """Raise FileError unless the edges in the table `nodes` are those of a graph: sorted, finite, from lower to higher."""
    layers = graph.column("layer", missing=-1).astype(np.int64)
    layers[graph.order.logits] = graph.info["model"]["n_layers"]
    has_row = graph.order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    csr = csr_of(nodes)
    problem = _edge_problem(*csr, layers, has_row)
    weight_offsets = nodes["weights"].chunk(0).offsets.to_numpy()
    if problem or not np.array_equal(csr.row_lengths(), np.diff(weight_offsets)):
        raise FileError(f"its edges are damaged ({problem or 'sources and weights differ'}); trace the prompt again")
    check_heads(graph, nodes)


@compiled
def _edge_problem(indptr, indices, weights, layers, has_row):
    """Return the first problem with the edges, or an empty string."""
    if len(indices) != len(weights) or indptr[0] != 0 or indptr[-1] != len(indices):
        return "sources and weights differ in length"
    for row in range(len(indptr) - 1):
        last = -1
        if indptr[row] != indptr[row + 1] and not has_row[row]:
            return "an error or token has incoming edges"
        for edge in range(indptr[row], indptr[row + 1]):
            source = indices[edge]
            if source <= last or source >= len(layers):
                return "sources are not ascending node numbers"
            last = source
            if layers[source] >= layers[row]:
                return "an edge does not run from a lower to a higher layer"
            if not np.isfinite(weights[edge]):
                return "a weight is not finite"
    return ""
