"""Where lists go on: Link headers of every form, and `next` in the document."""

import pytest
from yarl import URL

from ocisync.errors import RegistryError
from ocisync.model.image_name import is_tag
from ocisync.model.text.name_list import NameList
from ocisync.stores.registry.listing import PAGE, Page, find_next_page, parse_page
from ocisync.stores.registry.paging import next_page

HERE = URL("https://r.example/v2/a/tags/list?n=1000")
THERE = "https://r.example/v2/a/tags/list?last=b"


@pytest.mark.parametrize(
    ("link", "following"),
    [
        (None, None),
        ("", None),
        ('</v2/a/tags/list?last=b>; rel="next"', THERE),
        ("</v2/a/tags/list?last=b>; rel=next", THERE),
        ("</v2/a/tags/list?last=b>;REL=NEXT", THERE),
        ('<?last=b>; rel="next"', THERE),
        ('<list?last=b>; rel="next"', THERE),
        ('</v2/a/tags/list?last=x%2Fy&n=5>; rel="next"', "https://r.example/v2/a/tags/list?last=x%2Fy&n=5"),
        ('</p?last=z>; rel="prev", </x?last=b>; title="y"; rel="next"', THERE),
        ('</x?last=b>; title="a, b; rel=prev"; rel="next"', THERE),  # a comma and a semicolon inside quotes
        ('</x?last=b>; rel="next last"', THERE),
        ("</v2/a/tags/list?last=b>", THERE),  # it does not say what it is
        ('/v2/a/tags/list?last=b; rel="next"', THERE),  # no angle brackets
        ('</p?last=z>; rel="prev"', None),
        ('</p?last=z>; rel="first", </q?last=z>; rel="last"', None),
        ('</x?last=a,b>; rel="next"', "https://r.example/v2/a/tags/list?last=a,b"),
        # the registry as it knows itself: only its query is used
        ('<http://r.example/v2/a/tags/list?last=b>; rel="next"', THERE),
        ('<https://r.example:444/x?last=b>; rel="next"', THERE),
        ('<http://registry.internal:5000/v2/a/tags/list?last=b>; rel="next"', THERE),
        ('<https://evil.test/v2/a/tags/list?last=b#part>; rel="next"', THERE),
        ('<//evil.test/x?last=b>; rel="next"', THERE),
        ('<file:///x?last=b>; rel="next"', THERE),
    ],
)
def test_fault_27_only_the_query_of_a_link_is_used(link: str | None, following: str | None) -> None:
    found = next_page(HERE, link)
    assert (str(found) if found else None) == following


@pytest.mark.parametrize(
    "link",
    [
        '</other>; rel="next"',  # no query: the page would be the same
        '<https://r.example/other?>; rel="next"',
        "<" * 100_000,
        '</x?last=b; rel="next"',
        '"</x?last=b>"; rel="next"',
        '</x?last=b c>; rel="next"',
        '</x?last=b\x00>; rel="next"',
    ],
)
def test_fault_27_a_link_that_cannot_be_understood_is_never_the_end_of_a_list(link: str) -> None:
    with pytest.raises(RegistryError, match="may not be whole"):
        next_page(HERE, link)


@pytest.mark.parametrize(
    ("member", "following"),
    [
        (None, None),
        ("", None),
        ("/v2/a/tags/list?last=b", THERE),
        ("https://registry.internal/v2/a/tags/list?last=b", THERE),
    ],
)
def test_a_document_may_say_where_it_goes_on(member: object, following: str | None) -> None:
    found = next_page(HERE, None, member)
    assert (str(found) if found else None) == following
    assert next_page(HERE, '</p?last=z>; rel="prev"', member) is None, "the header counts where both are there"


@pytest.mark.parametrize("member", [7, True, ["x"], {"href": "?last=b"}, "a-token", "https://r.example/v2/next"])
def test_what_a_document_says_of_the_next_page_must_be_understood(member: object) -> None:
    with pytest.raises(RegistryError, match="may not be whole"):
        next_page(HERE, None, member)


def test_fault_27_a_full_page_without_a_link_is_asked_on() -> None:
    tags = [f"t{n:04}" for n in range(PAGE)]

    def find(url: URL, names: list[str], link: str | None = None) -> URL | None:
        return find_next_page(url, Page(NameList(names), link))

    assert find(HERE, tags) == HERE.with_query(n=PAGE, last="t0999")
    assert find(HERE, tags[1:]) is None
    assert find(HERE, tags, '</x?last=z>; rel="prev"') is None
    assert find(HERE.with_query(n=100), tags[:100]) == HERE.with_query(n=100, last="t0099")
    assert find(HERE.with_query(None), tags) is None, "nobody knows how many a full page has"


def read(raw: bytes) -> Page:
    return parse_page(raw, "tags", is_tag)


def test_pages() -> None:
    assert list(read(b'{"tags": ["b", "a", "b"]}').names) == ["b", "a", "b"]
    assert read(b'\xef\xbb\xbf{"tags": ["a"], "next": "?last=a"}') == Page(NameList(["a"]), next="?last=a")
    assert len(read(b'{"tags": null}').names) == len(read(b"{}").names) == 0


FILLER = b'"filler": "%s"' % (b"x" * 300_000)
LONG = [
    b'{"tags": ["b", "a\\u0061", "-", 7, null, ["x"], {"y": ["z"]}, "\\"", "b"], %s, "next": "?last=a"}',
    b'{%s, "tags": null, "other": {"tags": ["no"], "next": "no", "x": "]}"}, "n": -1.5e9, "t": true}',
    b'{"tags": ["first"], "t\\u0061gs": ["second"], %s}',
    b"\xef\xbb\xbf {  %s  }\n",
    b'{"tags": {}, %s}',
    b'{"tags": "a", %s}',
    b"[{%s}]",
    b"{%s",
    b'{%s, "tags": ["a", "b"',
    b'{%s, "tags": ["a", "b}',
    b'{%s, "tags": [[[[',
    b"{%s}}",
    b"{%s} {}",
    b"{%s, 7: 8}",
    b'{%s, "a" 8}',
    b'{%s, "a": 8 "b": 9}',
    b'{%s, "tags": ["\n"]}',
    b"{%s, \xff}",
    b'{%s, "other": "\\',
]


@pytest.mark.parametrize("document", LONG)
def test_a_long_page_is_read_as_a_short_one(document: bytes) -> None:
    try:
        expected: Page | None = read(document % b'"filler": ""')
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011 (any)
            read(document % FILLER)
    else:
        assert read(document % FILLER) == expected
