"""Trying again: with growing, random waits, fewer at a time when the store asks for it, and fresh credentials once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import anyio
import structlog

from ocisync.content.backoff import Backoff
from ocisync.errors import OcisyncError, PreconditionFailed, RateLimited
from ocisync.stores.s3.errors import EXPIRED
from ocisync.stores.s3.session import S3Session

log = structlog.get_logger()

_T = TypeVar("_T")
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

    def slower(self) -> None:
        """The store complained."""
        self._good = 0
        self.limiter.total_tokens = max(1, int(self.limiter.total_tokens) // 2)

    def went_well(self) -> None:
        """A request was answered."""
        self._good += 1
        if self._good >= _GOOD_RUN and self.limiter.total_tokens < self.most:
            self._good = 0
            self.limiter.total_tokens += 1


class Retrier:
    """Runs requests to one bucket."""

    def __init__(self, session: S3Session) -> None:
        self._session = session
        self._options = session.options
        self.writing = AdaptiveLimiter(session.options.concurrency)
        self.reading = AdaptiveLimiter(
            session.options.concurrency
        )  # apart: a write may wait for a read of the same store

    async def run(self, act: Callable[[], Awaitable[_T]], lane: AdaptiveLimiter) -> _T:
        """The result of a request that is safe to repeat.

        Only what the store itself refused is tried again; an error of a body's source is the source's affair.
        """
        reloaded = False
        for attempt in count(1):
            generation = self._session.generation
            try:
                async with lane:
                    result = await act()
            except OcisyncError as exc:
                if exc.facts.get("store") != self._session.where:
                    raise
                if exc.facts.get("s3_code") in EXPIRED and not reloaded:
                    reloaded = True
                    await self._session.reload(generation)
                    continue
                final = isinstance(exc, PreconditionFailed) or not exc.retryable  # a lost race is the caller's affair
                if final or attempt >= self._options.attempts:
                    raise
                await self._wait(exc, lane, attempt)
            else:
                lane.went_well()
                return result
        raise AssertionError("count() has no end")

    async def _wait(self, exc: OcisyncError, lane: AdaptiveLimiter, attempt: int) -> None:
        if isinstance(exc, RateLimited) or exc.facts.get("status") == 500:
            lane.slower()
        backoff = Backoff(2 * self._options.first_wait, self._options.longest_wait)
        seconds = backoff.wait(attempt, random.random())
        log.debug("s3.retried", store=self._session.where, code=exc.code, attempt=attempt, wait=round(seconds, 3))
        await anyio.sleep(seconds)
