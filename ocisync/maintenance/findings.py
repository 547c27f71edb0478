"""What a verification finds, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ocisync.content.object_store import ObjectKind
from ocisync.model.descriptor import Descriptor
from ocisync.sync.reports import Failure


class Fault(enum.Enum):
    """What is wrong with an object."""

    MISSING = "missing"
    SIZE = "wrong size"
    DAMAGED = "damaged"  # its bytes are not what its digest says, or no manifest
    TYPE = "wrong content type"
    LIST = "wrong list"  # a derived list does not say what it should
    UNREADABLE = "unreadable"
    ROOT = "not as clients want it"  # what they ask for first


@dataclass(slots=True)
class Finding:
    """One object that is not right."""

    repository: str
    kind: ObjectKind
    reference: str
    fault: Fault
    detail: str = ""
    desc: Descriptor | None = None  # what should be there, where that is known
    tags: tuple[str, ...] = ()  # some of those that need it
    repaired: bool = False

    @property
    def key(self) -> tuple[str, ObjectKind, str]:
        """Which object it is about."""
        return self.repository, self.kind, self.reference

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "repository": self.repository,
            "kind": self.kind.value,
            "reference": self.reference,
            "fault": self.fault.value,
            "detail": self.detail,
            "tags": list(self.tags),
            "repaired": self.repaired,
        }


@dataclass(slots=True)
class Verified:
    """A verification of a registry."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0  # of blobs that were read
    skipped: int = 0  # blobs that an earlier run had read
    omitted: int = 0  # images that indexes name and that were left out on purpose
    findings: list[Finding] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)  # repositories that could not be looked at

    @property
    def ok(self) -> bool:
        """Whether everything is right, be it only now."""
        return not self.failures and all(finding.repaired for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "ok": self.ok,
            "repositories": self.repositories,
            "tags": self.tags,
            "manifests": self.manifests,
            "blobs": self.blobs,
            "bytesRead": self.bytes,
            "skipped": self.skipped,
            "omitted": self.omitted,
            "findings": [finding.as_json() for finding in self.findings],
            "failures": {name: failure.message for name, failure in self.failures.items()},
        }
