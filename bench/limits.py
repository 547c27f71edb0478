"""Bare clients: what the servers allow. Each runs in a process of its own, `python -m bench.limits FILE RESULT`.

The file holds a list of requests and how many run at a time; the result has the seconds and the CPU time of the
requests alone, without the start of the process.
"""

import json
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import aiohttp
import anyio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from bench.measure import Usage, run
from bench.storage import MIB
from bench.workloads import Workload
from tests.servers.images import OCI_INDEX, OCI_MANIFEST
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket

_ROOT = Path(__file__).parents[1]
_SMALL = MIB  # bytes; a larger body is read from its file while it is sent
ACCEPT = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent; `body` is a file."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    size: int = 0  # bytes of the body


def heads(workload: Workload, source: str, *, conditional: bool = False) -> list[Request]:
    """The tag list of every repository, and a HEAD for every tag; with what it points at, where `conditional`."""
    lists = [Request("GET", f"{source}/v2/{name}/tags/list") for name in workload.repositories]
    found = []
    for name, tag in workload.tags:
        known = {"If-None-Match": f'"{workload.repositories[name].tags[tag]}"'} if conditional else {}
        found.append(Request("HEAD", f"{source}/v2/{name}/manifests/{tag}", ACCEPT | known))
    return [*lists, *found]


def listings(workload: Workload, bucket: Bucket) -> list[Request]:
    """The manifests of every repository of a static registry, each listing with its signature."""
    found = []
    for name in workload.repositories:
        asked = quote(f"v2/{name}/manifests/", safe="")
        url = f"{bucket.endpoint}/{bucket.name}?encoding-type=url&list-type=2&prefix={asked}"
        found.append(Request("GET", url, _with_signature("GET", url, {}, sha256(b"").hexdigest())))
    return found


def reads(workload: Workload, source: str) -> list[Request]:
    """Every blob and manifest of a workload, each once."""
    urls: dict[str, str] = {}
    for name, one in workload.repositories.items():
        urls |= {digest: f"/v2/{name}/blobs/{digest}" for digest in one.blobs}
        urls |= {digest: f"/v2/{name}/manifests/{digest}" for digest in one.manifests}
    return [Request("GET", f"{source}{url}", ACCEPT) for url in urls.values()]


def puts(workload: Workload, bucket: Bucket) -> list[Request]:
    """The objects of a static registry, each with its signature."""
    found = []
    for key, path in _objects(workload):
        url, headers = signed(bucket, key, path.parent.name)  # a registry's storage names contents by their digest
        found.append(Request("PUT", url, headers, str(path), path.stat().st_size))
    return found


def signed(bucket: Bucket, key: str, payload: str, *, copied_from: str = "") -> tuple[str, dict[str, str]]:
    """URL and headers of a PUT of a payload with this SHA-256, or of a copy of another key inside the store.

    A PUT has the headers that ocisync's has: the store is to check what it receives.
    """
    url = f"{bucket.endpoint}/{bucket.name}/{quote(key)}"
    if copied_from:
        given = {"x-amz-copy-source": f"/{bucket.name}/{quote(copied_from)}"}
    else:
        given = {"x-amz-checksum-sha256": b64encode(bytes.fromhex(payload)).decode()}
    return url, _with_signature("PUT", url, {"Content-Type": "application/octet-stream"} | given, payload)


def measured(requests: Sequence[Request], concurrency: int, folder: Path) -> Usage:
    """Send the requests from a bare client."""
    return apart("bench.limits", {"concurrency": concurrency, "requests": [asdict(one) for one in requests]}, folder)


def apart(module: str, document: object, folder: Path) -> Usage:
    """Run a bare client in a process of its own; the times are those that it measured."""
    folder.mkdir(parents=True, exist_ok=True)
    file, result = folder / "requests.json", folder / "sent.json"
    file.write_text(json.dumps(document))
    command: list[str | Path] = [sys.executable, "-m", module, file, result]
    whole = run(command, folder, {"PYTHONPATH": str(_ROOT)})
    found = json.loads(result.read_text())
    return Usage(found["wall"], found["cpu"], whole.peak)


def piped(url: str, folder: Path) -> Usage:
    """curl into a pipe that writes the file and hashes it; both synced to disk."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "blob"
    script = f"curl -sSf {url} | tee {out} | openssl dgst -sha256 && sync {out} {folder}"
    return run(["sh", "-c", script], folder)


def _objects(workload: Workload) -> Iterator[tuple[str, Path]]:
    path = workload.storage.path
    for name, one in workload.repositories.items():
        for kind, contents in (("blobs", one.blobs), ("manifests", one.manifests)):
            for digest in contents:
                yield f"v2/{name}/{kind}/{digest}", path(digest)
        for digest in one.manifests:
            yield f"v2/{name}/referrers/{digest}", workload.no_referrers
        for tag, digest in one.tags.items():
            yield f"v2/{name}/manifests/{tag}", path(digest)


def _with_signature(method: str, url: str, headers: dict[str, str], payload: str) -> dict[str, str]:
    request = AWSRequest(method, url, headers=headers)
    _Known(Credentials(ACCESS_KEY, SECRET_KEY), payload).add_auth(request)
    return dict(request.headers.items())


class _Known(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """Signs a payload that it need not read."""

    def __init__(self, credentials: Credentials, payload: str) -> None:
        super().__init__(credentials, "s3", REGION)
        self._payload = payload

    def payload(self, request: AWSRequest) -> str:
        """The known digest."""
        del request
        return self._payload


async def _send_all(requests: list[Request], concurrency: int) -> dict[str, float]:
    bodies = {path: path_bytes for one in requests if (path := one.body) and (path_bytes := _small(path)) is not None}
    waiting = iter(requests)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, read_bufsize=MIB) as session:

        async def work() -> None:
            for one in waiting:
                await _send(session, one, bodies)

        began, used = time.monotonic(), time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(work)
        return {"wall": time.monotonic() - began, "cpu": time.process_time() - used}


def _small(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).stat().st_size <= _SMALL else None


async def _send(session: aiohttp.ClientSession, one: Request, bodies: dict[str, bytes]) -> None:
    body = bodies.get(one.body)
    data = _pieces(one.body) if one.body and body is None else body
    headers = one.headers | ({"Content-Length": str(one.size)} if one.body else {})
    async with session.request(one.method, URL(one.url, encoded=True), headers=headers, data=data) as reply:
        reply.raise_for_status()
        while await reply.content.readany():
            pass


async def _pieces(path: str) -> AsyncIterator[bytes]:
    with Path(path).open("rb") as file:  # noqa: ASYNC230 (from the page cache, and nothing else is waited for)
        while piece := file.read(MIB):
            yield piece


def main() -> None:
    """Send what the file says, and write how long it took."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    requests = [Request(**one) for one in asked["requests"]]
    done = anyio.run(_send_all, requests, asked["concurrency"], backend_options={"use_uvloop": True})
    Path(sys.argv[2]).write_text(json.dumps(done))


if __name__ == "__main__":
    main()
