"""Stores of features as files: schema, reading, cards, labels, search. No torch."""
