"""Run one trainer of cross-layer transcoders on random examples that are the same for all trainers.

    PYTHON -P benchmarks/train_baselines.py cotrace|dense|decode_clt --layers 18 --width 832 … --report FILE

`cotrace` is this project's trainer, `dense` the same step with dense arrays, `decode_clt` the trainer of the package
decode-clt (`pip install --no-deps decode-clt==0.0.1` in an environment with torch). Its dictionary has no affine skip
connection, so none of the three trains one. All use float32, Adam and BatchTopK.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], float]


def cotrace_step(args: argparse.Namespace) -> Step:
    """Return the training step of cotrace."""
    from cotrace.training import TrainingConfig
    from cotrace.training.activations import MLPActivations
    from cotrace.training.trainer import Trainer

    config = TrainingConfig(
        width=args.width, target_l0=args.active, batch_tokens=args.batch, affine=False, tokens=10**9
    )
    trainer = Trainer(config, args.layers, args.d_model, torch.device(args.device))
    trainer.initialize(MLPActivations(*examples(args, 4 * args.batch)))
    return lambda x_LPD, y_LPD: trainer.train_step(x_LPD, y_LPD)["loss"]


def dense_step(args: argparse.Namespace) -> Step:
    """Return the same training step with dense matrix products; inactive features are zeros."""
    generator = torch.Generator().manual_seed(1)

    def parameter(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator) * args.d_model**-0.5
        return values.to(args.device).requires_grad_()

    n, width, d = args.layers, args.width, args.d_model
    w_enc, b_enc = [parameter(d, width) for _ in range(n)], [parameter(width) for _ in range(n)]
    w_dec = [[parameter(width, d) for _ in range(n - source)] for source in range(n)]
    optimizer = torch.optim.Adam([*w_enc, *b_enc, *(w for decoders in w_dec for w in decoders)], lr=1e-3, fused=True)

    def step(x_LPD: Tensor, y_LPD: Tensor) -> float:
        active = []
        for x_PD, w, b in zip(x_LPD, w_enc, b_enc, strict=True):
            z_PF = (x_PD @ w + b).relu()
            kth = z_PF.detach().flatten().topk(args.active * len(z_PF), sorted=False).values.min()
            active.append(torch.where(z_PF >= kth, z_PF, 0))
        loss = torch.zeros((), device=args.device)
        for layer, y_PD in enumerate(y_LPD):
            decoded = sum(active[source] @ w_dec[source][layer - source] for source in range(layer + 1))
            loss = loss + (decoded - y_PD).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def decode_clt_step(args: argparse.Namespace) -> Step:
    """Return the training step of decode-clt: its model and loss, with the same optimizer."""
    from clt.config import CLTConfig
    from clt.models.clt import CrossLayerTranscoder

    config = CLTConfig(
        num_features=args.width,
        num_layers=args.layers,
        d_model=args.d_model,
        activation_fn="batchtopk",
        batchtopk_k=args.active * args.layers,  # k counts the features of all layers together
        clt_dtype="float32",
    )
    model = CrossLayerTranscoder(config, None, torch.device(args.device))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(x_LPD: Tensor, y_LPD: Tensor) -> float:
        outputs = model(dict(enumerate(x_LPD)))
        loss = sum((outputs[layer] - y_PD).square().mean() for layer, y_PD in enumerate(y_LPD))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def examples(args: argparse.Namespace, n_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random inputs and outputs (L, n, D), the same for all trainers."""
    generator = torch.Generator().manual_seed(seed)
    shape = (args.layers, n_tokens, args.d_model)
    x_LND, y_LND = (torch.randn(shape, generator=generator) for _ in range(2))
    return x_LND.to(args.device), y_LND.to(args.device)


TRAINERS = {"cotrace": cotrace_step, "dense": dense_step, "decode_clt": decode_clt_step}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", choices=TRAINERS)
    for name in ("layers", "width", "d-model", "active", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    step, seconds, losses = TRAINERS[args.trainer](args), [], []
    for number in range(args.steps + 1):  # the first one warms up and is not counted
        batch = examples(args, args.batch, seed=1 + number)
        start = time.perf_counter()
        losses.append(step(*batch))  # returns a number, so the GPU has finished
        seconds.append(time.perf_counter() - start)
    versions = {"torch": torch.__version__}
    if args.trainer == "decode_clt":
        versions["decode-clt"] = version("decode-clt")
    args.report.write_text(json.dumps({"step_seconds": seconds[1:], "losses": losses, "versions": versions}))


if __name__ == "__main__":
    main()
