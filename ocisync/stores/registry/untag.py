"""Removing tags, also from a registry that cannot: the tag is moved to a manifest of its own, and that is deleted.

Deleting the image's own digest instead would take all other tags of the image with it.
Spec: distribution v1.1, "Deleting tags", "Deleting Manifests".
"""

from __future__ import annotations

import json
import uuid

from ocisync.content.openers import BytesOpener
from ocisync.errors import NotFound, RegistryError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.stores.registry.auth.scopes import DELETE, Grant
from ocisync.stores.registry.blobs import BlobUploader
from ocisync.stores.registry.http.transport import Request, Transport
from ocisync.stores.registry.manifests import Manifests

_ACTIONS = DELETE
_DONE = frozenset({200, 202, 204})
_CANNOT = frozenset({400, 404, 405, 415, 501})


class TagRemover:
    """The removal of tags from one repository."""

    def __init__(self, transport: Transport, repository: str, manifests: Manifests, uploads: BlobUploader) -> None:
        self._transport = transport
        self._repository = repository
        self._manifests = manifests
        self._uploads = uploads
        self._deletes = False  # whether the registry was seen to delete a manifest

    async def remove(self, tag: str) -> None:
        """Remove one tag; an absent one is no error, and no other tag is touched.

        Raises:
            RegistryError: the registry deletes neither tags nor manifests; the tag is where it was.
        """
        if await self._delete(tag):
            return
        try:
            found = await self._manifests.resolve(tag, is_sure=True)
        except NotFound:
            return
        await self._check_that_it_deletes(found.media_type)
        dummy = await self._push_empty_image(found.media_type)
        await self._manifests.push(tag, dummy)
        if not await self._delete(dummy.digest):
            raise self._error(f"the tag {tag} points to an empty image now, which could not be deleted")

    async def delete_manifest(self, digest: Digest) -> None:
        """Delete a manifest, and every tag of it with it.

        Raises:
            NotFound: it is not there.
            RegistryError: the registry deletes no manifests.
        """
        found = await self._manifests.resolve(digest, is_sure=True)
        if not await self._delete(found.digest):
            raise self._error("nothing was removed")

    async def _check_that_it_deletes(self, media_type: str) -> None:
        """Try it on a manifest that nothing points at, before a tag is moved."""
        if self._deletes:
            return
        trial = await self._push_empty_image(media_type)
        await self._manifests.push(trial.digest, trial)
        if not await self._delete(trial.digest):
            raise self._error("no tag was removed")
        self._deletes = True

    async def _push_empty_image(self, media_type: str) -> Descriptor:
        """A manifest that is like no other, of the family that the registry is known to take."""
        is_docker = media_type in (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST)
        kind = media_types.DOCKER_MANIFEST if is_docker else media_types.OCI_MANIFEST
        config_type = media_types.DOCKER_CONFIG if is_docker else media_types.OCI_CONFIG
        rootfs = {"type": "layers", "diff_ids": list[str]()}
        raw = json.dumps(
            {"architecture": "", "os": "", "rootfs": rootfs, "comment": f"removed {uuid.uuid4()}"}
        ).encode()
        config = describe(raw, config_type)
        await self._uploads.push(config, BytesOpener(raw))
        entry = {"mediaType": config_type, "digest": config.digest, "size": config.size}
        document = {"schemaVersion": 2, "mediaType": kind, "config": entry, "layers": list[str]()}
        return describe(json.dumps(document).encode(), kind)

    async def _delete(self, reference: str) -> bool:
        url = self._transport.origin.with_path(f"/v2/{self._repository}/manifests/{reference}")
        request = Request("DELETE", url, Grant(self._repository, _ACTIONS), _DONE | _CANNOT)
        async with self._transport.send(request) as answer:
            return answer.status in _DONE

    def _error(self, state: str) -> RegistryError:
        return RegistryError(
            f"{self._transport.host}/{self._repository}: the registry deletes neither tags nor manifests; {state}; "
            "allow deletion there (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true), or delete it with the "
            "registry's own tools; a rule leaves tags alone with `prune: false`",
            host=self._transport.host,
        )
