"""Rows on their way to disk: the spool gives the CSR of what was put in, and leaves no files."""

import os
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array, vstack

from cotrace.graphs import RowSpool


def temporary_files():
    """Files of ours that this process holds open, by the names they have or had."""
    links = (
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    return [link for link in links if "cotrace-" in link]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spooled_rows_equal_scipys_csr(dtype):
    rng = np.random.default_rng(0)
    spool, expected, width = RowSpool(dtype), [], 30
    for rows, columns in [(4, 7), (1, 1), (0, 5), (3, 0), (9, 30)]:
        block = rng.normal(size=(rows, columns)).astype(dtype) * (rng.random((rows, columns)) < 0.5)
        numbers = np.sort(rng.choice(width, columns, replace=False)).astype(np.int32)
        spool.append(block, numbers)
        whole = np.zeros((rows, width), dtype)
        whole[:, numbers] = block
        expected.append(csr_array(whole))
        spool.append_empty(2)
        expected.append(csr_array((2, width), dtype=dtype))
    wanted = vstack(expected, format="csr")
    for found, array in zip(spool.finish(), (wanted.indptr, wanted.indices, wanted.data), strict=True):
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype or array is wanted.indptr


def test_a_spool_without_rows_and_one_without_edges():
    assert [array.tolist() for array in RowSpool(np.float32).finish()] == [[0], [], []]
    spool = RowSpool(np.float32)
    spool.append(np.zeros((2, 3), np.float32), np.arange(3, dtype=np.int32))
    spool.append_empty(3)
    indptr, indices, weights = spool.finish()
    assert indptr.tolist() == [0] * 6
    assert (indices.dtype, weights.dtype) == (np.int32, np.float32)
    assert len(indices) == len(weights) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: reads /proc, Linux only")
def test_a_spool_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = RowSpool(np.float32)
    spool.append(np.ones((5, 3), np.float32), np.arange(3, dtype=np.int32))
    assert list(tmp_path.iterdir()) == []
    indptr, indices, weights = spool.finish()
    assert list(tmp_path.iterdir()) == []
    assert not [link for link in temporary_files() if str(tmp_path) in link]
    assert not weights.flags.writeable
    del spool
    assert (weights.sum(), indices.sum(), indptr[-1]) == (15, 15, 15)
