"""Check the signatures of images by the policies of a rule.

A refusal comes with a fingerprint of what was looked at: as long as that stays, nothing is opened again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from anyio import to_thread

from ocisync.content.concurrency import for_each
from ocisync.content.repository import Fetcher, Source
from ocisync.content.threads import cpu_limiter
from ocisync.errors import NotFound, OcisyncError, SignatureError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import Manifest
from ocisync.sync.judging.acceptance import UNSIGNED, SignatureVerdict
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.sync.reports import Failure, describe_failure
from ocisync.trust.finder import FoundSignature, SignatureFinder
from ocisync.trust.index_entries import find_subject, holds_only_statements
from ocisync.trust.keys import PAYLOAD, UNTRUSTED
from ocisync.trust.policies import Policy, Signer, Subject
from ocisync.trust.verdict_records import StoredVerdict

_WORSE = ("verify.expired", PAYLOAD, UNTRUSTED, UNSIGNED)  # of several reasons the first of these is told


@dataclass
class PolicyChecker:
    """Checks images by named policies."""

    policies: Sequence[Policy]
    needs_all: bool
    each_platform: bool
    wants_time: bool  # a signature whose time is proven is better than one without
    repository: str  # of the source, with its host; empty: it is in no registry
    workers: int = 8
    _finder: SignatureFinder | None = field(default=None, init=False)

    async def check(
        self,
        source: Source,
        images: Collection[Descriptor],
        known: Mapping[Digest, StoredVerdict],
        tags: Sequence[str],
    ) -> tuple[dict[Digest, StoredVerdict], dict[Digest, Failure]]:
        """What the policies say of images, and of which images that could not be found out.

        `known` are earlier verdicts; `tags` all tags of the source where they were listed, else none.
        """
        finder = self._finder = SignatureFinder(source, frozenset(tags) if tags else None)
        checked: dict[Digest, StoredVerdict] = {}
        failures: dict[Digest, Failure] = {}

        async def check(image: Descriptor) -> None:
            try:
                checked[image.digest] = await self._check_image(finder, image, known.get(image.digest))
            except SignatureError as exc:
                checked[image.digest] = StoredVerdict(SignatureVerdict(False, exc.code, exc.message))
            except OcisyncError as exc:
                failures[image.digest] = describe_failure(exc)

        await for_each(images, check, self.workers)
        return checked, failures

    def with_kept(self, source: Fetcher) -> Fetcher:
        """The source, but that what was read to check signatures is not read again."""
        return self._finder.with_kept(source) if self._finder else source

    async def _check_image(
        self, finder: SignatureFinder, image: Descriptor, record: StoredVerdict | None
    ) -> StoredVerdict:
        """Check an image; where the rule says so, and nobody signed an index itself, all that it lists."""
        whole = await self._check_one(finder, image.digest, record)
        if whole.verdict.is_valid or not (self.each_platform and image.is_index):
            return whole
        return StoredVerdict(await self._check_entries(finder, await finder.read_manifest(image)))

    async def _check_entries(self, finder: SignatureFinder, index: Manifest) -> SignatureVerdict:
        """Check an index by its entries, up to the first that is refused."""
        entries = [(entry, find_subject(entry)) for entry in index.children]
        verdicts: dict[Digest, SignatureVerdict] = {}
        for entry in dict.fromkeys(entry for entry, subject in entries if subject is None):
            verdict = verdicts[entry.digest] = (await self._check_one(finder, entry.digest, None)).verdict
            if not verdict.is_valid:
                return _refuse_index(verdict.code, verdict.reason)
        for entry, subject in entries:
            if subject is not None and subject not in verdicts:
                return _refuse_index(UNSIGNED, f"{entry.digest} is a statement about nothing that is signed in it")
            if subject is not None and not holds_only_statements(await finder.read_manifest(entry)):
                return _refuse_index(PAYLOAD, f"{entry.digest} is more than the statement that it says it is")
        if not verdicts:
            return _refuse_index(UNSIGNED, "it lists no image")
        signatures = {
            digest: carried for verdict in verdicts.values() for digest, carried in verdict.signatures.items()
        }
        return _youngest(list(verdicts.values()))._replace(signatures=signatures)

    async def _check_one(self, finder: SignatureFinder, digest: Digest, record: StoredVerdict | None) -> StoredVerdict:
        """Check what signs one manifest itself."""
        listed = await finder.list_carriers(digest)
        seen = "" if record is None else record.seen  # refused: as long as nothing else refers to it, it stays so
        if record is not None and seen and seen == listed.join(await finder.find_tag(digest)).fingerprint:
            return record
        case = _Case(self.policies, Subject(digest, self.repository), self.needs_all, self.wants_time)
        async for signature in self._read(finder, digest, listed, case):
            await case.look_at(signature)
            if case.is_settled:
                return StoredVerdict(case.verdict())
        verdict = case.verdict()
        seen = "" if verdict.is_valid else listed.join(await finder.find_tag(digest)).fingerprint
        return StoredVerdict(verdict, seen)

    async def _read(
        self, finder: SignatureFinder, digest: Digest, listed: ReferrerSet, case: _Case
    ) -> AsyncIterator[FoundSignature]:
        """All signatures, one after the other: the first that convinces ends the search. What is damaged is noted."""
        for carrier in listed.referrers:
            try:
                found = await finder.read_bundle(carrier)
            except SignatureError as exc:
                case.errors.append(exc)
                continue
            if found is not None:
                yield found
        try:
            layers = await finder.list_layers(await finder.find_tag(digest))
        except SignatureError as exc:
            case.errors.append(exc)
            return
        for layer in layers:
            try:
                yield await finder.read_layer(layer)
            except NotFound:
                continue
            except SignatureError as exc:
                case.errors.append(exc)


@dataclass
class _Case:
    """What was found out about one manifest's signatures so far."""

    policies: Sequence[Policy]
    subject: Subject
    needs_all: bool
    wants_time: bool
    proven: dict[str, tuple[Signer, ReferrerSet]] = field(default_factory=dict)  # by the policy that holds
    errors: list[SignatureError] = field(default_factory=list)

    @property
    def is_proven(self) -> bool:
        """Whether as many policies hold as must."""
        return len(self.proven) == len(self.policies) if self.needs_all else bool(self.proven)

    @property
    def is_settled(self) -> bool:
        """Whether more signatures could change nothing."""
        enough = [policy for policy in self.proven if self._is_enough(policy)]
        return len(enough) == len(self.policies) if self.needs_all else bool(enough)

    def _is_enough(self, policy: str) -> bool:
        """Whether a policy holds, and nothing more is to be known of its signature."""
        return policy in self.proven and not (self.wants_time and self.proven[policy][0].signed_at is None)

    async def look_at(self, found: FoundSignature) -> None:
        """Check one signature by the policies that do not hold yet; the arithmetic is done in a thread."""
        for policy in self.policies:
            if self._is_enough(policy.name):
                continue
            try:
                check = partial(found.signature.check, policy, self.subject)
                signer = await to_thread.run_sync(check, limiter=cpu_limiter)
            except SignatureError as exc:
                self.errors.append(exc)
            else:
                self.proven[policy.name] = signer, found.carrier
                if self.is_settled:
                    return

    def verdict(self) -> SignatureVerdict:
        """What it comes to."""
        if not self.is_proven:
            return self._refuse()
        best = {policy: one for policy, one in self.proven.items() if self.needs_all or self._is_enough(policy)}
        chosen = best or self.proven
        signatures = ReferrerSet()
        for _, carrier in chosen.values():
            signatures = signatures.join(carrier)
        times = [signer.signed_at for signer, _ in chosen.values()]
        return SignatureVerdict(
            is_valid=True,
            policy=", ".join(chosen),
            signer=", ".join(dict.fromkeys(signer.name for signer, _ in chosen.values())),
            signed_at=None if None in times else max(time for time in times if time is not None),
            signatures={self.subject.digest: _without_bytes(signatures)},
        )

    def _refuse(self) -> SignatureVerdict:
        if not self.errors:
            lacking = ", ".join(policy.name for policy in self.policies if policy.name not in self.proven)
            return SignatureVerdict(False, UNSIGNED, f"{self.subject.digest}: no signature was found for {lacking}")
        worst = min(self.errors, key=lambda error: _WORSE.index(error.code) if error.code in _WORSE else 0)
        count = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        return SignatureVerdict(False, worst.code, f"{self.subject.digest}: {worst.message}{count}")


def _refuse_index(code: str, reason: str) -> SignatureVerdict:
    return SignatureVerdict(False, code, f"the index is not signed, nor is all that it lists: {reason}")


def _youngest(verdicts: Sequence[SignatureVerdict]) -> SignatureVerdict:
    """Of verdicts that all hold, the one that was signed last; one without a time, if there is any."""
    untimed = next((verdict for verdict in verdicts if verdict.signed_at is None), None)
    return untimed or max(verdicts, key=lambda verdict: verdict.signed_at or 0.0)


def _without_bytes(signatures: ReferrerSet) -> ReferrerSet:
    """Descriptors as they are kept on record; the bytes are kept by the finder."""
    referrers = tuple(replace(desc, data=None, annotations={}) for desc in signatures.referrers)
    tags: Mapping[str, Descriptor] = {name: replace(desc, data=None) for name, desc in signatures.tags.items()}
    return ReferrerSet(referrers, tags)
