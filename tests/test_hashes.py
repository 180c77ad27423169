"""Hashes of model files: cached while a file stays as it is, and forgotten with it."""

import hashlib
import json
import os

import pytest

from cotrace.attribution.models import hashing


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the file of an empty cache."""
    monkeypatch.setenv("COTRACE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "hashes.json"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_hash_is_that_of_the_hashes_of_all_files(cache, tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode())
    assert hashing.content_hash(paths) == sha256((sha256(b"a") + sha256(b"b")).encode())
    assert sorted(json.loads(cache.read_text()).values()) == sorted([sha256(b"a"), sha256(b"b")])


def test_a_file_is_read_again_when_it_changes_and_not_before(cache, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    first = hashing.content_hash([path])
    cache.write_text(cache.read_text().replace(sha256(b"old"), sha256(b"as cached")))
    assert hashing.content_hash([path]) == sha256(sha256(b"as cached").encode()) != first
    path.write_bytes(b"newer")
    assert hashing.content_hash([path]) == sha256(sha256(b"newer").encode())


def test_what_another_process_cached_is_seen(cache, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    assert hashing.content_hash([path]) == hashing.content_hash([path])
    stat = path.stat()
    other = cache.with_name("other")
    other.write_text(json.dumps({f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}": sha256(b"theirs")}))
    os.replace(other, cache)
    assert hashing.content_hash([path]) == sha256(sha256(b"theirs").encode())


def test_files_that_are_gone_are_forgotten(cache, tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"x")
        hashing.content_hash([path])
    paths[0].unlink()
    (tmp_path / "c").write_bytes(b"y")
    hashing.content_hash([tmp_path / "c"])
    assert {key.rsplit(":", 2)[0] for key in json.loads(cache.read_text())} == {
        str(path.resolve()) for path in (paths[1], tmp_path / "c")
    }
