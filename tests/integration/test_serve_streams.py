"""`serve` with large blobs, failing stores, clients that leave, and a real client."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from anyio import to_thread

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import Verifier, update
from ocisync.daemon.metrics import Metrics
from ocisync.daemon.pages import daemon_app
from ocisync.daemon.status.snapshot import Snapshot
from ocisync.daemon.webhooks.payloads import Push
from ocisync.daemon.webhooks.receiver import Webhook
from ocisync.errors import ConfigError, NetworkError, StoreError
from ocisync.model.digest import Digest, sha256
from ocisync.serve.app import registry_app, registry_routes
from ocisync.serve.server import serve
from ocisync.state.rule_records import RuleView
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static import layout
from tests.integration.serving import Registry, publish, put, raw_request, served, store_at
from tests.servers.process import free_port
from tests.servers.seaweed import Bucket

MIB = 1 << 20
BLOB = Digest("sha256:" + "a" * 64)
PATH = f"/v2/demo/blobs/{BLOB}"


class OneBlob:
    """An object store whose only blob is made while it is read; it can fail, fall short, and knows what was asked."""

    def __init__(self, size: int, *, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.size = size
        self.fails_at = fails_at
        self.error = error
        self.made = 0
        self.closed = anyio.Event()

    async def head(self, key: str) -> ObjectInfo | None:
        if self.error is not None and self.fails_at is None:
            raise self.error
        return ObjectInfo(key, self.size, '"etag"')

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
        info = await self.head(key)
        assert info is not None
        try:
            yield info, self._chunks(self.size if length is None else length)
        finally:
            self.closed.set()

    async def _chunks(self, length: int) -> AsyncIterator[bytes]:
        while length > 0:
            if self.fails_at is not None and self.made >= self.fails_at:
                if self.error is not None:
                    raise self.error
                return
            await anyio.lowlevel.checkpoint()
            self.made += min(MIB, length)
            yield bytes(min(MIB, length))
            length -= MIB

    def can_resume_upload(self, size: int) -> bool:
        return True

    async def put(
        self,
        key: str,
        opener: Opener,
        headers: ObjectHeaders,
        *,
        size: int,
        digest: Digest | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        raise StoreError("read-only")

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        nothing: tuple[ObjectInfo, ...] = ()
        for info in nothing:
            yield info

    async def delete(self, keys: Sequence[str]) -> None:
        raise StoreError("read-only")


@pytest.mark.parametrize(
    "error", [NetworkError("the bucket went away"), OSError("I/O error"), None], ids=["network", "disk", "short"]
)
async def test_a_store_that_fails_half_way_cuts_the_connection(error: Exception | None) -> None:
    store = OneBlob(8 * MIB, fails_at=3 * MIB, error=error)
    async with served(store) as registry:
        with pytest.raises(aiohttp.ClientPayloadError):
            await registry.ask(PATH)
        assert store.closed.is_set()
        assert (await registry.ask("/v2/")).status == 200


@pytest.mark.parametrize("error", [NetworkError("10.1.2.3:8333: refused"), StoreError("denied"), PermissionError("x")])
@pytest.mark.parametrize(
    "path", [PATH, "/v2/demo/manifests/latest", "/v2/demo/tags/list", f"/v2/demo/referrers/{BLOB}"]
)
async def test_a_store_that_does_not_answer_is_503_without_its_secrets(error: Exception, path: str) -> None:
    async with served(OneBlob(1, error=error)) as registry:
        reply = await registry.ask(path)
    assert (reply.status, reply.error(), reply.headers["retry-after"]) == (503, "UNAVAILABLE", "5")
    assert b"10.1.2.3" not in reply.body


async def test_a_client_that_leaves_ends_the_read() -> None:
    store = OneBlob(1 << 40)
    async with served(store) as registry:
        async with registry.session.get(registry.url + PATH) as reply:
            await reply.content.readexactly(MIB)
            reply.close()
        with anyio.fail_after(10):
            await store.closed.wait()


async def test_a_client_that_reads_slowly_does_not_fill_the_memory() -> None:
    store = OneBlob(1 << 40)
    async with served(store) as registry, registry.session.get(registry.url + PATH) as reply:
        await reply.content.readexactly(MIB)
        before = -1
        with anyio.fail_after(30):
            while store.made != before:
                before = store.made
                await anyio.sleep(0.2)
        assert store.made <= 64 * MIB
        reply.close()


async def test_a_repeated_head_of_a_manifest_reads_it_once(tmp_path: Path) -> None:
    opened: list[str] = []

    class Noting(DirectoryStore):
        @asynccontextmanager
        async def open(
            self, key: str, *, start: int = 0, length: int | None = None
        ) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
            opened.append(key)
            async with super().open(key, start=start, length=length) as found:
                yield found

    async with served(Noting(tmp_path, fsync=False)) as registry:
        await publish(registry.store, "demo", "latest")
        digests = {
            (await registry.ask("/v2/demo/manifests/latest", "HEAD")).headers["docker-content-digest"] for _ in range(5)
        }
    assert opened == [layout.manifest_key("demo", "latest")]
    assert len(digests) == 1


async def large_blob(folder: Path) -> None:
    """Pull more than a slice, whole and in ranges."""
    data = os.urandom(5 * MIB + 12_345)
    digest = sha256(data)
    async with served(DirectoryStore(folder, fsync=False)) as registry:
        await put(registry.store, layout.blob_key("demo", digest), data)
        whole = await registry.ask(f"/v2/demo/blobs/{digest}")
        part = await registry.ask(f"/v2/demo/blobs/{digest}", Range=f"bytes={MIB - 1}-{3 * MIB}")
        tail = await registry.ask(f"/v2/demo/blobs/{digest}", Range="bytes=-2000000")
        after = await registry.ask("/v2/")
    assert sha256(whole.body) == digest
    assert part.body == data[MIB - 1 : 3 * MIB + 1]
    assert tail.body == data[-2_000_000:]
    assert after.status == 200


async def many_blobs(folder: Path) -> None:
    """Pull many blobs at a time over kept connections."""
    blobs = [os.urandom(300_000 + number) for number in range(20)]
    found: list[bool] = []

    async def pull(registry: Registry, data: bytes) -> None:
        reply = await registry.ask(f"/v2/demo/blobs/{sha256(data)}")
        found.append(reply.body == data)

    async with served(DirectoryStore(folder, fsync=False)) as registry:
        for data in blobs:
            await put(registry.store, layout.blob_key("demo", sha256(data)), data)
        async with anyio.create_task_group() as tasks:
            for data in blobs * 3:
                tasks.start_soon(pull, registry, data)
    assert found == [True] * 60


async def clients_that_leave(folder: Path) -> None:
    """Leave in the middle of a file, then pull it."""
    data = bytes(32 * MIB)
    async with served(DirectoryStore(folder, fsync=False)) as registry:
        await put(registry.store, layout.blob_key("demo", sha256(data)), data)
        for _ in range(3):
            async with registry.session.get(f"{registry.url}/v2/demo/blobs/{sha256(data)}") as reply:
                await reply.content.readexactly(MIB)
                reply.close()
        assert len((await registry.ask(f"/v2/demo/blobs/{sha256(data)}")).body) == len(data)


async def a_file_that_shrinks(folder: Path) -> None:
    """Cut a file off while it is sent: the client must not take what came for the whole."""
    data = bytes(32 * MIB)
    async with served(DirectoryStore(folder, fsync=False)) as registry:
        key = layout.blob_key("demo", sha256(data))
        await put(registry.store, key, data)
        async with registry.session.get(f"{registry.url}/{key}") as reply:
            await reply.content.readexactly(MIB)
            os.truncate(folder / key, 2 * MIB)
            with anyio.fail_after(10), pytest.raises(aiohttp.ClientPayloadError):
                await reply.content.read()
        assert (await registry.ask("/v2/")).status == 200


@pytest.mark.parametrize("check", [large_blob, a_file_that_shrinks])
def test_files_are_read_where_the_kernel_does_not_send_them(
    check: Callable[[Path], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "as some file systems say")

    monkeypatch.setattr(os, "sendfile", refuse)
    anyio.run(check, tmp_path)


@pytest.mark.parametrize("use_uvloop", [False, True], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("check", [large_blob, many_blobs, clients_that_leave, a_file_that_shrinks])
def test_files_are_sent_by_the_kernel_or_where_the_loop_cannot_from_threads(
    check: Callable[[Path], Awaitable[None]], tmp_path: Path, *, use_uvloop: bool
) -> None:
    anyio.run(check, tmp_path, backend_options={"use_uvloop": use_uvloop})


def skopeo(*arguments: str) -> bytes:
    """Run skopeo; what it prints."""
    done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("kind", ["directory", "s3"])
async def test_skopeo_inspects_lists_and_copies_byte_exact(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place: Path | Bucket = tmp_path / "registry" if kind == "directory" else request.getfixturevalue("bucket")
    async with store_at(place) as store, served(store) as registry:
        image = await publish(store, "library/demo", "1.0", "latest", layer=os.urandom(MIB))
        host = registry.url.removeprefix("http://")
        reference = f"docker://{host}/library/demo:1.0"

        async def run(*arguments: str) -> bytes:
            return await to_thread.run_sync(lambda: skopeo(*arguments))

        raw = await run("inspect", "--tls-verify=false", "--raw", reference)
        tags = await run("list-tags", "--tls-verify=false", f"docker://{host}/library/demo")
        await run("copy", "--src-tls-verify=false", reference, f"dir:{tmp_path / 'copy'}")
    assert raw == image.manifest.data
    assert b'"latest"' in tags
    for desc in (image.layer, image.config):
        assert (tmp_path / "copy" / desc.digest.removeprefix("sha256:")).read_bytes() == desc.data


LONG = b"x" * 20_000
MALFORMED = [
    b"GET /v2/" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + LONG + b"\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nNo Header: y\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
]


@pytest.mark.parametrize("request_lines", MALFORMED, ids=["line", "header", "name", "TLS"])
async def test_what_is_no_http_is_refused_without_a_traceback(
    request_lines: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(DirectoryStore(tmp_path, fsync=False)) as registry:
        assert (await raw_request(registry.url, request_lines)).split(b" ", 2)[1] == b"400"
        assert (await registry.ask("/v2/")).status == 200
    assert caplog.records == []


UNMET = [b"Expect: x\r\n", b"Expect:\xd6100-continue\r\n"]


@pytest.mark.parametrize("expect", UNMET, ids=["unknown", "no UTF-8"])
async def test_an_expectation_that_is_not_met_is_refused_without_a_traceback(
    expect: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(DirectoryStore(tmp_path, fsync=False)) as registry:
        request = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + expect + b"\r\n"
        assert (await raw_request(registry.url, request)).split(b" ", 2)[1] == b"417"
    assert caplog.records == []


async def test_a_client_that_leaves_before_it_is_told_to_go_on_leaves_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(DirectoryStore(tmp_path, fsync=False)) as registry:
        parts = urlsplit(registry.url)
        for _ in range(20):
            with socket.create_connection((parts.hostname or "", parts.port or 0)) as made:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at its end
                made.sendall(
                    b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
                )
        assert (await registry.ask("/v2/")).status == 200
    assert caplog.records == []


async def test_other_failures_of_the_server_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: web.Request) -> web.Response:
        raise RuntimeError("unexpected")

    app = registry_app(DirectoryStore(tmp_path))
    app.router.add_get("/broken", broken)
    async with serve(app, "127.0.0.1", 0) as url, aiohttp.request("GET", f"{url}/broken") as reply:
        assert reply.status == 500
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "unexpected" in str(record.exc_info[1])


async def test_an_address_in_use_is_said_clearly(tmp_path: Path) -> None:
    app = registry_app(DirectoryStore(tmp_path))
    async with serve(app, "127.0.0.1", 0) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another") as error:
            async with serve(registry_app(DirectoryStore(tmp_path)), "127.0.0.1", port):
                pass
    assert error.value.code == "listen.failed"


async def test_the_port_is_the_one_asked_for(tmp_path: Path) -> None:
    port = free_port()
    async with serve(registry_app(DirectoryStore(tmp_path)), "127.0.0.1", port) as url:
        assert url == f"http://127.0.0.1:{port}"


class Ready:
    """A daemon that is well."""

    def not_ready(self) -> list[str]:
        return []

    async def snapshot(self) -> Snapshot:
        return Snapshot(0.0)

    def failed_parts(self) -> list[str]:
        return []

    def skipped_files(self) -> dict[str, int]:
        return {}

    def rule_views(self) -> dict[str, RuleView]:
        return {}

    async def trigger(self, rule: str, tag: str = "", repository: str = "") -> bool:
        return False

    def webhooks(self) -> dict[str, Webhook]:
        return {}

    async def accept(self, pushes: Sequence[Push]) -> list[str]:
        return []


async def test_fault_60_health_answers_within_a_second_while_blobs_are_hashed_and_served(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, fsync=False)
    data = os.urandom(16 * MIB)
    await put(store, layout.blob_key("demo", sha256(data)), data)
    slowest, hashed, asked = 0.0, 0, 0
    chunk = memoryview(data)[:MIB].tobytes()

    async def hash_for_ever() -> None:
        nonlocal hashed
        check = Verifier(BLOB)
        while True:
            await update(check, chunk)
            hashed += 1

    async def serve_for_ever(url: str, session: aiohttp.ClientSession) -> None:
        while True:
            async with session.get(f"{url}/v2/demo/blobs/{sha256(data)}") as reply:
                assert len(await reply.read()) == len(data)

    app = daemon_app(Ready(), Metrics(), registry_routes(store))
    async with serve(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session, anyio.create_task_group() as load:
        for _ in range(8):
            load.start_soon(hash_for_ever)
        load.start_soon(serve_for_ever, url, session)
        while asked < 50 or hashed < 50:
            started = anyio.current_time()
            async with session.get(f"{url}/healthz") as reply:
                assert reply.status == 200
            slowest, asked = max(slowest, anyio.current_time() - started), asked + 1
        load.cancel_scope.cancel()
    assert slowest < 1.0


async def test_serving_writes_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    image = await publish(store, "demo", "latest")
    before = sorted((tmp_path / "registry").rglob("*"))
    async with served(DirectoryStore(tmp_path / "registry")) as registry:
        for path in ("manifests/latest", f"blobs/{image.layer.digest}", "tags/list"):
            assert (await registry.ask(f"/v2/demo/{path}")).status == 200
    assert sorted((tmp_path / "registry").rglob("*")) == before
