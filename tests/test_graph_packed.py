"""Compressed graph files: they never unpack to more than they declare, than is plausible, or than the disk has."""

import errno
import io
import shutil

import pyarrow as pa
import pytest
from helpers.random_graphs import random_graph

import cotrace
from cotrace.common.errors import FileError, ResourceError
from cotrace.graphs import packed

MEBIBYTE = bytes(2**20)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "graph.arrow.zst"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The bytes of a graph file."""
    return random_graph(7).save(tmp_path_factory.mktemp("plain") / "graph.arrow").read_bytes()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The sizes of all writes to temporary files."""
    sizes = []

    class CountedFile(io.FileIO):
        def write(self, data):
            sizes.append(len(data))
            return super().write(data)

    monkeypatch.setattr(packed.tempfile, "TemporaryFile", lambda **_: CountedFile(tmp_path / "unpacked", "w+"))
    return sizes


def pack(path, *parts):
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as sink:
        for part in parts:
            sink.write(part)
    return path


def refusal(path, match, error=FileError):
    with pytest.raises(error, match=match) as caught:
        cotrace.open(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def declaring(plain, body_bytes):
    """Return the bytes of a graph file whose record batch declares another length of its body."""
    head, limit = packed.read_head(pa.BufferReader(plain))
    declared = limit - 2 * len(head) - packed.FOOTER_BYTES
    assert head.count(declared.to_bytes(8, "little")) == 1
    return plain.replace(declared.to_bytes(8, "little"), body_bytes.to_bytes(8, "little", signed=True), 1)


def test_packed_files_are_smaller_and_the_same(tmp_path):
    graph = random_graph(7, n_layers=6, n_positions=30, n_features=500, n_errors=100, density=1.0)
    plain, packed_file = (graph.save(tmp_path / name) for name in ("a.arrow", "a.arrow.zst"))
    assert packed_file.stat().st_size < 0.8 * plain.stat().st_size
    assert cotrace.open(packed_file).nodes.equals(graph.nodes, check_metadata=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.arrow", "a.arrow.zst"]


def test_the_limit_is_close_to_the_size(plain):
    _, limit = packed.read_head(pa.BufferReader(plain))
    assert len(plain) <= limit < len(plain) + 2**17


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_packed_file_is_refused(plain, path, share):
    pack(path, plain)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refusal(path, "truncated")


BOMBS = {
    "zeros": (lambda plain: [MEBIBYTE] * 128, "not an Arrow file"),
    "zeros after the magic": (lambda plain: [packed.ARROW_MAGIC, *[MEBIBYTE] * 128], "not an Arrow file"),
    "zeros after a graph": (lambda plain: [plain, *[MEBIBYTE] * 128], "more than the .* it declares"),
    "a huge body": (lambda plain: [declaring(plain, 2**40), *[MEBIBYTE] * 128], "200 times its size"),
    "a negative body": (lambda plain: [declaring(plain, -1), *[MEBIBYTE] * 128], "not an Arrow file"),
    "a huge message": (
        lambda plain: [packed.ARROW_MAGIC, b"\xff\xff\xff\xff\xff\xff\xff\x7f", *[MEBIBYTE] * 128],
        "not an Arrow file",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_written(plain, path, written, name):
    parts, message = BOMBS[name]
    pack(path, *parts(plain))
    assert path.stat().st_size < 2**16
    refusal(path, message)
    assert sum(written) <= len(plain)


@pytest.mark.parametrize("content", [b"", b"\x28\xb5", b"\x1f\x8b\x08\x00" + bytes(99), b"ARROW1\0\0" + bytes(99)])
def test_other_bytes_under_the_name_of_a_packed_file(path, written, content):
    path.write_bytes(content)
    refusal(path, "not compressed by Zstandard")
    assert not written


def test_a_file_that_would_fill_the_disk_is_refused_before_it_is_written(plain, path, written, monkeypatch):
    pack(path, plain)
    free = shutil.disk_usage(path.parent)._replace(free=len(plain) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    refusal(path, "set TMPDIR", ResourceError)
    assert not written


def test_a_disk_that_another_process_fills(plain, path, tmp_path, monkeypatch):
    class FullFile(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    pack(path, plain)
    monkeypatch.setattr(packed.tempfile, "TemporaryFile", lambda **_: FullFile(tmp_path / "unpacked", "w+"))
    refusal(path, "set TMPDIR", ResourceError)


def test_a_truncated_graph_in_a_whole_packed_file_is_called_truncated(plain, path):
    pack(path, plain[: len(plain) // 2])
    refusal(path, "truncated or not an Arrow file")
