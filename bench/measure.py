"""What one run used: wall and CPU time, peak memory, and requests as the servers' own logs and counters have them."""

import json
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.storage import stored_bytes
from tests.servers.client import fetch
from tests.servers.docker_registry import Access, DockerRegistry, docker_registry
from tests.servers.process import free_port
from tests.servers.seaweed import Bucket, Seaweed, seaweed
from tests.servers.tls import Certificate

_LAUNCH = Path(__file__).with_name("launch.py")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE")
_METRIC = re.compile(r'SeaweedFS_s3_request_total\{bucket="([^"]*)",code="[^"]*",type="([^"]*)"\} (\S+)')
_KINDS = (
    (re.compile(r"^/v2/[^?]+/tags/list"), "tags"),
    (re.compile(r"^/v2/[^?]+/manifests/"), "manifest"),
    (re.compile(r"^/v2/[^?]+/blobs/uploads/.*[?&]mount="), "mount"),
    (re.compile(r"^/v2/[^?]+/blobs/uploads/"), "upload"),
    (re.compile(r"^/v2/[^?]+/blobs/"), "blob"),
)
Requests = Counter[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """One run; times in seconds, `peak` and the rest in bytes."""

    wall: float
    cpu: float
    peak: int = 0
    source: Requests = field(default_factory=Counter)
    target: Requests = field(default_factory=Counter)
    read: int = 0  # sent by the source
    stored: int = 0  # at the target afterwards


def run(command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end; its output goes to `output` in the folder.

    Raises:
        RuntimeError: it failed; holds the end of what it said.
    """
    result, output = folder / "usage.json", folder / "output"
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with output.open("wb") as out:
        launch = [sys.executable, "-I", "-S", _LAUNCH, result, *command]
        subprocess.run(launch, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=kept | dict(env or {}))
    found = json.loads(result.read_text())
    if found["code"]:
        raise RuntimeError(f"{command[0]}: exit {found['code']}: {output.read_text(errors='replace')[-3000:]}")
    return Usage(found["wall"], found["cpu"], found["peak"])


def median(runs: Iterable[Usage]) -> Usage:
    """The median of each time and of the peak; requests and bytes are those of the last run."""
    runs = list(runs)
    wall, cpu = (statistics.median(getattr(one, name) for one in runs) for name in ("wall", "cpu"))
    return replace(runs[-1], wall=wall, cpu=cpu, peak=int(statistics.median(one.peak for one in runs)))


def kind_of(access: Access) -> str:
    """Method and what it is about, such as `HEAD manifest`."""
    what = next((kind for pattern, kind in _KINDS if pattern.search(access.path)), "other")
    return f"{access.method} {what}" + (" refused" if what == "mount" and access.status != 201 else "")


class Source:
    """A registry that is read, with a log of its own."""

    def __init__(self, registry: DockerRegistry) -> None:
        self.registry = registry
        self._seen = 0

    def since(self, usage: Usage) -> Usage:
        """The usage with the requests that came since the last look."""
        found = self._new()
        read = sum(access.size for access in found if access.method == "GET")
        return replace(usage, source=Counter(map(kind_of, found)), read=read)

    def skip(self) -> None:
        """Leave out what came so far."""
        self._new()

    def _new(self) -> list[Access]:
        found = self.registry.requests()[self._seen :]
        self._seen += len(found)
        return found


class RegistryPlace(Source):
    """A registry that is written to."""

    def since(self, usage: Usage) -> Usage:
        """As of a source, but for the target."""
        found = self._new()
        return replace(usage, target=Counter(map(kind_of, found)), stored=stored_bytes(self.registry.storage))


@dataclass(slots=True)
class BucketPlace:
    """A bucket that is written to; requests are what SeaweedFS counts."""

    bucket: Bucket
    metrics: str
    _seen: Requests = field(default_factory=Counter)

    def since(self, usage: Usage) -> Usage:
        """The usage with what came since the last look."""
        return replace(usage, target=self.asked(), stored=self._stored())

    def skip(self) -> None:
        """Leave out what came so far."""
        self.asked()

    def asked(self) -> Requests:
        """The requests that came since the last look, by kind."""
        text = fetch("GET", self.metrics).body.decode()
        now: Requests = Counter()
        for bucket, kind, count in _METRIC.findall(text):
            if bucket == self.bucket.name:
                now[kind] += round(float(count))
        new, self._seen = now - self._seen, now
        return new

    def _stored(self) -> int:
        pages = self.bucket.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name)
        size = sum(entry["Size"] for page in pages for entry in page.get("Contents", []))
        self.asked()
        return int(size)


@dataclass(slots=True)
class FolderPlace:
    """A directory that is written to."""

    path: Path

    def since(self, usage: Usage) -> Usage:
        """The usage with the bytes that lie there."""
        return replace(usage, stored=stored_bytes(self.path))

    def skip(self) -> None:
        """There is nothing to leave out."""


Place = RegistryPlace | BucketPlace | FolderPlace


@contextmanager
def source_registry(storage: Path, tls: Certificate | None = None) -> Iterator[Source]:
    """A fresh registry process on a workload's storage."""
    with TemporaryDirectory(dir=storage.parent) as folder, _linked(Path(folder), storage, tls) as registry:
        yield Source(registry)


@contextmanager
def _linked(folder: Path, storage: Path, tls: Certificate | None) -> Iterator[DockerRegistry]:
    (folder / "storage").symlink_to(storage)
    with docker_registry(folder, tls=tls) as registry:
        yield registry


@contextmanager
def target_registry(folder: Path, tls: Certificate | None = None) -> Iterator[RegistryPlace]:
    """A fresh, empty registry."""
    with docker_registry(folder, tls=tls) as registry:
        yield RegistryPlace(registry)


@dataclass(frozen=True, slots=True)
class S3:
    """A running SeaweedFS."""

    server: Seaweed
    metrics: str

    @contextmanager
    def place(self) -> Iterator[BucketPlace]:
        """A new bucket, which takes its volumes with it at the end."""
        bucket = self.server.bucket()
        try:
            yield BucketPlace(bucket, self.metrics)
        finally:
            fetch("GET", f"{self.metrics}")
            for batch in _batches(bucket.keys()):
                bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": batch, "Quiet": True})
            bucket.client.delete_bucket(Bucket=bucket.name)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """SeaweedFS, with its counters shown."""
    port = free_port()
    with ExitStack() as stack:
        for left in reversed(range(3)):
            try:
                server = stack.enter_context(seaweed(folder, metricsPort=port, metricsIp="127.0.0.1"))
                break
            except RuntimeError:  # somebody else took one of its ports meanwhile
                if not left:
                    raise
        yield S3(server, f"http://127.0.0.1:{port}/metrics")


def _batches(keys: Sequence[str]) -> list[list[dict[str, str]]]:
    return [[{"Key": key} for key in keys[start : start + 1000]] for start in range(0, len(keys), 1000)]


Measure = Callable[[], Usage]
