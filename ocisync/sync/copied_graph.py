"""What copies hand out, as values: one graph, what a job did to its target, and what is below one manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ocisync.errors import (
    AmbiguousManifest,
    AuthError,
    LeftOut,
    LimitExceeded,
    NotFound,
    OcisyncError,
    RateLimited,
    RegistryError,
)
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.reports import Traffic

Graph = Mapping[Digest, int]  # every digest at or below a manifest that the target holds, with its size in bytes


@dataclass(frozen=True, slots=True)
class CopiedGraph:
    """One root whose whole graph is at the target, but for the root itself, which `publish` stores last."""

    root: Descriptor  # with its bytes
    digests: Graph  # the root's among them
    extra_tags: Mapping[str, Descriptor] = field(default_factory=dict)  # signatures and the like, to publish before it


@dataclass(slots=True)
class CopyResult:
    """What a job's copies did to the target, beside the graphs themselves."""

    traffic: Traffic = field(default_factory=Traffic)
    sent: set[Digest] = field(default_factory=set)  # pushed or mounted by this job
    manifests: set[Digest] = field(default_factory=set)  # met below the roots
    missing_images: dict[Digest, list[Digest]] = field(default_factory=dict)  # by index: left out of it on purpose
    is_sparse: bool = False  # images of an index were left out, of which the target cannot know
    left_out: dict[Digest, dict[Digest, LeftOut]] = field(default_factory=dict)  # by index: what the source lacks

    def list_warnings(self) -> list[str]:
        """What the source lacks, for people."""
        errors = {digest: error for missing in self.left_out.values() for digest, error in missing.items()}
        return [f"{error.message}; it is left out" for error in errors.values() if not error.facts.get("attestation")]

    def explain(self, error: OcisyncError) -> OcisyncError:
        """An error with what to do about it, where a target got an index without all of its images."""
        is_refusal = isinstance(error, RegistryError | NotFound) and not isinstance(error, AuthError | RateLimited)
        if not self.is_sparse or not is_refusal:
            return error
        advice = "it refuses an index of which it lacks images: write `rewrite_index: true` for a new one"
        return type(error)(f"{error.message}; {advice}", code=error.code, handling=error.handling)


@dataclass(slots=True)
class Subgraph:
    """What was copied so far below one manifest."""

    parent: Descriptor
    is_index: bool  # so that its children may be of any type
    depth: int  # of the children
    limit: int  # descriptors
    digests: dict[Digest, int] = field(default_factory=dict)  # bytes
    left_out: dict[Digest, LeftOut] = field(default_factory=dict)  # images that the source lacks

    def add(self, graph: Graph) -> None:
        """Take in what is at and below a child.

        Raises:
            LimitExceeded: that is more than any image needs.
        """
        self.digests.update(graph)
        if len(self.digests) > self.limit:
            raise LimitExceeded(f"{self.parent.digest}: more than {self.limit} descriptors below it")


def check_sizes(parent: Descriptor, children: Iterable[Descriptor]) -> None:
    """Refuse a manifest that lists one digest with two sizes: clients would disagree on which of them is meant.

    Raises:
        AmbiguousManifest: it does.
    """
    sizes: dict[Digest, int] = {}
    for child in children:
        if (size := sizes.setdefault(child.digest, child.size)) != child.size:
            raise AmbiguousManifest(f"{parent.digest}: lists {child.digest} with {size} bytes and with {child.size}")
