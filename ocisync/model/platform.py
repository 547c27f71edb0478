"""Platforms, as indexes and configurations name them.

Spec: image-spec v1.1, image-index.md, "platform"; variants as containerd normalises them.

One platform has many spellings (arm64, aarch64, arm64/v8), and images, archives and users each have theirs. They are
kept as written and compared normalised: what is published must not differ from what came in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ocisync.errors import InvalidName

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z", re.ASCII)
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i686": "386",
}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system and a CPU; empty strings mean "not said"."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def is_unknown(self) -> bool:
        """Whether this marks an attestation entry (`unknown/unknown`) and no runnable image."""
        return self.os == "unknown" or self.architecture == "unknown"


def parse_platform(text: str) -> Platform:
    """Read `os/arch[/variant]`, as docker's --platform takes it.

    Raises:
        InvalidName: not of that form.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(_PART.match(part) for part in parts):
        raise InvalidName(
            f"{text[:100]!r} is not a platform: expected os/architecture or os/architecture/variant, "
            "such as linux/arm64/v8"
        )
    return Platform(*parts)


def platform_from_labels(os: str, architecture: str, label: str = "") -> Platform:
    """The platform that a file's name says. A third label is the CPU's variant, on Windows the system's version.

    Windows images of two versions have one architecture and no variant: only the version tells them apart.
    """
    if os.lower() == "windows":
        return Platform(os, architecture, os_version=label)
    return Platform(os, architecture, label)


def platform_from_json(value: object) -> Platform | None:
    """The platform of a descriptor or configuration, or None when it names none."""
    if not isinstance(value, Mapping):
        return None
    fields = (value.get("os"), value.get("architecture"), value.get("variant"), value.get("os.version"))
    os, architecture, variant, version = (field if isinstance(field, str) else "" for field in fields)
    return Platform(os, architecture, variant, version) if os or architecture else None


def normalize(platform: Platform) -> Platform:
    """One spelling per platform: lower case, usual names, and no variant that is the default (arm64 is arm64/v8)."""
    architecture = platform.architecture.lower()
    variant = platform.variant.lower()
    if architecture == "armel" and not variant:
        variant = "v6"
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if variant and variant.isdigit():
        variant = "v" + variant
    if _DEFAULT_VARIANTS.get(architecture) == variant:
        variant = ""
    return Platform(platform.os.lower(), architecture, variant, platform.os_version)


def is_same_platform(one: Platform, other: Platform) -> bool:
    """Whether two spellings mean the same platform; an operating system's version counts only when both say one."""
    a, b = normalize(one), normalize(other)
    versions_agree = not a.os_version or not b.os_version or a.os_version == b.os_version
    return (a.os, a.architecture, a.variant) == (b.os, b.architecture, b.variant) and versions_agree
