"""FAULTS row 32: what is odd but legal is copied byte-exact, and inline data that lies is refused."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.mainjob import ENV, KINDS, Kind, open_place, walk, write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Json, digest_of, noise
from tests.servers.loop import serve_app
from tests.servers.seaweed import Seaweed

EMPTY = "application/vnd.oci.empty.v1+json"
NAME = "odd/app"


@dataclass
class Shelf:
    """What a small registry holds: manifests by tag, blobs by digest."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str, algorithm: str = "sha256", *, stored: bool = True) -> Json:
        """A blob's descriptor, once it is there."""
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if stored:
            self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def find(self, reference: str) -> bytes | None:
        """A manifest by tag or digest."""
        by_digest = {digest_of(raw): raw for raw in self.manifests.values()}
        return self.manifests.get(reference) or by_digest.get(reference)


@contextmanager
def odd_registry(shelf: Shelf) -> Iterator[str]:
    """Its host; docker-registry 2.8 refuses some of what a registry may hold today."""

    async def manifest(request: web.Request) -> web.Response:
        raw = shelf.find(request.match_info["reference"])
        if raw is None:
            return web.Response(status=404)
        headers = {"Docker-Content-Digest": digest_of(raw), "Content-Type": OCI_MANIFEST}
        return web.Response(body=raw, headers=headers)

    async def blob(request: web.Request) -> web.Response:
        data = shelf.blobs.get(request.match_info["digest"])
        return web.Response(status=404) if data is None else web.Response(body=data)

    async def tags(_: web.Request) -> web.Response:
        return web.json_response({"name": NAME, "tags": sorted(shelf.manifests)})

    app = web.Application()
    app.router.add_get(f"/v2/{NAME}/manifests/{{reference}}", manifest)
    app.router.add_get(f"/v2/{NAME}/blobs/{{digest}}", blob)
    app.router.add_get(f"/v2/{NAME}/tags/list", tags)
    with serve_app(app) as url:
        yield url.partition("//")[2]


def odd_things() -> Shelf:
    """One tag for each oddity; all are written with odd spacing, so that a second encoding would show."""
    shelf = Shelf()
    config, layer = shelf.blob(b"{}", OCI_CONFIG), shelf.blob(noise(5_000, "odd"), f"{OCI_LAYER}+gzip")
    inline = {"data": base64.b64encode(b"{}").decode()}
    documents: Mapping[str, Json] = {
        "empty-config": {"config": config, "layers": [layer]},
        "no-layers": {"config": config, "layers": []},
        "artifact": {"artifactType": "application/x-odd", "config": config | {"mediaType": EMPTY}, "layers": [layer]},
        "unknown": {
            "config": config,
            "layers": [layer | {"x-new": [1, {"y": None}]}],
            "zzz": {"deep": [[], "é\u2028"]},
        },
        "inline": {"config": shelf.blob(b"{}", EMPTY) | inline, "layers": [layer]},
        "sha512": {"config": config, "layers": [shelf.blob(noise(3_000, "512"), OCI_LAYER, "sha512")]},
        "empty-blob": {"config": config, "layers": [shelf.blob(b"", OCI_LAYER), layer, layer]},
        "annotated": {"config": config, "layers": [layer], "annotations": {"": "", "a": "b\n"}},
    }
    for tag, document in documents.items():
        whole = {"layers": [], "mediaType": OCI_MANIFEST, "schemaVersion": 2} | document
        shelf.manifests[tag] = json.dumps(whole, indent=3, ensure_ascii=False).encode() + b"\n "
    return shelf


def once(host: str, folder: Path, target: Json) -> Finished:
    """One pass from the odd registry."""
    rule = {"source": f"{host}/{NAME}", "target": "out"}
    return run_ocisync("once", "--json", "-c", write_config(folder, {"out": target}, sync=[rule]), env=ENV)


@pytest.mark.parametrize("kind", KINDS)
def test_fault_32_odd_content_is_copied_byte_exact(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    shelf = odd_things()
    with odd_registry(shelf) as host, open_place(kind, tmp_path / "registry", s3) as place:
        once(host, tmp_path, place.settings).expect(0)
        for tag, raw in shelf.manifests.items():
            assert place.read(f"v2/{NAME}/manifests/{tag}") == raw, tag
            for digest, body in walk(place, NAME, tag).items():
                assert body == shelf.blobs.get(digest, raw), (tag, digest)


def test_fault_32_inline_data_that_lies_is_refused(tmp_path: Path, s3: Seaweed) -> None:
    shelf = odd_things()
    config = shelf.blob(b"{}", EMPTY)
    lie = config | {"data": base64.b64encode(b"[]").decode()}
    shelf.manifests["lie"] = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": lie, "layers": []}
    ).encode()
    with odd_registry(shelf) as host, open_place("directory", tmp_path / "registry", s3) as place:
        done = once(host, tmp_path, place.settings).expect(1)
        (failed,) = [one for one in json.loads(done.stdout)["jobs"][0]["tags"] if one["verdict"] == "failed"]
        assert failed["tag"] == "lie"
        assert failed["failure"]["code"] in ("manifest.invalid", "verify.digest")
        assert place.read(f"v2/{NAME}/manifests/lie") is None
