"""Evidence of whether stated values decide an answer: edits, nulls and donors within a budget of passes, and verdicts from them."""
