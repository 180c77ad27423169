"""Compare stated with internal reasoning: from a transcript to a report."""
