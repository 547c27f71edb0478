"""The operations of multipart uploads: begin, complete, abort, and find what was left."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from ocisync.content.object_store import ObjectHeaders
from ocisync.errors import Handling, NotFound, StoreError
from ocisync.model.digest import sha256
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.documents import (
    UnfinishedUpload,
    UploadedPart,
    completion,
    parse_parts,
    parse_text,
    parse_uploads,
)
from ocisync.stores.s3.headers import object_headers
from ocisync.stores.s3.http import S3Request, read_document, read_headers
from ocisync.stores.s3.sign import payload_of


async def begin_upload(client: S3Client, key: str, headers: ObjectHeaders) -> str:
    """CreateMultipartUpload: the upload's identifier."""
    given = object_headers(headers, client.options)
    request = S3Request("POST", client.full_key(key), {"uploads": ""}, given, operation="begin an upload of")
    return parse_text(await client.send(request, read_document), "InitiateMultipartUploadResult", "UploadId")


async def complete_upload(
    client: S3Client, key: str, upload_id: str, etags: Mapping[int, str], conditions: Mapping[str, str]
) -> None:
    """CompleteMultipartUpload: the parts by their numbers become the object.

    Raises:
        NotFound: there is no such upload, be it that a reply was lost after it was completed.
    """
    body = completion(etags)
    request = S3Request(
        "POST", client.full_key(key), {"uploadId": upload_id}, {"Content-Type": "application/xml", **conditions},
        payload_of(sha256(body)), body, len(body), "complete",
    )  # fmt: skip
    await client.send(request, read_document)


async def abort_upload(client: S3Client, key: str, upload_id: str) -> None:
    """AbortMultipartUpload; one that is not there is no error."""
    with suppress(NotFound):
        await client.send(
            S3Request("DELETE", client.full_key(key), {"uploadId": upload_id}, operation="abort"), read_headers
        )


async def list_uploads(client: S3Client, prefix: str) -> AsyncIterator[UnfinishedUpload]:
    """ListMultipartUploads below a prefix, keys without the bucket's prefix."""
    markers: Mapping[str, str] = {}
    while True:
        query = {"uploads": "", "prefix": client.full_key(prefix), **markers}
        request = S3Request("GET", query=query, operation="list uploads below")
        uploads, following = parse_uploads(await client.send(request, read_document))
        for one in uploads:
            yield UnfinishedUpload(one.key.removeprefix(client.options.key_prefix), one.upload_id, one.begun)
        if not following:
            return
        if following == markers:
            raise _make_repeated_page_error(client, prefix)
        markers = following


async def list_parts(client: S3Client, key: str, upload_id: str) -> AsyncIterator[UploadedPart]:
    """ListParts: in the order of their numbers."""
    marker: Mapping[str, str] = {}
    while True:
        request = S3Request(
            "GET", client.full_key(key), {"uploadId": upload_id, **marker}, operation="list the parts of"
        )
        parts, following = parse_parts(await client.send(request, read_document))
        for part in parts:
            yield part
        if not following:
            return
        if following == marker:
            raise _make_repeated_page_error(client, key)
        marker = following


def _make_repeated_page_error(client: S3Client, what: str) -> StoreError:
    return StoreError(
        f"{client.where}: {what}: the store returns the same next page again and again", handling=Handling.FAIL
    )


async def abort_uploads(client: S3Client, prefix: str, older_than: float) -> int:
    """Abort multipart uploads below a prefix that began more than `older_than` seconds ago; how many."""
    old = [one async for one in list_uploads(client, prefix) if time.time() - one.begun >= older_than]
    for one in old:
        await abort_upload(client, one.key, one.upload_id)
    return len(old)
