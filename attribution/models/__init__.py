"""Gemma 3 models: loading, tokenizer, masked positions, memory, and the one forward pass."""
