"""The XML documents that S3 answers with, read without botocore's parser, which takes longer than the store does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ocisync.content.object_store import ObjectInfo

MAX_DOCUMENT = 16 * 1024 * 1024  # bytes; a full page of 1000 keys of 1024 characters, percent-encoded, is a fifth
_MAX_OBJECTS = 10_000  # on a page; the specification allows 1000
_PAGE_FIELDS = frozenset({"EncodingType", "IsTruncated", "NextContinuationToken"})
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Objects with the keys they have in the bucket, and the token of the next page; empty at the end."""

    objects: list[ObjectInfo]
    following: str


def page_query(prefix: str, start_after: str, token: str) -> dict[str, str]:
    """What asks for a page."""
    asked = {"start-after": start_after, "continuation-token": token}
    return {"list-type": "2", "encoding-type": "url", "prefix": prefix} | {n: v for n, v in asked.items() if v}


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that nobody completed or aborted."""

    key: str  # with the bucket's prefix
    upload_id: str
    begun: float  # seconds since the epoch; now where the store does not say


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """One part of a multipart upload."""

    number: int
    size: int  # bytes
    etag: str


class PageReader:
    """Reads a reply of ListObjectsV2 as it comes, and holds no more of it than the objects it lists."""

    def __init__(self) -> None:
        self._parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(["end"])
        self._markup = _MarkupCheck()
        self._objects: list[ObjectInfo] = []
        self._fields: dict[str, str] = {}
        self._kind = ""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: that is no listing, or more than a page.
        """
        self._markup.feed(chunk)
        try:
            self._parser.feed(chunk)
            for _, element in cast("Iterator[tuple[str, ElementTree.Element]]", self._parser.read_events()):
                space, _, name = element.tag.rpartition("}")
                if name == "Contents":
                    self._objects.append(_object(element, f"{space}}}" if space else ""))
                    element.clear()
                elif name in _PAGE_FIELDS:
                    self._fields[name] = element.text or ""
                self._kind = name  # the last to end is the root
        except ElementTree.ParseError as exc:
            raise ValueError(f"the listing is not XML: {exc}") from exc
        if len(self._objects) > _MAX_OBJECTS:
            raise ValueError(f"the listing has more than {_MAX_OBJECTS} objects on a page")

    def finish(self) -> ListingPage:
        """The page; raises as `feed` does."""
        try:
            self._parser.close()
        except ElementTree.ParseError as exc:
            raise ValueError(f"the listing is not XML: {exc}") from exc
        if self._kind != "ListBucketResult":
            raise ValueError(f"the listing is a {self._kind[:40]!r}")
        is_truncated = self._fields.get("IsTruncated") == "true"
        following = self._fields.get("NextContinuationToken", "") if is_truncated else ""
        if is_truncated and not following:
            raise ValueError("the listing continues, but does not say where")
        if self._fields.get("EncodingType") == "url":
            return ListingPage([one._replace(key=_decode(one.key)) for one in self._objects], following)
        return ListingPage(self._objects, following)


def parse_page(document: bytes) -> ListingPage:
    """A whole reply of ListObjectsV2; raises as `PageReader.feed` does."""
    reader = PageReader()
    reader.feed(document)
    return reader.finish()


def parse_uploads(document: bytes) -> tuple[list[UnfinishedUpload], Mapping[str, str]]:
    """A reply of ListMultipartUploads: the uploads, and the markers of the next page; none at the end.

    Raises:
        ValueError: it is none.
    """
    root, space = _parse(document, "ListMultipartUploadsResult")
    is_encoded = root.findtext(f"{space}EncodingType") == "url"
    uploads = []
    for one in root.iterfind(f"{space}Upload"):
        key, begun = one.findtext(f"{space}Key", ""), one.findtext(f"{space}Initiated")
        moment = datetime.fromisoformat(begun).timestamp() if begun else time.time()
        uploads.append(UnfinishedUpload(_decode(key) if is_encoded else key, _text(one, space, "UploadId"), moment))
    if root.findtext(f"{space}IsTruncated") != "true":
        return uploads, {}
    key, upload_id = (root.findtext(f"{space}Next{name}", "") for name in ("KeyMarker", "UploadIdMarker"))
    return uploads, {"key-marker": _decode(key) if is_encoded else key, "upload-id-marker": upload_id}


def parse_parts(document: bytes) -> tuple[list[UploadedPart], Mapping[str, str]]:
    """A reply of ListParts: the parts, and the marker of the next page; none at the end.

    Raises:
        ValueError: it is none.
    """
    root, space = _parse(document, "ListPartsResult")
    parts = [
        UploadedPart(int(_text(one, space, "PartNumber")), int(_text(one, space, "Size")), _text(one, space, "ETag"))
        for one in root.iterfind(f"{space}Part")
    ]
    if root.findtext(f"{space}IsTruncated") != "true":
        return parts, {}
    return parts, {"part-number-marker": _text(root, space, "NextPartNumberMarker")}


def parse_text(document: bytes, kind: str, name: str) -> str:
    """The text of one element of a small document.

    Raises:
        ValueError: it is not there.
    """
    root, space = _parse(document, kind)
    return _text(root, space, name)


def parse_delete_errors(document: bytes) -> list[tuple[str, str]]:
    """The keys that DeleteObjects could not remove, each with the error's code."""
    root, space = _parse(document, "DeleteResult")
    errors = root.iterfind(f"{space}Error")
    return [(one.findtext(f"{space}Key", ""), one.findtext(f"{space}Code", "")) for one in errors]


def completion(etags: Mapping[int, str]) -> bytes:
    """What CompleteMultipartUpload is sent."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in sorted(etags.items())
    )
    return f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()


def deletion(keys: Iterable[str]) -> bytes:
    """What DeleteObjects is sent; it answers with errors only."""
    objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{_NAMESPACE}">{objects}<Quiet>true</Quiet></Delete>'.encode()


class _MarkupCheck:
    """Refuses what no S3 service sends: endless documents, and document types, by which entities grow without bound."""

    def __init__(self) -> None:
        self._size = 0  # bytes
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_DOCUMENT:
            raise ValueError(f"the listing is larger than {MAX_DOCUMENT >> 20} MiB")
        seen = self._tail + chunk
        if b"<!" in seen or b"\0" in chunk:  # a zero byte: UTF-16, in which the rest would not be found
            raise ValueError("the listing is not plain XML: it has a document type, or is not UTF-8")
        self._tail = chunk[-1:]


def _parse(document: bytes, expected: str) -> tuple[ElementTree.Element, str]:
    """The root, and the namespace that its elements have: not every store sends one."""
    _MarkupCheck().feed(document)
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as exc:
        raise ValueError(f"the listing is not XML: {exc}") from exc
    space, _, kind = root.tag.rpartition("}")
    if kind != expected:
        raise ValueError(f"the listing is a {kind[:40]!r}")
    return root, f"{space}}}" if space else ""


def _text(element: ElementTree.Element, space: str, name: str) -> str:
    found = element.findtext(f"{space}{name}")
    if not found:
        raise ValueError(f"the listing has no {name}")
    return found


def _object(element: ElementTree.Element, space: str) -> ObjectInfo:
    key, date = element.findtext(f"{space}Key"), element.findtext(f"{space}LastModified")
    try:
        size = int(element.findtext(f"{space}Size", ""))
        modified = datetime.fromisoformat(date).timestamp() if date else 0.0
    except ValueError as exc:
        raise ValueError(f"the listing has an object without a proper size or date: {exc}") from exc
    if not key:
        raise ValueError("the listing has an object without a key")
    return ObjectInfo(key, size, element.findtext(f"{space}ETag", ""), modified)


def _decode(key: str) -> str:
    """As `unquote_plus`, which takes a third of a page's time; of ours, nothing but colons and slashes is encoded."""
    plain = key.replace("%3A", ":").replace("%2F", "/")
    return unquote_plus(key) if "%" in plain or "+" in plain else plain
