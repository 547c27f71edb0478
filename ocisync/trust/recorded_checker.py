"""Verdicts about signatures from the ledger, and a check of those images only of which nothing is on record there.

A verdict depends on the image's digest, on what signs it and on the policies, all of which are fixed once they are
known: so it is kept in the ledger under the digest and the policies' fingerprints, and an unchanged image costs neither
a request nor a computation. Most passes find nothing new: what checks signatures is loaded only when it is needed.

What is registered under a digest cannot be taken back here: a signature that is removed at the source, or a key that
is stolen, is noticed when the policy changes, or at the next full look (`recheck`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocisync.content.fact_cache import FactCache
from ocisync.content.repository import Fetcher, Source
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.judging.judge import CheckedImages
from ocisync.trust.verdict_records import format_verdict, parse_verdict

if TYPE_CHECKING:  # which needs keys and certificates
    from ocisync.trust.checker import PolicyChecker


@dataclass
class RecordedChecker:
    """A SignatureChecker that remembers."""

    kind: str  # of facts, under which verdicts are kept
    records: FactCache
    load: Callable[[], Awaitable[PolicyChecker]]
    _checker: PolicyChecker | None = field(default=None, init=False)

    async def check(
        self, source: Source, images: Collection[Descriptor], anew: Collection[Digest], tags: Sequence[str]
    ) -> CheckedImages:
        """Check images; what is on record of them is believed, but for those of `anew`."""
        stored = await self.records.get_facts(self.kind, [image.digest for image in images])
        known = {digest: one for digest, text in stored.items() if (one := parse_verdict(text)) is not None}
        settled = {digest: one.verdict for digest, one in known.items() if one.verdict.is_valid and digest not in anew}
        found = CheckedImages(settled)
        if rest := [image for image in images if image.digest not in settled]:
            self._checker = await self.load()
            checked, found.failures = await self._checker.check(source, rest, known, tags)
            found.verdicts |= {digest: one.verdict for digest, one in checked.items()}
            fresh = {digest: format_verdict(one) for digest, one in checked.items() if one != known.get(digest)}
            if fresh:
                await self.records.put_facts(self.kind, fresh)
        return found

    def with_kept(self, source: Fetcher) -> Fetcher:
        """The source, but that what was read to check signatures is not read again."""
        return self._checker.with_kept(source) if self._checker else source
