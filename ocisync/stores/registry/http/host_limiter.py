"""How fast one host is asked: requests at a time and a second, bytes a second, and Retry-After's pauses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import structlog

from ocisync.content.concurrency import FairSemaphore
from ocisync.stores.registry.http.policy import retry_after, server_time
from ocisync.stores.registry.options import OnWait, RegistryOptions, Share, wait_silently

log = structlog.get_logger(__name__)
_LEAST_PIECE, _MOST_PIECE = 4 * 1024, 1024 * 1024  # bytes
_WORTH_LOGGING, _WORTH_SAYING = 1.0, 10.0  # seconds of a pause: in the log, and to whoever waits
_PIECES = 4  # a second: a slow transfer must not look like a dead one

Release = Callable[[], None]


def leave_nothing() -> None:
    """Give back no place, for there is none."""


class RequestRate:
    """A token bucket that holds one second's worth; plain arithmetic on the caller's clock."""

    def __init__(self, per_second: float, share: Share | None = None) -> None:
        self._interval = 1 / per_second if per_second > 0 else 0.0
        self._share = share or Share()
        self._next = float("-inf")

    def reserve(self, now: float) -> float:
        """Seconds to wait before the next request; each call takes one turn."""
        interval = self._interval / self._share.part
        saved = max(0.0, 1.0 - interval) * self._share.part  # seconds: what an idle host may save up
        turn = max(self._next, now - saved)
        self._next = turn + interval
        return max(0.0, turn - now)


class Throttle:
    """A host's bandwidth, which all its transfers share in the order in which their pieces come.

    That of a path of the host is beside the host's own (`whole`).
    """

    def __init__(self, per_second: int, whole: Throttle | None = None, share: Share | None = None) -> None:
        self._per_second = per_second  # bytes
        self._whole = whole
        self._share = share or Share()
        self.piece = min(_MOST_PIECE, max(_LEAST_PIECE, per_second // _PIECES))  # most bytes to take at a time
        self._free = float("-inf")

    def reserve(self, size: int, now: float) -> float:
        """Seconds to wait after `size` bytes, on the caller's clock."""
        self._free = max(self._free, now) + size / (self._per_second * self._share.part)
        return max(self._free - now, self._whole.reserve(size, now) if self._whole else 0.0)

    async def wait(self, size: int) -> None:
        """Wait as long as these bytes take."""
        await anyio.sleep(self.reserve(size, anyio.current_time()))


class HostLimiter:
    """Places for requests to one host, their pace, and the pauses that the host asks for.

    Uploads have places of their own, because an upload may wait for a download from the same host: with one set of
    places, uploads that hold them all would wait for downloads that get none. Repositories get places in turn, so that
    the many layers of one do not hold up the others.

    A host that asks to be left alone gets half the requests at a time from then on, and one more again for each round
    of them that it answers well.

    A path of a host with options of its own has a limiter of its own within the host's (`whole`): the host's limits and
    pauses hold over all of its paths together.
    """

    def __init__(
        self,
        options: RegistryOptions,
        host: str = "",
        on_wait: OnWait = wait_silently,
        whole: HostLimiter | None = None,
    ) -> None:
        self._whole = whole
        self.throttle: Throttle | None = whole.throttle if whole else None
        if options.bandwidth:
            self.throttle = Throttle(options.bandwidth, self.throttle, options.share)
        self._host = host
        self._options = options
        self._on_wait = on_wait
        self._places = options.concurrency
        self._requests = FairSemaphore(options.concurrency)
        self._uploads = FairSemaphore(options.concurrency)
        self._pace = RequestRate(options.requests_per_second, options.share)
        self._paused_until = float("-inf")
        self._closed = 0  # places that nobody gets for now
        self._to_close = 0  # of these: such as are still taken
        self._round = 0  # good answers since a place was opened
        self.answered = 0  # good answers, ever
        self.refusals = 0  # since the last good answer

    async def enter(self, repository: str, *, has_place: bool = False) -> Release:
        """Wait for a place and for one's turn; the result gives the place back, once."""
        if has_place:
            if self._whole is not None:
                await self._whole.wait_turn()
            await self.wait_turn()
            return leave_nothing
        await self._requests.acquire(repository)
        leave_whole = leave_nothing
        try:
            if self._whole is not None:
                leave_whole = await self._whole.enter(repository)
            await self.wait_turn()
        except BaseException:
            leave_whole()
            self._leave()
            raise
        return _release_once(self._leave, leave_whole)

    def hold_upload_place(self, repository: str) -> AbstractAsyncContextManager[object]:
        """A place for one upload with all its requests, taken before its source is opened: nobody waits in a circle."""
        place = self._uploads.hold(repository)
        return place if self._whole is None else self._hold_both(place, self._whole.hold_upload_place(repository))

    @asynccontextmanager
    async def _hold_both(
        self, own: AbstractAsyncContextManager[object], whole: AbstractAsyncContextManager[object]
    ) -> AsyncIterator[None]:
        async with own, whole:
            yield

    async def wait_turn(self) -> None:
        """Wait for the end of a pause and for the pace."""
        if wait := self._pace.reserve(time.monotonic()):
            await anyio.sleep(wait)
        await self.wait_pause()

    async def wait_pause(self) -> None:
        """Wait for the end of a pause."""
        while (pause := self.pause_left) > 0:  # noqa: ASYNC110  # it may grow meanwhile
            await anyio.sleep(pause)

    @property
    def is_paused(self) -> bool:
        """Whether no request may start now."""
        return self.pause_left > 0

    @property
    def pause_left(self) -> float:
        """Seconds in which no request may start; 0 or less: none."""
        elsewhere = self._options.share.asked_elsewhere.get(self._host, self._paused_until)
        own = max(self._paused_until, elsewhere) - time.monotonic()
        return own if self._whole is None else max(own, self._whole.pause_left)

    def pause(self, seconds: float) -> None:
        """Let no request start for so long; what is refused during a pause was on its way before it."""
        now = time.monotonic()
        if now >= self._paused_until:
            self.refusals += 1
            self._close_half()
        self._paused_until = self._options.share.asked_here[self._host] = max(self._paused_until, now + seconds)

    def slow_down(self, status: int, headers: Mapping[str, str], window: float = 0.0) -> None:
        """Leave the whole host alone: as long as it asks, else longer with each refusal in a row.

        `status` is 429 or 503, or another with Retry-After. A pause is cut down to `longest_pause`, or to the `window`
        in seconds in which a limit on pulls renews, when that is longer.
        """
        if self._whole is not None:
            self._whole.slow_down(status, headers, window)
            return
        asked = headers.get("Retry-After")
        seconds = self._options.backoff.ceiling(self.refusals + 1) if asked is None else 0.0
        if asked is not None or status != 503:
            now = server_time(headers.get("Date"), time.time())
            seconds = max(seconds, retry_after(asked, now, max(self._options.longest_pause, window)))
        self.pause(seconds)
        note = log.warning if seconds >= _WORTH_LOGGING else log.debug
        note("registry.paused", host=self._host, status=status, seconds=seconds)
        if seconds >= _WORTH_SAYING:
            self._on_wait(f"{self._host}: asks to be left alone for {seconds:.0f} s (status {status}); waits")

    def record_success(self) -> None:
        """The host answered as it should."""
        if self._whole is not None:
            self._whole.record_success()
        self.answered += 1
        self.refusals = 0
        if self._closed:
            self._round += 1
            if self._round >= self._places - self._closed:
                self._open_one()

    def _close_half(self) -> None:
        half = (self._places - self._closed) // 2
        self._closed += half
        self._to_close += half
        self._round = 0
        closed = min(self._to_close, self._requests.free)
        self._requests.free -= closed
        self._to_close -= closed

    def _open_one(self) -> None:
        self._closed -= 1
        self._round = 0
        if self._to_close:
            self._to_close -= 1
        else:
            self._requests.release()

    def _leave(self) -> None:
        if self._to_close:
            self._to_close -= 1
        else:
            self._requests.release()


def _release_once(*releases: Release) -> Release:
    pending = list(releases)

    def give_back() -> None:
        while pending:
            pending.pop()()

    return give_back
