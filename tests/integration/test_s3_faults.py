"""What S3 and the network before it do wrong, and what must happen then. FAULTS 36 to 46 and 61."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.errors import (
    DigestMismatch,
    OcisyncError,
    RateLimited,
    S3ConfigError,
    StoreError,
)
from ocisync.stores.s3.options import MIB, S3Options
from ocisync.stores.s3.store import S3Store, open_s3
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from tests.contract.graphs import CountingOpener, described, make_image, publish_image, push_image
from tests.integration.bulk_engines import Engine
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import (
    Action,
    Answer,
    ChangeHeaders,
    Exchange,
    LoseReply,
    Refuse,
    Reply,
    ResetBody,
    ResetRequest,
    Stall,
)
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket

BIG = bytes(range(256)) * 8192 * 6  # 12 MiB
MEDIUM = BIG[: 3 * MIB + 1]
NAME = "library/app"


def error_body(code: str) -> bytes:
    """S3's error document."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()


def refusal(status: int, code: str) -> Reply:
    """An answer instead of the store's."""
    return Reply(status, {"Content-Type": "application/xml"}, error_body(code))


@pytest.fixture
def options(bucket: Bucket, s3_proxy: FaultProxy, other_engine: None) -> S3Options:
    """The bucket through the proxy, with small parts and short waits."""
    return S3Options(
        bucket.name, endpoint=s3_proxy.url, region=REGION, path_style=True,
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, multipart_threshold=10 * MIB, part_size=5 * MIB,
        first_wait=0.001, longest_wait=0.01, idle_timeout=5.0, bulk_from=Engine.bulk_from,
    )  # fmt: skip


@pytest.fixture
async def store(options: S3Options) -> AsyncIterator[S3Store]:
    async with open_s3(options) as opened:
        yield opened


@pytest.fixture
def target(store: S3Store) -> StaticRepository:
    return StaticRegistry(store).repository(NAME)


@dataclass
class SeekableBytes:
    """An opener that tells where it was opened."""

    data: bytes
    first_byte: int = -1

    def __call__(self, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        self.first_byte = start
        return BytesOpener(self.data)(start)


def blob_key(data: bytes) -> str:
    """Where a blob lies."""
    return f"v2/{NAME}/blobs/{described(data).digest}"


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")])
@pytest.mark.parametrize("data", [b"small", MEDIUM, BIG], ids=["at hand", "streamed", "parts"])
async def test_fault_36_a_busy_store_is_tried_again_with_less_concurrency(
    target: StaticRepository, store: S3Store, s3_proxy: FaultProxy, bucket: Bucket, status: int, code: str, data: bytes
) -> None:
    busy = s3_proxy.on("PUT", "blobs", refusal(status, code), times=2)
    opener = CountingOpener(data)
    await target.push(described(data), opener)
    assert busy.hits == 2
    assert bucket.get(blob_key(data)).body == data
    assert opener.still_open == 0
    writing = store._client.writing
    assert writing.limiter.total_tokens < writing.most


async def test_fault_36_a_store_that_stays_busy_is_an_error_that_can_be_retried(
    target: StaticRepository, s3_proxy: FaultProxy, options: S3Options
) -> None:
    busy = s3_proxy.on("PUT", "blobs", refusal(503, "SlowDown"))
    with pytest.raises(RateLimited) as caught:
        await target.push(described(b"small"), BytesOpener(b"small"))
    assert caught.value.retryable
    assert busy.hits == options.attempts


async def test_fault_36_an_error_document_with_status_200_on_complete(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    lie = s3_proxy.on("POST", "uploadId=", refusal(200, "InternalError"), times=2)
    await target.push(described(BIG), BytesOpener(BIG))
    assert lie.hits == 2
    assert bucket.get(blob_key(BIG)).body == BIG


async def test_fault_36_an_error_document_with_status_200_on_copy(
    store: S3Store, target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    await StaticRegistry(store).repository("other").push(described(MEDIUM), BytesOpener(MEDIUM))
    lie = s3_proxy.on("PUT", f"{NAME}/blobs", refusal(200, "SlowDown"), times=1)
    assert await target.mount(described(MEDIUM), "other")
    assert lie.hits == 1
    assert bucket.get(blob_key(MEDIUM)).body == MEDIUM


async def test_fault_37_the_reply_to_complete_is_lost(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    lost = s3_proxy.on("POST", "uploadId=", LoseReply(), times=1)
    await target.push(described(BIG), BytesOpener(BIG))
    assert lost.hits == 1
    assert bucket.get(blob_key(BIG)).body == BIG
    assert bucket.uploads() == []


async def test_fault_37_an_upload_that_really_vanished_is_an_error(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on("POST", "uploadId=", refusal(404, "NoSuchUpload"))
    with pytest.raises(StoreError, match="vanished") as caught:
        await target.push(described(BIG), BytesOpener(BIG))
    assert caught.value.retryable
    assert bucket.keys("v2/") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"access_key": "nobody"}, ["access key is not known"]),
        ({"secret_key": "wrong-and-secret"}, ["secret key does not belong"]),
    ],
)
async def test_fault_38_wrong_settings_are_told_in_clear_words(
    options: S3Options, changes: dict[str, str], words: list[str]
) -> None:
    wrong = replace(options, **changes)  # type: ignore[arg-type]
    async with open_s3(wrong) as store:
        target = StaticRegistry(store).repository(NAME)
        image = make_image()
        for act in (
            lambda: target.push(described(b"x"), BytesOpener(b"x")),
            lambda: target.publish({"latest": image.desc}),
            target.list_all,
            store.probe,
        ):
            with pytest.raises(S3ConfigError) as caught:
                await act()
            assert caught.value.code == "s3.config"
            assert not caught.value.retryable
            for word in [*words, wrong.bucket, wrong.endpoint]:
                assert word in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (403, "AccessDenied", "grant s3:ListBucket"),
        (301, "PermanentRedirect", "region or endpoint"),
        (400, "AuthorizationHeaderMalformed", "region is wrong"),
        (403, "ExpiredToken", "renew them"),
    ],
)
async def test_fault_38_what_the_store_refuses_is_not_tried_again(
    target: StaticRepository, s3_proxy: FaultProxy, status: int, code: str, word: str
) -> None:
    refused = s3_proxy.on("PUT", "blobs", refusal(status, code))
    with pytest.raises(S3ConfigError, match=word) as caught:
        await target.push(described(b"x"), BytesOpener(b"x"))
    assert caught.value.code == "s3.config"
    assert refused.hits == (2 if code == "ExpiredToken" else 1)  # once more with credentials that were loaded again


async def test_fault_38_a_missing_bucket_is_named(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on(".*", "", refusal(404, "NoSuchBucket"))  # SeaweedFS would make it
    for act in (lambda: target.push(described(b"x"), BytesOpener(b"x")), target.list_all):
        with pytest.raises(S3ConfigError, match="create it") as caught:
            await act()
        assert bucket.name in str(caught.value)
        assert s3_proxy.url in str(caught.value)


async def test_fault_38_a_short_bucket_name_is_refused_before_anything_is_sent(options: S3Options) -> None:
    with pytest.raises(S3ConfigError, match="three characters"):
        async with open_s3(replace(options, bucket="ab")):
            pass


async def test_fault_39_credentials_that_were_replaced_are_loaded_again(
    options: S3Options, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id = expired\naws_secret_access_key = expired\n")
    async with open_s3(replace(options, access_key="", secret_key="")) as store:
        target = StaticRegistry(store).repository(NAME)
        with pytest.raises(S3ConfigError):
            await target.push(described(MEDIUM), BytesOpener(MEDIUM))
        file.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        await target.push(described(MEDIUM), BytesOpener(MEDIUM))
        assert (await target.list_all()).sizes == {described(MEDIUM).digest: len(MEDIUM)}
    assert bucket.get(blob_key(MEDIUM)).body == MEDIUM


async def test_keys_of_a_profile(
    options: S3Options, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    file.write_text(f"[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n[mirror]\n{keys}")
    own = replace(options, access_key="", secret_key="", profile="mirror")
    async with open_s3(own) as store:
        await StaticRegistry(store).repository(NAME).push(described(MEDIUM), BytesOpener(MEDIUM))
    assert bucket.get(blob_key(MEDIUM)).body == MEDIUM
    with pytest.raises(S3ConfigError, match="no-such"):
        async with open_s3(replace(own, profile="no-such")):
            pass


async def test_fault_39_a_token_that_expires_in_mid_run(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    expired = s3_proxy.on("PUT", "blobs", refusal(400, "ExpiredToken"), times=1)
    listed = s3_proxy.on("GET", "list-type", refusal(400, "ExpiredToken"), times=1)
    await target.push(described(b"x"), BytesOpener(b"x"))
    assert described(b"x").digest in (await target.list_all()).sizes
    assert (expired.hits, listed.hits) == (1, 1)


class Deaf(Action):
    """The store takes the head of the request, and nothing more."""

    async def before(self, exchange: Exchange) -> Answer | None:
        await anyio.sleep_forever()
        return None


@dataclass(slots=True)
class KeepOther(Action):
    """The store keeps other bytes than it was sent, and is honest in its ETag about it."""

    bucket: Bucket
    key: str
    body: bytes

    async def after(self, answer: Answer) -> None:
        await run_sync(self.bucket.put, self.key, self.body)
        answer.headers.set("ETag", f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"')


@pytest.mark.parametrize("data", [b"what was sent", MEDIUM], ids=["at hand", "streamed"])
async def test_fault_40_other_bytes_in_the_store_are_found(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket, data: bytes
) -> None:
    s3_proxy.on("PUT", "blobs", KeepOther(bucket, blob_key(data), data[::-1]))
    with pytest.raises(StoreError, match="the stored bytes differ") as caught:
        await target.push(described(data), BytesOpener(data))
    assert caught.value.retryable
    assert not await target.exists(described(data))


async def test_fault_40_a_large_object_that_was_cut_is_found(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    data = BIG[: 6 * MIB]
    s3_proxy.on("PUT", "blobs", KeepOther(bucket, blob_key(data), data[:-1]), times=1)
    with pytest.raises(StoreError, match="were kept"):
        await target.push(described(data), BytesOpener(data))
    assert bucket.keys("v2/") == []
    await target.push(described(data), BytesOpener(data))
    assert bucket.get(blob_key(data)).body == data


async def test_fault_40_etags_that_are_no_md5_do_no_harm(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on("PUT", "blobs", ChangeHeaders({"ETag": '"00000000000000000000000000000000"'}))
    for data in (b"one", b"two"):
        await target.push(described(data), BytesOpener(data))
        assert bucket.get(blob_key(data)).body == data


async def test_fault_41_a_failed_upload_keeps_its_parts_and_the_next_one_goes_on(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on("PUT", "partNumber=3", refusal(403, "AccessDenied"), times=1)
    with pytest.raises(S3ConfigError):
        await target.push(described(BIG), BytesOpener(BIG))
    assert len(bucket.uploads()) == 1
    await target.push(described(BIG), BytesOpener(BIG))
    assert bucket.get(blob_key(BIG)).body == BIG
    assert bucket.uploads() == []
    assert bucket.keys("v2/.") == []


def keep_part(bucket: Bucket, body: bytes) -> None:
    """As an earlier process left it: the first part of the big blob."""
    key = f"v2/.scratch-upload-{described(BIG).digest.replace(':', '-')}"
    made = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    bucket.client.upload_part(Bucket=bucket.name, Key=key, UploadId=made["UploadId"], PartNumber=1, Body=body)


async def test_fault_41_a_part_that_was_finished_is_neither_read_nor_sent_again(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    keep_part(bucket, BIG[: 5 * MIB])
    opener = SeekableBytes(BIG)
    await target.push(described(BIG), opener)
    assert opener.first_byte == 5 * MIB
    assert len(s3_proxy.seen("PUT", "partNumber=[23]")) == len(s3_proxy.seen("PUT", "partNumber=")) == 2
    assert bucket.get(blob_key(BIG)).body == BIG
    assert (bucket.keys("v2/."), bucket.uploads()) == ([], [])


async def test_fault_40_kept_parts_that_are_other_bytes_are_found_and_never_shown(
    target: StaticRepository, bucket: Bucket
) -> None:
    keep_part(bucket, b"x" * 5 * MIB)
    with pytest.raises(DigestMismatch):
        await target.push(described(BIG), BytesOpener(BIG))
    assert (bucket.keys("v2/"), bucket.uploads()) == ([], [])
    await target.push(described(BIG), BytesOpener(BIG))
    assert bucket.get(blob_key(BIG)).body == BIG


async def test_a_large_blob_is_copied_to_its_place_in_parts(options: S3Options, bucket: Bucket) -> None:
    async with open_s3(replace(options, copy_size=5 * MIB)) as store:
        repository = StaticRegistry(store).repository(NAME)
        await repository.push(described(BIG), BytesOpener(BIG))
        assert bucket.get(blob_key(BIG)).body == BIG
        assert await StaticRegistry(store).repository("library/twin").mount(described(BIG), NAME)
    assert bucket.get(blob_key(BIG).replace(NAME, "library/twin")).body == BIG
    assert (bucket.keys("v2/."), bucket.uploads()) == ([], [])


async def test_fault_41_a_whole_upload_that_was_not_copied_yet_is_verified_and_copied(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    bucket.put(f"v2/.scratch-upload-{described(BIG).digest.replace(':', '-')}", BIG)
    await target.push(described(BIG), BytesOpener(b"never read"))
    assert bucket.get(blob_key(BIG)).body == BIG
    assert bucket.keys("v2/.") == []
    assert s3_proxy.seen("PUT", "partNumber=") == []


@pytest.mark.parametrize("body", [BIG[:-1], BIG + b"x", b"x" + BIG[1:]], ids=["short", "long", "other"])
async def test_fault_41_wrong_content_leaves_no_parts(target: StaticRepository, bucket: Bucket, body: bytes) -> None:
    with pytest.raises(OcisyncError) as caught:
        await target.push(described(BIG), BytesOpener(body))
    assert caught.value.code in ("verify.digest", "verify.size")
    assert bucket.uploads() == []
    assert bucket.keys("v2/") == []


async def test_fault_41_a_cancelled_upload_goes_on_later(target: StaticRepository, bucket: Bucket) -> None:
    opener = CountingOpener(BIG, stop_after=11 * MIB)
    async with anyio.create_task_group() as group:
        group.start_soon(target.push, described(BIG), opener)
        await opener.stopped.wait()
        group.cancel_scope.cancel()
    assert len(bucket.uploads()) == 1
    await target.push(described(BIG), BytesOpener(BIG))
    assert bucket.get(blob_key(BIG)).body == BIG
    assert bucket.uploads() == []


async def test_fault_41_abandoned_uploads_are_aborted_by_age(
    store: S3Store, bucket: Bucket, options: S3Options
) -> None:
    for key in (blob_key(BIG), "elsewhere/not-ours"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    assert await store.abort_uploads(3600) == 0
    assert len(bucket.uploads()) == 2
    bucket.put("v2/.scratch-upload-left", b"of an upload that was killed after its copy")
    async with open_s3(replace(options, abandoned_after=-60)) as later:
        await later.probe()
    assert bucket.uploads() == ["elsewhere/not-ours"]
    assert bucket.keys("v2/.scratch-upload") == []


@pytest.mark.parametrize("doing", ["exists", "push", "publish"])
async def test_fault_43_a_forbidden_head_means_unknown(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket, doing: str
) -> None:
    image = make_image()
    s3_proxy.on("HEAD", "", Reply(403))
    if doing == "exists":
        s3_proxy.on("GET", "blobs|manifests", refusal(403, "AccessDenied"))
        bucket.put(blob_key(b"x"), b"x")
        assert not await target.exists(described(b"x"))
        assert not await target.exists(image.desc)
    elif doing == "push":
        await target.push(described(MEDIUM), BytesOpener(MEDIUM))
        assert bucket.get(blob_key(MEDIUM)).body == MEDIUM
    else:
        await push_image(target, image)
        await target.publish({"latest": image.desc})
        assert bucket.get(f"v2/{NAME}/manifests/latest").body == image.raw
        assert bucket.get(f"v2/{NAME}/tags/list").body == b'{"name":"library/app","tags":["latest"]}'


async def test_fault_44_a_lost_content_type_is_found(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on("HEAD", "manifests", ChangeHeaders({"Content-Type": "application/octet-stream"}))
    image = make_image()
    await push_image(target, image)
    with pytest.raises(StoreError, match="clients refuse") as caught:
        await target.publish({"latest": image.desc})
    assert not caught.value.retryable
    assert bucket.keys(f"v2/{NAME}/manifests/") == [f"v2/{NAME}/manifests/{image.desc.digest}"]


async def test_fault_45_an_object_of_the_wrong_size_is_no_object(target: StaticRepository, bucket: Bucket) -> None:
    image = make_image()
    await publish_image(target, image, "latest")
    desc, data = image.blobs[1]
    bucket.put(blob_key(data), data[:-1])
    assert not await target.exists(desc)
    assert (await target.list_all()).sizes[desc.digest] != desc.size
    await target.push(desc, BytesOpener(data))
    assert bucket.get(blob_key(data)).body == data


async def test_fault_45_a_manifest_with_wrong_bytes_is_found_and_repaired(
    target: StaticRepository, bucket: Bucket
) -> None:
    image = make_image()
    await publish_image(target, image, "latest")
    for reference in ("latest", image.desc.digest):
        bucket.put(f"v2/{NAME}/manifests/{reference}", image.raw[::-1], image.media_type)
    with pytest.raises(DigestMismatch):
        await target.resolve(image.desc.digest)
    await target.publish({"latest": image.desc})
    assert await target.resolve("latest") == await target.resolve(image.desc.digest) == image.desc


async def test_fault_46_a_second_look_shows_what_vanished(target: StaticRepository, bucket: Bucket) -> None:
    image = make_image()
    await push_image(target, image)
    assert len((await target.list_all()).sizes) == len(image.blobs)
    desc, data = image.blobs[0]
    bucket.delete(blob_key(data))
    assert desc.digest not in (await target.list_all()).sizes
    assert not await target.exists(desc)


@pytest.mark.parametrize(
    "fault", [Refuse(), ResetRequest(MIB), LoseReply(), refusal(400, "BadDigest")], ids=lambda one: type(one).__name__
)
async def test_fault_05_an_upload_that_breaks_is_sent_again(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket, fault: Action
) -> None:
    broken = s3_proxy.on("PUT", "blobs", fault, times=2)
    opener = CountingOpener(MEDIUM)
    await target.push(described(MEDIUM), opener)
    assert broken.hits == 2
    assert (opener.opened, opener.still_open) == (3, 0)
    assert bucket.get(blob_key(MEDIUM)).body == MEDIUM


async def test_fault_05_a_source_that_breaks_is_not_the_stores_fault(
    target: StaticRepository, s3_proxy: FaultProxy
) -> None:
    opener = CountingOpener(MEDIUM, fail_after=2 * MIB, error=StoreError("the source's own store"))
    with pytest.raises(StoreError, match="source's own"):
        await target.push(described(MEDIUM), opener)
    assert opener.opened == 1


@pytest.mark.parametrize("fault", [ResetBody(MIB), Stall(MIB)], ids=["reset", "stall"])
async def test_fault_02_a_download_that_breaks_goes_on_where_it_broke(
    options: S3Options, s3_proxy: FaultProxy, bucket: Bucket, fault: Action
) -> None:
    bucket.put(blob_key(MEDIUM), MEDIUM)
    s3_proxy.on("GET", "blobs", fault, times=2)
    async with (
        open_s3(replace(options, idle_timeout=0.5)) as store,
        StaticRegistry(store).repository(NAME).open(described(MEDIUM)) as stream,
    ):
        assert b"".join([chunk async for chunk in stream]) == MEDIUM
    sent = [request.headers.get("range", "") for request in s3_proxy.seen("GET", "blobs")]
    assert sent[0] == ""
    assert all(asked.startswith("bytes=") for asked in sent[1:])
    assert len(sent) == 3


async def test_fault_04_a_store_that_stops_taking_bytes(
    options: S3Options, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on("PUT", "blobs", Deaf(), times=1)
    async with open_s3(replace(options, idle_timeout=0.5)) as store:
        data = BIG[: 9 * MIB]
        await StaticRegistry(store).repository(NAME).push(described(data), BytesOpener(data))
        assert bucket.get(blob_key(data)).body == data


async def test_fault_61_a_clock_that_is_wrong_is_told_with_its_offset(
    target: StaticRepository, s3_proxy: FaultProxy
) -> None:
    late = {"Date": "Mon, 01 Jan 2035 00:00:00 GMT", "Content-Type": "application/xml"}
    s3_proxy.on("PUT", "blobs", Reply(403, late, error_body("RequestTimeTooSkewed")))
    with pytest.raises(StoreError, match=r"clock is \d{6,} s behind the store's") as caught:
        await target.push(described(b"x"), BytesOpener(b"x"))
    assert caught.value.code == "clock.skew"
    assert not caught.value.retryable


async def test_fault_64_no_secret_is_in_errors_or_logs(
    options: S3Options, s3_proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = replace(options, secret_key="wrong-and-secret", session_token="token-and-secret")
    s3_proxy.on("PUT", "partNumber", Refuse(), times=1)
    told: list[str] = [repr(secret)]
    async with open_s3(secret) as store:
        acts: list[Callable[[], object]] = [
            store.probe,
            lambda: store.head("v2/x"),
            lambda: StaticRegistry(store).repository(NAME).push(described(BIG), BytesOpener(BIG)),
        ]
        for act in acts:
            with pytest.raises(OcisyncError) as caught:
                await act()  # type: ignore[misc]
            told.append(f"{caught.value} {caught.value.facts} {caught.value.__cause__!r}")
    told.append(capsys.readouterr().out)
    for text in told:
        assert "and-secret" not in text
        assert "Signature=" not in text
