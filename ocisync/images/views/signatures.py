"""Whether something was said about an image by its digest: signatures, attestations, referrers.

Spec: image-spec v1.1, manifest.md, "subject"; cosign's and distribution-spec's tag schemes.
"""

from __future__ import annotations

from ocisync.content.capabilities import ReferrerLister
from ocisync.content.repository import Source
from ocisync.errors import InputError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest_tags import cosign_tags, fallback_tag
from ocisync.model.manifest import Manifest


async def check_unsigned(source: Source, desc: Descriptor, manifest: Manifest) -> None:
    """Refuse a manifest whose digest others rely on.

    Raises:
        InputError: `image.signed`.
    """
    why = await _find_reliance(source, desc, manifest)
    if why:
        raise InputError(
            f"{desc.digest}: {why}, which holds for this digest only, and a conversion changes it: copy the image as "
            "it is, or convert it with --drop-signatures (in a rule: `drop_signatures: true`)",
            code="image.signed",
        )


async def _find_reliance(source: Source, desc: Descriptor, manifest: Manifest) -> str:
    if manifest.subject is not None:
        return f"it refers to {manifest.subject.digest}"
    if manifest.is_index and any(child.is_attestation for child in manifest.children):
        return "the index has attestations"
    if isinstance(source, ReferrerLister) and (found := await source.referrers(desc.digest)):
        return f"{found[0].digest} refers to it"
    for tag in (*cosign_tags(desc.digest), fallback_tag(desc.digest)):
        if await _has_tag(source, tag):
            return f"the tag {tag} belongs to it"
    return ""


async def _has_tag(source: Source, tag: str) -> bool:
    try:
        await source.resolve(tag)
    except (NotFound, InputError):  # an archive that knows no such name
        return False
    return True
