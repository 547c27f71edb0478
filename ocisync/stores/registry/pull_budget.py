"""A host's budget of pulls: those that it would refuse, or that are kept for others, wait until it renews.

A pull is a GET of a manifest; HEADs are free and tell what is left. Spec: Docker Hub, "Pull usage and limits".
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import structlog
from multidict import CIMultiDictProxy, istr

from ocisync.content.concurrency import Wakeup
from ocisync.content.cost import PullQuota
from ocisync.errors import Handling, RateLimited
from ocisync.stores.registry.options import OnWait, RateLimitOptions, Share

log = structlog.get_logger(__name__)
_LIMIT, _REMAINING = istr("RateLimit-Limit"), istr("RateLimit-Remaining")
_COUNT = re.compile(r"([0-9]{1,9})(?:;\s*w=([0-9]{1,9}))?\s*(?:;|,|\Z)", re.ASCII)

Look = Callable[[], Awaitable[object]]
"""Ask the host for a manifest by HEAD: its answer is observed."""


class Count(NamedTuple):
    """One header's value: pulls, and the window in seconds they are counted in."""

    pulls: int
    window: float | None


def parse_count(text: str | None) -> Count | None:
    """`76;w=21600` as Docker Hub sends it, or a plain number."""
    found = _COUNT.match(text) if text else None
    return Count(int(found[1]), float(found[2]) if found[2] else None) if found else None


class PullBudget:
    """The pulls that one host allows, made when the host first tells of a limit or the options ask for one.

    Without `options` only limits in Docker Hub's form count: other hosts mean other limits by the same headers.
    """

    def __init__(
        self,
        host: str,
        options: RateLimitOptions | None,
        on_wait: OnWait,
        under_way: int = 0,
        share: Share | None = None,
    ) -> None:
        self._host = host
        self._on_wait = on_wait
        self._options = options or RateLimitOptions()
        self._is_asked_for = options is not None
        self._share = share or Share()
        self._known: PullQuota | None = None
        self._was_told = False  # an answer came, with or without a limit
        self._pending = under_way  # pulls under way
        self.ended = 0  # pulls that ended, ever
        self.is_paused = False  # somebody waits for more than there is
        self._turn = anyio.Lock(fast_acquire=True)
        self._changed = Wakeup()

    @property
    def allowance(self) -> PullQuota | None:
        """What the host said last."""
        return self._known

    @property
    def window(self) -> float:
        """Seconds in which the budget renews; 0 when there is none."""
        return (self._known.window or 0.0) if self._known else 0.0

    async def take(self, look: Look) -> None:
        """Wait until one more pull is allowed; `give_back` ends it.

        Raises:
            RateLimited: more is kept than the host ever gives.
            OcisyncError: what `look` raised.
        """
        if self._turn.locked() or not self._is_open():
            async with self._turn:
                await self._wait(look)
        self._pending += 1

    def give_back(self) -> None:
        """A pull has ended."""
        self._pending -= 1
        self.ended += 1
        self._wake()

    @property
    def is_unlimited(self) -> bool:
        """Whether neither the host nor the options speak of a limit."""
        return self._known is None and not self._is_asked_for

    def observe(self, headers: CIMultiDictProxy[str], ended_before: int) -> None:
        """Take what an answer says; `ended_before` is `ended` as it was when its request was sent.

        Answers overtake each other: one that was asked for before other pulls ended may only lower what is known.
        """
        self._was_told = True
        if (text := headers.get(_REMAINING)) is None:
            return
        left = parse_count(text)
        if left is None or (left.window is None and not self._is_asked_for):
            return
        limit = parse_count(headers.get(_LIMIT))
        known = self._known
        pulls = left.pulls if known is None or ended_before == self.ended else min(left.pulls, known.remaining)
        window = left.window or (limit.window if limit else None)
        self._known = PullQuota(self._host, pulls, limit.pulls if limit else None, window, self._options.kept)
        if known is not None and pulls > known.remaining:
            self._wake()

    def _is_open(self) -> bool:
        if self._known is None:
            return self._was_told or not self._is_asked_for
        # Of what is left, each daemon takes its part at most: together they never take more than there is.
        return (self._known.remaining - self._options.kept) * self._share.part > self._pending

    async def _wait(self, look: Look) -> None:
        self._check()
        if not self._was_told and not self._is_open():
            await look()
        try:
            while not self._is_open():
                self._check()
                if self._pending:
                    await self._changed.wait()
                    continue
                if not self.is_paused:
                    self._say_paused()
                    self.is_paused = True
                await self._wait_for_renewal(look)
            if self.is_paused:
                log.info("pulls.resumed", host=self._host, remaining=self._known.remaining if self._known else None)
        finally:
            self.is_paused = False

    async def _wait_for_renewal(self, look: Look) -> None:
        """Wait until it is time to look, unless an answer to somebody else tells more; then look."""
        self._changed.forget()
        await self._changed.wait(self._options.retry)
        if not self._is_open():
            await look()

    def _check(self) -> None:
        limit = self._known.limit if self._known else None
        if limit is not None and limit <= self._options.kept:
            raise RateLimited(
                f"{self._host}: gives {limit} pulls at a time, and rate_limit.min keeps {self._options.kept} of them; "
                "lower it, or log in for more",
                handling=Handling.FAIL,
                host=self._host,
            )

    def _say_paused(self) -> None:
        if (known := self._known) is None:
            return
        facts = {"remaining": known.remaining, "kept": known.kept, "limit": known.limit, "window": known.window}
        log.warning("pulls.paused", host=self._host, **facts, looks_every=self._options.retry)
        of = f" of {known.limit}" if known.limit else ""
        keeps = f", and {known.kept} are kept" if known.kept else ""
        self._on_wait(
            f"{self._host}: {known.remaining}{of} pulls are left{keeps}; waits until they renew, and looks every "
            f"{self._options.retry:g} s"
        )

    def _wake(self) -> None:
        self._changed.set()
