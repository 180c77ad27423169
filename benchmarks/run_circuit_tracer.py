"""The measured steps of circuit-tracer: a script for its environment that imports nothing of this project.

    PEER_PYTHON -I benchmarks/run_circuit_tracer.py trace --model DIR --transcoders DIR --tokens 2 818 … --graph G.pt …
    PEER_PYTHON -I benchmarks/run_circuit_tracer.py open|export|prune|sources --graph G.pt …
    PEER_PYTHON -I benchmarks/run_circuit_tracer.py rows --model DIR --transcoders DIR --features FEATURES.json …

`trace --patched` replaces the gather that takes most of its time. `export` writes `adjacency.npy` and `nodes.npz` beside
the graph; numpy reads them without unpickling. `prune` reads the matrix that `benchmarks.run_cotrace adjacency` wrote
beside its graph. `-I` keeps this folder off the import path.
"""

import argparse
import json
import logging
import platform
import re
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

START = time.perf_counter()
PACKAGES = ("circuit-tracer", "torch", "transformers", "nnsight")
PHASES = {  # line in its log: name of the phase in the results, the same for all programs
    "Precomputation": "forward and encode",  # includes its gather of decoders
    "Forward pass": "forward and encode",
    "Input vectors": "collecting",
    "Logit attributions": "rows",
    "Feature attributions": "rows",
}
PRUNE_THRESHOLDS = {"node_threshold": 0.8, "edge_threshold": 0.98}
REPEATS, LONG_CALL_SECONDS = 3, 5.0


def timed(call):
    """Return the result of a call, and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def old_config(config):
    """Return the config with rotary settings as transformers 4 reads them, the version circuit-tracer needs."""
    config = dict(config)
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return config
    full, sliding = rope["full_attention"], rope["sliding_attention"]
    scaling = {key: value for key, value in full.items() if key != "rope_theta"}
    config["rope_theta"], config["rope_local_base_freq"] = full["rope_theta"], sliding["rope_theta"]
    config["rope_scaling"] = None if full["rope_type"] == "default" else scaling
    return config


def link_model(source, folder):
    """Link the model's files into a folder with a config for transformers 4; return the folder."""
    for path in source.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(old_config(config)))
    return str(folder)


def load(args):
    """Return circuit-tracer's replacement model in float32, which reads decoders lazily by default."""
    import torch
    from circuit_tracer import ReplacementModel

    options = {"device": torch.device(args.device), "dtype": torch.float32}
    hooks = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    cross_layer = (args.transcoders / "W_enc_0.safetensors").exists()
    transcoders = (load_cross_layer if cross_layer else load_per_layer)(args.transcoders, hooks | options)
    with tempfile.TemporaryDirectory() as folder:
        name = link_model(args.model, Path(folder))
        return ReplacementModel.from_pretrained_and_transcoders(name, transcoders, backend="nnsight", **options)


def load_per_layer(folder, options):
    """Load per-layer transcoders."""
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set

    n_layers = len(list(folder.glob("layer_*.safetensors")))
    paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(n_layers)}
    return load_transcoder_set(paths, scan=None, **options)


def load_cross_layer(folder, options):
    """Load a CLT and its skip connection, which circuit-tracer's own loader ignores."""
    import torch
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
    from safetensors.torch import load_file

    clt = load_clt(str(folder), **options)
    if (folder / "W_skip.safetensors").exists():
        clt.W_skip = torch.nn.Parameter(load_file(folder / "W_skip.safetensors")["W_skip"].to(clt.b_dec))
        clt.skip_connection = True
    return clt


def patch():
    """Replace the gather of one gradient per decoder entry by one matrix product per position."""
    from circuit_tracer.attribution.context_nnsight import AttributionContext

    AttributionContext.compute_feature_attributions = contract_by_position


def contract_by_position(context, layer, grads):
    """Add the products of gradients and decoders, which are sorted by position once."""
    n_positions = context.activation_matrix.shape[1]
    if not hasattr(context, "starts"):
        sort_decoders(context, n_positions)
    for position in range(n_positions):
        start, stop = context.starts[layer * n_positions + position : layer * n_positions + position + 2]
        if start < stop:
            rows = context.decoder_vecs[start:stop] @ grads[:, position].to(context.decoder_vecs.dtype).T
            context._batch_buffer[context.encoder_to_decoder_map[start:stop]] += rows


def sort_decoders(context, n_positions):
    """Sort decoders by the layer and position that they write to."""
    import torch

    layers, positions = context.decoder_locations
    site, order = torch.sort(layers * n_positions + positions, stable=True)
    context.decoder_vecs = context.decoder_vecs[order]
    context.encoder_to_decoder_map = context.encoder_to_decoder_map[order]
    context.decoder_locations = context.decoder_locations[:, order]
    edges = torch.arange(context.n_layers * n_positions + 1, device=site.device)
    context.starts = torch.searchsorted(site, edges).tolist()


def record_phases():
    """Return a dict that the log of circuit-tracer fills with the seconds of every phase."""
    seconds = {}

    def record_phase(record):
        match = re.fullmatch(r"(.+) (?:completed|built) in ([\d.]+)s", record.getMessage())
        if match and match[1] in PHASES:
            phase = PHASES[match[1]]
            seconds[phase] = seconds.get(phase, 0.0) + float(match[2])
        return True

    logging.getLogger("attribution").addFilter(record_phase)  # a handler would replace its own output
    return seconds


def trace(args):
    """Load the model, attribute with every feature expanded or the most influential ones, and save the graph."""
    import torch
    from circuit_tracer import attribute

    if args.patched:
        patch()
    model, load_seconds = timed(lambda: load(args))
    settings = {"max_n_logits": 10, "desired_logit_prob": 0.95, "verbose": True}
    settings["max_feature_nodes"] = args.max_feature_nodes
    tokens, phases = torch.tensor(args.tokens, device=args.device), record_phases()
    args.report.write_text(json.dumps({"started_after": time.perf_counter() - START}))  # for a run that gets stopped
    graph, seconds = timed(lambda: attribute(tokens, model, batch_size=args.batch, **settings))
    _, save_seconds = timed(lambda: graph.to_pt(str(args.graph)))
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "save_seconds": save_seconds,
        "phases": phases | {"finishing": max(seconds - sum(phases.values()), 0.0)},
        "file_bytes": args.graph.stat().st_size,
        "features": len(graph.selected_features),
        "rows": len(graph.selected_features),
        "nodes": len(graph.adjacency_matrix),
        "edges": int(graph.adjacency_matrix.count_nonzero()),
        **({"device_peak_bytes": torch.cuda.max_memory_allocated()} if args.device == "cuda" else {}),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def rows(args):
    """Compute one batch of rows of given features a few times; return the median seconds."""
    import torch

    wanted = json.loads(args.features.read_text())
    model, tokens = load(args), torch.tensor(wanted["ids"])
    context = model.setup_attribution(tokens)
    model.run_forward_pass(tokens, len(wanted["features"]), context)
    indices = context.activation_matrix.coalesce().indices()
    index = {tuple(triple): n for n, triple in enumerate(indices.T.tolist())}
    chosen = torch.tensor([index[tuple(feature)] for feature in wanted["features"]])
    layers, positions, _ = indices[:, chosen]

    def batch():
        return context.compute_batch(layers, positions, context.encoder_vecs[chosen], retain_graph=True)

    batch()
    seconds = [timed(batch)[1] for _ in range(wanted["repeats"])]
    return {
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "versions": {name: version(name) for name in PACKAGES},
    }


def open_and_prune(args):
    """Open the saved graph and prune it at the default thresholds."""
    from circuit_tracer.graph import Graph, prune_graph

    graph, open_seconds = timed(lambda: Graph.from_pt(str(args.graph), map_location="cpu"))
    kept, prune_seconds = timed(lambda: prune_graph(graph, **PRUNE_THRESHOLDS))
    return {
        "open_seconds": open_seconds,
        "prune_seconds": prune_seconds,
        "kept_nodes": int(kept.node_mask.sum()),
        "kept_edges": int(kept.edge_mask.sum()),
    }


def prune(args):
    """Measure influence and the selection of nodes and edges on the dense matrix of cotrace's graph."""
    import numpy as np
    import torch
    from circuit_tracer.graph import compute_node_influence, prune_graph

    sizes = json.loads(args.graph.with_name("adjacency.json").read_text())
    graph = SimpleNamespace(
        adjacency_matrix=torch.from_numpy(np.load(args.graph.with_name("adjacency.npy"))),
        input_tokens=range(sizes["tokens"]),
        logit_targets=range(sizes["logits"]),
        selected_features=range(sizes["features"]),
        logit_probabilities=torch.tensor(sizes["weights"]),
    )
    weights = torch.zeros(len(graph.adjacency_matrix))
    weights[-sizes["logits"] :] = graph.logit_probabilities
    influence, influence_seconds = repeated(lambda: compute_node_influence(graph.adjacency_matrix, weights))
    kept, prune_seconds = repeated(lambda: prune_graph(graph, **PRUNE_THRESHOLDS))
    return {
        "influence_seconds": influence_seconds,
        "prune_seconds": prune_seconds,
        "influence_sum": float(influence.sum()),
        "kept_nodes": int(kept.node_mask.sum()),
        "kept_edges": int(kept.edge_mask.sum()),
    }


def sources(args):
    """Return the influence of each token and of all error nodes, by its own function, from the saved graph.

    Token columns are multiplied by sqrt(D) first: Gemma scales its embeddings, and circuit-tracer omits that.
    """
    import torch
    from circuit_tracer.graph import Graph, compute_node_influence

    graph = Graph.from_pt(str(args.graph))
    matrix, n_tokens, n_logits = graph.adjacency_matrix, len(graph.input_tokens), len(graph.logit_targets)
    features, stop = len(graph.selected_features), len(matrix) - n_logits
    matrix[:, stop - n_tokens : stop] *= graph.cfg.d_model**0.5
    weights = torch.zeros(len(matrix))
    weights[stop:] = graph.logit_probabilities
    influence = compute_node_influence(matrix, weights)
    tokens, errors = influence[stop - n_tokens : stop], influence[features : stop - n_tokens]
    return {"tokens": tokens.tolist(), "errors": float(errors.sum())}


def repeated(call):
    """Return the result of a call, and the median seconds of a few more calls, or its own if it takes long."""
    value, seconds = timed(call)
    taken = [timed(call)[1] for _ in range(REPEATS if seconds < LONG_CALL_SECONDS else 0)]
    return value, statistics.median(taken or [seconds])


def export(args):
    """Write the dense adjacency and the nodes as plain numpy files."""
    import numpy as np
    from circuit_tracer.graph import Graph

    graph, folder = Graph.from_pt(str(args.graph)), args.graph.parent
    np.save(folder / "adjacency.npy", graph.adjacency_matrix.numpy())
    np.savez(
        folder / "nodes.npz",
        token_ids=graph.input_tokens.numpy(),
        features=graph.active_features[graph.selected_features].numpy(),
        logits=graph.logit_token_ids.numpy(),
        n_layers=graph.cfg.n_layers,
        d_model=graph.cfg.d_model,
    )
    return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    tracing = commands.add_parser("trace")
    tracing.add_argument("--model", type=Path, required=True)
    tracing.add_argument("--transcoders", type=Path, required=True)
    tracing.add_argument("--tokens", type=int, nargs="+", required=True)
    tracing.add_argument("--batch", type=int, default=64)
    tracing.add_argument("--device", default="cpu")
    tracing.add_argument("--patched", action="store_true")
    tracing.add_argument("--max-feature-nodes", type=int)
    batch = commands.add_parser("rows")
    batch.add_argument("--model", type=Path, required=True)
    batch.add_argument("--transcoders", type=Path, required=True)
    batch.add_argument("--features", type=Path, required=True)
    batch.add_argument("--report", type=Path, required=True)
    batch.set_defaults(function=rows, device="cpu")
    steps = {"open": open_and_prune, "export": export, "prune": prune, "sources": sources}
    for command, function in ((tracing, trace), *((commands.add_parser(name), steps[name]) for name in steps)):
        command.add_argument("--graph", type=Path, required=True)
        command.add_argument("--report", type=Path, required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.report.write_text(json.dumps(args.function(args)))


if __name__ == "__main__":
    main()
