"""Compare what a graph predicts with what ablations do in the model."""
