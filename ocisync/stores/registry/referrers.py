"""What refers to a manifest: asked of the registry's API, or kept by clients in a list under a tag where it has none.

Spec: distribution v1.1.1, "Listing Referrers", "Unavailable Referrers API", "Pushing Manifests with Subject".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import anyio
import structlog
from yarl import URL

from ocisync.content.repository import Fetcher
from ocisync.content.verify import read_manifest
from ocisync.errors import AuthError, Handling, LimitExceeded, ManifestError, OcisyncError, RegistryError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, sha256
from ocisync.model.digest_tags import fallback_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE, parse_manifest
from ocisync.model.subjects import Entry, add_entries, read_subject
from ocisync.model.text.outside_json import load_json
from ocisync.stores.registry.auth.scopes import PUSH, Grant
from ocisync.stores.registry.blobs import STORED, check_stored
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import REFUSED
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport
from ocisync.stores.registry.manifests import ACCEPT
from ocisync.stores.registry.paging import next_page

log = structlog.get_logger(__name__)
MAX_PAGES = 1000
MAX_REFERRERS = 100_000  # of one manifest
_ROUNDS = 12  # tries to bring a list up to date while other clients write it
_NO_API = frozenset({400, 404, 405, 406, 410, 415, 422, 501})
_ELSEWHERE = 303  # GHCR sends whoever asks to pages of GitHub, which have no list and ask to be left alone (429)
_LISTED_OR_NOT = frozenset({200, _ELSEWHERE}) | _NO_API
_NO_LOGIN = 401
_THERE_OR_NOT = frozenset({200, 404})
_LOST = 412
_ACCEPT_INDEX = {"Accept": media_types.OCI_INDEX}


def looks_like_index(raw: bytes) -> bool:
    """Whether a document of no more exact a type than JSON is an index; other servers answer any path with JSON."""
    try:
        document = load_json(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and isinstance(document.get("manifests"), list) and "schemaVersion" in document


class _StoredList(NamedTuple):
    """A list under a tag."""

    body: bytes | None  # None: there is none
    entries: tuple[Descriptor, ...] = ()
    etag: str = ""


class _HoldsSubject(ManifestError):
    """A tag that should hold a list of what refers to an image holds that image.

    GitLab takes such a tag for the digest that it is named after. The image's parts do not refer to it.
    """


class ReferrersClient:
    """The referrers of one repository's manifests; whether the registry has the API is found out once."""

    def __init__(self, transport: Transport, grant: Grant, content: Fetcher, tags: Iterable[str] | None = None) -> None:
        self._transport = transport
        self._repository = grant.repository
        self._grant = grant
        self._content = content
        self._has_api: bool | None = None
        self._writing = anyio.Lock()
        self._lists: frozenset[str] | None = None  # tags that may be lists, as the repository's tags were listed last
        if tags is not None:
            self.learn_tags(tags)

    def learn_tags(self, tags: Iterable[str]) -> None:
        """Take note of all tags: lists that are not among them need not be asked for."""
        self._lists = frozenset(tag for tag in tags if tag.startswith("sha"))

    async def list_referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, in the order of the digests.

        Raises:
            RegistryError: the API's answer is no list of referrers.
            LimitExceeded: it does not end.
        """
        listed = await self._ask_api(subject, self._grant.actions)
        found = listed if listed is not None else await self._read_tag(subject)
        return [desc for _, desc in sorted({desc.digest: desc for desc in found}.items())]

    async def add_referrers(self, subject: Digest, referrers: Collection[Descriptor]) -> None:
        """See that stored manifests stand in the subject's list, where the registry does not keep it itself.

        Other clients may write the list meanwhile: it is written on the condition that it still is what was read, which
        few registries heed, and looked at again after writing.

        Raises:
            RegistryError: the tag of the list holds something else, or others keep changing it.
        """
        if await self._ask_api(subject, PUSH) is None:
            async with self._writing:
                await self._converge(subject, referrers)

    async def _converge(self, subject: Digest, referrers: Collection[Descriptor]) -> None:
        entries: dict[Digest, Entry] = {}
        for attempt in range(1, _ROUNDS + 1):
            stored = await self._read_list_to_write(subject)
            listed = {desc.digest for desc in stored.entries}
            missing = {desc.digest: desc for desc in referrers if desc.digest not in listed}
            for digest in missing.keys() - entries.keys():
                entries |= await self._make_entry(subject, missing[digest])
            wanted = {digest: entries[digest] for digest in missing if digest in entries}
            if not wanted:
                return
            if not await self._write(subject, stored, add_entries(stored.body, wanted)) or attempt > 1:
                await self._transport.backoff(attempt, self._contention_error(subject))
        raise self._contention_error(subject)

    async def _ask_api(self, subject: Digest, actions: str) -> list[Descriptor] | None:
        """What the API lists; None when the registry has none, or none for this manifest."""
        if self._has_api is False:
            return None
        first = self._transport.origin.with_path(f"/v2/{self._repository}/referrers/{subject}")
        url: URL | None = first
        visited: set[URL] = set()
        found: list[Descriptor] = []
        while url is not None and url not in visited:
            visited.add(url)
            page = await self._read_page(url, actions)
            if page is None:
                self._has_api = bool(self._has_api)
                return None
            self._has_api = True
            found.extend(page[0])
            url = page[1]
            if len(visited) > MAX_PAGES or len(found) > MAX_REFERRERS:
                raise LimitExceeded(f"{safe_url(first)}: the list of referrers does not end ({len(visited)} pages)")
        return found

    async def _read_page(self, url: URL, actions: str) -> tuple[Sequence[Descriptor], URL | None] | None:
        async def take(answer: Response) -> tuple[bytes, str | None] | None:
            is_index = answer.media_type == media_types.OCI_INDEX
            if answer.status != 200 or not (is_index or "json" in answer.media_type):
                await answer.beginning()
                return None
            raw = await answer.read(MAX_MANIFEST_SIZE, "the list of referrers")
            if not is_index and not looks_like_index(raw):
                return None
            return raw, ", ".join(answer.headers.getall("Link", [])) or None

        request = Request("GET", url, Grant(self._repository, actions), _LISTED_OR_NOT, _ACCEPT_INDEX)
        try:
            found = await self._transport.read(request, take)
        except AuthError as exc:  # some (Harbor 2.7) want a login for what they do not know; the tag's look-up tells
            if self._has_api or exc.facts.get("status") != _NO_LOGIN:
                raise
            found = None
        if found is None:
            return None
        raw, link = found
        try:
            listed = parse_manifest(raw, media_types.OCI_INDEX).children
        except OcisyncError as exc:
            raise RegistryError(f"{safe_url(url)}: the answer is not a list of referrers: {exc.message}") from exc
        return listed, next_page(url, link)

    async def _read_tag(self, subject: Digest) -> Sequence[Descriptor]:
        if self._lists is not None and fallback_tag(subject) not in self._lists:
            return ()
        if self._lists is None and not await self._has_list(subject):
            return ()
        try:
            return (await self._read_list(subject, self._grant.actions)).entries
        except _HoldsSubject:
            return ()
        except ManifestError as exc:
            log.warning("referrers.unreadable", repository=self._repository, subject=subject, error=exc.message)
            return ()

    async def _has_list(self, subject: Digest) -> bool:
        """Whether there is a list, asked by HEAD: where pulls are counted, that is none."""
        if self._transport.has_no_pull_limit:  # then a GET costs no more, and no registry hides it from that
            return True
        request = Request("HEAD", self._list_url(subject), self._grant, _THERE_OR_NOT | REFUSED, ACCEPT)
        async with self._transport.send(request) as answer:
            return answer.status != 404

    async def _read_list(self, subject: Digest, actions: str) -> _StoredList:
        """The list under the tag.

        Raises:
            ManifestError: the tag holds something else.
        """

        async def take(answer: Response) -> _StoredList:
            if answer.status == 404:
                await answer.beginning()
                return _StoredList(None)
            raw = await answer.read(MAX_MANIFEST_SIZE, "the list of referrers")
            manifest = parse_manifest(raw, answer.media_type)
            if digest_of(raw, subject) == subject:
                raise _HoldsSubject(f"what the tag holds is of type {manifest.media_type}, and is the image itself")
            if manifest.media_type != media_types.OCI_INDEX:
                raise ManifestError(f"what the tag holds is of type {manifest.media_type}")
            return _StoredList(raw, manifest.children, answer.headers.get("ETag", ""))

        url = self._list_url(subject)
        return await self._transport.read(
            Request("GET", url, Grant(self._repository, actions), _THERE_OR_NOT, ACCEPT), take
        )

    async def _read_list_to_write(self, subject: Digest) -> _StoredList:
        try:
            return await self._read_list(subject, PUSH)
        except ManifestError as exc:
            raise RegistryError(
                f"{safe_url(self._list_url(subject))}: no list of referrers can be kept there: {exc.message}; "
                "remove the tag",
                host=self._transport.host,
            ) from exc

    async def _make_entry(self, subject: Digest, desc: Descriptor) -> dict[Digest, Entry]:
        """A manifest's entry in the list, as its own bytes say it; none when it does not refer to the subject."""
        reference = read_subject(desc.digest, await read_manifest(self._content, desc))
        if reference is not None and reference.subject == subject:
            return {desc.digest: reference.entry}
        log.warning("referrer.unrelated", repository=self._repository, subject=subject, digest=desc.digest)
        return {}

    async def _write(self, subject: Digest, stored: _StoredList, body: bytes) -> bool:
        """Put the list under its tag; False when another client came first, where the registry tells."""
        headers = {"Content-Type": media_types.OCI_INDEX}
        if stored.body is None:
            headers["If-None-Match"] = "*"
        elif stored.etag and not stored.etag.startswith("W/"):
            headers["If-Match"] = stored.etag
        url = self._list_url(subject)
        request = Request("PUT", url, Grant(self._repository, PUSH), STORED | {_LOST}, headers, body)
        async with self._transport.send(request) as answer:
            if answer.status != _LOST:
                check_stored(answer, sha256(body))
            return answer.status != _LOST

    def _list_url(self, subject: Digest) -> URL:
        return self._transport.origin.with_path(f"/v2/{self._repository}/manifests/{fallback_tag(subject)}")

    def _contention_error(self, subject: Digest) -> RegistryError:
        return RegistryError(
            f"{self._transport.host}/{self._repository}:{fallback_tag(subject)}: other clients keep changing this list "
            "of referrers; the next pass tries again",
            handling=Handling.RETRY,
            host=self._transport.host,
        )
