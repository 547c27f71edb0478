"""Small images, the same bytes every time, made by hand: none of ocisync's code is in them."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from .client import RegistryClient

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
CREATED = "2024-01-01T00:00:00Z"
_REFERENCE = "vnd.docker.reference"

Json: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image. `layers` are uncompressed tar bytes, `blobs` what a registry stores, by digest."""

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    blobs: Mapping[str, bytes] = field(repr=False)
    platform: tuple[str, str, str] = ("linux", "amd64", "")

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)


@dataclass(frozen=True, slots=True)
class Index:
    """A multi-platform image."""

    manifest: bytes
    media_type: str
    children: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The index's digest."""
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def noise(size: int, seed: str) -> bytes:
    """Bytes that do not compress, always the same for a seed."""
    return random.Random(seed).randbytes(size)


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of plain files, in the order given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def make_image(
    seed: str = "image",
    *,
    layers: int = 2,
    size: int = 2000,
    platform: tuple[str, str, str] = ("linux", "amd64", ""),
    docker: bool = False,
    compressed: bool = True,
    shared: Sequence[bytes] = (),
    created: str = CREATED,
) -> Image:
    """An image whose layers hold `size` bytes of noise each, after the uncompressed layers in `shared`."""
    own = tuple(tar({f"{seed}/{n}": noise(size, f"{seed}/{n}")}) for n in range(layers))
    layered = (*shared, *own)
    return image_of(layered, platform=platform, docker=docker, compressed=compressed, comment=seed, created=created)


def image_of(
    layers: Sequence[bytes],
    *,
    platform: tuple[str, str, str] = ("linux", "amd64", ""),
    docker: bool = False,
    compressed: bool = True,
    comment: str = "",
    created: str = CREATED,
) -> Image:
    """An image of these uncompressed layers."""
    config = _encode(_config(layers, platform, comment, created))
    stored = [gzip.compress(layer, mtime=0) if compressed else layer for layer in layers]
    manifest_type, config_type, layer_type = (
        (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER) if docker else (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
    )
    suffix = (".gzip" if docker else "+gzip") if compressed else ""
    document: Json = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": describe(config_type, config),
        "layers": [describe(layer_type + suffix, layer) for layer in stored],
    }
    blobs = {digest_of(blob): blob for blob in (config, *stored)}
    return Image(_encode(document), manifest_type, config, tuple(layers), blobs, platform)


def make_index(
    children: Iterable[Image],
    *,
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
    statements: Mapping[str, Image] | None = None,
) -> Index:
    """An index of images, with their platforms; `statements` are attestations by the digest that they are about."""
    attested = statements or {}
    images = (*children, *attested.values())
    kind = DOCKER_LIST if docker else OCI_INDEX
    entries = [describe(one.media_type, one.manifest) | {"platform": _platform(one.platform)} for one in images]
    for entry, about in zip(entries[len(images) - len(attested) :], attested, strict=True):
        entry["annotations"] = {f"{_REFERENCE}.type": "attestation-manifest", f"{_REFERENCE}.digest": about}
    document: Json = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    if annotations:
        document["annotations"] = dict(annotations)
    return Index(_encode(document), kind, images)


def multi_platform(seed: str = "multi", *, size: int = 2000) -> Index:
    """An index for linux/amd64 and linux/arm64/v8."""
    platforms = (("linux", "amd64", ""), ("linux", "arm64", "v8"))
    return make_index(make_image(f"{seed}-{one[1]}", size=size, platform=one) for one in platforms)


def describe(media_type: str, data: bytes) -> Json:
    """A descriptor."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def make_artifact(
    subject: "Image | Index", kind: str = "application/vnd.example.signature", note: str = "signed"
) -> Image:
    """A manifest that refers to another, of an artifact type, with one blob that holds the note."""
    blob = note.encode()
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": describe("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [describe("application/octet-stream", blob)],
        "subject": describe(subject.media_type, subject.manifest),
        "annotations": {"note": note},
    }
    return Image(_encode(document), OCI_MANIFEST, b"{}", (), {digest_of(one): one for one in (b"{}", blob)})


def referrers_list(*artifacts: Image, kind: str = "application/vnd.example.signature") -> Index:
    """The list of some manifests' subject, as clients keep it under a tag."""
    entries = [describe(one.media_type, one.manifest) | {"artifactType": kind} for one in artifacts]
    document: Json = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Index(_encode(document), OCI_INDEX, artifacts)


def push(registry: RegistryClient, name: str, tag: str, image: Image | Index) -> str:
    """Push by plain HTTP; the digest. A tag may be empty: then by digest only."""
    if isinstance(image, Index):
        for child in image.children:
            push(registry, name, "", child)
    else:
        for digest, blob in image.blobs.items():
            push_blob(registry, name, digest, blob)
    path = f"/v2/{name}/manifests/{tag or image.digest}"
    registry.expect(201, "PUT", path, image.manifest, {"Content-Type": image.media_type})
    return image.digest


def push_blob(registry: RegistryClient, name: str, digest: str, blob: bytes) -> None:
    """Upload one blob unless it is there."""
    if registry.request("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
        return
    location = registry.expect(202, "POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    url = f"{location}{'&' if '?' in location else '?'}digest={digest}"
    registry.expect(201, "PUT", url, blob, {"Content-Type": "application/octet-stream"})


def docker_archive(path: Path, images: Mapping[str, Image] | Image, *, compress: bool = False) -> Path:
    """Write what `docker save` writes: images by their `name:tag`, or one image without any name."""
    named = {"": images} if isinstance(images, Image) else images
    return write_archive(path, docker_members(named), compress=compress)


def docker_members(named: Mapping[str, Image]) -> dict[str, bytes]:
    """A docker-archive's members by their names: the layers, the configurations, manifest.json."""
    files: dict[str, bytes] = {}
    entries: list[Json] = []
    for tag, image in named.items():
        names = [f"{digest_of(layer)[7:]}.tar" for layer in image.layers]
        config = f"{digest_of(image.config)[7:]}.json"
        files |= {config: image.config, **dict(zip(names, image.layers, strict=True))}
        entries.append({"Config": config, "RepoTags": [tag] if tag else None, "Layers": names})
    return {**files, "manifest.json": json.dumps(entries).encode()}


def oci_archive(path: Path, images: Mapping[str, Image | Index] | Image | Index, *, compress: bool = False) -> Path:
    """Write an OCI layout in a tar: images by their reference annotation, or one without."""
    named = {"": images} if isinstance(images, Image | Index) else images
    files = layout_files(named)
    return write_archive(path, files, compress=compress)


def layout_files(named: Mapping[str, Image | Index]) -> dict[str, bytes]:
    """An OCI layout's files by their path; the reference annotation is left out where the name is empty."""
    blobs: dict[str, bytes] = {}
    entries: list[Json] = []
    for name, image in named.items():
        for one in (*(image.children if isinstance(image, Index) else ()), image):
            blobs[one.digest] = one.manifest
            blobs |= one.blobs if isinstance(one, Image) else {}
        entry = describe(image.media_type, image.manifest)
        entries.append(entry | ({"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": _encode(index)}
    return files | {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in blobs.items()}


def write_archive(path: Path, files: Mapping[str, bytes], *, compress: bool = False) -> Path:
    """Write a tar so that it appears whole, under its name, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = tar(files)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(gzip.compress(data, mtime=0) if compress else data)
    return partial.rename(path)


def _config(layers: Sequence[bytes], platform: tuple[str, str, str], comment: str, created: str) -> Json:
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
    history = [{"created": "2024-01-01T00:00:00Z", "created_by": f"{comment} {n}"} for n in range(len(layers))]
    facts: Json = {
        "created": created,
        "config": {"Cmd": ["/hello"]},
        "rootfs": rootfs,
        "history": history,
    }
    return _platform(platform) | facts


def _platform(platform: tuple[str, str, str]) -> Json:
    system, architecture, variant = platform
    facts: Json = {"architecture": architecture, "os": system}
    return facts | ({"variant": variant} if variant else {})


def _encode(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
