"""JSON from outside: manifests, answers of registries, webhooks, files of others. The one way in.

JSON can spell half of a character: `"\\ud800"`. Python makes a text of it that no file, database, terminal or request
can hold, so that the failure comes much later, at a place that has nothing to do with it. Here, where text comes in,
such a half becomes U+FFFD, the replacement character, which is also what Go makes of it: so ocisync and the clients
of a registry read the same. The bytes of a manifest stay as they are; only what is read from them is affected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

_HALF = re.compile("[\ud800-\udfff]")  # surrogates: halves of a character in UTF-16
_SPACE = re.compile(r"[ \t\n\r]*")
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # may also be one half of a whole pair, which json joins

Pairs = list[tuple[str, object]]


def make_encodable(text: str) -> str:
    """The text with U+FFFD in place of surrogates, so that it can be written anywhere."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def load_json(
    raw: bytes | str,
    *,
    make_object: Callable[[Pairs], object] | None = None,
    parse_constant: Callable[[str], object] | None = None,
) -> object:
    """A value whose texts can all be encoded; `make_object` and `parse_constant` are json.loads' hooks.

    Raises:
        ValueError: not UTF-8, not JSON, or nested too deep for the parser.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
    try:
        if _HALF_ESCAPED.search(text) is None:
            found: object = json.loads(text, object_pairs_hook=make_object, parse_constant=parse_constant)
            return found
        make = make_object or dict

        def make_clean_object(pairs: Pairs) -> object:
            return make([(make_encodable(key), _clean(value)) for key, value in pairs])

        return _clean(json.loads(text, object_pairs_hook=make_clean_object, parse_constant=parse_constant))
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc


class ObjectReader:
    """An object of which a member may be too large to be one value: its keys are gone through one by one.

        for key in reader.members():
            found[key] = reader.value()

    After each key its value is read, by `value` or by another `members`. What spells half of a character is refused.
    Every method raises ValueError where the text is no JSON, or nested too deep.
    """

    def __init__(
        self, raw: bytes, make_object: Callable[[Pairs], object], parse_constant: Callable[[str], object]
    ) -> None:
        self._text = raw.decode("utf-8")
        if _HALF_ESCAPED.search(self._text) is not None:
            raise ValueError("half of a character")
        self._decode = json.JSONDecoder(object_pairs_hook=make_object, parse_constant=parse_constant).raw_decode
        self._at = 0

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next."""
        self._skip("{")
        if self._skip('"}') == "}":
            return
        while True:
            self._at -= 1
            key = self.value()
            self._skip(":")
            yield str(key)
            if self._skip(",}") == "}":
                return
            self._skip('"')

    def value(self) -> object:
        """The value that comes next."""
        self._skip_space()
        try:
            found, self._at = self._decode(self._text, self._at)
        except RecursionError as exc:
            raise ValueError("nested too deep") from exc
        return found

    def end(self) -> None:
        """Nothing but space may follow."""
        self._skip_space()
        if self._at < len(self._text):
            raise ValueError(f"something follows at character {self._at}")

    def _skip(self, wanted: str) -> str:
        """Go past one of these characters; which."""
        self._skip_space()
        found = self._text[self._at : self._at + 1]
        if not found or found not in wanted:
            raise ValueError(f"at character {self._at} there is none of {' '.join(wanted)}")
        self._at += 1
        return found

    def _skip_space(self) -> None:
        if (space := _SPACE.match(self._text, self._at)) is not None:
            self._at = space.end()


def _clean(value: object) -> object:
    """A text or list with encodable texts; objects inside were made of such."""
    if isinstance(value, str):
        return make_encodable(value)
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def storable(text: str) -> str:
    """The text as both databases can hold it: JSON may name characters (lone surrogates, NUL) that they cannot."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
