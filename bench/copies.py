"""A bare client that copies: what no copy by aiohttp can do without. `python -m bench.copies FILE RESULT`.

Contents are read, hashed and sent by the requests that a copy needs, at the same concurrency, with nothing around them:
no look at source or target, no verification, no retry, no time-out, no record, no list.
"""

import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote, urljoin

import aiohttp
import anyio
from anyio import to_thread
from yarl import URL

from bench.limits import ACCEPT, apart, signed
from bench.measure import Usage
from bench.record import READERS, WRITERS
from bench.storage import MIB
from bench.workloads import Workload
from tests.servers.seaweed import Bucket

NAME = "bare copies"
_WHOLE = 256 * 1024  # bytes; such a body is read before it is sent
_NOTHING = hashlib.sha256(b"").hexdigest()
_IN_THREAD = 128 * 1024  # bytes; a piece that is worth hashing in a thread


@dataclass(frozen=True, slots=True)
class Copy:
    """One content: read from `get`, sent by a PUT to each of `puts`, a URL with its headers."""

    get: str  # empty: nothing is read
    size: int  # bytes
    puts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    upload: str = ""  # where a POST is answered with the URL of the PUT
    mount: str = ""  # a POST is all


def to_registry(load: Workload, source: str, target: str) -> list[list[Copy]]:
    """Steps from origin to origin, the latter empty: blobs, mounts of what is there by then, manifests, tags."""
    first: dict[str, str] = {}
    blobs, mounts, manifests, tags = list[Copy](), list[Copy](), list[Copy](), list[Copy]()
    for name, one in load.repositories.items():
        here, there = f"{source}/v2/{name}", f"{target}/v2/{name}"
        for digest, blob in one.blobs.items():
            if digest in first:
                mounts.append(Copy("", 0, mount=f"{there}/blobs/uploads/?mount={digest}&from={quote(first[digest])}"))
            else:
                first[digest] = name
                upload = f"{there}/blobs/uploads/?digest={digest}"
                blobs.append(Copy(f"{here}/blobs/{digest}", blob.size, upload=upload))
        for digest, manifest in one.manifests.items():
            headers = {"Content-Type": manifest.media_type}
            shown = [tag for tag, root in one.tags.items() if root == digest]
            puts = [(f"{there}/manifests/{reference}", headers) for reference in shown or [digest]]
            (tags if shown else manifests).append(Copy(f"{here}/manifests/{digest}", manifest.size, puts))
    return [blobs, mounts, manifests, tags]


def to_bucket(load: Workload, source: str, bucket: Bucket) -> list[list[Copy]]:
    """The objects of a static registry: blobs, copies inside the store, manifests; each PUT with its signature."""
    first: dict[str, str] = {}
    blobs, copied, manifests = list[Copy](), list[Copy](), list[Copy]()
    for name, one in load.repositories.items():
        here, there = f"{source}/v2/{name}", f"v2/{name}"
        for digest, blob in one.blobs.items():
            key = f"{there}/blobs/{digest}"
            if digest in first:
                copied.append(Copy("", 0, [signed(bucket, key, _NOTHING, copied_from=first[digest])]))
            else:
                first[digest] = key
                blobs.append(Copy(f"{here}/blobs/{digest}", blob.size, [_put(bucket, key, digest)]))
        for digest, manifest in one.manifests.items():
            references = [digest, *(tag for tag, root in one.tags.items() if root == digest)]
            puts = [_put(bucket, f"{there}/manifests/{reference}", digest) for reference in references]
            puts.append(_put(bucket, f"{there}/referrers/{digest}", digest))  # as many bytes as it may have
            manifests.append(Copy(f"{here}/manifests/{digest}", manifest.size, puts))
    return [blobs, copied, manifests]


def measured(steps: Sequence[Sequence[Copy]], *, to_s3: bool, folder: Path, module: str = "bench.copies") -> Usage:
    """Copy by a bare client, which is a module."""
    document = {"workers": WRITERS if to_s3 else READERS, "steps": [[asdict(one) for one in step] for step in steps]}
    return apart(module, document, folder)


def _put(bucket: Bucket, key: str, digest: str) -> tuple[str, dict[str, str]]:
    return signed(bucket, key, digest.partition(":")[2])


class _Copier:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._reading = anyio.Semaphore(READERS, fast_acquire=True)

    async def copy(self, one: Copy) -> None:
        if one.mount:
            await self._send("POST", one.mount)
        elif not one.get:
            for url, headers in one.puts:
                await self._send("PUT", url, headers)
        elif one.size <= _WHOLE:
            async with self._reading, self._session.get(URL(one.get, encoded=True), headers=ACCEPT) as reply:
                body = await reply.read()
            hashlib.sha256(body).hexdigest()
            for url, headers in await self._places(one):
                await self._send("PUT", url, headers, body)
        else:
            await self._stream(one)

    async def _stream(self, one: Copy) -> None:
        async with AsyncExitStack() as stack:
            ((url, headers),) = await self._places(one)
            await stack.enter_async_context(self._reading)
            reply = await stack.enter_async_context(self._session.get(URL(one.get, encoded=True)))
            await self._send("PUT", url, headers | {"Content-Length": str(one.size)}, _hashed(reply))

    async def _places(self, one: Copy) -> list[tuple[str, dict[str, str]]]:
        if not one.upload:
            return one.puts
        url, _, query = one.upload.partition("?")
        place = urljoin(url, await self._send("POST", url))
        return [(f"{place}{'&' if '?' in place else '?'}{query}", {"Content-Type": "application/octet-stream"})]

    async def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> str:
        where = URL(url, encoded=True)
        async with self._session.request(method, where, headers=headers, data=body) as reply:
            reply.raise_for_status()
            await reply.read()
            return reply.headers.get("Location", "")


async def _hashed(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    hasher = hashlib.sha256()
    async for piece in reply.content.iter_any():
        if len(piece) < _IN_THREAD:
            hasher.update(piece)
        else:
            await to_thread.run_sync(hasher.update, piece)
        yield piece
    hasher.hexdigest()


async def _copy_all(steps: Iterator[list[Copy]], workers: int) -> dict[str, float]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, read_bufsize=MIB) as session:
        copier = _Copier(session)

        async def work(waiting: Iterator[Copy]) -> None:
            for one in waiting:
                await copier.copy(one)

        began, used = time.monotonic(), time.process_time()
        for step in steps:
            waiting = iter(step)
            async with anyio.create_task_group() as group:
                for _ in range(workers):
                    group.start_soon(work, waiting)
        return {"wall": time.monotonic() - began, "cpu": time.process_time() - used}


def main() -> None:
    """Copy what the file says, and write how long it took."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    steps = ([Copy(**one) for one in step] for step in asked["steps"])
    done = anyio.run(_copy_all, steps, asked["workers"], backend_options={"use_uvloop": True})
    Path(sys.argv[2]).write_text(json.dumps(done))


if __name__ == "__main__":
    main()
