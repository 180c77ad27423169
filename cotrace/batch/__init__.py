"""Trace many prompts, one by one or with Ray, into a folder that can be continued and read as a data set.

import cotrace
cotrace.trace_many("prompts.jsonl", "traces", model="gemma-3-270m", coverage=0.98)
"""

from .run import BatchSummary, trace_many

__all__ = ["BatchSummary", "trace_many"]
