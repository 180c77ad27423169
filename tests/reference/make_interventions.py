"""Make reference interventions on the tiny model with circuit-tracer; `tests/test_reference_cases.py` reads them.

    PEER_PYTHON -I tests/reference/make_interventions.py

It runs in circuit-tracer's environment, and imports only the script of the benchmarks that loads model and transcoders.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).parent
CASES = {"clt_24": "clt_circuit_tracer", "plt_affine_24": "plt_circuit_tracer"}
MODES = {  # as the test names them
    "none": {"freeze_attention": False},
    "attention": {"freeze_attention": True},
    "all": {"freeze_attention": True, "constrained_layers": True},
}


def import_loader():
    """Import `benchmarks/run_circuit_tracer.py`, which is a script."""
    path = HERE.parent.parent / "benchmarks" / "run_circuit_tracer.py"
    spec = importlib.util.spec_from_file_location("run_circuit_tracer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interventions(case):
    """Return edits of active features at several layers and positions, and of one that is not active."""
    active = case["active_features"]
    chosen = active[np.linspace(0, len(active) - 1, 7).astype(int)]
    values = [0.0, 2.5, 0.0, -1.0, 4.0, 0.0, 1.5]
    rows = [(*map(int, row), value) for row, value in zip(chosen, values, strict=True)]
    layer, position, _ = chosen[3]
    taken = {tuple(row) for row in active.tolist()}
    silent = next(f for f in range(128) if (layer, position, f) not in taken)
    return [*rows, (int(layer), int(position), silent, 3.0)]


def main():
    """Write `interventions/CASE.npz`."""
    peer = import_loader()
    (HERE / "interventions").mkdir(exist_ok=True)
    for name, transcoders in CASES.items():
        case = dict(np.load(HERE / "cases" / f"{name}.npz"))
        args = SimpleNamespace(model=HERE / "model", transcoders=HERE / transcoders, device="cpu")
        model = peer.load(args)
        prompt = model.tokenizer.decode(case["input_ids"])  # without freezing it takes texts only
        rows = interventions(case)
        assert model.tokenizer(prompt).input_ids == case["input_ids"].tolist()
        found = {"input_ids": case["input_ids"], "changes": np.array(rows)}
        for mode, options in MODES.items():
            if "constrained_layers" in options:
                options = options | {"constrained_layers": range(model.cfg.n_layers)}
            logits, activations = model.feature_intervention(prompt, rows, **options)
            found[f"logits_{mode}"] = logits[0].float().numpy()
            if mode != "all":  # circuit-tracer computes them from the features' inputs, cotrace reports the frozen ones
                found[f"activations_{mode}"] = activations.float().numpy()
        np.savez_compressed(HERE / "interventions" / f"{name}.npz", **found)
        print(name, {key: value.shape for key, value in found.items()})


if __name__ == "__main__":
    main()
