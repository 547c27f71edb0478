"""What was learnt of one registry host while we spoke with it, shared by all its repositories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

if TYPE_CHECKING:
    from ocisync.stores.registry.pull_budget import PullBudget
    from ocisync.stores.registry.validation_probe import ValidationProbe


@dataclass
class KnownSizes:
    """The sizes of blobs that were seen at this host, whatever their repository; bounded."""

    most: int = 200_000
    _sizes: dict[Digest, int] = field(default_factory=dict)  # bytes

    def learn(self, desc: Descriptor) -> None:
        """Remember one, and forget the oldest where there are too many."""
        self._sizes[desc.digest] = desc.size
        if len(self._sizes) > self.most:
            del self._sizes[next(iter(self._sizes))]

    def agree(self, desc: Descriptor) -> bool:
        """Whether the size is known and is the descriptor's."""
        return self._sizes.get(desc.digest) == desc.size

    def disagree(self, desc: Descriptor) -> bool:
        """Whether the size is known and is another."""
        return self._sizes.get(desc.digest, desc.size) != desc.size


@dataclass(slots=True)
class HostFacts:
    """One host's facts. They live as long as the client: a new process asks again."""

    chunk_size: int = (
        0  # bytes of one request of an upload; 0: all in one; made smaller when a body is refused for its size
    )
    sends_by_patch: bool = False  # it refused a body in the PUT that ends an upload
    sizes: KnownSizes = field(default_factory=KnownSizes)
    validation: ValidationProbe | None = None  # None: nobody wanted to know yet whether it refuses incomplete manifests
    quota: PullBudget | None = None  # None: it has told of no limit on pulls
    page_size: int | None = None  # names of a list's page that it was seen to take; 0: as many as it likes
    warned: set[str] = field(default_factory=set)  # its Warnings that were logged
    shows_first_byte: bool = True  # a GET of a part of a blob was not refused where HEAD was
    created: set[str] = field(default_factory=set)  # repositories that were made there
    pulls: int = 0  # pulls under way, as long as there is no quota that counts them
    gave_freely: bool = False  # it gave a manifest, and told of no limit with it
