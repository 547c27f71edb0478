"""What S3 services other than AWS refuse, and what users get wrong; each refusal before a real server."""

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest

from ocisync.content.openers import BytesOpener
from ocisync.errors import NetworkError, OcisyncError, S3ConfigError, StoreError
from ocisync.stores.s3.options import MIB, S3Options
from ocisync.stores.s3.store import S3Store, open_s3
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from tests.contract.graphs import described, make_image, publish_image
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Action, Answer, Exchange, Reply
from tests.servers.messages import Head
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket

BIG = bytes(range(256)) * 8192 * 6  # 12 MiB: three parts
MEDIUM = BIG[: 3 * MIB + 1]
NAME = "library/app"


@dataclass(frozen=True, slots=True)
class RefuseIf(Action):
    """Answer with an error document where the head of a request fits; all else passes."""

    fits: Callable[[Head], bool]
    status: int
    code: str
    message: str = "refused"

    async def before(self, exchange: Exchange) -> Answer | None:
        if not self.fits(exchange.head):
            return None
        body = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode()
        return await Reply(self.status, {"Content-Type": "application/xml"}, body).before(exchange)


class GoogleFront(Action):
    """Google Cloud Storage, and what stands behind Cloudflare, see another Accept-Encoding than was sent."""

    async def before(self, exchange: Exchange) -> Answer | None:
        exchange.head.headers.set("Accept-Encoding", "identity,gzip(gfe)")
        return None


def sends(name: str) -> Callable[[Head], bool]:
    """Whether a request carries a header."""
    return lambda head: bool(head.headers.get(name))


@pytest.fixture
def options(bucket: Bucket, s3_proxy: FaultProxy) -> S3Options:
    return S3Options(
        bucket.name, endpoint=s3_proxy.url, region=REGION, path_style=True,
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, multipart_threshold=10 * MIB, part_size=5 * MIB,
        first_wait=0.001, longest_wait=0.01, idle_timeout=5.0, attempts=2,
    )  # fmt: skip


@pytest.fixture
async def store(options: S3Options) -> AsyncIterator[S3Store]:
    async with open_s3(options) as opened:
        yield opened


@pytest.fixture
def target(store: S3Store) -> StaticRepository:
    return StaticRegistry(store).repository(NAME)


def blob_key(data: bytes, name: str = NAME) -> str:
    return f"v2/{name}/blobs/{described(data).digest}"


async def publish_all(target: StaticRepository, bucket: Bucket) -> None:
    """An image, a small, a streamed and a large blob, and what is derived from them."""
    image = make_image()
    await publish_image(target, image, "latest")
    for data in (b"small", MEDIUM, BIG):
        await target.push(described(data), BytesOpener(data))
        assert bucket.get(blob_key(data)).body == data
    assert bucket.get(f"v2/{NAME}/manifests/latest").body == image.raw
    assert (bucket.keys("v2/."), bucket.uploads()) == ([], [])


async def test_headers_that_intermediaries_change_are_not_signed(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    s3_proxy.on(".*", "", GoogleFront())
    await publish_all(target, bucket)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call."),
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
        (400, "InvalidRequest", "The checksum algorithm is not supported"),
    ],
)
async def test_a_checksum_header_that_is_refused_is_left_out(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket, status: int, code: str, message: str
) -> None:
    s3_proxy.on("PUT|POST", "", RefuseIf(sends("x-amz-checksum-sha256"), status, code, message))
    await target.push(described(b"first"), BytesOpener(b"first"))
    await publish_all(target, bucket)
    assert len([one for one in s3_proxy.seen("PUT") if one.headers.get("x-amz-checksum-sha256")]) == 1


async def test_another_refusal_is_no_reason_to_leave_the_checksum_out(
    target: StaticRepository, s3_proxy: FaultProxy
) -> None:
    refused = s3_proxy.on("PUT", "blobs", RefuseIf(lambda _: True, 400, "EntityTooLarge", "too large"))
    with pytest.raises(StoreError, match="EntityTooLarge"):
        await target.push(described(b"x"), BytesOpener(b"x"))
    assert refused.hits == 1


async def test_parts_have_a_checksum_where_object_lock_wants_it(
    target: StaticRepository, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    def is_bare(head: Head) -> bool:
        given = head.headers.get
        is_copy = given("x-amz-copy-source")
        return not (is_copy or given("Content-MD5") or given("x-amz-checksum-sha256"))

    message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters"
    s3_proxy.on("PUT", "", RefuseIf(is_bare, 400, "InvalidRequest", message))
    await publish_all(target, bucket)
    assert any(one.headers.get("content-md5") for one in s3_proxy.seen("PUT", "partNumber"))


@pytest.mark.parametrize(
    ("status", "code"), [(501, "NotImplemented"), (403, "AccessDenied"), (405, "MethodNotAllowed")]
)
async def test_what_cannot_be_copied_is_sent_again(
    target: StaticRepository, store: S3Store, s3_proxy: FaultProxy, bucket: Bucket, status: int, code: str
) -> None:
    s3_proxy.on("PUT", "", RefuseIf(sends("x-amz-copy-source"), status, code))
    await publish_all(target, bucket)
    other = StaticRegistry(store).repository("other")
    assert not await other.mount(described(MEDIUM), NAME)
    assert not await target.touch(described(MEDIUM).digest)
    await other.push(described(BIG), BytesOpener(BIG))
    assert bucket.get(blob_key(BIG, "other")).body == BIG
    assert len([one for one in s3_proxy.seen("PUT") if one.headers.get("x-amz-copy-source")]) == 1


async def test_the_acl_is_sent_with_whatever_makes_an_object(
    options: S3Options, s3_proxy: FaultProxy, bucket: Bucket
) -> None:
    async with open_s3(replace(options, acl="public-read")) as store:
        registry = StaticRegistry(store)
        await publish_all(registry.repository(NAME), bucket)
        assert await registry.repository("other").mount(described(MEDIUM), NAME)
    made = [one for one in s3_proxy.seen("PUT|POST") if "uploadId=" not in one.path and "delete" not in one.path]
    assert {one.headers.get("x-amz-acl") for one in made} == {"public-read"}
    assert not any(one.headers.get("x-amz-acl") for one in s3_proxy.seen("PUT", "uploadId="))


@pytest.fixture
def stranger(options: S3Options, monkeypatch: pytest.MonkeyPatch) -> S3Options:
    """The options of a process that finds no credentials anywhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return replace(options, access_key="", secret_key="")


@pytest.mark.parametrize("anonymous", [True, False])
async def test_a_public_bucket_is_read_without_credentials(
    stranger: S3Options, target: StaticRepository, s3_proxy: FaultProxy, anonymous: bool
) -> None:
    image = make_image()
    await publish_image(target, image, "latest")
    s3_proxy.requests.clear()
    async with open_s3(replace(stranger, anonymous=anonymous)) as store:
        source = StaticRegistry(store).repository(NAME)
        assert await source.tags() == ["latest"]
        assert await source.resolve("latest") == image.desc
        with pytest.raises(S3ConfigError, match="no credentials were found"):
            await source.push(described(b"x"), BytesOpener(b"x"))
    assert not any(one.headers.get("authorization") for one in s3_proxy.seen())


async def test_a_private_bucket_without_credentials_says_so(stranger: S3Options, s3_proxy: FaultProxy) -> None:
    s3_proxy.on("GET", "", RefuseIf(lambda _: True, 403, "AccessDenied"))
    async with open_s3(stranger) as store:
        with pytest.raises(S3ConfigError, match="not public, and no credentials were found"):
            await StaticRegistry(store).repository(NAME).tags()


async def test_a_listing_that_goes_round_in_circles_is_an_error(target: StaticRepository, s3_proxy: FaultProxy) -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    circle = s3_proxy.on("GET", "list-type", Reply(200, {}, page + b"</ListBucketResult>"))
    with pytest.raises(StoreError, match="same next page"):
        await target.list_all()
    assert circle.hits == 2


async def test_a_web_page_in_place_of_a_listing_asks_for_the_api(
    target: StaticRepository, s3_proxy: FaultProxy, options: S3Options
) -> None:
    page = s3_proxy.on("GET", "list-type", Reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html></html>"))
    with pytest.raises(StoreError, match="address of the S3 API"):
        await target.list_all()
    assert page.hits == options.attempts


@pytest.mark.parametrize("is_in", ["path", "nothing"])
async def test_an_endpoint_that_names_the_bucket_is_taken_as_it_is(
    options: S3Options, bucket: Bucket, s3_proxy: FaultProxy, is_in: str
) -> None:
    endpoint = f"{s3_proxy.url}/{bucket.name}" if is_in == "path" else s3_proxy.url
    async with open_s3(replace(options, endpoint=endpoint, path_style=False)) as store:
        await publish_all(StaticRegistry(store).repository(NAME), bucket)


async def problem(options: S3Options) -> OcisyncError:
    """What a first request says."""
    async with open_s3(options) as store:
        with pytest.raises(OcisyncError) as caught:
            await store.head("v2/")
    return caught.value


async def test_mistakes_are_told_as_what_they_are(options: S3Options, bucket: Bucket) -> None:
    tls = await problem(replace(options, endpoint=bucket.endpoint.replace("http:", "https:")))
    assert isinstance(tls, S3ConfigError)
    assert "write http://" in tls.message
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        down = await problem(replace(options, endpoint=f"http://127.0.0.1:{port}"))
    assert isinstance(down, NetworkError)
    assert f"nothing listens at 127.0.0.1:{port}" in down.message
    style = await problem(replace(options, endpoint="http://s3.invalid", path_style=False))
    assert f"{options.bucket}.s3.invalid" in style.message
    assert "path_style: true" in style.message


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b"Client sent an HTTP request to an HTTPS server.\n", "write https://"),
        (400, b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>", "write https://"),
        (405, b"<html>Method Not Allowed</html>", "address of the S3 API"),
        (
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>",
            "region is wrong \\(the server says 'eu-west-3'\\)",
        ),
    ],
)
async def test_what_an_answer_says_about_the_endpoint(
    target: StaticRepository, s3_proxy: FaultProxy, status: int, body: bytes, words: str
) -> None:
    s3_proxy.on("PUT", "", Reply(status, {}, body))
    with pytest.raises(OcisyncError, match=words):
        await target.push(described(b"x"), BytesOpener(b"x"))


async def test_what_a_refusal_says_cannot_steer_a_terminal(target: StaticRepository, s3_proxy: FaultProxy) -> None:
    body = "<Error><Code>A\x1b[2J\u202e</Code><Message>no\x07 \x9b31m\nnext</Message></Error>".encode()
    s3_proxy.on("PUT", "", Reply(418, {}, body))
    with pytest.raises(OcisyncError) as caught:
        await target.push(described(b"x"), BytesOpener(b"x"))
    assert caught.value.message.isprintable()
