"""Repair: bring again what a verification found missing or damaged, from wherever it is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ocisync.content.object_store import ObjectKind
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Fetcher, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import OcisyncError
from ocisync.maintenance.findings import Fault, Finding, Verified
from ocisync.maintenance.protocols import MaintainedRegistry, MaintainedRepository
from ocisync.maintenance.verify import Depth, verify
from ocisync.model.descriptor import Descriptor
from ocisync.model.media_types import OCI_INDEX, OCTET_STREAM

log = structlog.get_logger()

Origins = Callable[[str], AbstractAsyncContextManager[Sequence[Source]]]
"""The sources from which a repository is filled, by its name."""

_ROUNDS = 4
_CONTENT = (Fault.MISSING, Fault.SIZE, Fault.DAMAGED, Fault.UNREADABLE)


@asynccontextmanager
async def no_origins(_: str) -> AsyncIterator[Sequence[Source]]:
    """No repository has a source."""
    yield ()


@dataclass(frozen=True, slots=True)
class Repair:
    """Mends one registry."""

    registry: MaintainedRegistry
    origins: Origins = no_origins

    async def run(self, report: Verified) -> None:
        """Mend what can be mended; each finding then says whether it was."""
        by_repository: dict[str, list[Finding]] = {}
        for finding in report.findings:
            by_repository.setdefault(finding.repository, []).append(finding)
        for name, findings in by_repository.items():
            try:
                await self._repair_repository(name, findings)
            except OcisyncError as exc:
                log.warning("repository.unrepaired", repository=name, code=exc.code, error=exc.message)

    async def _repair_repository(self, name: str, findings: Sequence[Finding]) -> None:
        if not name:
            await self.registry.rebuild_derived()
            _set_repaired(findings)
            return
        repository = self.registry.repository(name)
        async with self.origins(name) as sources:
            for kind in (ObjectKind.BLOB, ObjectKind.MANIFEST, ObjectKind.TAG):
                for finding in findings:
                    if finding.kind is kind:
                        finding.repaired = await self._repair_object(repository, finding, sources)
        lists = [finding for finding in findings if finding.kind in (ObjectKind.TAGS_LIST, ObjectKind.REFERRERS)]
        for finding in lists:
            if finding.fault is Fault.TYPE and finding.kind is ObjectKind.REFERRERS:
                await repository.set_content_type(finding.kind, finding.reference, OCI_INDEX)
        await repository.rebuild_derived()
        _set_repaired(lists)

    async def _repair_object(
        self, repository: MaintainedRepository, finding: Finding, sources: Sequence[Source]
    ) -> bool:
        try:
            if finding.kind is ObjectKind.TAG:
                return await self._repair_tag(repository, finding, sources)
            if finding.fault is Fault.TYPE and finding.desc is not None:
                is_blob = finding.kind is ObjectKind.BLOB
                await repository.set_content_type(
                    finding.kind, finding.reference, OCTET_STREAM if is_blob else finding.desc.media_type
                )
                return True
            if await self._restore_damaged_tag(repository, finding, sources):
                return True
            if finding.fault in _CONTENT and finding.desc is not None:
                return await self._restore(repository, finding.desc, sources)
        except OcisyncError as exc:
            log.warning("object.unrepaired", repository=repository.name, digest=finding.reference, error=exc.message)
        return False

    async def _repair_tag(self, repository: MaintainedRepository, finding: Finding, sources: Sequence[Source]) -> bool:
        """Write a tag again: with its own type, or where its bytes are damaged, as its source has it."""
        if finding.fault is Fault.TYPE:
            root = await repository.store.resolve(finding.reference)
            await repository.set_content_type(ObjectKind.TAG, finding.reference, root.media_type)
            return True
        for source in sources:
            if await _publish_again(repository, finding.reference, source):
                return True
        return False

    async def _restore_damaged_tag(
        self, repository: MaintainedRepository, finding: Finding, sources: Sequence[Source]
    ) -> bool:
        """Whether a tag's bytes, which no digest key has, were damaged, and are now what the source says."""
        if finding.desc is None or finding.desc.data is None or finding.fault is not Fault.MISSING:
            return False
        for source in sources:
            root = await source.resolve(finding.tags[0])
            is_here = await repository.stat(ObjectKind.MANIFEST, root.digest) is not None
            if root.digest != finding.desc.digest and is_here:
                return await _publish_again(repository, finding.tags[0], source)
        return False

    async def _restore(self, repository: MaintainedRepository, desc: Descriptor, sources: Sequence[Source]) -> bool:
        if desc.data is not None:
            await repository.store.push(desc, BytesOpener(desc.data))
            return True
        async for source in self._siblings(repository.name, desc):
            if await _push_from(repository, desc, source):
                return True
        for source in sources:
            if await _push_from(repository, desc, source):
                return True
        return False

    async def _siblings(self, name: str, desc: Descriptor) -> AsyncIterator[Fetcher]:
        """Other repositories of the registry that hold content of this digest and size."""
        kind = ObjectKind.MANIFEST if desc.is_manifest else ObjectKind.BLOB
        async for other in self.registry.list_repositories():
            found = await self.registry.repository(other).stat(kind, desc.digest) if other != name else None
            if found is not None and found.size == desc.size:
                yield self.registry.repository(other).store


async def _publish_again(repository: MaintainedRepository, tag: str, source: Source) -> bool:
    """Whether a tag is now what a source says."""
    try:
        root = await source.resolve(tag)
        await repository.store.publish({tag: root.with_data(await read_manifest(source, root))})
    except OcisyncError:
        return False
    return True


async def _push_from(repository: MaintainedRepository, desc: Descriptor, source: Fetcher) -> bool:
    """Whether content came from a source; a push is verified, so that damaged bytes replace nothing."""
    try:
        await repository.store.push(desc, partial(source.open, desc))
    except OcisyncError:
        return False
    return True


def _set_repaired(findings: Sequence[Finding]) -> None:
    for finding in findings:
        finding.repaired = True


async def verify_and_repair(registry: MaintainedRegistry, depth: Depth, origins: Origins, within: str = "") -> Verified:
    """Verify, mend what can be mended, and look again: what was mended may need more.

    Blobs are read in the first look only; what is mended was verified while it was written.
    """
    report = await verify(registry, depth, within)
    if not report.findings:
        return report
    shallow = replace(depth, deep=False)
    for _ in range(_ROUNDS):
        await Repair(registry, origins).run(report)
        again = await verify(registry, shallow, within)
        known = {finding.key for finding in report.findings}
        left = {finding.key for finding in again.findings}
        for finding in report.findings:
            finding.repaired = finding.repaired and finding.key not in left
        fresh = [finding for finding in again.findings if finding.key not in known]
        report.findings.extend(fresh)
        if not fresh:
            break
    return report
