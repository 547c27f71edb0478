"""Pages of lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ocisync.serve.errors import ApiError
from ocisync.serve.pagination import ListPage, page_of

LIST = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, ListPage(LIST)),
        ({"n": "4"}, ListPage(LIST)),
        ({"n": "9"}, ListPage(LIST)),
        ({"n": "999999999999999999"}, ListPage(LIST)),
        ({"n": "2"}, ListPage(["a", "b"], '</v2/x/tags/list?n=2&last=b>; rel="next"')),
        ({"n": "2", "last": "b"}, ListPage(["c", "d"])),
        ({"n": "1", "last": "b"}, ListPage(["c"], '</v2/x/tags/list?n=1&last=c>; rel="next"')),
        ({"last": "bb"}, ListPage(["c", "d"])),
        ({"last": "d"}, ListPage([])),
        ({"last": "zzz", "n": "1"}, ListPage([])),
        ({"last": ""}, ListPage(LIST)),
        ({"n": "0"}, ListPage([])),
    ],
)
def test_a_page(query: dict[str, str], page: ListPage) -> None:
    found = page_of(LIST, query, "/v2/x/tags/list")
    assert (list(found.entries), found.link) == (list(page.entries), page.link)


@pytest.mark.parametrize("n", ["-1", "", "x", "1.5", "٣", "9" * 19])
def test_n_is_a_number(n: str) -> None:
    with pytest.raises(ApiError) as refusal:
        page_of(LIST, {"n": n}, "/v2/x/tags/list")
    assert refusal.value.status == 400


@given(st.sets(st.text("abcXYZ019._-", min_size=1, max_size=6)), st.integers(1, 5))
def test_following_links_gives_the_whole_list(entries: set[str], n: int) -> None:
    whole = sorted(entries)
    seen: list[str] = []
    link: str | None = f'</v2/x/tags/list?n={n}>; rel="next"'
    while link is not None:
        url = URL(link[1 : link.index(">")])
        page = page_of(whole, url.query, url.path)
        seen, link = [*seen, *page.entries], page.link
    assert seen == whole
