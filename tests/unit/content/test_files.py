"""Files that must not change while they are read, and temporary files without names."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from ocisync.content.files import FileGuard, InputFile, Spool
from ocisync.errors import DiskError, Handling, InputChanged, InputError, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "input"
    path.write_bytes(b"0123456789" * 100)
    os.utime(path, (1, 1))
    return path


def test_fault_53_cut_while_it_is_read(path: Path) -> None:
    opened = InputFile(path)
    os.truncate(path, 500)
    with pytest.raises(InputChanged):
        opened.read_at(400, 200)
    with pytest.raises(InputChanged):
        opened.read_into(400, memoryview(bytearray(200)))
    with pytest.raises(InputChanged):
        opened.check()
    opened.close()


def test_fault_53_written_to_while_it_is_read(path: Path) -> None:
    opened = InputFile(path)
    path.write_bytes(b"x" * 1000)
    with pytest.raises(InputChanged) as caught:
        opened.read_at(0, 10)
    assert caught.value.retryable
    with pytest.raises(InputChanged):
        opened.read_into(0, memoryview(bytearray(10)))
    opened.close()


def test_fault_53_replaced_under_its_name(path: Path) -> None:
    opened = InputFile(path)
    other = path.with_name("other")
    other.write_bytes(b"x" * 1000)
    other.replace(path)
    assert opened.read_at(0, 10) == b"0123456789"
    with pytest.raises(InputChanged, match="replaced"):
        opened.check()
    path.unlink()
    with pytest.raises(InputChanged, match="removed"):
        opened.check()
    opened.close()


def test_only_regular_files_are_opened_and_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "", "absent"):
        with pytest.raises(InputError):
            InputFile(tmp_path / name)


def test_a_spool_leaves_nothing_behind(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.write(b"one")
        spool.write(b"two")
        assert spool.read_at(1, 4) == b"netw"
        spool.read_into(1, memoryview(buffer := bytearray(4)))
        assert buffer == b"netw"
        with pytest.raises(DiskError, match="was cut off"):
            spool.read_into(3, memoryview(buffer))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiskError):
        Spool(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["link", "link in the way", "FIFO", "missing"])
def test_below_a_guards_root_no_link_is_followed(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "outside/secret"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    root = tmp_path / "drop"
    (root / "a").mkdir(parents=True)
    path = root / "a/file"
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "link in the way":
        (root / "b").symlink_to(secret.parent)
        path = root / "b/secret"
    elif kind == "FIFO":
        os.mkfifo(path)
    with pytest.raises(InputError, match=path.name):
        InputFile(path, FileGuard(root))


def test_only_the_file_that_was_looked_at_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    seen = path.stat()
    guard = FileGuard(tmp_path, (seen.st_dev, seen.st_ino))
    InputFile(path, guard).close()
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").rename(path)
    with pytest.raises(InputChanged, match="replaced by another file"):
        InputFile(path, guard)


def test_fault_56_no_descriptor_left_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(StoreError, match="no descriptor is left") as told:
            InputFile(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (told.value.code, told.value.handling) == ("limit.files", Handling.RETRY)
