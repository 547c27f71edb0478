"""What clients may cost a server: connections, time and memory; and who may ask for what on loopback."""

import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web
from anyio.to_thread import run_sync

from ocisync.serve.server import MOST_HEADERS, UNSENT, ServerLimits, serve
from tests.integration.serving import drain
from tests.servers.client import fetch
from tests.servers.loop import serve_app
from tests.servers.process import free_port, running
from tests.servers.tls import make_certificate

MIB = 1 << 20
HALVES = {
    "nothing": b"",
    "half a request line": b"GET /v2/ HT",
    "half of the headers": b"GET /fast HTTP/1.1\r\nHost: localhost\r\nX: ",
    "an answered request": b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an answered request and half of one": b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\nGET /fast",
}


async def fast(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def long(_: web.Request) -> web.Response:
    return web.Response(text="x" * 16384)


async def slow(request: web.Request) -> web.StreamResponse:
    """Begins an answer and never ends it."""
    response = web.StreamResponse()
    await response.prepare(request)
    await anyio.sleep_forever()
    return response


async def read(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@asynccontextmanager
async def server(limits: ServerLimits) -> AsyncIterator[tuple[str, int]]:
    app = web.Application()
    for path, handler in (
        ("/fast", fast),
        ("/long", long),
        ("/healthz", fast),
        ("/metrics", fast),
        ("/v2/{rest:.*}", fast),
        ("/slow", slow),
    ):
        app.router.add_get(path, handler)
    app.router.add_post("/read", read)
    async with serve(app, "127.0.0.1", 0, limits) as url:
        yield url, int(url.rpartition(":")[2])


@contextmanager
def connection(port: int, data: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
        made.sendall(data)
        yield made


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES.keys())
async def test_a_connection_that_is_idle_is_closed(sent: bytes) -> None:
    async with server(ServerLimits(idle=0.3)) as (_, port):
        with connection(port, sent) as one, anyio.fail_after(8):
            await run_sync(drain, one)


async def test_a_body_that_never_comes_is_given_up() -> None:
    async with server(ServerLimits(body=0.3)) as (_, port):
        head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
        with connection(port, head) as one, anyio.fail_after(8):
            assert b" 408 " in await run_sync(drain, one)


MANY = b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400  # answers of 6.5 MB, more than wait anywhere


async def is_closed(one: socket.socket) -> None:
    """Return when the other side has given a connection up, without reading what it sent."""
    with suppress(ConnectionError):
        while True:
            one.send(b" ")
            await anyio.sleep(0.1)


async def test_who_asks_and_reads_nothing_is_given_up() -> None:
    async with server(ServerLimits(idle=1)) as (_, port):
        with connection(port, MANY) as one, anyio.fail_after(20):
            await is_closed(one)


async def test_who_asks_and_reads_nothing_makes_room_for_others() -> None:
    async with server(ServerLimits(connections=8)) as (url, port), aiohttp.ClientSession() as client:
        with ExitStack() as stack, anyio.fail_after(20):
            deaf = [stack.enter_context(connection(port, MANY)) for _ in range(8)]
            await anyio.sleep(0.5)
            async with client.get(f"{url}/fast") as answer:
                assert answer.status == 200
            await is_closed(deaf[0])


async def test_a_head_of_very_many_headers_is_refused() -> None:
    head = b"GET /fast HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * MOST_HEADERS + b"\r\n"
    async with server(ServerLimits()) as (_, port):
        with connection(port, head) as one, anyio.fail_after(8):
            assert b" 400 " in await run_sync(drain, one)


async def test_idle_connections_keep_nobody_out() -> None:
    async with server(ServerLimits(connections=8)) as (url, port), aiohttp.ClientSession() as client:
        with ExitStack() as stack:
            half = HALVES["half of the headers"]
            idle = [stack.enter_context(connection(port, half)) for _ in range(8)]
            for _ in range(3):
                with anyio.fail_after(5):
                    async with client.get(f"{url}/fast", headers={"Connection": "close"}) as answer:
                        assert answer.status == 200
            with anyio.fail_after(5):
                assert await run_sync(drain, idle[0]) == b""  # the one that was idle longest made room
            idle[-1].sendall(b"x\r\n\r\n")
            assert b" 200 " in await run_sync(idle[-1].recv, 65536)


async def test_when_all_are_busy_the_next_is_told_at_once() -> None:
    async with server(ServerLimits(connections=2, grace=0.1)) as (_, port):
        with ExitStack() as stack:
            busy = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(2):
                one = stack.enter_context(connection(port, busy))
                assert b" 200 " in await run_sync(one.recv, 65536)
            answer = await run_sync(drain, stack.enter_context(connection(port, b"")))
            assert b" 503 " in answer
            assert b"Retry-After" in answer


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[", "10.1.2.3:80"]
)
async def test_pages_for_this_machine_are_refused_to_other_names(host: str) -> None:
    async with server(ServerLimits()) as (_, port):

        def ask(path: str, name: str) -> bytes:
            request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            with connection(port, request.encode()) as one:
                return drain(one)

        for status, path, name in ((b" 421 ", "/metrics", host), (b" 404 ", "/nothing", "localhost")):
            answer = await run_sync(ask, path, name)
            assert status in answer
            assert b"Content-Security-Policy: default-src 'none'" in answer
        for path in ("/v2/app/tags/list", "/healthz"):
            assert b" 200 " in await run_sync(ask, path, host)
        for name in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:80", "app.localhost", "LOCALHOST"):
            assert b" 200 " in await run_sync(ask, "/metrics", name)


def memory(pid: int) -> int:
    """What a process holds, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def test_a_slow_reader_costs_next_to_no_memory(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    blob = tmp_path / "v2/app/blobs" / digest
    blob.parent.mkdir(parents=True)
    with blob.open("wb") as file:
        file.truncate(64 * MIB)
    port = free_port()
    command = [sys.executable, "-m", "ocisync", "serve", str(tmp_path), "--listen", f"127.0.0.1:{port}"]
    with running(command, tmp_path) as server, ExitStack() as stack:
        server.wait_until(partial(answers, port), "the server to answer")
        request = f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        readers = [stack.enter_context(_slow_reader(port, request)) for _ in range(4)]
        before = memory(server.process.pid)
        readers += [stack.enter_context(_slow_reader(port, request)) for _ in range(200)]
        for one in readers:
            assert one.recv(2000).startswith(b"HTTP/1.1 200")
        assert fetch("GET", f"http://127.0.0.1:{port}/v2/").status == 200
        assert memory(server.process.pid) - before < 200 * 64 * 1024
        assert sum(map(_unsent, readers)) < len(readers) * 4 * UNSENT, "what waits in the kernel is bounded, too"


def test_slow_readers_of_a_long_manifest_share_it(tmp_path: Path) -> None:
    text = json.dumps({"schemaVersion": 2, "annotations": {f"{number}": "x" * 90 for number in range(30_000)}})
    manifest = tmp_path / "v2/app/manifests/1"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(text)
    (tmp_path / "v2/app/tags").mkdir()
    (tmp_path / "v2/app/tags/list").write_text(json.dumps({"tags": [f"t{number:0100}" for number in range(30_000)]}))
    port = free_port()
    command = [sys.executable, "-m", "ocisync", "serve", str(tmp_path), "--listen", f"127.0.0.1:{port}"]
    with running(command, tmp_path) as server, ExitStack() as stack:
        server.wait_until(partial(answers, port), "the server to answer")
        assert fetch("GET", f"http://127.0.0.1:{port}/v2/app/manifests/1").body == text.encode()
        before = memory(server.process.pid)
        for path in ("manifests/1", "tags/list"):
            request = f"GET /v2/app/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            readers = [stack.enter_context(_slow_reader(port, request)) for _ in range(40)]
            for one in readers:
                assert one.recv(2000).startswith(b"HTTP/1.1 200")
        assert fetch("GET", f"http://127.0.0.1:{port}/v2/app/manifests/1").body == text.encode()
        assert memory(server.process.pid) - before < 100 * MIB


async def _root(_: web.Request) -> web.Response:
    return web.Response(body=b"{}", headers={"ETag": '"x"'})


async def _object(request: web.Request) -> web.StreamResponse:
    """An object of 64 MiB, or a range of it, as a bucket has it."""
    size = 64 * MIB
    wanted = request.http_range
    start, stop = wanted.start or 0, min(wanted.stop or size, size)
    headers = {"Content-Length": str(stop - start), "ETag": '"x"'}
    if "Range" in request.headers:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
    await response.prepare(request)
    with suppress(ConnectionError):
        for at in range(start, stop, MIB // 16):
            await response.write(bytes(min(MIB // 16, stop - at)))
    return response


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_slow_reader_of_a_bucket_costs_little_memory(is_tls: bool, tmp_path: Path) -> None:
    before, after = memory_of_slow_readers(200, is_tls, tmp_path)
    assert after - before < 200 * 64 * 1024 + 32 * MIB  # and the streams that they share


def memory_of_slow_readers(count: int, is_tls: bool, folder: Path) -> tuple[int, int]:
    """What `ocisync serve` holds with ten slow readers of a bucket's blob, and with `count` more; in bytes."""
    digest = "sha256:" + "a" * 64
    app = web.Application()
    app.router.add_get(f"/bucket/v2/app/blobs/{digest}", _object)
    app.router.add_get("/bucket/v2/", _root)
    port = free_port()
    certificate = make_certificate(folder)
    with serve_app(app, certificate.server_context() if is_tls else None) as bucket, ExitStack() as stack:
        place = f"s3://bucket?endpoint={bucket}&use_path_style=true&anonymous=true"
        command = [sys.executable, "-m", "ocisync", "serve", place, "--listen", f"127.0.0.1:{port}"]
        environment = {"AWS_CA_BUNDLE": str(certificate.authority)} if is_tls else {}
        server = stack.enter_context(running(command, folder, environment))
        server.wait_until(partial(answers, port), "the server to answer")
        request = f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        readers = [stack.enter_context(_slow_reader(port, request)) for _ in range(10)]
        assert readers[-1].recv(2000).startswith(b"HTTP/1.1 200")
        before = memory(server.process.pid)
        readers += [stack.enter_context(_slow_reader(port, request)) for _ in range(count)]
        for one in readers[10:]:
            assert one.recv(2000).startswith(b"HTTP/1.1 200")
        assert fetch("GET", f"http://127.0.0.1:{port}/v2/").status == 200
        assert sum(map(_unsent, readers)) < len(readers) * 4 * UNSENT
        return before, memory(server.process.pid)


def _unsent(one: socket.socket) -> int:
    """What the server's kernel keeps for a reader, in bytes: the send queue of the other end."""
    ends = [f"{port:04X}" for port in (one.getpeername()[1], one.getsockname()[1])]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if [local[-4:], remote[-4:]] == ends:
            return int(queues.partition(":")[0], 16)
    raise AssertionError("the connection is gone")


def answers(port: int) -> bool:
    try:
        return fetch("GET", f"http://127.0.0.1:{port}/v2/").status == 200
    except OSError:
        return False


@contextmanager
def _slow_reader(port: int, request: bytes) -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(20)
        made.connect(("127.0.0.1", port))
        made.sendall(request)
        yield made
