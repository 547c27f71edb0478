"""Pages of listings, as several stores write them, and what is none."""

from datetime import UTC, datetime

import pytest

from ocisync.content.object_store import ObjectInfo
from ocisync.stores.s3.listing import ListingPage, page_query, parse_page

_MOMENT = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
_OBJECT = """
  <Contents><Key>{key}</Key><LastModified>2024-02-03T04:05:06.000Z</LastModified><ETag>&quot;abc&quot;</ETag>
  <Size>12</Size><StorageClass>STANDARD</StorageClass><Owner><ID>1</ID></Owner></Contents>"""


def _document(body: str, namespace: str = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"') -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{namespace}>{body}</ListBucketResult>'.encode()


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_an_object_with_or_without_a_namespace(namespace: str) -> None:
    page = parse_page(_document("<IsTruncated>false</IsTruncated>" + _OBJECT.format(key="a%b+c"), namespace))
    assert page == ListingPage([ObjectInfo("a%b+c", 12, '"abc"', _MOMENT)], "")


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("v2/a%3Ab+%C3%BC%2B", "v2/a:b ü+"),
        ("v2%2Fa/manifests/sha256%3Aabc", "v2/a/manifests/sha256:abc"),
        ("v2%2fa%3ab", "v2/a:b"),
        ("v2/a%253Ab", "v2/a%3Ab"),
        ("v2/a+b", "v2/a b"),
    ],
)
def test_encoded_keys_are_decoded_where_the_store_says_so(encoded: str, key: str) -> None:
    page = parse_page(_document("<EncodingType>url</EncodingType>" + _OBJECT.format(key=encoded)))
    assert [one.key for one in page.objects] == [key]


def test_the_next_page_is_asked_for_by_its_token() -> None:
    page = parse_page(_document("<IsTruncated>true</IsTruncated><NextContinuationToken>a/b=</NextContinuationToken>"))
    assert page == ListingPage([], "a/b=")
    assert page_query("v2/", "", page.following)["continuation-token"] == "a/b="
    assert "continuation-token" not in page_query("v2/", "v2/a", "")


def test_what_an_object_need_not_say() -> None:
    page = parse_page(_document("<Contents><Key>a</Key><Size>0</Size></Contents>"))
    assert page.objects == [ObjectInfo("a", 0)]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>busy</html>",
        b"<ListBucketResult><Contents>",
        _document("<IsTruncated>true</IsTruncated>"),
        _document("<Contents><Key>a</Key></Contents>"),
        _document("<Contents><Key>a</Key><Size>many</Size></Contents>"),
        _document("<Contents><Key>a</Key><Size>1</Size><LastModified>yesterday</LastModified></Contents>"),
    ],
)
def test_what_is_no_listing_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="listing"):
        parse_page(document)
