"""Large blobs over TLS and through proxies, by both engines: with an authority of one's own, and refused without it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from ocisync.errors import TlsError
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import ProxyOptions
from tests.integration.bulk_engines import Engine
from tests.integration.registries import LAYER, NAME, QUICK, read
from tests.servers import images
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.tls import Certificate

pytestmark = pytest.mark.usefixtures("engine")


async def test_a_large_blob_over_tls_at_both_ends(certificate: Certificate, tmp_path: Path) -> None:
    with (
        docker_registry(tmp_path / "source", tls=certificate) as source,
        docker_registry(tmp_path / "target", tls=certificate) as target,
    ):
        images.push_blob(source.client, NAME, LAYER.digest, images.noise(3_000_000, "a layer"))
        options = replace(QUICK, ca_file=certificate.authority, bulk_from=Engine.bulk_from, retries=0)
        async with open_registries({}, options) as client:
            opener = partial(client.source(source.host, NAME).open, LAYER)
            for name in (NAME, "another/image"):  # the second time by connections that were kept
                await client.repository(target.host, name).push(LAYER, opener)
            assert len(await read(client.repository(target.host, NAME), LAYER)) == LAYER.size
        insecure = replace(options, ca_file=None, insecure_tls=True)
        async with open_registries({}, insecure) as client:
            assert len(await read(client.repository(target.host, NAME), LAYER)) == LAYER.size
        async with open_registries({}, replace(options, ca_file=None, plain_http=False)) as client:
            with pytest.raises(TlsError):
                await read(client.repository(target.host, NAME), LAYER)


@asynccontextmanager
async def tunnels() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that knows CONNECT only, and the heads that it was sent."""
    heads: list[bytes] = []

    async def pipe(one: SocketStream, other: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in one:
                await other.send(data)

    async def serve(client: SocketStream) -> None:
        async with client:
            head = await client.receive()
            heads.append(head)
            host, _, port = head.split()[1].decode().rpartition(":")
            async with await anyio.connect_tcp(host, int(port)) as server, anyio.create_task_group() as group:
                await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                group.start_soon(pipe, server, client)
                await pipe(client, server)
                group.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}", heads
        group.cancel_scope.cancel()


async def test_a_large_blob_through_a_proxys_tunnel_whose_login_the_registry_never_sees(
    certificate: Certificate, tmp_path: Path
) -> None:
    with docker_registry(tmp_path, tls=certificate) as registry:
        images.push_blob(registry.client, NAME, LAYER.digest, images.noise(3_000_000, "a layer"))
        async with tunnels() as (url, heads):
            options = replace(
                QUICK, ca_file=certificate.authority, bulk_from=Engine.bulk_from, proxy=ProxyOptions(url, "me", "pass")
            )
            async with open_registries({}, options) as client:
                opener = partial(client.source(registry.host, NAME).open, LAYER)
                await client.repository(registry.host, "another/image").push(LAYER, opener)
        assert heads
        assert all(head.startswith(f"CONNECT {registry.host} ".encode()) for head in heads)
        assert all(b"Proxy-Authorization: Basic bWU6cGFzcw==" in head for head in heads)


async def test_a_large_blob_of_plain_http_is_relayed_by_a_proxy(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    images.push_blob(registry.client, NAME, LAYER.digest, images.noise(3_000_000, "a layer"))
    options = replace(QUICK, bulk_from=Engine.bulk_from, proxy=ProxyOptions(registry_proxy.url, "me", "pass"))
    async with open_registries({}, options) as client:
        assert len(await read(client.source(registry.host, NAME), LAYER)) == LAYER.size
    (seen,) = registry_proxy.requests
    assert seen.path.startswith(f"http://{registry.host}/v2/")
    assert seen.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
