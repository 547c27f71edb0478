"""Bounded concurrency over many items, and each piece of work once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
)
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio

from ocisync.content.object_store import ObjectInfo

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


async def for_each(items: Collection[T], act: Callable[[T], Coroutine[Any, Any, object]], workers: int) -> None:
    """Act on every item, on at most `workers` at a time; the first error cancels the rest and is raised as it is.

    Few items are a task each; many are shared by a fixed number of tasks, so that a list of any length takes the same
    memory.
    """
    if len(items) == 1:
        await act(next(iter(items)))
        return
    try:
        async with anyio.create_task_group() as group:
            if len(items) <= workers:
                for item in items:
                    group.start_soon(act, item)
            else:
                pending = iter(items)
                for _ in range(workers):
                    group.start_soon(_work, pending, act)
    except BaseExceptionGroup as failures:
        raise _find_first(failures) from None


async def _work(pending: Iterator[T], act: Callable[[T], Coroutine[Any, Any, object]]) -> None:
    for item in pending:
        await act(item)


def _find_first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that came first: what the others raised while they were cancelled is its consequence."""
    ours, others = failures.split(Exception)
    return (others or ours or failures).exceptions[0]


async def for_each_wave(
    roots: Iterable[Key], visit: Callable[[Key], Awaitable[Iterable[Key]]], workers: int, depth: int | None = None
) -> bool:
    """Visit items and what each of them leads to, breadth first and each once; whether that came to an end.

    `visit` returns what an item leads to. All items of a wave are visited before the next wave begins. At most `depth`
    waves follow the first; None: as many as there are. Waves, not recursion: what other people write may lead in
    circles, or be deeper than any stack.
    """
    seen: set[Key] = set()
    wave = set(roots)

    async def visit_one(item: Key) -> None:
        following.update(await visit(item))

    while wave:
        if depth is not None and depth < 0:
            return False
        following: set[Key] = set()
        await for_each(sorted(wave), visit_one, workers)  # type: ignore[type-var]  # strings, all of them
        seen |= wave
        wave = following - seen
        depth = None if depth is None else depth - 1
    return True


class ByteBudget:
    """So many bytes may be in use at a time; who wants more waits until others have given theirs back.

    One piece that is larger than the whole budget goes alone. Nobody may wait here while holding a part that others
    need to go on.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes
        self._used = 0
        self._given_back = anyio.Event()

    async def acquire(self, size: int) -> None:
        """Wait for so many bytes."""
        while self._used and self._used + size > self._limit:
            await self._given_back.wait()
        self._used += size

    def take(self, size: int) -> None:
        """Use more than was foreseen, without waiting: it is in use already."""
        self._used += size

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """So many bytes for the time of the block."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def release(self, size: int) -> None:
        """Give bytes back."""
        self._used -= size
        given_back, self._given_back = self._given_back, anyio.Event()
        given_back.set()


class FairSemaphore:
    """So many places; whoever shares them gets the next free one in turn, however much each of them waits for.

    First come, first served would let one who asks for many at once keep out all who come a moment later.
    """

    def __init__(self, places: int) -> None:
        self.free = places  # while anybody waits, none is
        self._waiting: dict[Hashable, deque[anyio.Event]] = {}  # by sharer, the one whose turn is next first

    @asynccontextmanager
    async def hold(self, sharer: Hashable) -> AsyncIterator[None]:
        """A place for the time of the block."""
        await self.acquire(sharer)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, sharer: Hashable) -> None:
        """Wait for a place."""
        if self.free:
            self.free -= 1
            return
        turn = anyio.Event()
        self._waiting.setdefault(sharer, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # the place came in the moment of the cancellation
                self.release()
            else:
                self._waiting[sharer].remove(turn)
                if not self._waiting[sharer]:
                    del self._waiting[sharer]
            raise

    def release(self) -> None:
        """Give a place back, or a new one."""
        if not self._waiting:
            self.free += 1
            return
        sharer = next(iter(self._waiting))
        turns = self._waiting.pop(sharer)
        turns.popleft().set()
        if turns:
            self._waiting[sharer] = turns  # behind all others


class _Flight(Generic[T]):
    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done: anyio.Event | None = anyio.Event()
        self.error: Exception | None = None
        self.result: T = None  # type: ignore[assignment]  # read only after it was set


class SingleFlight(Generic[Key, T]):
    """Work that is done once per key however many ask for it; a failure is everybody's, a cancellation is not.

        async with flights.turn(key) as turn:
            if not turn.is_done:
                turn.result = await work()
            return turn.result

    The work stands in the block of whoever comes first, and not in a function that is handed over, so that a reader
    sees it where it happens. Whoever comes meanwhile waits at the head of the block. When the first is cancelled, one
    of those who wait does the work.
    """

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[T]] = {}

    def turn(self, key: Key) -> Turn[Key, T]:
        """A block in which the work is done, or its result is there already."""
        return Turn(self._flights, key)

    def forget(self, key: Key) -> None:
        """Let the next who comes do the work again."""
        self._flights.pop(key, None)


class Turn(Generic[Key, T]):
    """One caller's part in the work of a key; `result` is there when it is done, else it is for this caller to set."""

    __slots__ = ("_flights", "_key", "_own", "is_done", "result")

    def __init__(self, flights: dict[Key, _Flight[T]], key: Key) -> None:
        self._flights = flights
        self._key = key
        self._own: _Flight[T] | None = None
        self.is_done = False
        self.result: T = None  # type: ignore[assignment]  # whoever finds nothing done sets it

    async def __aenter__(self) -> Turn[Key, T]:
        while (flight := self._flights.get(self._key)) is not None:
            if flight.done is not None:
                await flight.done.wait()
            if self._flights.get(self._key) is not flight:
                continue  # whoever did the work was cancelled
            if flight.error is not None:
                raise flight.error
            self.is_done, self.result = True, flight.result
            return self
        self._own = self._flights[self._key] = _Flight()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        own = self._own
        if own is None:
            return
        if error is None:
            own.result = self.result
        elif isinstance(error, Exception):
            own.error = error
        elif self._flights.get(self._key) is own:
            del self._flights[self._key]
        done, own.done = own.done, None
        if done is not None:
            done.set()


class Wakeup:
    """An event that can happen again and again: "something changed, look".

    All who wait are woken. A change while nobody waits is kept for the next who does, so that nothing is lost between a
    look and the wait after it; several changes between two waits are one. Whoever is woken looks for themselves: it may
    have been an old change, or another waiter's.
    """

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake whoever waits, or the next who does."""
        self._event.set()

    async def wait(self, seconds: float = math.inf) -> None:
        """Return after the next change, or after so many seconds."""
        event = self._event
        with anyio.move_on_after(seconds):
            await event.wait()
        if event is self._event:  # else another waiter was faster, and what came since then is news
            self.forget()

    def forget(self) -> None:
        """Let the next who waits wait for a change that is still to come."""
        if self._event.is_set():
            self._event = anyio.Event()


@asynccontextmanager
async def aclosing_if_possible(listing: AsyncIterator[ObjectInfo]) -> AsyncIterator[None]:
    """Close a listing with the block, so that what it holds open does not wait for the garbage collector."""
    try:
        yield
    finally:
        if isinstance(listing, AsyncGenerator):
            await listing.aclose()
