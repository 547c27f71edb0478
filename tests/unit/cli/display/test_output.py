"""Renderings for people."""

from __future__ import annotations

import pytest

from ocisync.cli.display.output import counted, local_time, printable, table
from ocisync.model.text.quantities import size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**4, "3.0 TiB")],
)
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert size_text(count) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("A", "B"), ("long", "x")]) == "A     B\nlong  x"


def test_nothing_that_moves_a_cursor_is_printed() -> None:
    assert printable("a\x1b[2Jb\nc") == "a?[2Jb?c"


def test_never_is_said_in_a_word() -> None:
    assert local_time(None) == "never"


@pytest.mark.parametrize(("moment", "text"), [(1e9, "2001-09-0"), (9e18, "after the year 9999")])
def test_a_time_is_that_of_this_machine(moment: float, text: str) -> None:
    assert local_time(moment).startswith(text)


def test_one_is_no_plural() -> None:
    assert [counted(1, "rule"), counted(2, "rule")] == ["1 rule", "2 rules"]
