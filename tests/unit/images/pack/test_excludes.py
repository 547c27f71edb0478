"""Which names a pattern leaves out."""

from __future__ import annotations

import pytest

from ocisync.errors import ConfigError
from ocisync.images.pack.excludes import Excludes, parse_exclude_file


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("*.o", ["a.o", "x/y/b.o"], ["a.oo", "o", "a.o/b"]),
        ("/tmp", ["tmp"], ["a/tmp/b"]),
        ("var/*", ["var/x"], ["var", "var/x/y", "a/var/x"]),
        ("var/**", ["var/x", "var/x/y"], ["var", "variable"]),
        ("**/cache", ["cache", "a/b/cache"], ["mycache"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["az", "a/bz"]),
        ("file?", ["file1", "d/file2"], ["file", "file/x"]),
        ("[ab]c", ["ac", "x/bc"], ["cc"]),
        ("[!ab]c", ["cc"], ["ac"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a+(b", ["a+(b"], ["aab"]),
        ("dir/", ["dir", "x/dir"], ["dir2"]),
        ("k*e", ["käse"], []),
    ],
)
def test_patterns(pattern: str, matched: list[str], not_matched: list[str]) -> None:
    excludes = Excludes([pattern])
    assert [name for name in matched if not excludes.match(name.encode())] == []
    assert [name for name in not_matched if excludes.match(name.encode())] == []


def test_no_pattern_leaves_nothing_out() -> None:
    assert not Excludes().match(b"")
    assert not Excludes(["", "/"]).match(b"a")
    assert Excludes(["a", "b"]).match(b"b")
    assert Excludes(["*x"]).match(b"\xff x")


def test_a_range_that_is_none() -> None:
    with pytest.raises(ConfigError, match="malformed"):
        Excludes(["[z-a]"])


def test_files_of_patterns() -> None:
    assert parse_exclude_file("# comment\n\n *.o \nvar/cache\n") == ["*.o", "var/cache"]
