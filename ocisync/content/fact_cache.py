"""Facts about content, which never change once they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ocisync.model.digest import Digest


class FactCache(Protocol):
    """Where facts are kept from run to run; losing them costs time."""

    async def get_facts(self, kind: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """What was noted about content; what is not known is left out."""
        ...

    async def put_facts(self, kind: str, facts: Mapping[Digest, str]) -> None:
        """Remember facts of one kind."""
        ...
