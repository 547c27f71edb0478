"""Which entries of an index are wanted. Pure.

Spec: image-spec v1.1, image-index.md, "platform"; BuildKit's attestation storage for entries of unknown/unknown.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_json_object
from ocisync.model.platform import Platform, is_same_platform, normalize

Attestations = Literal["matching", "all", "none"]

_SUBJECT = "vnd.docker.reference.digest"  # what an attestation is about


@dataclass(frozen=True, slots=True)
class PlatformChoice:
    """The wanted platforms (none: all), and which attestations come with them."""

    platforms: tuple[Platform, ...] = ()
    attestations: Attestations = "matching"
    needs_all: bool = False  # an image that lacks one of the platforms is an error; else it is copied without it

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.platforms and self.attestations != "none"

    @property
    def scope(self) -> str:
        """One spelling for all choices that mean the same; empty for everything."""
        if self.is_everything:
            return ""
        names = sorted({_format_platform(platform) for platform in self.platforms})
        return " ".join([*names, f"attestations={self.attestations}"])

    def wants(self, platform: Platform | None) -> bool:
        """Whether an image for a platform is wanted; one that names none always is."""
        if platform is None or not self.platforms:
            return True
        return any(is_same_platform(platform, one) for one in self.platforms)

    def find_missing(self, offered: Collection[Platform | None]) -> list[Platform]:
        """The wanted platforms that are not offered; none where an image names no platform, as it may be for any."""
        named = [platform for platform in offered if platform is not None]
        if len(named) < len(offered):
            return []
        return [one for one in self.platforms if not any(is_same_platform(platform, one) for platform in named)]


EVERYTHING = PlatformChoice()


def select_entries(entries: Sequence[Descriptor], choice: PlatformChoice) -> list[Descriptor]:
    """The entries of an index that are wanted, in its order; nested indexes always are."""
    if choice.is_everything:
        return list(entries)
    images = {entry.digest for entry in entries if not entry.is_attestation and choice.wants(entry.platform)}
    return [entry for entry in entries if _is_wanted(entry, choice, images)]


def narrow_index(raw: bytes, media_type: str, kept: Mapping[Digest, Descriptor]) -> Descriptor:
    """A new index, with its bytes, of some entries of another one; `kept`: what these became, by their old digests."""
    document = parse_json_object(raw)
    listed = document.get("manifests")
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    document["manifests"] = [
        {**entry, "digest": kept[entry["digest"]].digest, "size": kept[entry["digest"]].size}
        for entry in entries
        if entry.get("digest") in kept
    ]
    return describe(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(), media_type)


def _is_wanted(entry: Descriptor, choice: PlatformChoice, images: set[Digest]) -> bool:
    if not entry.is_attestation:
        return entry.digest in images
    if choice.attestations == "matching":
        return not choice.platforms or entry.annotations.get(_SUBJECT) in images
    return choice.attestations == "all"


def _format_platform(platform: Platform) -> str:
    one = normalize(platform)
    return f"{one}:{one.os_version}" if one.os_version else str(one)
