"""Bounded concurrency over many items, and each piece of work once."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio

from ocisync.content.object_store import ObjectInfo

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


async def for_each(items: Collection[T], act: Callable[[T], Awaitable[object]], workers: int) -> None:
    """Act on every item, on at most `workers` at a time; the first error cancels the rest and is raised as it is."""
    if not items:
        return
    if len(items) == 1:
        await act(next(iter(items)))
        return
    pending = iter(items)
    failures: list[Exception] = []
    async with anyio.create_task_group() as group:
        for _ in range(min(workers, len(items)) - 1):
            group.start_soon(_work, pending, act, failures, group.cancel_scope)
        await _work(pending, act, failures, group.cancel_scope)  # one task fewer to start
    if failures:
        raise failures[0]


async def _work(
    pending: Iterator[T], act: Callable[[T], Awaitable[object]], failures: list[Exception], scope: anyio.CancelScope
) -> None:
    for item in pending:
        try:
            await act(item)
        except Exception as exc:  # noqa: BLE001 (raised again, outside the group that it ends)
            failures.append(exc)
            scope.cancel()
            return


class _Slot(Generic[T]):
    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done: anyio.Event | None = anyio.Event()
        self.error: Exception | None = None
        self.result: T | None = None


class SingleFlight(Generic[Key, T]):
    """Work that is done once per key however many ask for it; a failure is everybody's, a cancellation is not."""

    def __init__(self) -> None:
        self._slots: dict[Key, _Slot[T]] = {}

    async def __call__(self, key: Key, work: Callable[[], Awaitable[T]]) -> T:
        """The result of the first who came with this key."""
        while (slot := self._slots.get(key)) is not None:
            if slot.done is not None:
                await slot.done.wait()
            if self._slots.get(key) is not slot:
                continue  # whoever did the work was cancelled
            if slot.error is not None:
                raise slot.error
            return slot.result  # type: ignore[return-value]
        return await self._first(key, work)

    async def _first(self, key: Key, work: Callable[[], Awaitable[T]]) -> T:
        slot = self._slots[key] = _Slot[T]()
        finished = slot.done
        try:
            slot.result = await work()
        except Exception as exc:
            slot.error = exc
            raise
        except BaseException:
            del self._slots[key]
            raise
        finally:
            slot.done = None
            if finished is not None:
                finished.set()
        return slot.result

    def forget(self, key: Key) -> None:
        """Let the next who comes do the work again."""
        self._slots.pop(key, None)


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
        close = getattr(listing, "aclose", None)
        if close is not None:
            await close()
