"""Verify: walk every tag and see that all that it reaches is there, whole and of the right type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio

from ocisync.content.concurrency import for_each
from ocisync.content.object_store import ObjectKind
from ocisync.content.verify import verify_stream
from ocisync.errors import NotFound, OcisyncError, VerificationError
from ocisync.maintenance.findings import Fault, Finding, Verified
from ocisync.maintenance.protocols import MaintainedRegistry, MaintainedRepository
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, sha256
from ocisync.model.manifest import Manifest, parse_manifest, retype_entry, stored_media_type
from ocisync.model.missing_images import read_missing_images
from ocisync.model.subjects import Entry, format_referrers, read_subject
from ocisync.model.text.outside_json import load_json
from ocisync.sync.reports import describe_failure

_JSON = "application/json"


class VerifyJournal(Protocol):
    """Which blobs an earlier run of the same verification has read and found right."""

    def has(self, repository: str, digest: str) -> bool:
        """Whether it was read."""
        ...

    async def add(self, repository: str, digest: str) -> None:
        """Remember it."""
        ...


class NoJournal:
    """A verification from the start, which nobody goes on with."""

    def has(self, repository: str, digest: str) -> bool:  # noqa: ARG002
        """Nothing was."""
        return False

    async def add(self, repository: str, digest: str) -> None:
        """Nothing is."""


@dataclass(slots=True)
class ReadRate:
    """Keeps reading below a rate, on average."""

    rate: float = 0.0  # bytes per second; 0: as fast as it goes
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    _due: float = 0.0

    async def wait(self, count: int) -> None:
        """Wait as long as these bytes take."""
        if not self.rate:
            return
        now = anyio.current_time()
        self._due = max(self._due, now) + count / self.rate
        if self._due > now:
            await self.sleep(self._due - now)


@dataclass(frozen=True, slots=True)
class Depth:
    """How thoroughly to look."""

    deep: bool = False  # read every blob
    referrers: bool = True
    catalog: bool = True
    in_order: bool = True  # whether tags/list is to be in lexical order
    workers: int = 8
    pace: ReadRate = field(default_factory=ReadRate)
    seen: VerifyJournal = field(default_factory=NoJournal)


async def verify(registry: MaintainedRegistry, depth: Depth, within: str = "") -> Verified:
    """Look at every repository; one that cannot be looked at does not stop the others."""
    report, names = Verified(), []
    async for name in registry.list_repositories(within):
        names.append(name)
        report.repositories += 1
        try:
            await RepositoryWalk(registry.repository(name), depth, report).run()
        except OcisyncError as exc:
            report.failures[name] = describe_failure(exc)
    if not within:
        await _check_roots(registry, report)
        if depth.catalog:
            await _check_catalog(registry, report)
    return report


async def _check_roots(registry: MaintainedRegistry, report: Verified) -> None:
    if not report.repositories:
        return  # what is empty may be prepared by its first publication
    for key, detail in (await registry.root_faults()).items():
        report.findings.append(Finding("", ObjectKind.REGISTRY, key, Fault.ROOT, detail))


async def _check_catalog(registry: MaintainedRegistry, report: Verified) -> None:
    wanted = []
    async for name in registry.list_repositories():
        async for _ in registry.repository(name).list_objects(ObjectKind.MANIFEST):
            wanted.append(name)
            break
    found = await registry.catalog()
    if found is None and not wanted:
        return
    if found is None or list(found) != sorted(wanted):
        detail = "there is none" if found is None else f"{len(set(found) ^ set(wanted))} names are wrong or missing"
        report.findings.append(Finding("", ObjectKind.REGISTRY, "_catalog", Fault.LIST, detail))


@dataclass(slots=True)
class RepositoryWalk:
    """One repository."""

    repository: MaintainedRepository
    depth: Depth
    report: Verified
    _blobs: dict[str, int] = field(default_factory=dict)  # by digest, what a listing shows
    _manifests: dict[str, int] = field(default_factory=dict)
    _walked: set[Digest] = field(default_factory=set)
    _wanted: dict[Digest, tuple[Descriptor, str]] = field(default_factory=dict)  # blobs that a tag needs
    _subjects: dict[Digest, dict[Digest, Entry]] = field(default_factory=dict)  # what refers to each
    _left_out: dict[Digest, frozenset[Digest]] = field(default_factory=dict)  # on purpose, by index
    _asked: set[Digest] = field(default_factory=set)  # manifests whose subject is known

    async def run(self) -> None:
        """Tags, manifests, blobs, lists."""
        tags = sorted([entry.reference async for entry in self.repository.list_objects(ObjectKind.TAG)])
        self._manifests = {
            entry.reference: entry.size async for entry in self.repository.list_objects(ObjectKind.MANIFEST)
        }
        self._blobs = {entry.reference: entry.size async for entry in self.repository.list_objects(ObjectKind.BLOB)}
        self.report.tags += len(tags)
        await for_each(tags, self._check_tag, self.depth.workers)
        await for_each(list(self._wanted.values()), self._check_blob, self.depth.workers)
        await self._check_tags_list(tags)
        if self.depth.referrers:
            await self._check_referrers()

    def _report(self, kind: ObjectKind, reference: str, fault: Fault, detail: str = "", **more: object) -> None:
        finding = Finding(self.repository.name, kind, reference, fault, detail)
        desc, tag = more.get("desc"), more.get("tag")
        finding.desc = desc if isinstance(desc, Descriptor) else None
        finding.tags = (tag,) if isinstance(tag, str) else ()
        self.report.findings.append(finding)

    async def _check_tag(self, tag: str) -> None:
        try:
            entry, raw = await self.repository.read(ObjectKind.TAG, tag)
            media_type = stored_media_type(raw, entry.content_type)
        except OcisyncError as exc:
            fault = Fault.MISSING if isinstance(exc, NotFound) else Fault.DAMAGED
            self._report(ObjectKind.TAG, tag, fault, exc.message, tag=tag)
            return
        if entry.content_type != media_type:
            self._report(
                ObjectKind.TAG, tag, Fault.TYPE, f"{entry.content_type or 'none'} instead of {media_type}", tag=tag
            )
        root = Descriptor(media_type, sha256(raw), len(raw), data=raw)
        await self._check_manifest(root, tag)

    async def _check_manifest(self, desc: Descriptor, tag: str, level: int = 0) -> None:
        if desc.digest in self._walked or level > 8:
            return
        self._walked.add(desc.digest)
        self.report.manifests += 1
        raw = await self._read_manifest(desc, tag)
        manifest = self._parse(desc, raw, tag) if raw is not None else None
        for child in manifest.children if manifest else ():
            if child.is_manifest:
                await self._check_child(desc, child, tag, level + 1)
            elif (
                manifest and manifest.is_index and child.digest in self._manifests
            ):  # of an unknown type, stored as one
                await self._check_manifest(await self._retype(child), tag, level + 1)
            elif not (media_types.is_foreign(child.media_type) and child.urls):
                self._wanted.setdefault(child.digest, (child, tag))

    async def _retype(self, entry: Descriptor) -> Descriptor:
        """An index's entry with the type of what is stored; unchanged where that cannot be read."""
        try:
            _, raw = await self.repository.read(ObjectKind.MANIFEST, entry.digest)
            return retype_entry(entry, raw)
        except OcisyncError:
            return entry

    async def _check_child(self, index: Descriptor, child: Descriptor, tag: str, level: int) -> None:
        """An index's image, unless it was left out on purpose."""
        if child.digest in self._manifests or child.digest not in await self._read_omissions(index.digest):
            await self._check_manifest(child, tag, level)
        else:
            self.report.omitted += 1

    async def _read_omissions(self, index: Digest) -> frozenset[Digest]:
        if index not in self._left_out:
            try:
                _, raw = await self.repository.read(ObjectKind.OMITTED, index)
            except NotFound:
                raw = b""
            self._left_out[index] = read_missing_images(raw)
        return self._left_out[index]

    async def _read_manifest(self, desc: Descriptor, tag: str) -> bytes | None:
        """A manifest's bytes by its digest; where they are damaged, those of its tag, when it is a root."""
        report = partial(self._report, ObjectKind.MANIFEST, desc.digest, desc=desc, tag=tag)
        if desc.digest not in self._manifests and await self.repository.stat(ObjectKind.MANIFEST, desc.digest) is None:
            report(Fault.MISSING)
            return desc.data
        try:
            entry, raw = await self.repository.read(ObjectKind.MANIFEST, desc.digest)
        except OcisyncError as exc:
            report(Fault.UNREADABLE, exc.message)
            return desc.data
        if len(raw) != desc.size:
            report(Fault.SIZE, f"{len(raw)} bytes instead of {desc.size}")
            return desc.data
        if digest_of(raw, desc.digest) != desc.digest:
            report(Fault.DAMAGED, f"its bytes hash to {digest_of(raw, desc.digest)}")
            return desc.data
        if entry.content_type != desc.media_type:
            report(Fault.TYPE, f"{entry.content_type or 'none'} instead of {desc.media_type}")
        return raw

    def _parse(self, desc: Descriptor, raw: bytes, tag: str) -> Manifest | None:
        try:
            manifest = parse_manifest(raw)
        except OcisyncError as exc:
            self._report(ObjectKind.MANIFEST, desc.digest, Fault.DAMAGED, exc.message, desc=desc, tag=tag)
            return None
        self._note_subject(desc.digest, raw)
        return manifest

    def _note_subject(self, digest: Digest, raw: bytes) -> None:
        self._asked.add(digest)
        reference = read_subject(digest, raw) if digest in self._manifests else None
        if reference is not None:
            self._subjects.setdefault(reference.subject, {})[digest] = reference.entry

    async def _check_blob(self, wanted: tuple[Descriptor, str]) -> None:
        desc, tag = wanted
        report = partial(self._report, ObjectKind.BLOB, desc.digest, desc=desc, tag=tag)
        self.report.blobs += 1
        size = self._blobs.get(desc.digest)
        if size is None:
            entry = await self.repository.stat(ObjectKind.BLOB, desc.digest)  # it may have come after the listing
            size = entry.size if entry else None
        if size is None:
            report(Fault.MISSING)
        elif size != desc.size:
            report(Fault.SIZE, f"{size} bytes instead of {desc.size}")
        elif self.depth.deep and self.depth.seen.has(self.repository.name, desc.digest):
            self.report.skipped += 1
        elif self.depth.deep and (problem := await self._read_blob(desc)):
            report(*problem)

    async def _read_blob(self, desc: Descriptor) -> tuple[Fault, str] | None:
        try:
            async with self.repository.open(ObjectKind.BLOB, desc.digest) as (entry, stream):
                async for chunk in verify_stream(stream, desc):
                    self.report.bytes += len(chunk)
                    await self.depth.pace.wait(len(chunk))
        except VerificationError as exc:
            return Fault.DAMAGED, exc.message
        except OcisyncError as exc:
            return Fault.UNREADABLE, exc.message
        if entry.content_type != media_types.OCTET_STREAM:
            return Fault.TYPE, f"{entry.content_type or 'none'} instead of {media_types.OCTET_STREAM}"
        await self.depth.seen.add(self.repository.name, desc.digest)
        return None

    async def _check_tags_list(self, tags: list[str]) -> None:
        try:
            entry, raw = await self.repository.read(ObjectKind.TAGS_LIST, "list")
        except NotFound:
            if tags:
                self._report(ObjectKind.TAGS_LIST, "list", Fault.MISSING)
            return
        document = _document(raw)
        named = _texts(document.get("tags"))
        if document.get("name") != self.repository.name or sorted(named) != tags:
            detail = f"{len(set(named) ^ set(tags))} tags are wrong or missing"
            self._report(ObjectKind.TAGS_LIST, "list", Fault.LIST, detail if named else "damaged")
        elif self.depth.in_order and named != tags:
            self._report(ObjectKind.TAGS_LIST, "list", Fault.LIST, "it is not in lexical order")
        elif entry.content_type != _JSON:
            self._report(ObjectKind.TAGS_LIST, "list", Fault.TYPE, f"{entry.content_type or 'none'} instead of {_JSON}")

    async def _check_referrers(self) -> None:
        """Every manifest has a list, and it names exactly what refers to it; no other has one."""
        kept = {Digest(entry.reference) async for entry in self.repository.list_objects(ObjectKind.REFERRERS)}
        here = {Digest(text) for text in self._manifests}
        await for_each(sorted(here - self._asked), self._read_subject, self.depth.workers)
        for digest in sorted(kept - here - self._subjects.keys()):
            self._report(ObjectKind.REFERRERS, digest, Fault.LIST, "its manifest is not there")
        await for_each(sorted(here | self._subjects.keys()), self._check_referrers_of, self.depth.workers)

    async def _read_subject(self, digest: Digest) -> None:
        try:
            _, raw = await self.repository.read(ObjectKind.MANIFEST, digest)
        except OcisyncError:
            return  # no tag needs it
        self._note_subject(digest, raw)

    async def _check_referrers_of(self, digest: Digest) -> None:
        try:
            entry, raw = await self.repository.read(ObjectKind.REFERRERS, digest)
        except NotFound:
            self._report(ObjectKind.REFERRERS, digest, Fault.MISSING)
            return
        if raw != format_referrers(self._subjects.get(digest, {})):
            self._report(
                ObjectKind.REFERRERS, digest, Fault.LIST, "it does not name exactly what refers to its manifest"
            )
        elif entry.content_type != media_types.OCI_INDEX:
            self._report(
                ObjectKind.REFERRERS, digest, Fault.TYPE, f"{entry.content_type or 'none'} instead of an index's"
            )


def _document(raw: bytes) -> Mapping[str, object]:
    """A list's JSON object; empty when it is damaged."""
    try:
        document = load_json(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _texts(listed: object) -> list[str]:
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
