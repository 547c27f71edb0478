"""Copying inside a bucket, so that a blob of another repository need not travel again."""

from __future__ import annotations

from urllib.parse import quote

import anyio

from ocisync.content.object_store import ObjectHeaders
from ocisync.errors import NotFound, OcisyncError, StoreError
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.documents import parse_text
from ocisync.stores.s3.headers import copied_metadata, object_headers
from ocisync.stores.s3.http import S3Request, read_document
from ocisync.stores.s3.options import MAX_PARTS, MAX_SINGLE
from ocisync.stores.s3.refusals import Refusal
from ocisync.stores.s3.uploads import abort_upload, begin_upload, complete_upload


async def copy_object(client: S3Client, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:
    """Whether `to_key` now holds the `size` bytes of `from_key`.

    False when there is nothing to copy, or when the provider copies nothing: the bytes must be sent again.
    """
    if Refusal.COPIES in client.refusals.known:
        return False
    source = {"x-amz-copy-source": quote(f"{client.options.bucket}/{client.full_key(from_key)}", safe="/-_.~")}
    try:
        if size > (MAX_SINGLE if from_key == to_key else client.options.copy_size):
            await _copy_in_parts(client, source, to_key, size, headers)
        else:
            # REPLACE: or the copy would keep the headers and the metadata of what it is a copy of.
            kept = {**object_headers(headers, client.options), **copied_metadata(to_key)}
            given = {**source, "x-amz-metadata-directive": "REPLACE", **kept}
            request = S3Request("PUT", client.full_key(to_key), headers=given, operation=f"copy {from_key} to")
            await client.send(request, read_document)
    except NotFound:
        return False
    except OcisyncError as exc:
        if client.refusals.learn_copy(exc):
            return False
        raise
    copied = await client.head(to_key)
    if copied is None or copied.size != size:
        raise StoreError(f"{to_key} at {client.where}: the store said that it copied {from_key}, but it did not")
    return True


async def _copy_in_parts(
    client: S3Client, source: dict[str, str], to_key: str, size: int, headers: ObjectHeaders
) -> None:
    upload_id = await begin_upload(client, to_key, headers)
    step = max(client.options.copy_size, -(-size // MAX_PARTS))
    etags = {}
    try:
        for number, start in enumerate(range(0, size, step), 1):
            part = {**source, "x-amz-copy-source-range": f"bytes={start}-{min(start + step, size) - 1}"}
            query = {"partNumber": str(number), "uploadId": upload_id}
            request = S3Request("PUT", client.full_key(to_key), query, part, operation="copy a part to")
            etags[number] = parse_text(await client.send(request, read_document), "CopyPartResult", "ETag")
        await complete_upload(client, to_key, upload_id, etags, {})
    except BaseException:
        with anyio.move_on_after(10, shield=True):
            await abort_upload(client, to_key, upload_id)
        raise
