"""What refers to an image, for people: as a source tells it, and by cosign's tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocisync.content.concurrency import for_each
from ocisync.content.protocols import Source
from ocisync.content.referrers import Referring
from ocisync.errors import InputError, NotFound
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.spec.referrers import COSIGN, cosign_tags

_AT_A_TIME = 4  # lookups


@dataclass(frozen=True, slots=True)
class Reference:
    """One manifest that refers to another."""

    subject: Digest
    desc: Descriptor
    kind: str  # its artifact type, or what its tag says
    tag: str = ""  # by which it was found


async def references_to(source: Source, subjects: Sequence[Descriptor]) -> list[Reference]:
    """Everything known to refer to some manifests, in their order."""
    found: dict[Digest, list[Reference]] = {}

    async def look(subject: Descriptor) -> None:
        found[subject.digest] = await _references(source, subject.digest)

    await for_each(list({subject.digest: subject for subject in subjects}.values()), look, _AT_A_TIME)
    return [reference for subject in found for reference in found[subject]]


async def _references(source: Source, subject: Digest) -> list[Reference]:
    told = await source.referrers(subject) if isinstance(source, Referring) else ()
    found = [Reference(subject, desc, desc.artifact_type or "unknown") for desc in told]
    for tag, kind in zip(cosign_tags(subject), COSIGN.values(), strict=True):
        desc = await _resolved(source, tag)
        if desc is not None:
            found.append(Reference(subject, desc, kind, tag))
    return found


async def _resolved(source: Source, tag: str) -> Descriptor | None:
    try:
        return await source.resolve(tag)
    except (NotFound, InputError):  # an archive that knows no such name
        return None
