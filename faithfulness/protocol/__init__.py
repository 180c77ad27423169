"""Comparison of measures of faithfulness: metrics, intervals, nulls and folds. Knows nothing about models."""

from cotrace.faithfulness.protocol.folds import AXES, Fold, calibrated, folds
from cotrace.faithfulness.protocol.resampling import (
    Clusters,
    balanced,
    bootstrap_weights,
    interval,
    p_value,
    permuted_shares,
)
from cotrace.faithfulness.protocol.summary import SummaryConfig, summarize, twin_pairs
from cotrace.faithfulness.protocol.table import SCHEMA, ScoreMatrix, join_scores, numbered, read_scores, write_scores

__all__ = [
    "AXES",
    "SCHEMA",
    "Clusters",
    "Fold",
    "ScoreMatrix",
    "SummaryConfig",
    "balanced",
    "bootstrap_weights",
    "calibrated",
    "folds",
    "interval",
    "join_scores",
    "numbered",
    "p_value",
    "permuted_shares",
    "read_scores",
    "summarize",
    "twin_pairs",
    "write_scores",
]
