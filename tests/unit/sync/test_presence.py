"""Where blobs lie: what is asked of the ledger, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from ocisync.model.digest import Digest, sha256
from ocisync.sync.ledger import MemoryLedger
from ocisync.sync.presence import BlobInfoCache

pytestmark = pytest.mark.anyio
BLOBS = [sha256(bytes([number])) for number in range(3)]


@dataclass
class AskedLedger(MemoryLedger):
    """Tells what it was asked."""

    asked: list[list[Digest]] = field(default_factory=list)

    async def locate(self, target: str, digests: list[Digest]) -> Mapping[Digest, str]:
        self.asked.append(digests)
        return await super().locate(target, digests)


async def test_only_what_is_not_known_is_asked() -> None:
    found, ledger = BlobInfoCache(), AskedLedger()
    await ledger.record("t", "home", {}, dict.fromkeys(BLOBS[:2], 1))
    found.record("t", BLOBS[0], "there")
    await found.load(ledger, "t", BLOBS[:1])
    assert ledger.asked == []
    await found.load(ledger, "t", BLOBS)
    assert ledger.asked == [BLOBS[1:]]
    assert [found.find("t", digest) for digest in BLOBS] == ["there", "home", None]
