"""What a job is about: the source's tags that its rule means, with what they point at.

Names decide first; dates, platforms and sizes are looked up only when the rule asks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ocisync.content.concurrency import for_each
from ocisync.content.meter import charged_to
from ocisync.content.protocols import Converter, Source
from ocisync.errors import OcisyncError
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.spec.platform import Platform
from ocisync.spec.platform_choice import PlatformChoice
from ocisync.spec.referrers import is_list_tag
from ocisync.sync.image_facts import ImageFacts, SmallContent
from ocisync.sync.job import Job
from ocisync.sync.ledger import Ledger
from ocisync.sync.reports import Failure, failure_of
from ocisync.sync.select import Selected, candidates, select

FEW_TAGS = 3  # so few are asked for one by one: that is cheaper than a listing
MANY_TAGS = 100  # of more, no manifests are held: memory stays bounded


@dataclass(slots=True)
class Chosen:
    """Target tags: their source references, and what these point at or why nobody can tell."""

    references: dict[str, str] = field(default_factory=dict)
    roots: dict[str, Descriptor] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    listed: Sequence[str] = ()  # all of the source's tags, where anything depends on them

    def leave_out(self, tags: Collection[str]) -> None:
        """Take tags out again."""
        for tag in tags:
            del self.references[tag], self.roots[tag]


async def choose(job: Job, source: Source, ledger: Ledger, now: float, workers: int) -> Chosen:
    """Select; `now` in seconds since the epoch. Only single tags may fail.

    Raises:
        OcisyncError: the source's tags cannot be listed.
    """
    content = SmallContent(source)
    choosing = _Choosing(job, source, ImageFacts(content, ledger, workers), now)
    chosen = await choosing.by_name_and_date()
    if not chosen.references:
        chosen.warnings.append(f"{job.source}: no tag fits the rule's selection")
    if not isinstance(source, Converter):
        await choosing.by_platform(chosen)
        await choosing.by_size(chosen)
        if len(chosen.roots) <= MANY_TAGS:
            chosen.roots = {tag: _with_content(root, content) for tag, root in chosen.roots.items()}
    return chosen


def _with_content(root: Descriptor, content: SmallContent) -> Descriptor:
    """A root with the bytes that were read already: a copy need not ask for them again."""
    data = content.held.get(root.digest)
    return root if data is None or root.data is not None else root.with_data(data)


@dataclass
class _Choosing:
    job: Job
    source: Source
    facts: ImageFacts
    now: float
    _listed: Sequence[str] = ()
    _resolved: dict[str, Descriptor] = field(default_factory=dict)  # by source reference
    _failed: dict[str, Failure] = field(default_factory=dict)

    async def by_name_and_date(self) -> Chosen:
        selected = await self._selected()
        references = dict(selected.references)
        await self._resolve([one for one in references.values() if one not in self._failed])
        failures = {tag: self._failed[one] for tag, one in references.items() if one in self._failed}
        roots = {
            tag: self._resolved[one] for tag, one in references.items() if one in self._resolved and tag not in failures
        }
        return Chosen(references, roots, failures, list(selected.warnings), self._listed)

    async def _selected(self) -> Selected:
        """Tags whose date cannot be looked up count as selected, so that they are told as failed."""
        selection = self.job.tags
        if selection.needs_listing or self.job.care.prune or self._has_digest_tags():
            self._listed = await self.source.tags()
        offered = self._offered()
        asked = candidates(selection, offered)
        dates = await self._dates(asked)
        selected = select(selection, offered, dates, self.now)
        failed = {selection.rename.of(tag): tag for tag in asked if tag in self._failed}
        return replace(selected, references={**failed, **selected.references})

    def _has_digest_tags(self) -> bool:
        """Whether a listing is cheaper than asking for the digest tags of each image."""
        return self.job.referrers.digest_tags and len(self.job.tags.literal or ()) > FEW_TAGS

    def _offered(self) -> Sequence[str]:
        """The tags to select from: lists of referrers go along with their subjects, or are made at the target."""
        if not self.job.referrers.referrers:
            return self._listed
        return [tag for tag in self._listed if not is_list_tag(tag)]

    async def _dates(self, tags: Collection[str]) -> Mapping[str, float | None]:
        await self._resolve(tags)
        dates, failures = await self.facts.created(self._resolved.values())
        self._failed |= {tag: failures[root.digest] for tag, root in self._resolved.items() if root.digest in failures}
        return {tag: dates[root.digest] for tag, root in self._resolved.items() if root.digest in dates}

    async def _resolve(self, references: Collection[str]) -> None:
        is_held = len(references) <= MANY_TAGS
        selection = self.job.tags
        names = {reference: tag for tag, reference in (selection.literal or {}).items()}

        async def resolve(reference: str) -> None:
            try:
                with charged_to([names.get(reference) or selection.rename.of(reference)]):
                    root = await self.source.resolve(reference)
            except OcisyncError as exc:
                self._failed[reference] = failure_of(exc)
            else:
                self._resolved[reference] = root if is_held or root.data is None else replace(root, data=None)

        if not isinstance(self.source, Converter):
            unknown = dict.fromkeys(one for one in references if one not in self._resolved)
            await for_each(unknown, resolve, self.facts.workers)

    async def by_platform(self, chosen: Chosen) -> None:
        choice = self.job.platforms
        if not choice.platforms:
            return
        platforms, failures = await self.facts.platforms(chosen.roots.values())
        self._fail(chosen, failures)
        others = {
            tag: offered
            for tag, root in chosen.roots.items()
            if (offered := unwanted(platforms[root.digest], choice)) is not None
        }
        chosen.leave_out(others)
        if others:
            wanted = ", ".join(map(str, choice.platforms))
            chosen.warnings.append(f"{self.job.source}: left out, as they have no image for {wanted}: {told(others)}")

    async def by_size(self, chosen: Chosen) -> None:
        if not self.job.largest:
            return
        sizes, failures = await self.facts.largest(chosen.roots.values(), self.job.platforms)
        self._fail(chosen, failures)
        most = self.job.largest
        large = {tag: f"{size} bytes" for tag, root in chosen.roots.items() if (size := sizes[root.digest]) > most}
        chosen.leave_out(large)
        if large:
            chosen.warnings.append(f"{self.job.source}: left out, as they are larger than {most} bytes: {told(large)}")

    def _fail(self, chosen: Chosen, failures: Mapping[Digest, Failure]) -> None:
        for tag, root in list(chosen.roots.items()):
            if root.digest in failures:
                chosen.failures[tag] = failures[root.digest]
                del chosen.roots[tag]


def unwanted(platforms: Collection[Platform | None], choice: PlatformChoice) -> str | None:
    """What an image offers when nothing of it is wanted; None when something is."""
    if any(choice.wants(platform) for platform in platforms):
        return None
    return ", ".join(dict.fromkeys(str(platform) for platform in platforms)) or "nothing"


def told(tags: Mapping[str, str], most: int = 5) -> str:
    """The first few tags, each with what is to be said of it."""
    shown = [f"{tag} ({reason})" for tag, reason in list(tags.items())[:most]]
    return ", ".join(shown) + (f" and {len(tags) - most} more" if len(tags) > most else "")
