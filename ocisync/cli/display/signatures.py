"""How what is known of an image's signatures and age is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocisync.cli.display.output import printable

if TYPE_CHECKING:  # most commands show none
    from ocisync.sync.judging.acceptance import Judgement, SignatureVerdict


def judgement_json(judgement: Judgement | None) -> dict[str, object]:
    """The key `signature` of a tag; nothing where the rule takes everything."""
    if judgement is None:
        return {}
    told: dict[str, object] = {"outcome": judgement.outcome.value, "code": judgement.code, "reason": judgement.reason}
    if judgement.until:
        told["until"] = judgement.until
    verdict = verdict_json(judgement.verdict) if judgement.verdict and judgement.verdict.is_valid else {}
    return {"signature": told | verdict}


def verdict_json(verdict: SignatureVerdict) -> dict[str, object]:
    """Who signed, when, and by which policy; or why it does not hold."""
    if not verdict.is_valid:
        return {"code": verdict.code, "reason": verdict.reason}
    return {"policy": verdict.policy, "signer": verdict.signer, "signedAt": verdict.signed_at}


def verdict_text(verdict: SignatureVerdict) -> str:
    """The same for people."""
    from ocisync.model.text.quantities import time_text

    if not verdict.is_valid:
        return f"signature\n  refused     {printable(verdict.reason)} [{verdict.code}]"
    when = "not known" if verdict.signed_at is None else time_text(verdict.signed_at)
    return (
        f"signature\n  policy      {printable(verdict.policy)}\n  signer      {printable(verdict.signer)}\n"
        f"  signed      {when}"
    )
