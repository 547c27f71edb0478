"""Whether a registry vouches for its manifests: it is offered one whose parts no registry has, and should refuse it.

Its refusal must say that a part is missing, by the code for that or by the digest of one. Registries name all that is
missing, the first part only, or none; a refusal for another reason tells nothing.

Spec: distribution v1.1.1, "Pushing Manifests" (a registry may accept such manifests), "Error Codes".
"""

from __future__ import annotations

import json

import anyio
import structlog

from ocisync.errors import OcisyncError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import sha256
from ocisync.stores.registry.auth.scopes import DELETE, PUSH, Grant
from ocisync.stores.registry.blobs import STORED
from ocisync.stores.registry.http.transport import Request, Transport

log = structlog.get_logger(__name__)
_CONFIG, _LAYER = b"ocisync: a configuration that no registry has", b"ocisync: a layer that no registry has"
_REFUSED = frozenset({400, 404, 422})
_GONE_OR_NOT = frozenset({202, 204, 400, 403, 404, 405})
_MAX_ANSWER = 64 * 1024  # bytes


class ValidationProbe:
    """What one host was found to do; asked once, whatever the repository."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._found: bool | None = None

    async def ask(self, transport: Transport, repository: str) -> bool:
        """Whether the host refuses manifests for what they lack; no, where that cannot be found out."""
        async with self._lock:
            if self._found is None:
                try:
                    self._found = await _is_refused(transport, repository)
                except OcisyncError as exc:
                    log.debug("registry.not_vouching", host=transport.host, code=exc.code, error=exc.message)
                    self._found = False
            return self._found


async def _is_refused(transport: Transport, repository: str) -> bool:
    desc = _make_incomplete_manifest()
    url = transport.origin.with_path(f"/v2/{repository}/manifests/{desc.digest}")
    headers = {"Content-Type": desc.media_type}
    request = Request("PUT", url, Grant(repository, PUSH), _REFUSED | STORED, headers, desc.data)
    async with transport.send(request) as answer:
        if answer.status in _REFUSED:
            said = await answer.read(_MAX_ANSWER, "the refusal")
            return names_missing_part(said)
    async with transport.send(Request("DELETE", url, Grant(repository, DELETE), _GONE_OR_NOT)):
        return False


def names_missing_part(refusal: bytes) -> bool:
    """Whether a refusal is for what the incomplete manifest lacks. Pure."""
    names_digest = any(sha256(part).encode() in refusal for part in (_CONFIG, _LAYER))
    return b"MANIFEST_BLOB_UNKNOWN" in refusal or (b"BLOB_UNKNOWN" in refusal and names_digest)


def _make_incomplete_manifest() -> Descriptor:
    """A manifest without its parts; the same every time, so that at most one can ever stay."""
    config = {"mediaType": media_types.OCI_CONFIG, "digest": sha256(_CONFIG), "size": len(_CONFIG)}
    layer = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": sha256(_LAYER), "size": len(_LAYER)}
    manifest = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": [layer]}
    return describe(json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
