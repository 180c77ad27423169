"""Atomic writes: whole files under any number of writers, on the disk before they appear."""

import os
import threading
from pathlib import Path

import pytest

from cotrace.common.errors import FileError
from cotrace.common.files import atomic_write, locked, publish_folder


def write(path, content):
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def test_writers_of_one_path_do_not_share_a_temporary_name(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_save_to_one_path(tmp_path):
    path, contents = tmp_path / "file", [bytes([number]) * 10_000 for number in range(8)]
    errors, seen = [], set()

    def save(content):
        try:
            for _ in range(25):
                write(path, content)
                seen.add(path.read_bytes())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        steps.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_replace(source, target):
        steps.append(("replace", str(target)))
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("NOT TESTED: reads /proc, Linux only")
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write(tmp_path / "file", b"content")
    (kind, name), *others = steps
    assert kind == "fsync"
    assert name.endswith(".part")
    assert others == [("replace", str(tmp_path / "file")), ("fsync", str(tmp_path))]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes of files")
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_keeps_its_mode_and_is_private_while_it_is_written(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["a" * 250, "é" * 120])
def test_a_long_name(tmp_path, name):
    write(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content"


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_paths_that_name_no_file(name, tmp_path):
    with pytest.raises(FileError, match="does not name a file"), atomic_write(Path(name)):
        pass


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileError, match="No such file"), atomic_write(tmp_path / "file"):
        pass


def folder_with(path, content):
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text(content)
    return path


def test_a_folder_replaces_an_older_one_only_if_it_may(tmp_path):
    target = folder_with(tmp_path / "target", "old")
    with pytest.raises(OSError, match="not empty"):
        publish_folder(folder_with(tmp_path / "new", "new"), target)
    assert (target / "deep" / "file").read_text() == "old"
    publish_folder(tmp_path / "new", target, replace=True)
    assert (target / "deep" / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_lock_is_held_by_one_thread_at_a_time(tmp_path):
    events, waiting = [], threading.Event()

    def work():
        with locked(tmp_path / "lock", waiting.set):
            events.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(60)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]
