"""JSON from outside: manifests, answers of registries, webhooks, files of others. The one way in.

JSON can spell half of a character: `"\\ud800"`. Python makes a text of it that no file, database, terminal or request
can hold, so that the failure comes much later, at a place that has nothing to do with it. Here, where text comes in,
such a half becomes U+FFFD, the replacement character, which is also what Go makes of it: so ocisync and the clients
of a registry read the same. The bytes of a manifest stay as they are; only what is read from them is affected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_HALF = re.compile("[\ud800-\udfff]")  # surrogates: halves of a character in UTF-16
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


def _clean(value: object) -> object:
    """A text or list with encodable texts; objects inside were made of such."""
    if isinstance(value, str):
        return make_encodable(value)
    return [_clean(inner) for inner in value] if isinstance(value, list) else value
