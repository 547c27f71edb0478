"""Pages of tags and their Links."""

import pytest
from yarl import URL

from ocisync.errors import RegistryError
from ocisync.stores.registry.listing import PAGE, next_link, next_page, parse_page

HERE = URL("https://r.example/v2/a/tags/list?n=1000")


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (None, None),
        ("", None),
        ('</v2/a?last=b>; rel="next"', "/v2/a?last=b"),
        ("</x>; rel=next", "/x"),
        ("</x>;REL=NEXT", "/x"),
        ('</p>; rel="prev", </x>; title="y"; rel="next"', "/x"),
        ('</p>; rel="prev"', None),
        ('</a,b>; rel="next"', "/a,b"),
        ("</x>", None),
        ("<" * 100_000, None),
    ],
)
def test_links(value: str | None, target: str | None) -> None:
    assert next_link(value) == target


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ('</v2/a/tags/list?last=x%2Fy&n=5>; rel="next"', "https://r.example/v2/a/tags/list?last=x%2Fy&n=5"),
        ('<?last=x>; rel="next"', "https://r.example/v2/a/tags/list?last=x"),
        ('<https://r.example/other>; rel="next"', "https://r.example/other"),
        (None, None),
    ],
)
def test_fault_27_where_the_list_goes_on(link: str | None, following: str | None) -> None:
    found = next_page(HERE, ["a"], link)
    assert (str(found) if found else None) == following


@pytest.mark.parametrize(
    "target", ["https://r.example:444/x", "http://r.example/x", "https://evil.test/x", "//evil.test/x", "file:///x"]
)
def test_fault_27_a_link_elsewhere_is_refused(target: str) -> None:
    with pytest.raises(RegistryError):
        next_page(HERE, ["a"], f'<{target}>; rel="next"')


def test_fault_27_a_full_page_without_a_link_is_asked_on() -> None:
    tags = [f"t{n:04}" for n in range(PAGE)]
    assert next_page(HERE, tags, None) == HERE.with_query(n=PAGE, last="t0999")
    assert next_page(HERE, tags[1:], None) is None
    assert next_page(HERE, tags, '</x>; rel="prev"') is None


def test_pages() -> None:
    assert parse_page(b'{"tags": ["b", "a", "b"]}') == ["b", "a", "b"]
    assert parse_page(b'{"tags": null}') == parse_page(b"{}") == []
