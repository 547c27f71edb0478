"""Signatures as they lie in a registry: cosign's `.sig` tags, and bundles that refer to an image."""

import json
from collections.abc import Mapping

from tests.servers.client import RegistryClient
from tests.servers.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Image, Index, Json, describe, digest_of, push
from tests.signatures import BUNDLE
from tests.signatures import Json as Document

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"


def sig_tag(image: Image | Index) -> str:
    """The tag that cosign gives an image's signatures."""
    return image.digest.replace(":", "-") + ".sig"


def sig_image(*layers: tuple[bytes, Mapping[str, str]]) -> Image:
    """What lies under it: one layer for each signature."""
    config = b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}'
    listed = [describe(SIMPLE_SIGNING, payload) | {"annotations": dict(said)} for payload, said in layers]
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, config),
        "layers": listed,
    }
    blobs = {digest_of(one): one for one in (config, *(payload for payload, _ in layers))}
    return Image(json.dumps(document).encode(), OCI_MANIFEST, config, (), blobs)


def bundle_artifact(subject: Image | Index, bundle: Document | bytes) -> Image:
    """A manifest that refers to an image and holds a bundle, as cosign 3 makes it."""
    raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE,
        "config": describe("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [describe(BUNDLE, raw)],
        "subject": describe(subject.media_type, subject.manifest),
        "annotations": {"dev.sigstore.bundle.content": "dsse-envelope"},
    }
    blobs = {digest_of(one): one for one in (b"{}", raw)}
    return Image(json.dumps(document).encode(), OCI_MANIFEST, b"{}", (), blobs)


def attach(client: RegistryClient, name: str, subject: Image | Index, *artifacts: Image) -> None:
    """Push bundles as clients do where a registry has no API: by digest, then a bare list under the tag."""
    entries = [describe(one.media_type, one.manifest) for one in artifacts]  # without types: cosign's issue 5098
    document: Json = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    listed = Index(json.dumps(document).encode(), OCI_INDEX, artifacts)
    push(client, name, subject.digest.replace(":", "-"), listed)
