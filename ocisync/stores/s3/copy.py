"""Copying inside a bucket, so that a blob of another repository need not travel again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import anyio

from ocisync.content.object_store import ObjectHeaders
from ocisync.errors import NotFound, StoreError
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.headers import copied_metadata, object_arguments, object_headers
from ocisync.stores.s3.options import MAX_PARTS, MAX_SINGLE


async def copy_object(client: S3Client, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:
    """Whether `to_key` now holds the `size` bytes of `from_key`; False when there is nothing to copy."""
    try:
        if size > (MAX_SINGLE if from_key == to_key else client.options.copy_size):
            source = {"Bucket": client.options.bucket, "Key": client.options.key_prefix + from_key}
            await _in_parts(client, source, client.options.key_prefix + to_key, size, headers)
        else:
            kept = {**object_headers(headers, client.options), **copied_metadata(to_key)}
            await client.copy(from_key, to_key, kept)
    except NotFound:
        return False
    copied = await client.head(to_key)
    if copied is None or copied.size != size:
        raise StoreError(f"{to_key} at {client.where}: the store said that it copied {from_key}, but it did not")
    return True


async def _in_parts(client: S3Client, source: Mapping[str, str], key: str, size: int, headers: ObjectHeaders) -> None:
    made = await client.control("create_multipart_upload", key, Key=key, **object_arguments(headers, client.options))
    upload = {"Key": key, "UploadId": str(made["UploadId"])}
    step = max(client.options.copy_size, -(-size // MAX_PARTS))
    try:
        parts = [
            await _copy_part(client, source, upload, number, start, min(start + step, size))
            for number, start in enumerate(range(0, size, step), 1)
        ]
        await client.control("complete_multipart_upload", key, MultipartUpload={"Parts": parts}, **upload)
    except BaseException:
        with anyio.move_on_after(10, shield=True):
            await client.control("abort_multipart_upload", key, **upload)
        raise


async def _copy_part(
    client: S3Client, source: Mapping[str, str], upload: Mapping[str, str], number: int, start: int, end: int
) -> dict[str, object]:
    reply = await client.control(
        "upload_part_copy",
        upload["Key"],
        CopySource=source,
        CopySourceRange=f"bytes={start}-{end - 1}",
        PartNumber=number,
        **upload,
    )
    return {"PartNumber": number, "ETag": cast("Mapping[str, object]", reply["CopyPartResult"])["ETag"]}
