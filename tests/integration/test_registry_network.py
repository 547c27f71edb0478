"""Downloads from a real registry over a bad network: FAULTS 1 to 4, 8, 9, 15 to 23."""

import gzip
import time
from dataclasses import replace
from email.utils import formatdate

import anyio
import pytest

from ocisync.content.openers import BytesOpener
from ocisync.errors import (
    AuthError,
    DigestMismatch,
    LimitExceeded,
    NetworkError,
    NotFound,
    RateLimited,
    RedirectRefused,
    RegistryError,
    SizeMismatch,
    Stalled,
    Truncated,
)
from ocisync.model.descriptor import Descriptor
from tests.integration.bulk_engines import Engine
from tests.integration.registries import (
    BLOB,
    BLOB_PATH,
    LAYER,
    NAME,
    QUICK,
    blob_desc,
    manifest_desc,
    read,
    repository_at,
)
from tests.servers import faults, images
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.process import free_port

pytestmark = pytest.mark.usefixtures("engine")

HALF = 1_500_000
ONCE = replace(QUICK, retries=0)
IMAGE = images.make_image()


@pytest.fixture
def proxy(registry: DockerRegistry, registry_proxy: FaultProxy) -> FaultProxy:
    """In front of a registry with one blob and one tagged image."""
    images.push_blob(registry.client, NAME, LAYER.digest, BLOB)
    images.push(registry.client, NAME, "1", IMAGE)
    return registry_proxy


async def test_fault_01_refused_or_not_found_is_retried_then_unreachable() -> None:
    for host in (f"127.0.0.1:{free_port()}", "no-such-host.invalid"):
        async with repository_at(host, replace(QUICK, retries=1)) as repository:
            with pytest.raises(NetworkError) as caught:
                await repository.resolve("1")
        assert caught.value.code == "net.unreachable"
        assert caught.value.retryable
        assert host in caught.value.message


async def test_fault_01_a_registry_that_comes_back_is_reached(proxy: FaultProxy) -> None:
    refused = proxy.on("HEAD", "/manifests/", faults.Refuse(), times=2)
    async with repository_at(proxy.host) as repository:
        assert (await repository.resolve("1")).digest == IMAGE.digest
    assert refused.hits == 2


async def test_fault_02_a_reset_in_mid_blob_is_resumed_by_range(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.ResetBody(HALF), times=1)
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB
    first, second = proxy.seen("GET", BLOB_PATH)
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= HALF
    assert second.sent == len(BLOB) - start


async def test_fault_02_every_progress_earns_new_tries(proxy: FaultProxy) -> None:
    resets = proxy.on("GET", BLOB_PATH, faults.ResetBody(400_000), times=6)
    async with repository_at(proxy.host, replace(QUICK, retries=3)) as repository:
        assert await read(repository, LAYER) == BLOB
    assert resets.hits == 6


@pytest.mark.parametrize("chunked", [False, True])
async def test_fault_03_an_early_end_is_resumed(proxy: FaultProxy, chunked: bool) -> None:
    proxy.on("GET", BLOB_PATH, faults.Truncate(HALF, chunked=chunked), times=1)
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB
    assert len(proxy.seen("GET", BLOB_PATH)) == 2


@pytest.mark.parametrize("chunked", [False, True])
async def test_fault_03_an_early_end_for_ever_is_truncated(proxy: FaultProxy, chunked: bool) -> None:
    proxy.on("GET", BLOB_PATH, faults.Truncate(0, chunked=chunked))
    async with repository_at(proxy.host, replace(QUICK, retries=2)) as repository:
        with pytest.raises(Truncated) as caught:
            await read(repository, LAYER)
    assert caught.value.code == "net.truncated"
    is_asked_anew = chunked and Engine.bulk_from < len(BLOB)  # threads leave to aiohttp what comes in chunks
    assert len(proxy.seen("GET", BLOB_PATH)) == 3 + is_asked_anew


@pytest.mark.parametrize("chunked", [False, True])
async def test_fault_03_a_list_or_manifest_that_ends_early_is_read_again(proxy: FaultProxy, chunked: bool) -> None:
    proxy.on("HEAD", "/manifests/1", faults.Reply(405))
    cut = [proxy.on("GET", path, faults.Truncate(10, chunked=chunked), times=1) for path in ("/tags/", "/manifests/1")]
    async with repository_at(proxy.host) as repository:
        assert await repository.tags() == ["1"]
        assert (await repository.resolve("1")).digest == IMAGE.digest
    assert [rule.hits for rule in cut] == [1, 1]


async def test_fault_03_a_list_that_always_ends_early_is_truncated(proxy: FaultProxy) -> None:
    proxy.on("GET", "/tags/", faults.Truncate(10))
    async with repository_at(proxy.host, replace(QUICK, retries=2)) as repository:
        with pytest.raises(Truncated):
            await repository.tags()
    assert len(proxy.seen("GET", "/tags/")) == 3


@pytest.mark.parametrize("after", [-1, 0, HALF])
async def test_fault_04_a_stall_ends_by_the_idle_time_out_and_is_resumed(proxy: FaultProxy, after: int) -> None:
    proxy.on("GET", BLOB_PATH, faults.Stall(after), times=1)
    async with repository_at(proxy.host, replace(QUICK, idle_timeout=0.5)) as repository:
        assert await read(repository, LAYER) == BLOB
    assert len(proxy.seen("GET", BLOB_PATH)) == 2


async def test_fault_04_a_stall_for_ever_is_stalled(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.Stall(0))
    async with repository_at(proxy.host, replace(QUICK, idle_timeout=0.2, retries=1)) as repository:
        with pytest.raises(Stalled) as caught:
            await read(repository, LAYER)
    assert caught.value.code == "net.stalled"


async def test_fault_04_a_trickle_is_too_slow_though_never_idle(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.Trickle(size=100, pause=0.02), times=1)
    options = replace(QUICK, minimum_rate=1_000_000, rate_window=0.5)
    async with repository_at(proxy.host, options) as repository:
        assert await read(repository, LAYER) == BLOB
    assert "range" in proxy.seen("GET", BLOB_PATH)[1].headers


async def test_fault_04_a_slow_consumer_is_no_trickle(proxy: FaultProxy) -> None:
    options = replace(QUICK, minimum_rate=100_000_000, rate_window=0.3)
    async with repository_at(proxy.host, options) as repository, repository.open(LAYER) as stream:
        got = b""
        async for chunk in stream:
            got += chunk
            await anyio.sleep(0.2)
    assert got == BLOB
    assert len(proxy.seen("GET", BLOB_PATH)) == 1


async def test_fault_04_one_stalled_download_does_not_stop_others(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.Stall(0))
    options = replace(QUICK, concurrency=2)
    async with repository_at(proxy.host, options) as repository, anyio.create_task_group() as group:
        group.start_soon(read, repository, LAYER)
        with anyio.fail_after(10):
            for _ in range(5):
                assert (await repository.resolve("1")).digest == IMAGE.digest
        group.cancel_scope.cancel()


async def test_fault_08_a_redirect_loop_is_refused(proxy: FaultProxy) -> None:
    loop = proxy.on("GET", BLOB_PATH, faults.Redirect(proxy.url + "{path}"))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(RedirectRefused) as caught:
            await read(repository, LAYER)
    assert caught.value.code == "redirect.refused"
    assert loop.hits == 11


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://169.254.169.254/latest", "http://["])
async def test_fault_08_other_schemes_and_internal_addresses_are_refused(proxy: FaultProxy, to: str) -> None:
    proxy.on("GET", BLOB_PATH, faults.Redirect(to))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(RedirectRefused):
            await read(repository, LAYER)


async def test_fault_09_an_encoding_nobody_asked_for(proxy: FaultProxy) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    proxy.on("GET", BLOB_PATH, faults.Reply(200, {"Content-Encoding": "gzip"}, bomb))
    proxy.on("GET", "/manifests/", faults.Reply(200, {"Content-Encoding": "gzip", "Content-Type": "a/b"}, bomb))
    proxy.on("GET", "/tags/list", faults.Reply(200, {"Content-Encoding": "gzip"}, bomb))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(SizeMismatch):
            await read(repository, LAYER)
        with pytest.raises(SizeMismatch):
            await read(repository, manifest_desc(IMAGE))
        with pytest.raises(RegistryError, match="not a list of tags"):  # decompressed, within the bound of every list
            await repository.tags()
    assert {one.headers["accept-encoding"] for one in proxy.requests} == {"identity"}


async def test_fault_09_bytes_that_only_claim_an_encoding_are_hashed_as_sent(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.ChangeHeaders(replace={"Content-Encoding": "gzip"}))
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB


@pytest.mark.parametrize(
    ("status", "value", "pause"),
    [(429, "1", 1.0), (503, "1", 1.0), (429, "-5", 0.0), (429, "0", 0.0), (429, None, 0.5), (429, "99999999", 0.5)],
)
async def test_fault_15_retry_after_pauses_the_host(
    proxy: FaultProxy, status: int, value: str | None, pause: float
) -> None:
    headers = {} if value is None else {"Retry-After": value}
    busy = proxy.on("HEAD", "/manifests/", faults.Reply(status, headers), times=1)
    longest = 5.0 if value == "1" else 0.5
    async with repository_at(proxy.host, replace(QUICK, longest_pause=longest)) as repository:
        began = time.monotonic()
        assert (await repository.resolve("1")).digest == IMAGE.digest
        took = time.monotonic() - began
    assert busy.hits == 1
    assert pause <= took < pause + 3


async def test_fault_15_the_pause_holds_for_the_whole_host_and_a_date_is_understood(proxy: FaultProxy) -> None:
    until = formatdate(time.time() + 3, usegmt=True)  # whole seconds: at least 2 from now
    proxy.on("GET", "/tags/list", faults.Reply(503, {"Retry-After": until}), times=1)
    async with repository_at(proxy.host, ONCE) as repository:
        with pytest.raises(RateLimited) as caught:
            await repository.tags()
        began = time.monotonic()
        await repository.resolve("1")
        assert time.monotonic() - began > 1
    assert caught.value.code == "limit.rate"
    assert caught.value.retryable


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 499, 522])
async def test_fault_16_statuses_that_pass_are_retried(proxy: FaultProxy, status: int) -> None:
    rules = [
        proxy.on("HEAD|GET", "/manifests/", faults.Reply(status), times=2),  # a HEAD that fails is one GET
        proxy.on("GET", "/tags/list", faults.Reply(status), times=2),
        proxy.on("GET", "/blobs/", faults.Reply(status), times=2),
    ]
    async with repository_at(proxy.host) as repository:
        assert (await repository.resolve("1")).digest == IMAGE.digest
        assert await repository.tags() == ["1"]
        assert await read(repository, LAYER) == BLOB
    assert [rule.hits for rule in rules] == [2, 2, 2]


async def test_fault_16_but_not_for_ever(proxy: FaultProxy) -> None:
    rule = proxy.on("GET", "/tags/list", faults.Reply(502))
    async with repository_at(proxy.host, replace(QUICK, retries=3)) as repository:
        with pytest.raises(RegistryError, match="502") as caught:
            await repository.tags()
    assert caught.value.retryable
    assert rule.hits == 4


@pytest.mark.parametrize("status", [400, 403, 405, 410, 501])
async def test_fault_17_statuses_that_stay_fail_at_once(proxy: FaultProxy, status: int) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "no\\u001b[31m way"}]}'
    rules = [proxy.on("GET", path, faults.Reply(status, body=body)) for path in ("/tags/list", "/blobs/")]
    async with repository_at(proxy.host) as repository:
        for attempt in (repository.tags(), read(repository, LAYER)):
            with pytest.raises(RegistryError) as caught:
                await attempt
            assert not caught.value.retryable
            assert f"status {status} (DENIED: no [31m way)" in caught.value.message
            assert isinstance(caught.value, AuthError) == (status == 403)
    assert [rule.hits for rule in rules] == [1, 1]


async def test_fault_18_an_absent_tag_is_missing_at_once(proxy: FaultProxy) -> None:
    async with repository_at(proxy.host) as repository:
        with pytest.raises(NotFound) as caught:
            await repository.resolve("no-such-tag")
    assert caught.value.code == "source.missing"
    assert not caught.value.retryable
    assert len(proxy.requests) == 1


async def test_fault_18_an_absent_repository_is_missing(registry: DockerRegistry) -> None:
    async with repository_at(registry.host, name="no/such") as repository:
        with pytest.raises(NotFound):
            await repository.tags()


async def test_fault_19_an_ignored_range_is_read_again_from_the_start(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.ResetBody(HALF), times=1)
    proxy.on("GET", BLOB_PATH, faults.IgnoreRange())
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB
    assert proxy.seen("GET", BLOB_PATH)[1].sent == len(BLOB)


@pytest.mark.parametrize("by", [-7, 7])
async def test_fault_19_a_range_from_the_wrong_offset_is_refused_and_the_whole_read_again(
    proxy: FaultProxy, by: int
) -> None:
    proxy.on("GET", BLOB_PATH, faults.ResetBody(HALF), times=1)
    proxy.on("GET", BLOB_PATH, faults.WrongRange(by))
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB
    assert "range" not in proxy.seen("GET", BLOB_PATH)[-1].headers


@pytest.mark.parametrize("by", [-7, 7])
async def test_fault_19_a_range_that_lies_about_its_offset_shows_by_its_length(proxy: FaultProxy, by: int) -> None:
    proxy.on("GET", BLOB_PATH, faults.ResetBody(HALF), times=1)
    lying = proxy.on("GET", BLOB_PATH, faults.WrongRange(by, lie=True), times=1)
    async with repository_at(proxy.host) as repository:
        assert await read(repository, LAYER) == BLOB
    assert lying.hits == 1
    assert "range" not in proxy.seen("GET", BLOB_PATH)[-1].headers


async def test_fault_20_a_flipped_byte_is_found(proxy: FaultProxy) -> None:
    proxy.on("GET", BLOB_PATH, faults.Flip(HALF))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(DigestMismatch) as caught:
            await read(repository, LAYER)
    assert caught.value.code == "verify.digest"


@pytest.mark.parametrize("change", [lambda body: body + b"more", lambda body: body[:-1]], ids=["longer", "shorter"])
async def test_fault_21_another_length_is_refused_before_it_is_read(proxy: FaultProxy, change: object) -> None:
    proxy.on("GET", BLOB_PATH, faults.ChangeBody(change))  # type: ignore[arg-type]
    async with repository_at(proxy.host) as repository:
        with pytest.raises(SizeMismatch) as caught:
            async with repository.open(LAYER):
                pytest.fail("it was opened")
    assert caught.value.code == "verify.size"


async def test_fault_21_an_endless_body_stops_at_size_plus_one(proxy: FaultProxy) -> None:
    small = Descriptor(LAYER.media_type, LAYER.digest, 1000)
    proxy.on("GET", BLOB_PATH, faults.ChangeHeaders(drop=("Content-Length",), add={"Transfer-Encoding": "chunked"}))
    async with repository_at(proxy.host) as repository, repository.open(small) as stream:
        assert sum([len(chunk) async for chunk in stream]) == 1001


async def test_fault_22_a_flipped_manifest_is_refused(proxy: FaultProxy) -> None:
    proxy.on("GET", "/manifests/", faults.Flip(50))
    async with repository_at(proxy.host) as repository:
        desc = await repository.resolve("1")
        with pytest.raises(DigestMismatch):
            await read(repository, desc)
    assert proxy.seen("GET", "/manifests/")[0].path.endswith(IMAGE.digest)


async def test_fault_23_a_lying_digest_header_is_refused(proxy: FaultProxy) -> None:
    lie = "sha256:" + "0" * 64
    proxy.on("HEAD|GET", "/manifests/", faults.ChangeHeaders(replace={"Docker-Content-Digest": lie}))
    async with repository_at(proxy.host) as repository:
        assert (await repository.resolve("1")).digest == lie
        with pytest.raises(NotFound):  # only what has the digest is fetched
            await read(repository, await repository.resolve("1"))
        with pytest.raises(DigestMismatch):
            await repository.resolve(IMAGE.digest)


@pytest.mark.parametrize("value", [None, "sha256:../../x", "md5:0123"])
async def test_fault_23_without_a_digest_header_our_own_hash_rules(proxy: FaultProxy, value: str | None) -> None:
    change = faults.ChangeHeaders(
        drop=("Docker-Content-Digest",), add={} if value is None else {"Docker-Content-Digest": value}
    )
    proxy.on("HEAD|GET", "/manifests/", change)
    async with repository_at(proxy.host) as repository:
        desc = await repository.resolve("1")
        assert desc == manifest_desc(IMAGE)
        assert desc.data == IMAGE.manifest
        assert await read(repository, desc) == IMAGE.manifest


async def test_fault_23_a_lie_beside_the_body_is_refused(proxy: FaultProxy) -> None:
    proxy.on("HEAD", "/manifests/", faults.Reply(405))
    lie = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    proxy.on("GET", "/manifests/", faults.ChangeHeaders(replace=lie))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(DigestMismatch):
            await repository.resolve("1")


async def test_fault_26_a_manifest_over_4_mib_is_refused_unread(proxy: FaultProxy) -> None:
    body = b"{" + b" " * 5_000_000 + b"}"
    kind = {"Content-Type": IMAGE.media_type, "Docker-Content-Digest": images.digest_of(body)}
    big = proxy.on("HEAD|GET", "/manifests/", faults.Reply(200, kind, body))
    huge = Descriptor(IMAGE.media_type, LAYER.digest, len(body))
    async with repository_at(proxy.host) as repository:
        for attempt in (repository.resolve("1"), read(repository, huge)):
            with pytest.raises(LimitExceeded) as caught:
                await attempt
            assert caught.value.code == "limit.manifest"
        assert big.hits == 1
        proxy.rules.insert(0, proxy.on("HEAD", "/manifests/", faults.Reply(405)))
        with pytest.raises(LimitExceeded):
            await repository.resolve("1")


async def test_fault_16_a_burst_of_503_slows_the_host_down_and_passes(proxy: FaultProxy) -> None:
    burst = proxy.on(".*", "/v2/", faults.Reply(503), times=12)
    async with repository_at(proxy.host, replace(QUICK, concurrency=4)) as repository:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(repository.resolve, "1")
        assert await repository.tags() == ["1"]
    assert burst.hits == 12


async def test_bandwidth_is_shared_by_downloads_and_uploads(proxy: FaultProxy) -> None:
    new = blob_desc(b"n" * 400_000)
    async with repository_at(proxy.host, replace(QUICK, bandwidth=2_000_000)) as repository:
        began = time.monotonic()
        async with anyio.create_task_group() as group:
            group.start_soon(read, repository, LAYER)
            group.start_soon(repository.push, new, BytesOpener(b"n" * 400_000))
        assert time.monotonic() - began > (len(BLOB) + 400_000) / 2_000_000 - 0.1
        assert await repository.exists(new)
