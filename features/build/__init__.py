"""From text to a feature store: forward passes, exact counts, examples, output tokens, neighbours."""
