"""Readers on damaged files: all errors are a `CotraceError`, in one line. `make fuzz` tries many more."""

import pytest
from helpers.fuzz import READERS, fuzz

MUTATIONS = 100


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name):
    outcomes, faults = fuzz(name, MUTATIONS)
    assert not faults, "\n".join(faults)
    assert outcomes["read"] + outcomes["refused"] == MUTATIONS
    assert outcomes["refused"] > 0 or name == "hashes"  # a cache is never refused, but made again
