"""How many pulls a host still allows.

A pull is what Docker Hub counts: a GET of a manifest. Asking by HEAD costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullQuota:
    """What a host said of its limit on pulls."""

    host: str
    remaining: int  # pulls
    limit: int | None = None  # pulls in a window
    window: float | None = None  # seconds
    kept: int = 0  # pulls that are left for others

    @property
    def usable(self) -> int:
        """How many pulls may be spent now."""
        return max(0, self.remaining - self.kept)
