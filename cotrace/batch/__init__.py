"""Trace many prompts, one by one or with Ray, or compare many transcripts, into a folder that is a data set and can be resumed.

import cotrace
cotrace.trace_many("prompts.jsonl", "traces", model="gemma-3-270m", coverage=0.98)
"""

from .compare import CompareSummary, compare_many
from .run import BatchSummary, trace_many

__all__ = ["BatchSummary", "CompareSummary", "compare_many", "trace_many"]
