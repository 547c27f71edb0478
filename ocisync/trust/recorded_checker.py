"""Verdicts about signatures from the ledger, and a check of those images only of which nothing is on record there.

A verdict depends on the image's digest, on what signs it and on the policies, all of which are fixed once they are
known: so it is kept in the ledger under the digest and the policies' fingerprints, and an unchanged image costs neither
a request nor a computation. Most passes find nothing new: what checks signatures is loaded only when it is needed, and
of records no more is parsed than whether they say the same as what is at the target.

What is registered under a digest cannot be taken back here: a signature that is removed at the source, or a key that
is stolen, is noticed when the policy changes, or at the next full look (`recheck`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ocisync.content.fact_cache import FactCache
from ocisync.content.repository import Fetcher, Source
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.judging.judge import NOTHING_CARRIED, CheckedImages
from ocisync.trust.verdict_records import (
    StoredVerdict,
    find_said,
    format_verdict,
    is_old,
    parse_said,
    parse_verdict,
)

if TYPE_CHECKING:  # which needs keys and certificates
    from ocisync.trust.checker import PolicyChecker


class RecordedChecker:
    """A SignatureChecker that remembers."""

    def __init__(self, kind: str, records: FactCache, load: Callable[[], Awaitable[PolicyChecker]]) -> None:
        """`kind` of facts, under which verdicts are kept."""
        self.kind = kind
        self.records = records
        self.load = load
        self._checker: PolicyChecker | None = None
        self._said: dict[str, SignatureVerdict | None] = {}

    async def check(
        self,
        source: Source,
        images: Collection[Descriptor],
        anew: Collection[Digest],
        tags: Sequence[str],
        carried: Mapping[Digest, str] = NOTHING_CARRIED,
    ) -> CheckedImages:
        """Check images; what is on record of them is believed, but for those of `anew`."""
        stored = await self.records.get_facts(self.kind, [image.digest for image in images])
        found = CheckedImages()
        known: dict[Digest, StoredVerdict] = {}
        fresh: dict[Digest, str] = {}
        rest: list[Descriptor] = []
        for image in images:
            digest = image.digest
            text, there = stored.get(digest, ""), carried.get(digest)
            verdict = self._recognise(text, there) if there and digest not in anew else None
            if verdict is not None:
                found.verdicts[digest] = verdict
                found.unchanged.add(digest)
            elif (record := parse_verdict(text)) is None:
                rest.append(image)
            else:
                known[digest] = record
                if is_old(text):
                    fresh[digest] = format_verdict(record)
                if record.verdict.is_valid and digest not in anew:
                    found.verdicts[digest] = record.verdict
                else:
                    rest.append(image)
        if rest:
            self._checker = await self.load()
            checked, found.failures = await self._checker.check(source, rest, known, tags)
            found.verdicts |= {digest: one.verdict for digest, one in checked.items()}
            fresh |= {digest: format_verdict(one) for digest, one in checked.items() if one != known.get(digest)}
        if fresh:
            await self.records.put_facts(self.kind, fresh)
        return found

    def _recognise(self, text: str, fingerprint: str) -> SignatureVerdict | None:
        """The verdict, without its signatures, if the record is of just these; each that is said is parsed once."""
        said = find_said(text, fingerprint)
        try:
            return self._said[said]
        except KeyError:
            self._said[said] = verdict = parse_said(said)
            return verdict

    def with_kept(self, source: Fetcher) -> Fetcher:
        """The source, but that what was read to check signatures is not read again."""
        return self._checker.with_kept(source) if self._checker else source
