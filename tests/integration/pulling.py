"""A loop that keeps pulling a tag while something goes wrong: every pull gets the old or the new image, whole."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.integration.mainjob import Place, walk


@dataclass
class Pulls:
    """What was pulled so far."""

    digests: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


@contextmanager
def pulling(place: Place, name: str, tag: str, allowed: set[str]) -> Iterator[Pulls]:
    """Pull again and again until the block's end; then every pull must have been whole, and one of those allowed."""
    pulls, ended = Pulls(), threading.Event()

    def pull() -> None:
        while not ended.is_set() or not pulls.digests:
            try:
                pulls.digests.append(next(iter(walk(place, name, tag))))
            except BaseException as error:  # noqa: BLE001 (raised below, in the test's own thread)
                pulls.errors.append(error)
                return

    thread = threading.Thread(target=pull)
    thread.start()
    try:
        yield pulls
    finally:
        ended.set()
        thread.join()
    if pulls.errors:
        raise pulls.errors[0]
    assert set(pulls.digests) <= allowed
