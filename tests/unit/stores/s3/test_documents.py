"""Pages of listings, as several stores write them, and what is none."""

from datetime import UTC, datetime

import pytest

from ocisync.content.object_store import ObjectInfo
from ocisync.stores.s3.documents import (
    MAX_DOCUMENT,
    ListingPage,
    PageReader,
    page_query,
    parse_page,
    parse_parts,
    parse_uploads,
)

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


def _feed(*chunks: bytes) -> PageReader:
    reader = PageReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def test_a_page_is_read_as_it_comes() -> None:
    document = _document("<IsTruncated>false</IsTruncated>" + "".join(_OBJECT.format(key=f"k{n}") for n in range(50)))
    for size in (1, 7, 4096):
        reader = _feed(*(document[start : start + size] for start in range(0, len(document), size)))
        assert reader.finish() == parse_page(document)


_ENTITY = b'<!DOCTYPE l [<!ENTITY a "haha">]><ListBucketResult><Name>&a;</Name></ListBucketResult>'


@pytest.mark.parametrize("document", [_ENTITY, _ENTITY.decode().encode("utf-16"), b"<!-- -->" + _document("")])
def test_documents_that_could_grow_are_refused_however_they_are_cut(document: bytes) -> None:
    for size in (1, 5, len(document)):
        with pytest.raises(ValueError, match="not plain XML"):
            _feed(*(document[start : start + size] for start in range(0, len(document), size)))
    for parse in (parse_page, parse_parts, parse_uploads):
        with pytest.raises(ValueError, match="not plain XML"):
            parse(document)


def test_a_page_without_end_is_refused() -> None:
    row = b"<Contents><Key>v2/a</Key><Size>3</Size></Contents>" * 1000
    with pytest.raises(ValueError, match="more than 10000 objects"):
        _feed(b"<ListBucketResult>", *[row] * 11)
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        _feed(b"<ListBucketResult><Name>", *[b"x" * 65536] * (MAX_DOCUMENT // 65536))


def test_uploads_and_parts_with_the_markers_of_the_next_page() -> None:
    uploads, markers = parse_uploads(
        b"<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        b"<NextKeyMarker>a%3Ab</NextKeyMarker><NextUploadIdMarker>7</NextUploadIdMarker>"
        b"<Upload><Key>a%3Ab</Key><UploadId>7</UploadId><Initiated>2024-02-03T04:05:06.000Z</Initiated></Upload>"
        b"</ListMultipartUploadsResult>"
    )
    assert [(one.key, one.upload_id, one.begun) for one in uploads] == [("a:b", "7", _MOMENT)]
    assert markers == {"key-marker": "a:b", "upload-id-marker": "7"}
    parts, markers = parse_parts(
        b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>"
        b"<Part><PartNumber>2</PartNumber><Size>5</Size><ETag>&quot;e&quot;</ETag></Part></ListPartsResult>"
    )
    assert [(one.number, one.size, one.etag) for one in parts] == [(2, 5, '"e"')]
    assert markers == {"part-number-marker": "2"}
