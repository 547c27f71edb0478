"""What a file looks like that only lacks its end."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from ocisync.drop.completeness import is_open_for_writing, looks_incomplete
from ocisync.drop.rule import DropRule, DropTarget
from ocisync.drop.scan import FolderEntry, scan


def _tar(size: int = 50_000) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("layer.tar")
        member.size = size
        archive.addfile(member, io.BytesIO(b"y" * size))
    return buffer.getvalue()


def _entry(folder: Path, data: bytes) -> FolderEntry:
    (folder / "a.tar").write_bytes(data)
    (entry,) = scan(DropRule("r", folder, (DropTarget("t"),))).entries
    return entry


def _old_tar() -> bytes:
    header = bytearray(_tar(9_000)[:512])
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"y" * 9_000 + bytes(216) + bytes(1024)


WHOLE, V7 = _tar(), _old_tar()


@pytest.mark.parametrize(
    ("data", "incomplete"),
    [
        pytest.param(WHOLE, False, id="a whole tar, in records of 10 KiB"),
        pytest.param(WHOLE.rstrip(b"\0") + bytes(1024), False, id="a whole tar that ends in two blocks, as docker's"),
        pytest.param(WHOLE[:30_000], True, id="a tar cut off"),
        pytest.param(WHOLE[:30_000] + bytes(30_000), True, id="a tar in reserved space"),
        pytest.param(bytes(4096), True, id="reserved space without data"),
        pytest.param(b"", True, id="an empty file"),
        pytest.param(gzip.compress(WHOLE)[:60], True, id="a compressed tar cut off"),
        pytest.param(gzip.compress(WHOLE), False, id="a whole compressed tar"),
        pytest.param(gzip.compress(WHOLE[:30_000]), True, id="a tar that was cut off before it was compressed"),
        pytest.param(gzip.compress(b"this is no archive " * 90), False, id="something else, compressed"),
        pytest.param(zstandard.compress(WHOLE)[:-4], True, id="zstd, which does not tell its end"),
        pytest.param(zstandard.compress(WHOLE), False, id="whole zstd"),
        pytest.param(WHOLE[:5], True, id="a part of the first name"),
        pytest.param(WHOLE[:90], True, id="no whole name field"),
        pytest.param(WHOLE[:200], True, id="no whole header"),
        pytest.param(WHOLE[:512], True, id="one header"),
        pytest.param(b"\x1f", True, id="the first byte of gzip"),
        pytest.param(V7[:5_000], True, id="a tar of the seventh Unix, which has no magic, cut off"),
        pytest.param(V7, False, id="such a tar, whole"),
        pytest.param(b"this is no archive " * 90, False, id="something else"),
        pytest.param(b"404 page not found\n", False, id="a short text"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", False, id="a pointer of Git LFS"),
    ],
)
def test_what_may_lack_its_end(tmp_path: Path, data: bytes, incomplete: bool) -> None:
    assert looks_incomplete(_entry(tmp_path, data)) == incomplete


def test_a_file_that_is_open_for_writing_is_known_where_the_system_tells(tmp_path: Path) -> None:
    entry = _entry(tmp_path, WHOLE)
    assert not is_open_for_writing(entry)
    with Path(entry.path).open("rb"):
        assert not is_open_for_writing(entry)
    with Path(entry.path).open("ab"):
        assert is_open_for_writing(entry) == (os.uname().sysname == "Linux")
    assert not is_open_for_writing(entry)
