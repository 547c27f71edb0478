"""What the tests of the main job share: configurations, and looking at a target as a puller does."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

import yaml

from tests.servers.client import fetch
from tests.servers.command import served
from tests.servers.images import OCI_MANIFEST, Json
from tests.servers.process import free_port
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket, Seaweed, bucket_front

Kind = Literal["directory", "s3"]
KINDS: tuple[Kind, ...] = ("directory", "s3")
_INDEXES = ("index.v1+json", "manifest.list.v2+json")


class Place(Protocol):
    """A static target, seen from outside ocisync."""

    @property
    def settings(self) -> Json:
        """The target's section of the configuration."""
        ...

    def listing(self) -> list[str]:
        """Every key that clients may see, sorted."""
        ...

    def read(self, key: str) -> bytes | None:
        """A key's bytes as an anonymous reader gets them, or None."""
        ...

    def remove(self, key: str) -> None:
        """Take a key away behind ocisync's back."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Put something else there."""
        ...


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, read file by file."""

    path: Path

    @property
    def settings(self) -> Json:
        """`type: static`."""
        return {"type": "static", "path": str(self.path)}

    def listing(self) -> list[str]:
        """The files but for ocisync's own, by their path."""
        found = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return sorted(key for key in found if not key.startswith(PRIVATE))

    def read(self, key: str) -> bytes | None:
        """A file's bytes."""
        path = self.path / key
        return path.read_bytes() if path.is_file() else None

    def remove(self, key: str) -> None:
        """Remove a file."""
        (self.path / key).unlink()

    def put(self, key: str, body: bytes) -> None:
        """Write another file."""
        self.remove(key)
        (self.path / key).write_bytes(body)


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket, read anonymously through a front that shows it at its root."""

    bucket: Bucket
    url: str
    endpoint: str = ""  # a proxy's; empty: SeaweedFS itself
    options: Json = field(default_factory=dict)

    @property
    def settings(self) -> Json:
        """`type: s3`."""
        keys: Json = {"access_key_id": ACCESS_KEY, "secret_access_key": {"env": "S3_SECRET"}}
        where: Json = {"bucket": self.bucket.name, "endpoint": self.endpoint or self.bucket.endpoint, "region": REGION}
        return {"type": "s3", "path_style": True} | where | keys | self.options

    def listing(self) -> list[str]:
        """The objects but for ocisync's own."""
        found = self.bucket.keys()
        return [key for key in found if not key.startswith(PRIVATE)]

    def read(self, key: str) -> bytes | None:
        """An object's bytes."""
        reply = fetch("GET", f"{self.url}/{key}")
        assert reply.status in (200, 404), f"{key}: {reply.status}"
        return reply.body if reply.status == 200 else None

    def remove(self, key: str) -> None:
        """Delete an object."""
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=key)

    def put(self, key: str, body: bytes) -> None:
        """Write another object."""
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=key, Body=body, ContentType=OCI_MANIFEST)


PRIVATE = (".ocisync/", "v2/.scratch-")  # a kill may leave these, gc takes them
ENV = {"S3_SECRET": SECRET_KEY}


@contextmanager
def open_place(kind: Kind, folder: Path, s3: Seaweed, **options: object) -> Iterator[Place]:
    """A new, empty target; `options` go into an S3 target's section."""
    if kind == "directory":
        folder.mkdir(parents=True, exist_ok=True)
        yield Directory(folder)
        return
    bucket = s3.bucket()
    with bucket_front(bucket) as url:
        yield BucketPlace(bucket, url, options=dict(options))


@contextmanager
def readable(place: Place) -> Iterator[str]:
    """A host that shows a place to pullers: `ocisync serve` for a directory, the front for a bucket."""
    if isinstance(place, Directory):
        with served(place.path) as url:
            yield urlsplit(url).netloc
    else:
        assert isinstance(place, BucketPlace)
        yield urlsplit(place.url).netloc


def write_config(
    folder: Path,
    targets: Mapping[str, Mapping[str, object]],
    *,
    sync: Sequence[Mapping[str, object]] = (),
    drop: Sequence[Mapping[str, object]] = (),
    daemon: Mapping[str, object] | None = None,
    **sections: object,
) -> Path:
    """An `ocisync.yaml` in the folder, with a free port to listen on."""
    folder.mkdir(parents=True, exist_ok=True)
    process = {"listen": f"127.0.0.1:{free_port()}", "state": str(folder / "state")} | dict(daemon or {})
    rules = {"sync": list(sync), "drop": list(drop)}
    document = {"version": 1, "targets": dict(targets), "daemon": process, **rules, **sections}
    file = folder / "ocisync.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def contents(place: Place) -> dict[str, bytes]:
    """Every key with its bytes."""
    return {key: place.read(key) or b"" for key in place.listing()}


def tags(place: Place, name: str) -> list[str]:
    """The tags that can be pulled, by their keys."""
    prefix = f"v2/{name}/manifests/"
    found = (key.removeprefix(prefix) for key in place.listing() if key.startswith(prefix))
    return sorted(reference for reference in found if ":" not in reference)


def listed_tags(place: Place, name: str) -> list[str]:
    """What tags/list says; nothing when it is not there."""
    raw = place.read(f"v2/{name}/tags/list")
    return list(json.loads(raw)["tags"]) if raw is not None else []


def walk(place: Place, name: str, reference: str) -> dict[str, bytes]:
    """Everything that a puller of one image gets, by digest; each digest and size is checked on the way.

    Raises:
        AssertionError: something is missing, or does not match its digest.
    """
    root = place.read(f"v2/{name}/manifests/{reference}")
    assert root is not None, f"{name}:{reference} is gone"
    found: dict[str, bytes] = {}
    _walk_manifest(place, name, root, _digest(root), found)
    return found


def walk_all(place: Place, name: str) -> dict[str, str]:
    """Pull every published tag completely; the digests by tag."""
    digests = {}
    for tag in tags(place, name):
        digests[tag] = next(iter(walk(place, name, tag)))
    return digests


def _walk_manifest(place: Place, name: str, raw: bytes, digest: str, found: dict[str, bytes]) -> None:
    again = place.read(f"v2/{name}/manifests/{digest}")
    assert again == raw, f"{name}@{digest}: missing or different under its digest"
    found[digest] = raw
    document = json.loads(raw)
    for child in document.get("manifests", ()):
        body = _read(place, f"v2/{name}/manifests/{child['digest']}", child)
        _walk_manifest(place, name, body, child["digest"], found)
    for blob in (*([document["config"]] if "config" in document else ()), *document.get("layers", ())):
        if blob["digest"] not in found:
            found[blob["digest"]] = _read(place, f"v2/{name}/blobs/{blob['digest']}", blob)


def _read(place: Place, key: str, descriptor: Mapping[str, object]) -> bytes:
    body = place.read(key)
    assert body is not None, f"{key} is missing"
    algorithm = str(descriptor["digest"]).partition(":")[0]
    assert (_digest(body, algorithm), len(body)) == (descriptor["digest"], descriptor["size"]), key
    return body


def _digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
