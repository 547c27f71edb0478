"""What work costs: requests and bytes are counted where they happen, and charged to the tags they were for.

The meter travels with the task and those it starts. What no tag can be charged with, such as a listing, and what comes
from a task of somebody else, counts for the job only, or for whoever asked first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Cost:
    """Requests sent, retries and tokens among them; bytes sent to a target; seconds spent, waiting included."""

    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0


FREE = Cost()  # of what was not worked for; nobody adds to it


@dataclass(slots=True)
class Meter:
    """A job's cost, and its tags' shares."""

    total: Cost = field(default_factory=Cost)
    tags: dict[str, Cost] = field(default_factory=dict)

    def of(self, tag: str) -> Cost:
        """A tag's share; nothing when it was charged with none."""
        return self.tags.get(tag, FREE)


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)
_CHARGED: ContextVar[attribute_cost | None] = ContextVar("charged", default=None)


def count_request() -> None:
    """One more request was sent."""
    for cost in _open_costs():
        cost.requests += 1


def count_bytes(count: int) -> None:
    """So many bytes more were sent to a target."""
    for cost in _open_costs():
        cost.bytes += count


@contextmanager
def measure_cost() -> Iterator[Meter]:
    """Count what a job does inside this context."""
    meter = Meter()
    token = _METER.set(meter)
    began = time.monotonic()
    try:
        yield meter
    finally:
        _METER.reset(token)
        meter.total.seconds += time.monotonic() - began


class attribute_cost:  # noqa: N801 (a context like `measure_cost`; a class costs half of what a generator does, for every tag)
    """Charge these tags, in equal parts, with what is done inside this context; each spends all of its seconds."""

    __slots__ = ("_began", "_token", "spent", "tags")

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tags
        self.spent = Cost()

    def __enter__(self) -> None:
        self._token = _CHARGED.set(self)
        self._began = time.monotonic()

    def __exit__(self, *exc: object) -> None:
        _CHARGED.reset(self._token)
        self.spent.seconds = time.monotonic() - self._began
        _distribute(self.spent, self.tags)


def list_charged_tags() -> Sequence[str]:
    """The tags that are charged with what is done now."""
    charged = _CHARGED.get()
    return charged.tags if charged is not None else ()


def _open_costs() -> Iterator[Cost]:
    meter, charged = _METER.get(), _CHARGED.get()
    if meter is not None:
        yield meter.total
    if charged is not None:
        yield charged.spent


def _distribute(spent: Cost, tags: Sequence[str]) -> None:
    """What does not divide goes to the first ones."""
    meter = _METER.get()
    if meter is None:
        return
    for at, tag in enumerate(tags):
        if (cost := meter.tags.get(tag)) is None:
            cost = meter.tags[tag] = Cost()
        cost.requests += _part(spent.requests, at, len(tags))
        cost.bytes += _part(spent.bytes, at, len(tags))
        cost.seconds += spent.seconds


def _part(whole: int, at: int, parts: int) -> int:
    each, rest = divmod(whole, parts)
    return each + (at < rest)


@dataclass(frozen=True, slots=True)
class PullQuota:
    """What a host said of its limit on pulls: GETs of manifests, as Docker Hub counts; a HEAD costs nothing."""

    host: str
    remaining: int  # pulls
    limit: int | None = None  # pulls in a window
    window: float | None = None  # seconds
    kept: int = 0  # pulls that are left for others

    @property
    def usable(self) -> int:
        """How many pulls may be spent now."""
        return max(0, self.remaining - self.kept)
