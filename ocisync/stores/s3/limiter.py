"""How many requests run at a time: fewer when the store asks for it, slowly more again."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

_GOOD_RUN = 32  # requests without a complaint before one more is allowed at a time


@dataclass(slots=True)
class AdaptiveLimiter:
    """Requests of one kind, so many at a time; halved when the store asks to be slower, and slowly grown again."""

    most: int
    limiter: anyio.CapacityLimiter = field(init=False)
    _good: int = 0

    def __post_init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(self.most)

    async def __aenter__(self) -> None:
        try:
            self.limiter.acquire_nowait()  # without a turn of the loop
        except anyio.WouldBlock:
            await self.limiter.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.limiter.release()

    def shrink(self) -> None:
        """Halve the number: the store complained."""
        self._good = 0
        self.limiter.total_tokens = max(1, int(self.limiter.total_tokens) // 2)

    def grow(self) -> None:
        """Count a request that went well; a long run of them allows one more at a time."""
        self._good += 1
        if self._good >= _GOOD_RUN and self.limiter.total_tokens < self.most:
            self._good = 0
            self.limiter.total_tokens += 1
