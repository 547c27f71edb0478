"""Sample archives for the demonstration: small images as `docker save` writes them, the same on every run."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

ARCHITECTURES = ("amd64", "arm64")
_PAYLOAD = 6 * 1024 * 1024  # bytes of a layer that is worth a progress bar


def write_sample(path: Path, architecture: str) -> None:
    """Write one platform's archive under a temporary name, then rename it into place: that is how to drop a file."""
    unfinished = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(docker_archive(architecture))
    unfinished.rename(path)


def docker_archive(architecture: str) -> bytes:
    """One image with two layers: a base that both architectures share, and a file of its own."""
    words = random.Random(7).randbytes(_PAYLOAD // 3).hex().encode()[: _PAYLOAD // 2]
    layers = [
        _tar({"etc/os-release": b'NAME="ocisync demo"\nID=demo\n', "usr/share/words": words}),
        _tar({"hello.txt": f"Hello from {architecture}.\n".encode()}),
    ]
    config = {
        "architecture": architecture,
        "config": {"Cmd": ["/bin/cat", "/hello.txt"], "Labels": {"org.opencontainers.image.title": "ocisync demo"}},
        "created": "2024-01-01T00:00:00Z",
        "history": [{"created_by": "COPY base /"}, {"created_by": "COPY hello.txt /"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}" for layer in layers]},
    }
    raw = json.dumps(config, sort_keys=True).encode()
    names = [f"{_sha256(layer)}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{_sha256(raw)}.json", "RepoTags": ["demo/hello:1.0"], "Layers": names}]
    members = {f"{_sha256(raw)}.json": raw, **dict(zip(names, layers, strict=True))}
    return _tar({**members, "manifest.json": json.dumps(manifest).encode()})


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
