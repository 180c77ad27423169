"""Small circuits of reports made by hand: two features at the value of each segment, and one where the answer is read."""

from collections.abc import Mapping, Sequence

import numpy as np

from cotrace.graphs import CSR, Graph, NodeKind, NodeOrder
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.labels import output_label
from cotrace.graphs.nodes import Feature
from cotrace.graphs.schema import EFFECTS, build_table

N_LAYERS, READ_LAYER, READ_FEATURE = 4, 2, 5


def report_graph(tokens: Sequence[str], segments: Sequence[Mapping], links: Mapping[tuple[str, str], float]) -> Graph:
    """Return the circuit of a report.

    At the last token of each segment's value, or of the segment, feature 10 + i of layer 0 reads the token, and feature
    20 + i of layer 1 the features of the segments that it is linked to. Feature 5 of layer 2 reads those of the answer, where
    the answer is predicted.
    """
    named = {row["name"]: row for row in segments if row["role"] != "answer"}
    answer = next(row for row in segments if row["role"] == "answer")
    anchor = {name: row["value_last"] if row.get("value") else row["last"] for name, row in named.items()}
    read = answer["value_first"] - 1
    numbers = {name: i for i, name in enumerate(anchor)}
    features = [(0, position, 10 + numbers[name]) for name, position in anchor.items()]
    features += [(1, position, 20 + numbers[name]) for name, position in anchor.items()]
    features += [(READ_LAYER, read, READ_FEATURE)]
    order = NodeOrder(len(features), len(anchor), len(tokens), 1)
    token = order.tokens.start
    rows: list[dict[int, float]] = [{token + position: 1.0} for position in anchor.values()]
    for name in anchor:
        into = {source: share for (target, source), share in links.items() if target == name and source in anchor}
        rows.append({numbers[name]: 0.2} | {numbers[source]: share for source, share in into.items()})
    n = len(anchor)
    rows.append({n + numbers[s]: share for (t, s), share in links.items() if t == "answer" and s in anchor})
    rows += [{}] * (order.n_errors + order.n_tokens)
    rows.append({order.n_features - 1: float(answer["margin"])})
    info = _info(tokens, segments, answer, read, order)
    graph = Graph(_table(order, features, anchor, rows, info, answer), info)
    said = {site: [tokens[site[1]].strip() or "space", f"about {tokens[site[1]].strip()}"] for site in features}
    labels = {Feature(layer, feature, at): output_label(said[layer, at, feature]) for layer, at, feature in features}
    graph.add_labels(labels, "outputs")
    return graph


def _table(order: NodeOrder, features, anchor, rows, info, answer):
    codes, size = order.kind_codes(), order.n_nodes
    errors = [(1, position, 0) for position in anchor.values()]
    tokens = [(-1, position, 0) for position in range(order.n_tokens)]
    layer, position, feature = np.array([*features, *errors, *tokens, (N_LAYERS, info["position"], 0)]).T
    not_feature, has_row = codes != NodeKind.FEATURE, order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    sums = np.array([sum(row.values()) for row in rows])
    effect = np.zeros(order.n_editable)
    effect[order.features] = 0.3 + sums[order.features]
    columns = {
        "layer": np.ma.masked_array(layer, codes > NodeKind.ERROR),
        "position": np.ma.masked_array(position),
        "feature": np.ma.masked_array(feature, not_feature),
        "token": np.ma.masked_array(np.arange(size) % 9, codes < NodeKind.TOKEN),
        "text": [""] * (order.n_features + order.n_errors) + info["tokens"] + [info["targets"][0]["label"]],
        "activation": np.ma.masked_array(1 + sums, not_feature),
        "pre_activation": np.ma.masked_array(sums, ~has_row),
        "bias": np.ma.masked_array(np.zeros(size), ~has_row),
        "probability": np.ma.masked_array(np.full(size, 0.5), codes != NodeKind.LOGIT),
        "influence": np.append(np.abs(effect), 0) / max(1, size),
        "influence_bound": np.zeros(size),
        "dropped": np.zeros(size),
        "computed": has_row,
        EFFECTS[0]: effect[None],
        EFFECTS[1]: -effect[None],
    }
    ordered = [sorted(row.items()) for row in rows]
    indices = np.array([source for row in ordered for source, _ in row], np.int32)
    weights = np.array([weight for row in ordered for _, weight in row], np.float32)
    return build_table(order, columns, CSR(indptr_of([*map(len, rows)]), indices, weights), info)


def _info(tokens, segments, answer, read: int, order: NodeOrder) -> dict:
    target = {"node": order.logits.start, "kind": "difference", "weight": 1.0, "probability": None, "position": read}
    return {
        "model": {"name": "made by hand", "n_layers": N_LAYERS},
        "transcoders": {"name": "made by hand"},
        "prompt": "".join(tokens[1:]),
        "token_ids": list(range(len(tokens))),
        "tokens": list(tokens),
        "position": read,
        "masked_positions": [0],
        "targets": [target | {"label": f"{answer['value']} - {answer['foil']}"}],
        "settings": {"segments": {row["name"]: [*range(row["first"], row["last"] + 1)] for row in segments}},
        "traced": {
            "nodes": order.n_nodes,
            "edges": 0,
            "coverage": 1.0,
            "bound": 0.0,
            "scores": {"replacement": 0.8, "completeness": 0.9},
        },
        "pruning": None,
        "versions": {},
    }
