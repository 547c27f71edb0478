"""Which errors are told, and as what."""

from __future__ import annotations

import errno

import pytest

from ocisync.errors import Handling, NetworkError, NotFound, find_ours


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EMFILE, "limit.files"),
        (errno.ENFILE, "limit.files"),
        (errno.ENOMEM, "limit.memory"),
        (errno.EAGAIN, "limit.threads"),
        (errno.EIO, "disk"),
        (errno.ESTALE, "disk"),
        (errno.EACCES, "disk"),
        (errno.ETIMEDOUT, "disk"),
        (errno.ENOSPC, "disk"),
    ],
)
def test_fault_56_trouble_of_the_machine_is_told_as_that_and_passes(number: int, code: str) -> None:
    told = find_ours(OSError(number, "said by the system"), "drop/app.tar")
    assert told is not None
    assert (told.code, told.handling) == (code, Handling.RETRY)
    assert told.message.startswith("drop/app.tar: ")


def test_memory_and_threads_that_end_are_told() -> None:
    codes = [
        getattr(find_ours(error, "x"), "code", "") for error in (MemoryError(), RuntimeError("can't start new thread"))
    ]
    assert codes == ["limit.memory", "limit.threads"]


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("other"), OSError("no number"), UnicodeError("x")])
def test_what_nobody_expected_is_a_defect(error: Exception) -> None:
    assert find_ours(error, "x") is None
    assert find_ours(ExceptionGroup("", [error, NotFound("y")]), "x") is None


def test_of_a_group_the_first_is_told() -> None:
    first = NetworkError("gone")
    assert find_ours(ExceptionGroup("", [ExceptionGroup("", [first]), OSError(errno.EIO, "z")]), "x") is first
