"""circuit-tracer's side, a script for the peer's environment: it imports nothing of this project.

    PEER_PYTHON -I benchmarks/peer_circuit_tracer.py trace --model DIR --clt DIR --tokens 2 818 … --graph G.pt …
    PEER_PYTHON -I benchmarks/peer_circuit_tracer.py open --graph G.pt …
    PEER_PYTHON -I benchmarks/peer_circuit_tracer.py export --graph G.pt …

`export` writes `adjacency.npy` and `nodes.npz` beside the graph; numpy reads them without unpickling.
`-I` keeps this folder off the import path.
"""

import argparse
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("circuit-tracer", "torch", "transformers", "nnsight")


def timed(call):
    """What `call` returns, and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def old_config(config):
    """The config with rotary settings as transformers 4 reads them, which the peer is pinned to."""
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
    """A copy of the model's folder by links, with a config that the peer's transformers reads in full."""
    for path in source.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(old_config(config)))
    return str(folder)


def load(model, clt):
    """The peer's replacement model in float32, with its default of decoders read lazily."""
    import torch
    from circuit_tracer import ReplacementModel
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt

    place = {"device": torch.device("cpu"), "dtype": torch.float32}
    transcoder = load_clt(str(clt), feature_input_hook="mlp.hook_in", feature_output_hook="hook_mlp_out", **place)
    with tempfile.TemporaryDirectory() as folder:
        name = link_model(model, Path(folder))
        return ReplacementModel.from_pretrained_and_transcoders(name, transcoder, backend="nnsight", **place)


def trace(args):
    """Load, attribute with every feature expanded, save."""
    import torch
    from circuit_tracer import attribute

    model, load_seconds = timed(lambda: load(args.model, args.clt))
    settings = {"max_n_logits": 10, "desired_logit_prob": 0.95, "max_feature_nodes": None, "verbose": True}
    tokens = torch.tensor(args.tokens)
    graph, seconds = timed(lambda: attribute(tokens, model, batch_size=args.batch, **settings))
    _, save_seconds = timed(lambda: graph.to_pt(str(args.graph)))
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "save_seconds": save_seconds,
        "file_bytes": args.graph.stat().st_size,
        "features": len(graph.selected_features),
        "nodes": len(graph.adjacency_matrix),
        "edges": int(graph.adjacency_matrix.count_nonzero()),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def open_and_prune(args):
    """Open the saved graph and prune it at the usual thresholds."""
    from circuit_tracer.graph import Graph, prune_graph

    graph, open_seconds = timed(lambda: Graph.from_pt(str(args.graph)))
    kept, prune_seconds = timed(lambda: prune_graph(graph, node_threshold=0.8, edge_threshold=0.98))
    return {
        "open_seconds": open_seconds,
        "prune_seconds": prune_seconds,
        "kept_nodes": int(kept.node_mask.sum()),
        "kept_edges": int(kept.edge_mask.sum()),
    }


def export(args):
    """Dense adjacency and node names as plain numpy files."""
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
    tracing.add_argument("--clt", type=Path, required=True)
    tracing.add_argument("--tokens", type=int, nargs="+", required=True)
    tracing.add_argument("--batch", type=int, default=64)
    opening, exporting = commands.add_parser("open"), commands.add_parser("export")
    for command, function in ((tracing, trace), (opening, open_and_prune), (exporting, export)):
        command.add_argument("--graph", type=Path, required=True)
        command.add_argument("--report", type=Path, required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.report.write_text(json.dumps(args.function(args)))


if __name__ == "__main__":
    main()
