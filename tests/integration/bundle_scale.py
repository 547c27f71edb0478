"""A registry without a disk: many small blobs, or one huge blob of zeros, made up while they are asked for."""

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from tests.servers.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, describe, digest_of

_ZEROS = bytes(1 << 20)
_STEP = 16 << 20  # bytes
_HOLE = bytes(_STEP)
_libc = ctypes.CDLL(None)


@dataclass
class Content:
    """What the registry holds; layers are known by a number, or are zeros."""

    manifests: dict[str, bytes] = field(default_factory=dict)  # by repository:tag and repository@digest
    blobs: dict[str, bytes | int] = field(default_factory=dict)  # bytes; a number: so many zeros
    tags: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, tag: str, layers: list[tuple[str, int]]) -> None:
        """An image of these layers."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "comment": f"{name}:{tag}"}).encode()
        self.blobs[digest_of(config)] = config
        described = [{"mediaType": OCI_LAYER, "digest": digest, "size": size} for digest, size in layers]
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(OCI_CONFIG, config)}
        raw = json.dumps(document | {"layers": described}).encode()
        self.manifests[f"{name}:{tag}"] = self.manifests[f"{name}@{digest_of(raw)}"] = raw
        self.tags.setdefault(name, []).append(tag)


def many(content: Content, repositories: int, images: int, layers: int) -> None:
    """So many images of so many layers of their own; each layer is a line of text."""
    for repository in range(repositories):
        for image in range(images):
            found = []
            for layer in range(layers):
                body = f"layer {repository} {image} {layer}\n".encode()
                digest = digest_of(body)
                content.blobs[digest] = body
                found.append((digest, len(body)))
            content.add(f"many/r{repository}", f"v{image}", found)


def huge(content: Content, size: int) -> str:
    """One image with a layer of zeros; its digest."""
    hasher = hashlib.sha256()
    for _ in range(size >> 20):
        hasher.update(_ZEROS)
    digest = f"sha256:{hasher.hexdigest()}"
    content.blobs[digest] = size
    content.add("huge/app", "v1", [(digest, size)])
    return digest


@contextmanager
def holes_dug(folder: Path) -> Iterator[None]:
    """Give back the disk space of what is zero in large files below a folder, while they grow: content stays."""
    ended = threading.Event()
    dug: dict[Path, int] = {}

    def dig() -> None:
        while not ended.wait(0.1):
            with suppress(OSError):  # what is being written moves away
                for path in folder.rglob("*"):
                    dug[path] = _dig(path, dug.get(path, 0))

    thread = threading.Thread(target=dig, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _dig(path: Path, start: int) -> int:
    """Make holes of whole steps of zeros; where the next look begins."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size < start + 2 * _STEP:
        return start
    with path.open("r+b") as file:
        size = path.stat().st_size
        while start + 2 * _STEP <= size:
            if os.pread(file.fileno(), _STEP, start) == _HOLE:
                _libc.fallocate(file.fileno(), 3, ctypes.c_long(start), ctypes.c_long(_STEP))  # keep size, punch hole
            start += _STEP
    return start


class _Handler(BaseHTTPRequestHandler):
    content: ClassVar[Content]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any content."""
        _, _, path = self.path.partition("/v2/")
        path = path.partition("?")[0]
        if not path:
            self._reply(200, b"{}", "application/json")
        elif path.endswith("/tags/list"):
            name = path.removesuffix("/tags/list")
            self._reply(200, json.dumps({"name": name, "tags": self.content.tags[name]}).encode(), "application/json")
        elif "/manifests/" in path:
            name, _, reference = path.partition("/manifests/")
            raw = self.content.manifests.get(f"{name}{'@' if ':' in reference else ':'}{reference}")
            self._reply(404 if raw is None else 200, raw or b"", OCI_MANIFEST)
        elif (body := self.content.blobs.get(path.rpartition("/")[2])) is None:
            self._reply(404, b"", "text/plain")
        elif isinstance(body, int):
            self._zeros(body)
        else:
            self._reply(200, body, "application/octet-stream")

    do_HEAD = do_GET  # noqa: N815

    def _zeros(self, size: int) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        left = size - start if self.command == "GET" else 0
        while left:
            left -= self.wfile.write(_ZEROS[: min(left, len(_ZEROS))])

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if kind == OCI_MANIFEST and body:
            self.send_header("Docker-Content-Digest", digest_of(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def made_up_registry(content: Content) -> Iterator[str]:
    """Serve it; `127.0.0.1:port`."""
    handler = type("Handler", (_Handler,), {"content": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
