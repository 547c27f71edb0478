"""Big layers, made and sent without being held in memory, and the peak memory of a child."""

import hashlib
import http.client
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.servers.command import started
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, describe, digest_of, noise, push_blob

MIB = 1 << 20
_BLOCK = noise(MIB, "block")
_HEADER = 512  # bytes


class LayerFile(io.RawIOBase):
    """A tar of one file of so many bytes of noise, read as a stream."""

    def __init__(self, size: int) -> None:
        member = tarfile.TarInfo("big")
        member.size = size
        self._pieces = self._bytes(member.tobuf(), size)
        self._left = b""
        self.total = _HEADER + size + 2 * _HEADER

    @staticmethod
    def _bytes(header: bytes, size: int) -> Iterator[bytes]:
        yield header
        for number in range(size // MIB):
            yield number.to_bytes(8, "big") + _BLOCK[8:]
        yield bytes(2 * _HEADER)

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; all that is left is never asked for."""
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        found, self._left = self._left[:size], self._left[size:]
        return found


@dataclass(frozen=True, slots=True)
class BigLayer:
    """A layer's facts."""

    digest: str
    size: int


def big_layer(size: int) -> BigLayer:
    """What a layer of so many bytes of noise is."""
    file, hasher = LayerFile(size), hashlib.sha256()
    while chunk := file.read(MIB):
        hasher.update(chunk)
    return BigLayer(f"sha256:{hasher.hexdigest()}", file.total)


def push_big(registry: DockerRegistry, name: str, tag: str, size: int) -> BigLayer:
    """An image of one plain big layer."""
    layer = big_layer(size)
    location = registry.client.expect(202, "POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    path = location.partition(registry.host)[2] + f"&digest={layer.digest}"
    connection = http.client.HTTPConnection(registry.host, timeout=120, blocksize=MIB)
    headers = {"Content-Length": str(layer.size), "Content-Type": "application/octet-stream"}
    connection.request("PUT", path, LayerFile(size), headers)
    assert connection.getresponse().status == 201
    connection.close()
    config = _config(layer)
    push_blob(registry.client, name, digest_of(config), config)
    described = {"mediaType": OCI_LAYER, "digest": layer.digest, "size": layer.size}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(OCI_CONFIG, config)}
    manifest = json.dumps(document | {"layers": [described]}).encode()
    registry.client.expect(201, "PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": OCI_MANIFEST})
    return layer


def big_archive(path: Path, reference: str, size: int) -> BigLayer:
    """A docker-archive of one big layer."""
    layer = big_layer(size)
    config = _config(layer)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}
    with tarfile.open(path.with_suffix(".part"), "w") as archive:
        for name, data in {"manifest.json": json.dumps([entry]).encode(), "config.json": config}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        member = tarfile.TarInfo("layer.tar")
        member.size = layer.size
        archive.addfile(member, LayerFile(size))
    path.with_suffix(".part").rename(path)
    return layer


def _config(layer: BigLayer) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [layer.digest]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()


@dataclass(frozen=True, slots=True)
class Measured:
    """How a command fared."""

    peak: int  # bytes of resident memory
    seconds: float
    code: int
    output: str


def measured(*arguments: str | Path, env: dict[str, str], timeout: float) -> Measured:
    """Run `ocisync`, looking at its peak memory (VmHWM) until it ends."""
    began, peak = monotonic(), 0
    with started(*arguments, env=env, is_fork=False) as child:
        status = Path(f"/proc/{child.process.pid}/status")
        while monotonic() < began + timeout:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            peak = max(peak, int(found[1]) * 1024 if found else 0)
            try:
                code = child.process.wait(0.02)
            except TimeoutExpired:
                continue
            return Measured(peak, monotonic() - began, code, child.output)
    raise TimeoutError(f"ocisync {arguments[0]} still runs after {timeout:g} s")
