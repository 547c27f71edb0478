"""JSON from outside: every text of it can be encoded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.text.outside_json import load_json, make_encodable


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"a\uDFFFb"', "a\ufffdb"),
        (rb'"\ud800\ud800"', "\ufffd\ufffd"),
        (rb'"\ud83d\ude00"', "😀"),  # two halves that belong together
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),  # two that do not
        (rb'"\\ud800"', "\\ud800"),  # a backslash, and five letters
        (rb'{"\ud800": ["x\udc00", {"a": "\udc00"}], "b": 1}', {"\ufffd": ["x\ufffd", {"a": "\ufffd"}], "b": 1}),
        ('"ä"'.encode(), "ä"),
        (b"\xef\xbb\xbf[]", []),
    ],
)
def test_halves_of_characters_become_the_replacement_character(raw: bytes, value: object) -> None:
    assert load_json(raw) == value


def test_names_that_become_equal_are_seen_as_equal() -> None:
    seen: list[list[str]] = []

    def make(pairs: list[tuple[str, object]]) -> object:
        seen.append([name for name, _ in pairs])
        return dict(pairs)

    load_json(rb'{"\ud800": 1, "\udfff": 2}', make_object=make)
    assert seen == [["\ufffd", "\ufffd"]]


@pytest.mark.parametrize("raw", [b"", b"{", b'"\xed\xa0\x80"', b"\xff\xfe[\x00]\x00", b"[" * 100_000])
def test_what_is_no_json_is_one_kind_of_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_json(raw)


ANY_TEXT = st.text(st.characters())  # halves of characters among them


@given(
    st.recursive(st.none() | st.integers() | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner))
)
def test_any_value_can_be_written_again(value: object) -> None:
    found = load_json(json.dumps(value))
    json.dumps(found, ensure_ascii=False).encode()


@given(ANY_TEXT)
def test_texts_without_halves_stay(text: str) -> None:
    cleaned = make_encodable(text)
    cleaned.encode()
    assert len(cleaned) == len(text)
    assert (cleaned == text) is not any("\ud800" <= character <= "\udfff" for character in text)
