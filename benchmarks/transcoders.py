"""A random but realistic cross-layer transcoder, and circuit-tracer's layout of any.

    python -m benchmarks.transcoders random --model DIR --out DIR
    python -m benchmarks.transcoders convert --transcoders DIR --out DIR

Random weights, reproducible from a seed; thresholds and scales come from the model's own activations
on the benchmark's text, so that the stated number of features is active per layer and position and
reconstructions keep a fixed proportion to the MLP outputs they stand for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

SEED = 0
CALIBRATION = 64  # tokens of the text that thresholds and scales are set on
DECAY = 0.85  # of what a feature writes, from one layer to the next
SHARE = 0.25  # size of reconstructions against MLP outputs: random directions explain nothing, so they stay small


def write_random(model: Path, out: Path, features: int, active: float) -> None:
    """Write a CLT in the Gemma Scope 2 layout, one file a layer, into `out`."""
    inputs, outputs = activations(model)
    n_layers, _, width = inputs.shape
    out.mkdir(parents=True, exist_ok=True)
    encoders = [encoder(inputs[layer], features, active, layer) for layer in range(n_layers)]
    energy = np.array([tensors.pop("energy") for tensors in encoders])
    for layer, tensors in enumerate(encoders):
        tensors["w_dec"] = decoder(layer, features, width, decoder_scales(outputs, energy))
        tensors["b_dec"] = outputs[layer].mean(axis=0)
        save_file(tensors, out / f"params_layer_{layer}.safetensors")


def activations(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the transcoders read and should write on the benchmark's text, (L, P, D) each, without position 0."""
    import torch
    from transformers import AutoModelForCausalLM

    from .prompts import token_ids

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    sites: dict[str, list[np.ndarray]] = {"pre_feedforward_layernorm": [], "post_feedforward_layernorm": []}
    for layer in network.model.layers:
        for name, seen in sites.items():
            hook = lambda module, inputs, output, seen=seen: seen.append(output[0, 1:].numpy())  # noqa: E731
            getattr(layer, name).register_forward_hook(hook)
    with torch.no_grad():
        network(torch.tensor([token_ids(model, CALIBRATION)]))
    read, written = (np.stack(seen) for seen in sites.values())
    return read, written


def encoder(inputs: np.ndarray, features: int, active: float, layer: int) -> dict[str, np.ndarray]:
    """Encoder tensors of one layer, and the mean of a position's summed squared activations as `energy`."""
    random = np.random.default_rng([SEED, layer, 0])
    w_enc = random.standard_normal((inputs.shape[-1], features), dtype=np.float32)
    spread = inputs.std(axis=0)
    w_enc /= np.maximum(spread, 0.01 * spread.mean())[:, None] * np.sqrt(len(w_enc), dtype=np.float32)
    z = inputs @ w_enc
    b_enc = -z.mean(axis=0)
    z += b_enc
    threshold = z.std(axis=0) * np.quantile(z / z.std(axis=0), 1 - active / features).astype(np.float32)
    energy = np.where(z > threshold, z**2, 0).sum(axis=1).mean()
    return {"w_enc": w_enc, "b_enc": b_enc, "threshold": threshold, "energy": energy}


def decoder_scales(outputs: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Scale (L,) of what is written into each layer, for sums of `SHARE` of the centred MLP outputs' size."""
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    wanted = (centred**2).sum(axis=2).mean(axis=1)
    layers = np.arange(len(energy))
    decay = np.tril(DECAY ** (2.0 * (layers[:, None] - layers[None])))
    return SHARE * np.sqrt(wanted / (decay @ energy))


def decoder(layer: int, features: int, width: int, scales: np.ndarray) -> np.ndarray:
    """Decoder (F, L, D) of one layer: zero below it, weaker with distance above."""
    written = len(scales) - layer
    size = scales[layer:] * DECAY ** np.arange(written) / np.sqrt(width)
    w_dec = np.zeros((features, len(scales), width), dtype=np.float32)
    random = np.random.default_rng([SEED, layer, 1])
    w_dec[:, layer:] = random.standard_normal((features, written, width), dtype=np.float32)
    w_dec[:, layer:] *= size.astype(np.float32)[:, None]
    return w_dec


def convert(transcoders: Path, out: Path) -> None:
    """Write a Gemma Scope 2 CLT without skip connections in circuit-tracer's layout."""
    out.mkdir(parents=True, exist_ok=True)
    for layer in range(len(list(transcoders.glob("params_layer_*.safetensors")))):
        tensors = load_file(transcoders / f"params_layer_{layer}.safetensors")
        if "affine_skip_connection" in tensors:
            raise ValueError("circuit-tracer's files have no place for a CLT's skip; use a CLT without one")
        read = {f"W_enc_{layer}": np.ascontiguousarray(tensors["w_enc"].T)}
        read |= {f"{name}_{layer}": tensors[name] for name in ("b_enc", "b_dec", "threshold")}
        save_file(read, out / f"W_enc_{layer}.safetensors")
        written = np.ascontiguousarray(tensors["w_dec"][:, layer:])
        save_file({f"W_dec_{layer}": written}, out / f"W_dec_{layer}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    random = commands.add_parser("random")
    random.add_argument("--model", type=Path, required=True)
    random.add_argument("--features", type=int, default=2048)
    random.add_argument("--active", type=float, default=14, help="mean active features per layer and position")
    converting = commands.add_parser("convert")
    converting.add_argument("--transcoders", type=Path, required=True)
    for command in (random, converting):
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.command == "random":
        write_random(args.model, args.out, args.features, args.active)
    else:
        convert(args.transcoders, args.out)
    if args.report:
        args.report.write_text(json.dumps({"folder": str(args.out)}))


if __name__ == "__main__":
    main()
