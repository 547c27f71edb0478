"""What must hold of an image before it is taken: who signed it, and how old it is. Values and decisions; pure.

A job without an `Acceptance` takes everything, and costs nothing of this.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

from ocisync.model.digest import Digest
from ocisync.model.text.quantities import time_text
from ocisync.sync.referrers.referrer_set import ReferrerSet

UNSIGNED = "verify.unsigned"
YOUNG = "verify.young"
AgeOf = Literal["seen", "created", "log"]
_NO_SIGNATURES: Mapping[Digest, ReferrerSet] = {}


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a rule demands of images; plain data, for it is a part of jobs."""

    policies: tuple[str, ...] = ()  # by name; empty: signatures do not matter
    needs_all: bool = False  # each of the policies must hold, not only one
    only_warns: bool = False  # what no policy holds for is taken all the same, and told
    wait: float = 0.0  # seconds since an image was first seen in which its signature may still come
    each_platform: bool = False  # signatures of all images of an index count in place of one of the index
    min_age: float = 0.0  # seconds
    age_of: AgeOf = "seen"  # since it was first seen here, since it was made, or since a log took note of its signature

    brings_signatures: bool = True  # those that convinced come along; False: to where there is no place for them

    @property
    def is_dated(self) -> bool:
        """Whether anything depends on when an image was first seen."""
        return bool(self.min_age and self.age_of == "seen") or bool(self.policies and self.wait)


class Outcome(enum.Enum):
    """What became of one image."""

    ACCEPTED = "accepted"
    WARNED = "warned"  # refused, but the rule only wants to be told
    PENDING = "pending"  # not yet: it is too young, or its signature may still come
    REFUSED = "refused"


class SignatureVerdict(NamedTuple):
    """What the policies say of an image's signatures."""

    is_valid: bool
    code: str = ""  # why not: `verify.unsigned` and its like
    reason: str = ""
    policy: str = ""  # which holds
    signer: str = ""
    signed_at: float | None = None  # seconds since the epoch, where a log says so
    signatures: Mapping[Digest, ReferrerSet] = _NO_SIGNATURES  # those that convinced, by what they sign

    @property
    def fingerprint(self) -> str:
        """That of the signatures together, as they come along with the image; empty where there are none."""
        return reduce(ReferrerSet.join, self.signatures.values()).fingerprint if self.signatures else ""


class ImageDates(NamedTuple):
    """When things happened to an image; seconds since the epoch, None where nobody knows."""

    seen: float | None = None
    created: float | None = None


class Judgement(NamedTuple):
    """Whether an image may be taken, and why not."""

    outcome: Outcome
    code: str = ""
    reason: str = ""
    until: float = 0.0  # seconds since the epoch: when what is pending is looked at again
    verdict: SignatureVerdict | None = None  # None: signatures do not matter

    @property
    def is_accepted(self) -> bool:
        """Whether the image is taken."""
        return self.outcome is Outcome.ACCEPTED or self.outcome is Outcome.WARNED

    @property
    def signatures(self) -> Mapping[Digest, ReferrerSet]:
        """What is to come along with the image."""
        return self.verdict.signatures if self.verdict else _NO_SIGNATURES


def decide_acceptance(
    wanted: Acceptance, verdict: SignatureVerdict | None, dates: ImageDates, now: float, *, is_fresh: bool
) -> Judgement:
    """What to do about an image. `is_fresh`: the target does not have it under this tag, so that its age matters."""
    if verdict is not None and not verdict.is_valid:
        until = (dates.seen or now) + wanted.wait
        if is_fresh and now < until and wanted.wait:
            return Judgement(Outcome.PENDING, verdict.code, f"{verdict.reason}; {_wait_until(until)}", until, verdict)
        outcome = Outcome.WARNED if wanted.only_warns else Outcome.REFUSED
        if outcome is Outcome.REFUSED:
            return Judgement(outcome, verdict.code, verdict.reason, verdict=verdict)
    else:
        outcome = Outcome.ACCEPTED
    code, reason = ("", "") if verdict is None else (verdict.code, verdict.reason)
    if is_fresh and wanted.min_age:
        since = {"seen": dates.seen, "created": dates.created, "log": verdict.signed_at if verdict else None}
        start = since[wanted.age_of]
        if start is None:
            return Judgement(Outcome.REFUSED, YOUNG, _EXPLAIN_UNKNOWN[wanted.age_of], verdict=verdict)
        if now < (until := start + wanted.min_age):
            told = f"{_EXPLAIN_AGE[wanted.age_of]} {time_text(start)}; {_wait_until(until)}"
            return Judgement(Outcome.PENDING, YOUNG, told, until, verdict)
    return Judgement(outcome, code, reason, verdict=verdict)


def decide_converted(wanted: Acceptance) -> Judgement:
    """What to do about an image whose digest is known only after a conversion: nothing can be known of it before."""
    told = "an archive of this kind is converted while it is copied, so that {}: save it as an OCI archive"
    unsigned = SignatureVerdict(False, UNSIGNED, told.format("no signature can be about its images"))
    if wanted.policies and not wanted.only_warns:
        return Judgement(Outcome.REFUSED, UNSIGNED, unsigned.reason, verdict=unsigned)
    if wanted.min_age:
        return Judgement(Outcome.REFUSED, YOUNG, told.format("the age of its images is not known"))
    return Judgement(Outcome.WARNED, UNSIGNED, unsigned.reason, verdict=unsigned)


_EXPLAIN_AGE = {"seen": "first seen", "created": "made", "log": "signed"}
_EXPLAIN_UNKNOWN = {
    "seen": "nobody knows when it was first seen",
    "created": "it does not say when it was made, so that its age is not known",
    "log": "no log says when it was signed, so that its age is not known",
}


def _wait_until(until: float) -> str:
    return f"pending until {time_text(until)}"
