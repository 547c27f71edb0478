"""SeaweedFS as a child process: a real S3 server, and a front that shows a bucket at its root."""

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import botocore.session
from aiohttp import ClientSession, web
from botocore.config import Config
from yarl import URL

from .client import fetch
from .loop import serve_app
from .process import free_port, running

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
REGION = "us-east-1"
_ONE_VOLUME_A_BUCKET = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # seven is its default, and a run makes many buckets
_PARTS = ("master", "volume", "filer", "s3")
_NUMBERS = count(1)
_ATTEMPTS = 3
_SESSION = web.AppKey("session", ClientSession)
# A front is no tunnel: what belongs to one connection stays on it.
_OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it lies in a bucket."""

    body: bytes
    content_type: str
    cache_control: str
    etag: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket, seen with the administrator's key."""

    name: str
    endpoint: str
    client: Any = field(repr=False)  # botocore's, which has no types

    def keys(self, prefix: str = "") -> list[str]:
        """Every key, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(str(entry["Key"]) for page in pages for entry in page.get("Contents", []))

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that nobody completed or aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.name)
        return sorted(str(entry["Key"]) for entry in found.get("Uploads", []))

    def get(self, key: str) -> StoredObject:
        """One object; a missing key raises botocore's error."""
        found = self.client.get_object(Bucket=self.name, Key=key)
        facts = (found.get("ContentType", ""), found.get("CacheControl", ""), found["ETag"])
        return StoredObject(found["Body"].read(), *facts)

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write one object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)

    def delete(self, key: str) -> None:
        """Delete one object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def contents(self) -> dict[str, bytes]:
        """Every key with its bytes: what two runs are compared by."""
        return {key: self.get(key).body for key in self.keys()}


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server."""

    endpoint: str
    client: Any = field(repr=False)

    @property
    def env(self) -> dict[str, str]:
        """The administrator's key as AWS' environment variables."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }

    def bucket(self) -> Bucket:
        """A new, empty bucket."""
        name = f"bucket-{next(_NUMBERS)}"
        self.client.create_bucket(Bucket=name)
        return Bucket(name, self.endpoint, self.client)


@contextmanager
def seaweed(folder: Path, **options: object) -> Iterator[Seaweed]:
    """Start master, volume, filer and S3 in one process; ends with the block. `options` are given to `weed server`."""
    with ExitStack() as stack:
        yield _started(folder, options, stack)


def _started(folder: Path, options: Mapping[str, object], stack: ExitStack) -> Seaweed:
    """Try again with other ports: eight are picked at once, and another process may take one of them before."""
    for attempt in range(_ATTEMPTS):
        own = folder / str(attempt)
        own.mkdir(parents=True)
        ports = {f"{part}{kind}": free_port() for part in _PARTS for kind in (".port", ".port.grpc")}
        identities = own / "s3.json"
        identities.write_text(json.dumps({"identities": [_admin(), _anonymous()]}))
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        with ExitStack() as trial:
            env = os.environ | _ONE_VOLUME_A_BUCKET
            child = trial.enter_context(running(_command(own, identities, {**ports, **options}), own, env))
            try:
                child.wait_until(partial(_ready, endpoint), "SeaweedFS to store an object", 60)
            except (TimeoutError, RuntimeError):
                if attempt + 1 == _ATTEMPTS:
                    raise
                continue
            stack.push(trial.pop_all())
            break
    return Seaweed(endpoint, _client(endpoint))


def _command(folder: Path, identities: Path, ports: Mapping[str, object]) -> list[str | Path]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    weed = Path(sys.executable).parent / "weed"
    options: dict[str, object] = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": identities,
        **ports,
    }
    quiet = {"master.telemetry": "false", "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false"}
    small = {"master.volumeSizeLimitMB": 64, "volume.max": 10_000, "volume.preStopSeconds": 0}
    given = options | quiet | small
    return [weed, "-logtostderr=true", "server", "-s3", *(f"-{name}={value}" for name, value in given.items())]


def _admin() -> dict[str, object]:
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    return {"name": "admin", "credentials": keys, "actions": ["Admin", "Read", "List", "Tagging", "Write"]}


def _anonymous() -> dict[str, object]:
    return {"name": "anonymous", "actions": ["Read", "List"]}


def _client(endpoint: str) -> Any:
    settings = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    session = botocore.session.get_session()
    return session.create_client("s3", region_name=REGION, endpoint_url=endpoint, config=settings, **keys)


def _ready(endpoint: str) -> bool:
    """Whether an object can be written and read: S3 answers before the volume server has joined."""
    with suppress(Exception):
        if fetch("GET", f"{endpoint}/").status < 500:
            client = _client(endpoint)
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="probe", Body=b"ready")
            return bool(client.get_object(Bucket="ready", Key="probe")["Body"].read() == b"ready")
    return False


@contextmanager
def bucket_front(bucket: Bucket) -> Iterator[str]:
    """Serve the bucket at the root, read anonymously, as a virtual-hosted bucket does; its URL."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(auto_decompress=False) as app[_SESSION]:
            yield

    async def answer(request: web.Request) -> web.StreamResponse:
        url = URL(f"{bucket.endpoint}/{bucket.name}{request.raw_path}", encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_CONNECTION}
        upstream = request.app[_SESSION].request(request.method, url, headers=headers, allow_redirects=False)
        async with upstream as found:
            kept = [(n, v) for n, v in found.headers.items() if n.lower() not in _OF_A_CONNECTION]
            reply = web.StreamResponse(status=found.status, headers=kept)
            await reply.prepare(request)
            async for chunk in found.content.iter_any():
                await reply.write(chunk)
            await reply.write_eof()
            return reply

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_get("/{path:.*}", answer)
    with serve_app(app) as url:
        yield url
