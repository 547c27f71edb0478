"""docker-registry's storage, written directly: a workload costs no requests, and its bytes are the same every time."""

import hashlib
import json
import os
import random
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from tests.servers.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Json

MIB = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in a registry, as a descriptor says."""

    media_type: str
    digest: str
    size: int  # bytes

    @property
    def json(self) -> Json:
        """As a manifest holds it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(slots=True)
class Repository:
    """What a repository holds, by digest, and its tags."""

    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Stored] = field(default_factory=dict)
    blobs: dict[str, Stored] = field(default_factory=dict)


class Storage:
    """One registry's files, and a catalogue of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = root / "docker" / "registry" / "v2"
        self.repositories: dict[str, Repository] = {}

    def path(self, digest: str) -> Path:
        """The file that holds a content."""
        algorithm, _, text = digest.partition(":")
        return self._base / "blobs" / algorithm / text[:2] / text / "data"

    @cached_property
    def empty(self) -> Stored:
        """An index without entries."""
        return self._write(OCI_INDEX, [_encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})])

    def layer(self, size: int, seed: str) -> Stored:
        """A gzip file around `size` bytes of noise, linked nowhere yet."""
        return self._write(f"{OCI_LAYER}+gzip", gzip_noise(size, seed))

    def image(self, repository: str, layers: Iterable[Stored], seed: str, architecture: str = "amd64") -> Stored:
        """An image of stored layers; no tag shows it yet. Equal layers make equal configurations, whatever the seed."""
        layers = list(layers)
        rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        facts: Json = {"architecture": architecture, "os": "linux", "rootfs": rootfs}
        config = self._write(OCI_CONFIG, [_encode(facts)])
        for blob in (config, *layers):
            self._link_blob(repository, blob)
        entries: Json = {"config": config.json, "layers": [layer.json for layer in layers]}
        return self._manifest(repository, OCI_MANIFEST, entries | {"annotations": {"seed": seed}})

    def index(self, repository: str, children: Iterable[tuple[Stored, str]]) -> Stored:
        """An index of images with their architectures."""
        entries = [one.json | {"platform": {"os": "linux", "architecture": name}} for one, name in children]
        return self._manifest(repository, OCI_INDEX, {"manifests": entries})

    def tag(self, repository: str, tag: str, digest: str) -> None:
        """Point a tag at a manifest; a running registry shows it at once."""
        folder = self._repository(repository) / "_manifests" / "tags" / tag
        algorithm, _, text = digest.partition(":")
        _write_link(folder / "index" / algorithm / text / "link", digest)
        _write_link(folder / "current" / "link", digest)
        self.repositories[repository].tags[tag] = digest

    def save(self, file: Path) -> None:
        """Write the catalogue."""
        file.write_text(json.dumps({name: asdict(one) for name, one in self.repositories.items()}))

    def load(self, file: Path) -> None:
        """Read the catalogue."""
        for name, found in json.loads(file.read_text()).items():
            kinds = ({digest: Stored(**one) for digest, one in found[kind].items()} for kind in ("manifests", "blobs"))
            self.repositories[name] = Repository(found["tags"], *kinds)

    def _manifest(self, repository: str, media_type: str, entries: Json) -> Stored:
        made = self._write(media_type, [_encode({"schemaVersion": 2, "mediaType": media_type} | entries)])
        algorithm, _, text = made.digest.partition(":")
        link = self._repository(repository) / "_manifests" / "revisions" / algorithm / text / "link"
        _write_link(link, made.digest)
        self.repositories[repository].manifests[made.digest] = made
        return made

    def _link_blob(self, repository: str, blob: Stored) -> None:
        algorithm, _, text = blob.digest.partition(":")
        known = self.repositories.setdefault(repository, Repository()).blobs
        if blob.digest not in known:
            _write_link(self._repository(repository) / "_layers" / algorithm / text / "link", blob.digest)
            known[blob.digest] = blob

    def _write(self, media_type: str, chunks: Iterable[bytes]) -> Stored:
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / "part"
        digest, size = write_hashed(part, chunks)
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.rename(path)
        return Stored(media_type, digest, size)

    def _repository(self, name: str) -> Path:
        self.repositories.setdefault(name, Repository())
        return self._base / "repositories" / name


def write_hashed(path: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    """Write a file; its digest and size."""
    hasher, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            hasher.update(chunk)
            size += file.write(chunk)
    return f"sha256:{hasher.hexdigest()}", size


def gzip_noise(size: int, seed: str) -> Iterator[bytes]:
    """A gzip file around noise, a piece at a time."""
    packer = zlib.compressobj(0, wbits=31)
    source = random.Random(seed)
    while size > 0:
        yield packer.compress(source.randbytes(min(size, MIB)))
        size -= MIB
    yield packer.flush()


def stored_bytes(root: Path) -> int:
    """What the files below a folder hold, each once however many links it has."""
    found = (path.lstat() for path in _files(root))
    return sum({one.st_ino: one.st_size for one in found}.values())


def remove(folder: Path) -> None:
    """Remove a folder, which need not be there."""
    shutil.rmtree(folder, ignore_errors=True)


def _files(root: Path) -> Iterator[Path]:
    return (Path(folder, name) for folder, _, names in os.walk(root) for name in names)


def _write_link(path: Path, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)


def _encode(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
