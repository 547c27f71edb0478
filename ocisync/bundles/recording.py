"""What a mirror would hold, found out without fetching a single blob.

A bundle must hold exactly what a direct mirror would write: platforms that are left out, referrers, cosign's tags and
converted manifests included. So the same job runs that would run for the mirror, into a target that keeps manifests and
only notes blobs. They are read later, once, in the order in which they are written.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from ocisync.bundles.inventory import BLOB
from ocisync.content.concurrency import for_each
from ocisync.content.digest_table import SizedBlobs
from ocisync.content.files import FileSection, Spool
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener, Source, Target
from ocisync.content.threads import run_file
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, OcisyncError, SizeMismatch
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import Locator, TargetLocator
from ocisync.model.manifest import parse_manifest
from ocisync.sync.context import JobContext
from ocisync.sync.job import Job, WritePolicy
from ocisync.sync.ledger import Ledger, MemoryLedger, Published
from ocisync.sync.presence import BlobInfoCache
from ocisync.sync.reports import JobReport, Verdict
from ocisync.sync.run import run_job

_JOBS = 4  # at a time
_BUNDLE = "bundle"  # the name of the target in logs and reports
_POLICY = WritePolicy(prune=True, prune_limit=1.0)


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A manifest that the mirror would hold."""

    media_type: str
    children: Sequence[int]  # by number
    subject: int | None


@dataclass(slots=True)
class RepositoryRecord:
    """One repository of the mirror."""

    name: str
    job: int  # its place among the recorded jobs
    tags: dict[str, Digest] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)  # by number; 1: is in it. Known while its job runs
    referring: set[int] = field(default_factory=set)  # manifests that have a subject
    omitted: dict[Digest, Sequence[Digest]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # tags of the base that a mirror would prune
    report: JobReport | None = None

    @property
    def is_unlisted(self) -> bool:
        """Whether not even its tags are known."""
        return self.report is None or self.report.failure is not None

    @property
    def failed_tags(self) -> set[str]:
        """Tags that stay as they are: the source could not be read, or the rule does not take what it has now."""
        done = (Verdict.COPIED, Verdict.UNCHANGED, Verdict.PRUNED)
        return {tag.tag for tag in self.report.tags if tag.verdict not in done} if self.report else set()


@dataclass(slots=True)
class Recording:
    """Everything that the rules would mirror."""

    spool: Spool  # manifests
    repositories: list[RepositoryRecord] = field(default_factory=list)
    blobs: SizedBlobs = field(default_factory=SizedBlobs)  # everything, manifests too
    homes: array[int] = field(default_factory=lambda: array("i"))  # by number: the job whose source has it, or -1
    manifests: dict[int, ManifestRecord] = field(default_factory=dict)
    foreign: dict[Digest, Descriptor] = field(default_factory=dict)  # layers that may be elsewhere
    kept: dict[Digest, int] = field(default_factory=dict)  # offset in the spool
    base_tags: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by repository, what the other side has
    broken: Mapping[Digest, OcisyncError] = field(default_factory=dict)  # blobs that could not be read before

    def note(self, desc: Descriptor) -> int:
        """Take note of content; its number.

        Raises:
            SizeMismatch: another manifest gives it another size.
        """
        number = self.blobs.note(desc.digest, desc.size)
        if (known := self.blobs.sizes[number]) != desc.size:
            raise SizeMismatch(f"{desc.digest}: {desc.size} bytes here, and {known} elsewhere in the bundle")
        return number

    def set_home(self, number: int, job: int) -> None:
        """Take note of where a blob can be read, unless that is known."""
        if number >= len(self.homes):
            self.homes.extend([-1] * (len(self.blobs.sizes) - len(self.homes)))
        if self.homes[number] < 0:
            self.homes[number] = job

    def home(self, digest: Digest) -> int:
        """The job whose source has a blob."""
        return self.homes[self.blobs.mention(digest)]

    def media_type(self, digest: Digest) -> str:
        """Of a manifest; empty: it is a blob."""
        number = self.blobs.digests.find(digest)
        record = None if number is None else self.manifests.get(number)
        return record.media_type if record is not None else ""

    async def keep(self, desc: Descriptor, data: bytes) -> None:
        """Keep bytes that are at hand."""
        if desc.digest not in self.kept:
            self.kept[desc.digest] = offset = self.spool.reserve(len(data))
            await run_file(partial(self.spool.write_at, offset, data))

    def section(self, digest: Digest) -> FileSection | None:
        """Where bytes are that were kept."""
        offset = self.kept.get(digest)
        return None if offset is None else FileSection(self.spool, offset, self.blobs.size(digest) or 0)


class RecordingTarget:
    """A Target that takes manifests and tags, and of blobs only their names. It stands for a static registry.

    So it is a CollectedTarget, too: what the engine tells such a target of images that are left out is a part of what
    the mirror would hold. It lists the tags of the base, so that the engine's own rules say which of them are to go.
    """

    tags_any_content = False
    stale_after = math.inf

    def __init__(self, recording: Recording, record: RepositoryRecord) -> None:
        self._all = recording
        self._record = record

    def __str__(self) -> str:
        return f"bundle:{self._record.name}"

    async def exists(self, desc: Descriptor) -> bool:
        """Whether this repository has it."""
        number = self._find(desc.digest)
        return number is not None and self._all.blobs.sizes[number] == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Note a blob, keep a manifest."""
        if (error := self._all.broken.get(desc.digest)) is not None:
            raise error
        if desc.is_manifest or isinstance(opener, BytesOpener):
            data = await read_manifest(_Opened(opener), desc)
            await self._keep(desc, data)
            return
        number = self._all.note(desc)
        self._all.set_home(number, self._record.job)
        if desc.is_elsewhere:
            self._all.foreign.setdefault(desc.digest, desc)
        self._put(number)

    async def resolve(self, reference: str) -> Descriptor:
        """Nothing can be looked up, so that every tag is brought."""
        raise NotFound(f"{self}: {reference}: not there")

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Nothing can be read."""
        del start
        raise NotFound(f"{self}: {desc.digest}: not there")

    async def tags(self) -> Sequence[str]:
        """The tags of the base."""
        return self._all.base_tags.get(self._record.name, ())

    async def untag(self, tags: Sequence[str]) -> None:
        """Take note of tags that are gone at the source."""
        self._record.gone.update(tags)

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Take tags with their manifests."""
        for tag, desc in tags.items():
            await self._keep(desc, desc.data or b"")
            self._record.tags[tag] = desc.digest

    def can_resume_upload(self, size: int) -> bool:
        """Nothing is uploaded."""
        del size
        return True

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        """They come with their tags."""

    async def touch(self, digest: Digest) -> bool:
        """Nothing grows old."""
        return self._find(digest) is not None

    async def record_missing_images(self, index: Digest, omitted: Sequence[Digest]) -> None:
        """Take note of what is left out of an index on purpose."""
        self._record.omitted[index] = tuple(omitted)

    async def _keep(self, desc: Descriptor, data: bytes) -> None:
        number = self._all.note(desc)
        await self._all.keep(desc, data)
        self._put(number)
        if not desc.is_manifest:
            return
        record = self._all.manifests.get(number)
        if record is None:
            manifest, mention = parse_manifest(data, desc.media_type), self._all.blobs.mention
            children = array("I", [mention(child.digest) for child in manifest.children])
            subject = mention(manifest.subject.digest) if manifest.subject else None
            self._all.manifests[number] = record = ManifestRecord(manifest.media_type, children, subject)
        if record.subject is not None:
            self._record.referring.add(number)

    def _find(self, digest: Digest) -> int | None:
        """The number of what this repository has."""
        number, content = self._all.blobs.digests.find(digest), self._record.content
        return number if number is not None and number < len(content) and content[number] else None

    def _put(self, number: int) -> None:
        content = self._record.content
        if number >= len(content):
            content.extend(bytes(len(self._all.blobs.sizes) - len(content)))
        content[number] = 1


@dataclass(frozen=True, slots=True)
class _Opened:
    opener: Opener

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The content, whatever is asked for."""
        del desc
        return self.opener(start)


@dataclass(frozen=True, slots=True)
class _RecordingStores:
    """Sources as they are; the target is the recording one."""

    open_source: Callable[[Locator], AbstractAsyncContextManager[Source]]
    recording: RecordingTarget

    def source(self, locator: Locator) -> AbstractAsyncContextManager[Source]:
        """The repository that a locator names."""
        return self.open_source(locator)

    @asynccontextmanager
    async def target(self, locator: TargetLocator) -> AsyncIterator[Target]:
        """Where the job records."""
        del locator
        yield self.recording


class _FactLedger(MemoryLedger):
    """What is known of images and their sources; of targets nothing, for the mirror is not looked at."""

    def __init__(self, known: Ledger) -> None:
        super().__init__()
        self._known = known

    async def record(
        self, target: str, repository: str, tags: Mapping[str, Published], blobs: Mapping[Digest, int]
    ) -> None:
        """Nothing was published."""

    async def record_seen(
        self, source: str, tags: Mapping[str, Digest], now: float
    ) -> tuple[Mapping[str, float], bool]:
        """When each tag was first seen."""
        return await self._known.record_seen(source, tags, now)

    async def get_facts(self, kind: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """What is known of content."""
        return await self._known.get_facts(kind, digests)

    async def put_facts(self, kind: str, facts: Mapping[Digest, str]) -> None:
        """Remember what was found out of content."""
        await self._known.put_facts(kind, facts)


async def record_jobs(jobs: Sequence[Job], context: JobContext, recording: Recording) -> None:
    """Find out what jobs would bring; their failures are in the reports."""
    recording.repositories = [RepositoryRecord(job.target.repository, number) for number, job in enumerate(jobs)]

    async def record(repository: RepositoryRecord) -> None:
        target = RecordingTarget(recording, repository)
        own = replace(
            context,
            stores=_RecordingStores(context.stores.source, target),
            ledger=_FactLedger(context.ledger),
            blob_info=BlobInfoCache(),
            spools=None,
        )
        target_name = TargetLocator(_BUNDLE, repository.name)
        job = replace(jobs[repository.job], target=target_name, policy=_POLICY, shares=(), is_partial=False)
        repository.report = await run_job(job, own)
        repository.content = bytearray()  # nobody asks any more

    await for_each(recording.repositories, record, _JOBS)


def describe(recording: Recording, digest: Digest) -> Descriptor:
    """A descriptor that a source opens."""
    foreign = recording.foreign.get(digest)
    return foreign or Descriptor(BLOB, digest, recording.blobs.size(digest) or 0)
