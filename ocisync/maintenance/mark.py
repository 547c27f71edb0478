"""Mark: what the tags of a repository reach, and what young manifests reach that may be tagged soon.

Marks only grow. What cannot be read becomes a problem, because nothing can be told to be unreachable then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ocisync.content.concurrency import for_each, for_each_wave
from ocisync.content.object_store import ObjectEntry, ObjectKind
from ocisync.errors import NotFound, OcisyncError
from ocisync.maintenance.protocols import MaintainedRepository
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, sha256
from ocisync.model.manifest import Manifest, may_be_manifest, parse_manifest

WORKERS = 8  # manifests read at a time


@dataclass(slots=True)
class Marks:
    """What is reachable in one repository."""

    repository: MaintainedRepository
    grace: float  # seconds; younger manifests are roots as tags are
    reachable: set[Digest] = field(default_factory=set)  # manifests and blobs
    problems: list[str] = field(default_factory=list)  # why reachability cannot be told
    _listed: set[Digest] = field(default_factory=set)  # manifests that a listing showed
    _tags: set[tuple[str, str]] = field(default_factory=set)  # with their ETags, those that were read
    _done: set[Digest] = field(default_factory=set)  # manifests whose children are marked
    _subject_known: set[Digest] = field(default_factory=set)  # unreachable ones whose subject is known
    _referrers: dict[Digest, list[Digest]] = field(default_factory=dict)  # unreachable ones, by subject

    async def mark(self, now: float) -> None:
        """List, and mark what came since the last time: tags that are new or moved, manifests that are new or young.

        `now` is the store's time, in seconds since the epoch. Tags are listed first: their manifests were there before.
        """
        roots = await self._tag_roots()
        async for entry in self.repository.list_objects(ObjectKind.MANIFEST):
            self._listed.add(Digest(entry.reference))
            if now - entry.modified < self.grace:
                roots.add(Digest(entry.reference))
        await self._spread(roots)
        await self._spread_to_referrers()

    @property
    def manifests(self) -> int:
        """How many manifests listings showed."""
        return len(self._listed)

    async def _tag_roots(self) -> set[Digest]:
        by_content: dict[tuple[str, int], list[ObjectEntry]] = {}
        async for entry in self.repository.list_objects(ObjectKind.TAG):
            if (entry.reference, entry.etag) not in self._tags:
                by_content.setdefault((entry.etag or entry.reference, entry.size), []).append(entry)
        roots: set[Digest] = set()

        async def read(same: list[ObjectEntry]) -> None:
            raw = await self._read(ObjectKind.TAG, same[0].reference)
            if raw is not None:
                self._tags.update((entry.reference, entry.etag) for entry in same)
                self.reachable.add(digest := sha256(raw))
                roots.update(self._children(digest, raw))

        await for_each(list(by_content.values()), read, WORKERS)
        return roots

    async def _spread(self, roots: Collection[Digest]) -> None:
        """Mark manifests and everything below them, level by level."""

        async def visit(digest: Digest) -> Collection[Digest]:
            if digest in self._done:
                return ()
            self.reachable.add(digest)
            raw = await self._read(ObjectKind.MANIFEST, digest)
            return () if raw is None else self._children(digest, raw)

        await for_each_wave(roots, visit, WORKERS)

    def _children(self, digest: Digest, raw: bytes) -> list[Digest]:
        """Mark a manifest's children; those that are manifests come back.

        They are read even when no listing showed them: a listing is no snapshot.
        """
        self._done.add(digest)
        try:
            manifest = parse_manifest(raw)
        except OcisyncError as exc:
            self.problems.append(f"{self.repository.name}@{digest}: what it needs cannot be told: {exc.message}")
            return []
        self.reachable.update(child.digest for child in manifest.children)
        return [child.digest for child in manifest.children if self._may_have_children(manifest, child)]

    def _may_have_children(self, parent: Manifest, child: Descriptor) -> bool:
        """An index's entry of an unknown type is stored as a manifest where it can be read as one."""
        is_listed = child.digest in self._listed
        return child.is_manifest or is_listed or (parent.is_index and may_be_manifest(child))

    async def _spread_to_referrers(self) -> None:
        """What refers to something reachable is reachable, and what refers to that."""
        await for_each(sorted(self._listed - self.reachable - self._subject_known), self._read_subject, WORKERS)
        while True:
            subjects = [subject for subject in self._referrers if subject in self.reachable]
            found = {digest for subject in subjects for digest in self._referrers.pop(subject)}
            if not found:
                return
            await self._spread(found)

    async def _read_subject(self, digest: Digest) -> None:
        """Look once at a manifest that nothing reaches: it may refer to something that is reached."""
        self._subject_known.add(digest)
        try:
            _, raw = await self.repository.read(ObjectKind.MANIFEST, digest)
            subject = parse_manifest(raw).subject
        except OcisyncError:
            return  # nothing reaches it, and it cannot be a referrer
        if subject is not None:
            self._referrers.setdefault(subject.digest, []).append(digest)

    async def _read(self, kind: ObjectKind, reference: str) -> bytes | None:
        """A manifest's bytes, or None when it is gone or not what it should be."""
        try:
            _, raw = await self.repository.read(kind, reference)
        except NotFound:
            self._done.add(Digest(reference))
            return None
        except OcisyncError as exc:
            self.problems.append(f"{self.repository.name}: {reference} cannot be read: {exc.message}")
            self._done.add(Digest(reference))
            return None
        if kind is ObjectKind.MANIFEST and digest_of(raw, Digest(reference)) != reference:
            self.problems.append(f"{self.repository.name}@{reference}: the manifest is damaged")
            self._done.add(Digest(reference))
            return None
        return raw
