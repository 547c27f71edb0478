"""Judge the images of a job before any of them is copied: their signatures, and their age.

What is judged is the digest that was resolved, and exactly that is copied. Where a view changes digests, the image that
it was made from is judged. An error of a registry is an error, never a missing signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ocisync.content.capabilities import DerivedSource
from ocisync.content.repository import Fetcher, Source
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.image_facts import ImageFacts, SmallContent
from ocisync.sync.judging.acceptance import (
    Acceptance,
    ImageDates,
    Judgement,
    SignatureVerdict,
    decide_acceptance,
)
from ocisync.sync.ledger import Ledger
from ocisync.sync.reports import Failure

NOTHING_CARRIED: Mapping[Digest, str] = {}


@dataclass(slots=True)
class CheckedImages:
    """What signatures say of images, by digest, and of which images they could not be read."""

    verdicts: dict[Digest, SignatureVerdict] = field(default_factory=dict)
    failures: dict[Digest, Failure] = field(default_factory=dict)
    unchanged: set[Digest] = field(default_factory=set)  # whose verdicts lack the signatures: they are carried already


class SignatureChecker(Protocol):
    """Finds and checks signatures by a rule's policies; `trust` makes it real."""

    async def check(
        self,
        source: Source,
        images: Collection[Descriptor],
        anew: Collection[Digest],
        tags: Sequence[str],
        carried: Mapping[Digest, str] = NOTHING_CARRIED,
    ) -> CheckedImages:
        """Check images. `anew`: these are looked at again, whatever is on record of them.

        `tags` are all tags of the source, where they were listed; empty: they were not. `carried`: fingerprints of the
        signatures that images have at the target; where just these convinced, nobody wants to have them again.
        """
        ...

    def with_kept(self, source: Fetcher) -> Fetcher:
        """The source, but that what was read to check signatures is not read again."""
        ...


OpenChecker = Callable[[Acceptance, str, Ledger], Awaitable[SignatureChecker]]
"""Makes a checker of a rule's policies for a repository; the name is empty for what is in no registry."""


@dataclass(slots=True)
class JudgedImages:
    """What is to be done about tags, and which could not be judged."""

    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unchanged: set[Digest] = field(default_factory=set)  # images that are at the target with what convinced


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides which images of a job may be taken."""

    wanted: Acceptance
    source: Source
    name: str  # of the source, under which the ledger remembers when images were first seen
    ledger: Ledger
    checker: SignatureChecker | None  # None: signatures do not matter
    workers: int

    async def judge(
        self,
        roots: Mapping[str, Descriptor],
        fresh: Collection[str],
        now: float,
        due: Collection[str] = (),
        tags: Sequence[str] = (),
        carried: Mapping[Digest, str] = NOTHING_CARRIED,
    ) -> JudgedImages:
        """Judge what tags point at.

        `fresh`: tags that the target does not have so, whose age matters. `due`: those whose signatures are looked at
        again. `carried`: fingerprints of the signatures that images have at the target, where all of their tags are
        right there. `now` in seconds since the epoch.
        """
        found = JudgedImages()
        base, origins = find_origins(self.source, roots)
        checked = CheckedImages()
        if self.checker is not None:
            anew = {origins[tag].digest for tag in due if tag in origins}
            images = {root.digest: root for root in origins.values()}
            if base is not self.source:  # a view may hide tags, and changes digests
                tags, carried = (), {}
            checked = await self.checker.check(base, images.values(), anew, tags, carried)
        dates = await self._find_dates({tag: origins[tag] for tag in fresh if tag in origins}, base, now, found)
        if checked.failures:
            failed = {tag: checked.failures.get(origin.digest) for tag, origin in origins.items()}
            found.failures = {tag: failure for tag, failure in failed.items() if failure} | found.failures
        found.unchanged = checked.unchanged
        judgements, verdicts = found.judgements, checked.verdicts
        others: dict[int, Judgement] = {}  # of what is not fresh, by the verdict's identity: many images share one
        for tag, origin in origins.items():
            if tag in found.failures:
                continue
            verdict = verdicts.get(origin.digest)
            if tag in fresh:
                date = dates.get(tag, ImageDates())
                judgements[tag] = decide_acceptance(self.wanted, verdict, date, now, is_fresh=True)
            elif (judgement := others.get(id(verdict))) is not None:
                judgements[tag] = judgement
            else:
                judgement = decide_acceptance(self.wanted, verdict, ImageDates(), now, is_fresh=False)
                judgements[tag] = others[id(verdict)] = judgement
        return found

    async def _find_dates(
        self, roots: Mapping[str, Descriptor], base: Source, now: float, found: JudgedImages
    ) -> dict[str, ImageDates]:
        """What is known of the ages of images that are new to the target."""
        seen: Mapping[str, float] = {}
        created: Mapping[Digest, float | None] = {}
        if self.wanted.is_dated and roots:
            seen, is_first = await self.ledger.record_seen(
                self.name, {tag: root.digest for tag, root in roots.items()}, now
            )
            if is_first:
                found.warnings.append(
                    f"{self.name}: nothing is on record of when its images were first seen, so their ages begin now"
                )
        if self.wanted.min_age and self.wanted.age_of == "created" and roots:
            facts = ImageFacts(SmallContent(base), self.ledger, self.workers)
            created, failures = await facts.find_dates(list(roots.values()))
            for tag, root in roots.items():
                if root.digest in failures:
                    found.failures[tag] = failures[root.digest]
        return {tag: ImageDates(seen.get(tag), created.get(root.digest)) for tag, root in roots.items()}


def find_origins(source: Source, roots: Mapping[str, Descriptor]) -> tuple[Source, Mapping[str, Descriptor]]:
    """The source without views, and what it has in place of each root."""
    while isinstance(source, DerivedSource):
        view = source
        roots = {tag: view.find_origin(root) for tag, root in roots.items()}
        source = view.source
    return source, roots
