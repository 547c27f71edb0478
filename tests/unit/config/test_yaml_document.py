"""YAML as values with lines, and what is refused before any model sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.config.yaml_document import MAX_DEPTH, SyntaxProblem, parse_document


def problem(text: str) -> str:
    with pytest.raises(SyntaxProblem) as caught:
        parse_document(text)
    return caught.value.problem.format("c.yaml")


def test_every_key_and_item_knows_its_line() -> None:
    found = parse_document("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    assert found.value == {"a": {"b": 1, "c": ["x", {"d": 2}]}}
    assert [found.line_of(path) for path in [("a",), ("a", "b"), ("a", "c", 0), ("a", "c", 1, "d")]] == [1, 2, 4, 5]
    assert found.line_of(("a", "c", "absent")) == 3


def test_plain_scalars_follow_yaml_1_2() -> None:
    found = parse_document('[no, on, 1:30, 2024-01-01, true, ~, 12, 3.10, 0777, "5", !!str 6, 1e3]')
    assert found.value == ["no", "on", "1:30", "2024-01-01", True, None, 12, 3.1, 777, "5", "6", 1000.0]
    assert found.texts[(7,)] == "3.10"


def test_merge_keys_give_defaults_with_their_own_lines() -> None:
    found = parse_document("x-a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  b: 3\ne:\n  <<: [*a, {f: 4}]\n")
    assert isinstance(found.value, dict)
    assert found.value["d"] == {"b": 3, "c": 2}
    assert found.value["e"] == {"b": 1, "c": 2, "f": 4}
    assert found.line_of(("d", "c")) == 1
    assert not found.problems


def test_duplicate_keys_are_all_told() -> None:
    found = parse_document("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert [one.format("f") for one in sorted(found.problems)] == [
        "f:2: b.c: the key appears twice, first on line 2. Remove one",
        "f:3: a: the key appears twice, first on line 1. Remove one",
    ]


def test_aliases_cannot_explode() -> None:
    levels = "".join(f"x-{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    assert "more than 50000 values" in problem(f"x-0: &a0 [{','.join('1' * 10)}]\n{levels}")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 5_000 + "x"])
def test_nesting_is_capped(text: str) -> None:
    assert f"nested more than {MAX_DEPTH} deep" in problem(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:\n\t- b\n", "c.yaml:2: a tab indents this line. YAML wants spaces: replace the tab"),
        ("a: *b\n", "c.yaml:1: the alias *b has no anchor above it. Define &b first"),
        ("a: &b [*b]\n", "c.yaml:1: the alias *b has no anchor above it. Define &b first"),
        ("a: 1\n---\nb: 1\n", "c.yaml:2: a second document begins here. Keep one document in the file"),
        (
            "a: !!python/object/new:x {}\n",
            "c.yaml:1: the tag tag:yaml.org,2002:python/object/new:x is not supported. Remove it",
        ),
        ("a: !!binary aGk=\n", "c.yaml:1: the tag tag:yaml.org,2002:binary is not supported. Remove it"),
    ],
)
def test_clear_refusals(text: str, told: str) -> None:
    assert problem(text) == told


@pytest.mark.parametrize("text", ['a: "b\n', "a: b: c\n", "a: [\n", "a: \x01\n", "a: @x\n"])
def test_broken_yaml_has_a_line_and_a_remedy(text: str) -> None:
    assert problem(text).startswith("c.yaml:")
    assert problem(text).endswith("Look at indentation, colons and quotes here and above")


@given(st.text(alphabet=" \n\t:-[]{}&*!|>'\"#ab1,?%@<", max_size=60))
def test_no_text_does_anything_else_than_parse_or_explain(text: str) -> None:
    try:
        parse_document(text)
    except SyntaxProblem as exc:
        assert exc.problem.line >= 1  # noqa: PT017
