"""Manifests of one repository: looked up by HEAD where the registry can, written as the bytes they are.

Spec: distribution v1.1, "Pulling manifests", "Pushing Manifests".
"""

from __future__ import annotations

import re
from dataclasses import replace

import structlog
from yarl import URL

from ocisync.content.openers import read_whole
from ocisync.content.repository import Opener
from ocisync.content.verify import Verifier, check_bytes
from ocisync.errors import (
    AuthError,
    DigestMismatch,
    LimitExceeded,
    NotFound,
    OcisyncError,
    RegistryError,
    UnsupportedManifest,
)
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest, digest_of, is_digest
from ocisync.model.image_name import parse_tag_or_digest
from ocisync.model.manifest import MAX_MANIFEST_SIZE, media_type_of, parse_manifest
from ocisync.stores.registry.auth.scopes import PUSH, Grant
from ocisync.stores.registry.blobs import FOUND_OR_NOT, STORED, check_stored, create_repository, is_uncertain
from ocisync.stores.registry.http.errors import is_web_page
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import REFUSED
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport

log = structlog.get_logger(__name__)
ACCEPT = {"Accept": media_types.ACCEPT}
_AS_KNOWN, _NO_LOGIN, _CONFLICT = 304, 401, 409
_LOOKED = frozenset({200}) | REFUSED  # a HEAD may fail where GET works: without it, and behind proxies that break it
_LOOKED_AGAIN = _LOOKED | {_AS_KNOWN}
_BAD_REQUEST, _TYPE_REFUSED = 400, frozenset({406, 415})
_CONTENT_REFUSED = frozenset({400, 404, 406, 415, 422, 500})
_INVALID = re.compile("MANIFEST_INVALID|UNSUPPORTED")
_PART_UNKNOWN = re.compile("BLOB_UNKNOWN|MANIFEST_UNKNOWN")
_IMMUTABLE = re.compile("immutable|TAG_INVALID|cannot be overwritten", re.IGNORECASE)


class Manifests:
    """What is under manifests/."""

    def __init__(self, transport: Transport, grant: Grant, *, confirms_absence: bool) -> None:
        self._transport = transport
        self._grant = grant
        self._confirms_absence = confirms_absence  # where the answer matters: by GET, as some know manifests only so
        self._push_grant = Grant(grant.repository, PUSH)
        self._path = f"/v2/{grant.repository}/manifests/"

    async def resolve(self, reference: str, known: Descriptor | None = None, *, is_sure: bool = False) -> Descriptor:
        """The descriptor of a tag or digest; with its body only where HEAD does not tell enough.

        A registry whose ETags are digests need not open the manifest to say that it is still the known one (RFC 9110,
        13.1.2); others answer as ever. With `is_sure` a HEAD that says 404 is not believed without a GET.

        Raises:
            NotFound: no such tag or digest.
            LimitExceeded: over 4 MiB.
            UnsupportedManifest, AmbiguousManifest, ManifestError: it cannot be copied.
            DigestMismatch: the registry names another digest than the one asked for.
        """
        url = self._url(reference)
        accept = _LOOKED if known is None else _LOOKED_AGAIN
        if is_sure or self._confirms_absence:
            accept |= {404}
        if known is None:
            request = self._request("HEAD", url, accept)
        else:
            request = Request("HEAD", url, self._grant, accept, _if_changed(known))
        try:
            async with self._transport.send(request) as answer:
                if known is not None and answer.status == _AS_KNOWN:
                    return _confirm(known, answer)
                found = describe_head(reference, answer) if answer.status == 200 else None
        except AuthError as exc:
            if exc.facts.get("status") != _NO_LOGIN or not (is_sure or self._confirms_absence):
                raise
            found = None
        return found or await self._get(reference, url)

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        """The descriptor of a tag or digest with its bytes, where pulls are known not to be counted; as `resolve`."""
        if not (is_needed or self._transport.has_no_pull_limit):
            return await self.resolve(reference)
        return await self._get(reference, self._url(reference))

    async def exists(self, desc: Descriptor) -> bool:
        """Whether the manifest is there; what the registry will not tell counts as absent."""
        request = self._request("HEAD", self._url(desc.digest), FOUND_OR_NOT)
        async with self._transport.send(replace(request, grant=self._push_grant)) as answer:
            is_page = is_web_page(answer.media_type, b"")
            return answer.status == 200 and answer.content_size in (None, 0, desc.size) and not is_page

    async def push(self, reference: str, desc: Descriptor, opener: Opener | None = None) -> None:
        """Store a manifest under its digest or a tag, as the bytes it is.

        After a failure that may have come after it was stored it is looked for, and then sent again.

        Raises:
            SizeMismatch, DigestMismatch: its bytes are not desc, or the registry says it stored others.
            LimitExceeded: over 4 MiB.
            NotFound: `target.missing`: there is no such repository, and the registry makes none.
            UnsupportedManifest: the registry refuses what it is, or names.
        """
        data = await _read_bytes(desc, opener)
        headers = {"Content-Type": desc.media_type}
        url = self._url(reference)
        request = Request("PUT", url, self._push_grant, STORED, headers, data, is_commit=True)
        attempt, is_created = 0, False
        while True:
            try:
                async with self._transport.send(request) as answer:
                    check_stored(answer, desc.digest)
                    return
            except OcisyncError as exc:
                if isinstance(exc, NotFound) and not _PART_UNKNOWN.search(exc.message):
                    advice = f"it may also be that it does not take {desc.media_type}: see `format` of the rule"
                    exc = NotFound(f"{exc.message}; {advice}", handling=exc.handling)
                    await create_repository(self._transport, self._grant.repository, exc, is_repeated=is_created)
                    is_created = True
                    continue
                attempt += 1
                # A tag that must not move may have been written before, and with this very manifest. A conflict is one
                # with another client that writes the same; it passes.
                is_immutable = not is_digest(reference) and _IMMUTABLE.search(exc.message) is not None
                is_conflict = exc.facts.get("status") == _CONFLICT and not is_immutable
                gives_up = not (exc.retryable or is_conflict) or attempt > self._transport.options.retries
                if not gives_up:
                    await self._transport.backoff(attempt, exc)
                is_unclear = is_uncertain(exc) or is_immutable or is_conflict
                if is_unclear and await self._was_stored(reference, desc):
                    return
                if gives_up:
                    raise self._explain_refusal(reference, desc, data, exc) from exc

    async def _was_stored(self, reference: str, desc: Descriptor) -> bool:
        try:
            return (await self.resolve(reference, is_sure=True)).digest == desc.digest
        except OcisyncError as exc:  # what failed before it is what matters
            log.debug("manifest.unknown", host=self._transport.host, digest=desc.digest, error=exc.message)
            return False

    def _explain_refusal(self, reference: str, desc: Descriptor, data: bytes, exc: OcisyncError) -> OcisyncError:
        """What can be done when a registry does not take a manifest, as far as its answer or the manifest tells."""
        if not isinstance(exc, RegistryError) or isinstance(exc, AuthError):
            return exc
        status = exc.facts.get("status")
        if not is_digest(reference) and _IMMUTABLE.search(exc.message):
            return RegistryError(
                f"{exc.message}; the tag is immutable there: `overwrite: never` in the rule leaves such tags alone",
                code=exc.code,
                handling=exc.handling,
                **exc.facts,
            )
        if status in _CONTENT_REFUSED and (foreign := _foreign_layers(data, desc.media_type)):
            return UnsupportedManifest(
                f"{exc.message}; the image has a foreign layer, {foreign[0].digest} at {foreign[0].urls[0][:200]}, and "
                "the registry may refuse those: allow their URLs there (docker-registry: validation.manifests.urls), "
                "try `include_external: true`, which sends the layers too, or leave the image out"
            )
        is_type = status in _TYPE_REFUSED or (status == _BAD_REQUEST and _INVALID.search(exc.message) is not None)
        if not is_type:
            return exc
        other = "oci" if "docker" in desc.media_type else "docker"
        return UnsupportedManifest(
            f"{exc.message}; the registry may not take {desc.media_type}: `format: {other}` in the rule rewrites them, "
            "which changes their digests"
        )

    def _url(self, reference: str) -> URL:
        return self._transport.origin.with_path(self._path + parse_tag_or_digest(reference), encoded=True)

    def _request(self, method: str, url: URL, accept: frozenset[int] = frozenset({200})) -> Request:
        return Request(method, url, self._grant, accept, ACCEPT)

    async def _get(self, reference: str, url: URL) -> Descriptor:
        async def take(answer: Response) -> tuple[bytes, str, str | None]:
            raw = await answer.read_document(MAX_MANIFEST_SIZE, "the manifest")
            return raw, answer.media_type, said_digest(answer)

        raw, announced, said = await self._transport.read(self._request("GET", url), take)
        desc = describe(raw, media_type_of(raw, announced))
        for expected in (reference, said):
            if is_digest(expected):
                desc = _check_digest(desc, raw, Digest(str(expected)), url)
        return desc


def _foreign_layers(data: bytes, media_type: str) -> list[Descriptor]:
    """The layers of an image that are kept elsewhere."""
    try:
        return [child for child in parse_manifest(data, media_type).children if child.urls]
    except OcisyncError:
        return []


def describe_head(reference: str, answer: Response) -> Descriptor | None:
    """The descriptor that a HEAD's headers make; None when they do not say enough.

    Raises:
        UnsupportedManifest: docker's schema 1.
        LimitExceeded: over 4 MiB.
        DigestMismatch: another digest than the one asked for.
    """
    digest, size, kind = said_digest(answer), answer.content_size, answer.media_type
    if kind in media_types.SCHEMA_1_TYPES:
        raise UnsupportedManifest(f"{safe_url(answer.url)}: docker's schema 1 is not supported: push the image again")
    if (size or 0) > MAX_MANIFEST_SIZE:
        raise LimitExceeded(
            f"{safe_url(answer.url)}: a manifest of {size} bytes; at most {MAX_MANIFEST_SIZE} are accepted",
            code="limit.manifest",
        )
    if is_digest(reference) and is_digest(digest) and _contradicts(reference, str(digest)):
        raise DigestMismatch(f"{safe_url(answer.url)}: the registry answers with {digest}")
    digest = reference if is_digest(reference) else digest
    if not is_digest(digest) or not size or kind not in media_types.MANIFESTS:
        return None
    return Descriptor(kind, Digest(str(digest)), size)


def said_digest(answer: Response) -> str | None:
    """The digest that an answer names; some write it as an ETag, in quotes."""
    text = answer.headers.get("Docker-Content-Digest")
    return text.strip().strip('"') if text else None


def _if_changed(known: Descriptor) -> dict[str, str]:
    return {**ACCEPT, "If-None-Match": f'"{known.digest}"'}


def _confirm(known: Descriptor, answer: Response) -> Descriptor:
    """The known manifest, unless the registry names another than the one that was asked about."""
    said = said_digest(answer)
    if is_digest(said) and _contradicts(known.digest, str(said)):
        raise DigestMismatch(f"{safe_url(answer.url)}: still {known.digest} says the registry, and that it is {said}")
    return known


def _check_digest(desc: Descriptor, raw: bytes, expected: Digest, url: URL) -> Descriptor:
    actual = digest_of(raw, expected)
    if actual != expected:
        raise DigestMismatch(f"{safe_url(url)}: the manifest hashes to {actual}, but is said to be {expected}")
    return replace(desc, digest=expected)


def _contradicts(one: str, other: str) -> bool:
    return one != other and one.partition(":")[0] == other.partition(":")[0]


def check_manifest_size(desc: Descriptor, place: str = "") -> None:
    """Refuse a manifest of more than 4 MiB before it is read or sent; `place` goes before its digest in the message.

    Raises:
        LimitExceeded: `limit.manifest`.
    """
    if desc.is_manifest and desc.size > MAX_MANIFEST_SIZE:
        raise LimitExceeded(
            f"{place}{desc.digest}: a manifest of {desc.size} bytes; at most {MAX_MANIFEST_SIZE} are accepted",
            code="limit.manifest",
        )


async def _read_bytes(desc: Descriptor, opener: Opener | None) -> bytes:
    check_manifest_size(desc)
    if desc.data is not None or opener is None:
        return check_bytes(desc.data or b"", desc)
    return await read_whole(opener, Verifier(desc.digest, desc.size))
