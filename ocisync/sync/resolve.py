"""What a job is about: the source's tags that its rule means, with what they point at.

Names decide first; dates, platforms and sizes are looked up only when the rule asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import filterfalse

from ocisync.content.capabilities import Converter, RemoteResolver
from ocisync.content.concurrency import for_each
from ocisync.content.cost import attribute_cost
from ocisync.content.repository import Source
from ocisync.errors import NotFound, OcisyncError, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import is_digest_tag, is_list_tag
from ocisync.model.platform import Platform
from ocisync.model.platform_filter import PlatformChoice
from ocisync.model.text.name_list import NameList
from ocisync.sync.image_facts import ImageFacts, SmallContent
from ocisync.sync.job import Job
from ocisync.sync.ledger import Ledger
from ocisync.sync.reports import Failure, describe_failure
from ocisync.sync.select import Selected, list_candidates, select

FEW_TAGS = 3  # so few are asked for one by one: that is cheaper than a listing
_MANY_TAGS = 100  # of more, what was read to choose is not kept for the copy
_ROOM = 1024 * 1024  # bytes of manifests that are kept for the copy because they came with their tags


@dataclass(slots=True)
class ResolvedTags:
    """Target tags: their source references, and what these point at or why nobody can tell."""

    references: dict[str, str] = field(default_factory=dict)
    roots: dict[str, Descriptor] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    listed: Sequence[str] = ()  # all of the source's tags, where anything depends on them
    settled: Collection[str] = ()  # tags that never move, of which nothing was asked

    def leave_out(self, tags: Collection[str]) -> None:
        """Take tags out again."""
        for tag in tags:
            del self.references[tag], self.roots[tag]


class TagResolver:
    """Selects tags by their names, then resolves them: two steps, between which the survey looks at the target.

    What the target lacks is asked for with a GET that brings the manifest along, what it has with a HEAD. Facts about
    images (dates, platforms, sizes) are looked up only where the rule asks for them.
    """

    def __init__(
        self,
        job: Job,
        source: Source,
        ledger: Ledger,
        now: float,
        workers: int,
        known: Mapping[str, Descriptor],
    ) -> None:
        """`now` in seconds since the epoch; `known`: what target tags were seen to point at, and may still."""
        self._job = job
        self._source = source
        self._remote = source if isinstance(source, RemoteResolver) else None
        self._is_converted = isinstance(source, Converter)  # what its tags point at, only a conversion tells
        self._content: SmallContent | None = None  # kept because it was read to choose
        self._ledger = ledger
        self._workers = workers
        self._now = now
        self._known = known
        self._listed: Sequence[str] = ()
        self._resolved: dict[str, Descriptor] = {}  # by source reference
        self._failed: dict[str, Failure] = {}
        self._room = _ROOM
        self._settled: set[str] = set()

    async def select(self) -> Selected:
        """The tags that the rule means, by name and date. Those whose date cannot be looked up count as selected.

        Raises:
            OcisyncError: the source's tags cannot be listed.
        """
        selection = self._job.tags
        is_listed = selection.literal is None and selection.needs_listing
        if is_listed or self._job.policy.prune:
            self._listed = await self._source.tags()
        elif self._has_digest_tags():  # it only saves asking for each of them
            with suppress(NotFound, RegistryError):
                self._listed = await self._source.tags()
        # Nobody signs signatures: where a rule demands some, those that convince come along, and no others as images.
        if selection.literal is not None:  # no conditions: nothing else decides
            named = {**selection.literal, **selection.pinned}
            images = {tag: one for tag, one in named.items() if not is_digest_tag(tag)}
            return Selected(images if images and self._job.wants_signatures else named)
        offered = self._listed
        if self._job.wants_signatures:
            offered = NameList(filterfalse(is_digest_tag, offered))
        elif self._job.referrers.referrers:  # lists of referrers go along with subjects, or are made at the target
            offered = NameList(filterfalse(is_list_tag, offered))
        asked = list_candidates(selection, offered)
        dates = await self._find_dates(asked) if asked else {}
        selected = select(selection, offered, dates, self._now)
        failed = {selection.rename_tag(tag): tag for tag in asked if tag in self._failed}
        return replace(selected, references={**failed, **selected.references})

    async def resolve(
        self, selected: Selected, absent: Collection[str] = (), needed: Collection[str] = ()
    ) -> ResolvedTags:
        """What the selected tags point at, and which of them the rule means for that; only single tags may fail.

        `absent`: target tags that there are not yet, so that their manifests are wanted; `needed`: those that will be
        written whatever they are now.
        """
        references, found, failed = dict(selected.references), self._resolved, self._failed
        await self._look_up_all([one for one in references.values() if one not in failed], absent, needed)
        failures = {tag: failed[one] for tag, one in references.items() if one in failed} if failed else {}
        roots = {tag: found[one] for tag, one in references.items() if one in found and one not in failed}
        resolved = ResolvedTags(
            references, roots, failures, list(selected.warnings), self._listed, self._settled & roots.keys()
        )
        if not references:
            resolved.warnings.append(f"{self._job.source}: no tag matches the rule's selection")
        if not self._is_converted:
            await self._drop_by_platform(resolved)
            await self._drop_by_size(resolved)
            if self._content is not None and len(resolved.roots) <= _MANY_TAGS:
                resolved.roots = {tag: self._with_content(root) for tag, root in resolved.roots.items()}
        return resolved

    def _facts(self) -> ImageFacts:
        """What is to be known of images; what is read for it is kept for the copy."""
        self._content = self._content or SmallContent(self._source)
        return ImageFacts(self._content, self._ledger, self._workers)

    def _has_digest_tags(self) -> bool:
        """Whether a listing is cheaper than asking for the digest tags of each image."""
        return self._job.referrers.digest_tags and len(self._job.tags.literal or ()) > FEW_TAGS

    async def _find_dates(self, tags: Collection[str]) -> Mapping[str, float | None]:
        await self._look_up_all(tags)
        dates, failures = await self._facts().find_dates(self._resolved.values())
        self._failed |= {tag: failures[root.digest] for tag, root in self._resolved.items() if root.digest in failures}
        return {tag: dates[root.digest] for tag, root in self._resolved.items() if root.digest in dates}

    async def _look_up_all(
        self, references: Collection[str], absent: Collection[str] = (), needed: Collection[str] = ()
    ) -> None:
        selection = self._job.tags
        names = {reference: tag for tag, reference in (selection.literal or {}).items()}

        async def resolve(reference: str) -> None:
            tag = names.get(reference) or selection.rename_tag(reference)
            known = self._known.get(tag)
            try:
                with attribute_cost([tag]):
                    if self._remote is not None and tag in needed:
                        root = await self._remote.resolve_with_manifest(reference, is_needed=True)
                    else:
                        root = await self._look_up(reference, known, is_wanted=tag in absent)
            except OcisyncError as exc:
                self._failed[reference] = describe_failure(exc)
            else:
                self._resolved[reference] = self._keep_bytes(root)

        if self._is_converted:
            return
        unknown = [one for one in dict.fromkeys(references) if one not in self._resolved]
        if self._job.immutable:
            unknown = self._take_settled(unknown, names, absent)
        if unknown:
            await for_each(unknown, resolve, self._workers)

    def _take_settled(self, references: Sequence[str], names: Mapping[str, str], absent: Collection[str]) -> list[str]:
        """Take tags that never move for what they are known to be, where the target has them; the rest comes back."""
        rest: list[str] = []
        never, rename = compile_any(self._job.immutable).fullmatch, self._job.tags.rename_tag
        for reference in references:
            tag = names.get(reference) or rename(reference)
            known = self._known.get(tag)
            if known is not None and tag not in absent and never(reference):
                self._settled.add(tag)
                self._resolved[reference] = known
            else:
                rest.append(reference)
        return rest

    async def _look_up(self, reference: str, known: Descriptor | None, *, is_wanted: bool) -> Descriptor:
        if self._remote is None:
            return await self._source.resolve(reference)
        if is_wanted and self._room > 0:
            return await self._remote.resolve_with_manifest(reference)
        if known is not None:
            return await self._remote.revalidate(reference, known)
        return await self._remote.resolve(reference)

    def _keep_bytes(self, root: Descriptor) -> Descriptor:
        """A root with its bytes only while there is room for them: memory stays bounded."""
        if root.data is None:
            return root
        self._room -= len(root.data)
        return root if self._room >= 0 else replace(root, data=None)

    def _with_content(self, root: Descriptor) -> Descriptor:
        """A root with the bytes that were read to choose it: a copy need not ask for them again."""
        data = self._content.held.get(root.digest) if self._content else None
        return root if data is None or root.data is not None else root.with_data(data)

    async def _drop_by_platform(self, resolved: ResolvedTags) -> None:
        choice = self._job.platforms
        if not choice.platforms:
            return
        platforms, failures = await self._facts().find_platforms(resolved.roots.values())
        self._report_failures(resolved, failures)
        others = {
            tag: offered
            for tag, root in resolved.roots.items()
            if (offered := describe_unwanted(platforms[root.digest], choice)) is not None
        }
        resolved.leave_out(others)
        if others:
            wanted = ", ".join(map(str, choice.platforms))
            resolved.warnings.append(
                f"{self._job.source}: left out, as they have no image for {wanted}: {list_some(others)}"
            )
        self._warn_of_lacking(resolved, platforms)

    def _warn_of_lacking(self, resolved: ResolvedTags, platforms: Mapping[Digest, Collection[Platform | None]]) -> None:
        """Name the wanted platforms that images lack, when they come: what the target has already was told before."""
        lacking: dict[str, str] = {}
        for tag, root in resolved.roots.items():
            known = self._known.get(tag)
            if known is not None and known.digest == root.digest:
                continue
            if missing := self._job.platforms.find_missing(platforms[root.digest]):
                lacking[tag] = f"no {', '.join(map(str, missing))}"
        if lacking:
            resolved.warnings.append(f"{self._job.source}: some platforms are missing: {list_some(lacking)}")

    async def _drop_by_size(self, resolved: ResolvedTags) -> None:
        if not self._job.largest:
            return
        sizes, failures = await self._facts().measure_largest(resolved.roots.values(), self._job.platforms)
        self._report_failures(resolved, failures)
        most = self._job.largest
        large = {tag: f"{size} bytes" for tag, root in resolved.roots.items() if (size := sizes[root.digest]) > most}
        resolved.leave_out(large)
        if large:
            resolved.warnings.append(
                f"{self._job.source}: left out, as they are larger than {most} bytes: {list_some(large)}"
            )

    def _report_failures(self, resolved: ResolvedTags, failures: Mapping[Digest, Failure]) -> None:
        for tag, root in list(resolved.roots.items()):
            if root.digest in failures:
                resolved.failures[tag] = failures[root.digest]
                del resolved.roots[tag]


def compile_any(expressions: Sequence[str]) -> re.Pattern[str]:
    """One expression that matches what any of these matches; nothing where there are none."""
    return re.compile("|".join(f"(?:{one})" for one in expressions) or r"(?!)")


def describe_unwanted(platforms: Collection[Platform | None], choice: PlatformChoice) -> str | None:
    """What an image offers when nothing of it is wanted; None when something is."""
    if any(choice.wants(platform) for platform in platforms):
        return None
    return ", ".join(dict.fromkeys(str(platform) for platform in platforms)) or "nothing"


def list_some(tags: Mapping[str, str], most: int = 5) -> str:
    """The first few tags, each with what is to be said of it."""
    shown = [f"{tag} ({reason})" for tag, reason in list(tags.items())[:most]]
    return ", ".join(shown) + (f" and {len(tags) - most} more" if len(tags) > most else "")
