"""`python -m tests.defects SEED TIMES run -c FILE`: ocisync whose supervised parts are ended by a defect, TIMES each.

A defect that nobody knows of cannot be had from outside, so this stands in for it: each part works for a moment, and
then something inside of it raises what no code of ocisync expects.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import anyio

from ocisync.cli import main
from ocisync.daemon.push_dispatcher import PushDispatcher
from ocisync.daemon.queue import JobQueue
from ocisync.daemon.scheduler import Scheduler
from ocisync.drop.watcher import DropWatcher

PARTS = (DropWatcher, JobQueue, PushDispatcher, Scheduler)
_DEFECTS = (KeyError("x"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "a half"), RecursionError(), AssertionError())


def add_defects(seed: int, times: int) -> None:
    """Make each part end so many times."""
    rng, met = random.Random(seed), Counter[type]()
    for part in PARTS:
        name = "run" if hasattr(part, "run") else "serve"
        setattr(part, name, _end_by_defect(getattr(part, name), part, rng, met, times))


def _end_by_defect(
    run: Callable[..., Awaitable[object]], part: type, rng: random.Random, met: Counter[type], times: int
) -> Callable[..., Awaitable[None]]:
    @wraps(run)
    async def run_a_while(*arguments: Any) -> None:
        async with anyio.create_task_group() as group:
            if met[part] < times:
                met[part] += 1
                group.start_soon(fail)
            await run(*arguments)
            group.cancel_scope.cancel()

    async def fail() -> None:
        await anyio.sleep(rng.uniform(0.0, 1.0))
        raise rng.choice(_DEFECTS)

    return run_a_while


if __name__ == "__main__":
    add_defects(int(sys.argv[1]), int(sys.argv[2]))
    sys.argv[1:3] = []
    main()
