"""Evidence on whether stated values decide an answer: edits within a budget of passes, and verdicts from their outcomes."""
