"""`RowWriter`: it returns the CSR of the rows that it was given, and leaves no files."""

import os
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

from cotrace.graphs import RowWriter
from cotrace.graphs.csr import CSR, edges_of_rows
from cotrace.graphs.rows import SparseRows, in_node_order, rows_of_block


def temporary_files():
    """Return the names of cotrace's temporary files that this process has open."""
    links = (
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    return [link for link in links if "cotrace-" in link]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("room", [0, 1000])
def test_written_rows_equal_scipys_csr(dtype, room):
    """Write blocks of rows from the last to the first, with missing rows in between."""
    rng, width = np.random.default_rng(0), 30
    whole, blocks = np.zeros((25, width), dtype), []
    for nodes, columns in [([22, 23], 7), ([21], 1), ([], 5), ([9, 12, 20], 0), ([*range(9)], 30)]:
        block = rng.normal(size=(len(nodes), columns)).astype(dtype) * (rng.random((len(nodes), columns)) < 0.5)
        numbers = np.sort(rng.choice(width, columns, replace=False)).astype(np.int32)
        whole[np.ix_(np.array(nodes, int), numbers)] = block
        blocks.append((np.array(nodes, int), block, numbers))
    writer = RowWriter(dtype, len(whole), np.count_nonzero(whole) + room)
    for block in blocks:
        writer.prepend(rows_of_block(*block))
    wanted = csr_array(whole)
    for found, array in zip(writer.finish(), (wanted.indptr, wanted.indices, wanted.data), strict=True):
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype or array is wanted.indptr


def test_a_writer_without_rows_and_one_without_edges():
    assert [array.tolist() for array in RowWriter(np.float32, 0, 0).finish()] == [[0], [], []]
    writer = RowWriter(np.float32, 5, 15)
    writer.prepend(rows_of_block(np.arange(2), np.zeros((2, 3), np.float32), np.arange(3, dtype=np.int32)))
    indptr, indices, weights = writer.finish()
    assert indptr.tolist() == [0] * 6
    assert (indices.dtype, weights.dtype) == (np.int32, np.float32)
    assert len(indices) == len(weights) == 0


def test_rows_in_another_order_fail_an_assertion():
    writer = RowWriter(np.float32, 5, 100)
    one = np.ones((1, 1), np.float32), np.zeros(1, np.int32)
    writer.prepend(rows_of_block(np.array([3]), *one))
    for nodes in ([3], [4], [5]):
        with pytest.raises(AssertionError, match="from the last to the first"):
            writer.prepend(rows_of_block(np.array(nodes), *one))


def test_a_full_disk_is_one_clear_error(monkeypatch):
    writer = RowWriter(np.float32, 5, 10**6)

    class Full:
        def seek(self, place):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_files", [Full(), Full()])
    with pytest.raises(ValueError, match=r"No space left on device.*TMPDIR"):
        writer.prepend(rows_of_block(np.array([3]), np.ones((1, 1), np.float32), np.zeros(1, np.int32)))


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: counts blocks of a Linux file system")
def test_only_written_parts_take_disk_space(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    writer = RowWriter(np.float32, 5, 10**9)
    writer.prepend(rows_of_block(np.arange(5), np.ones((5, 3), np.float32), np.arange(3, dtype=np.int32)))
    assert [os.fstat(file.fileno()).st_size for file in writer._files] == [4 * 10**9] * 2
    assert all(os.fstat(file.fileno()).st_blocks * 512 < 10**6 for file in writer._files)
    indptr, indices, weights = writer.finish()
    assert (indptr[-1], indices.tolist(), weights.tolist()) == (15, [0, 1, 2] * 5, [1] * 15)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: reads /proc, Linux only")
def test_a_writer_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    writer = RowWriter(np.float32, 5, 15)
    writer.prepend(rows_of_block(np.arange(5), np.ones((5, 3), np.float32), np.arange(3, dtype=np.int32)))
    assert list(tmp_path.iterdir()) == []
    indptr, indices, weights = writer.finish()
    assert list(tmp_path.iterdir()) == []
    assert not [link for link in temporary_files() if str(tmp_path) in link]
    assert not weights.flags.writeable
    del writer
    assert (weights.sum(), indices.sum(), indptr[-1]) == (15, 15, 15)


def test_more_edges_than_the_disk_holds_are_one_clear_error():
    writer = RowWriter(np.float32, 5, 2)
    with pytest.raises(ValueError, match=r"do not fit into .*set TMPDIR"):
        writer.prepend(rows_of_block(np.arange(2), np.ones((2, 3), np.float32), np.arange(3, dtype=np.int32)))


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_two_kinds_come_in_node_order(seed):
    rng = np.random.default_rng(seed)
    whole = (rng.normal(size=(12, 9)) * (rng.random((12, 9)) < 0.4)).astype(np.float32)
    mine = rng.random(12) < 0.5
    columns = np.arange(9, dtype=np.int32)
    parts = [rows_of_block(np.flatnonzero(mask), whole[mask], columns) for mask in (mine, ~mine)]
    merged, expected = in_node_order(*parts), csr_array(whole)
    assert merged.node_T.tolist() == list(range(12))
    assert merged.count_T.tolist() == np.diff(expected.indptr).tolist()
    assert np.array_equal(merged.indices_E, expected.indices)
    assert np.array_equal(merged.weights_E, expected.data)
    for part, found in zip(parts, (merged.only(mine), merged.only(~mine)), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, part, strict=True))
    empty = SparseRows(*(array[:0] for array in merged))
    assert in_node_order(empty, merged) is merged
    assert in_node_order(merged, empty) is merged
    chosen = np.array([7, 2, 2, 11])
    edges = edges_of_rows(expected.indptr, chosen)
    assert expected.indices[edges].tolist() == [c for row in chosen for c in expected[[row]].indices.tolist()]
    rows = CSR(expected.indptr, expected.indices, expected.data).select_rows(chosen)
    assert np.array_equal(csr_array((rows.weights, rows.indices, rows.indptr), (4, 9)).toarray(), whole[chosen])
