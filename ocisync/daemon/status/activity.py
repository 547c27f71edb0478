"""What runs now: the images of each job, their bytes and their speed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocisync.content.cost import list_charged_tags
from ocisync.model.descriptor import Descriptor
from ocisync.sync.context import Progress

_WINDOW = 10  # seconds over which a speed is measured
_QUIET = 5.0  # seconds without a byte after which that is told


class SpeedMeter:
    """Bytes per second over the last `_WINDOW` seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._began = monotonic()
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_WINDOW + 1)  # a second, and the bytes in it
        self.last = self._began  # when bytes came last

    def add(self, count: int) -> None:
        """So many bytes came now; negative: they are to come again."""
        self.last = self._monotonic()
        second = int(self.last)
        if self._seconds and self._seconds[-1][0] == second:
            count += self._seconds.pop()[1]
        self._seconds.append((second, count))

    def speed(self) -> float:
        """Bytes per second."""
        now = self._monotonic()
        moved = sum(count for second, count in self._seconds if second > now - _WINDOW)
        return max(0.0, moved / min(_WINDOW, max(1.0, now - self._began)))

    def quiet(self) -> float:
        """Seconds since bytes came last."""
        return self._monotonic() - self.last


@dataclass(slots=True)
class BlobProgress:
    """A blob on its way."""

    image: str  # the tag it was first wanted for
    size: int
    moved: int = 0


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs, as it is now."""

    rule: str
    source: str
    target: str
    started: float  # seconds since the epoch
    images: tuple[str, ...]  # tags that are copied now
    done: int  # tags that are done
    failed: int  # of these
    moved: int  # bytes
    known: int  # bytes of the blobs that were begun
    speed: float  # bytes per second
    quiet: float  # seconds since a byte came, with blobs on their way; else 0


class JobActivity(Progress):
    """One job's progress."""

    def __init__(
        self, rule: str, source: str, target: str, end: Callable[[JobActivity], None], beside: Progress
    ) -> None:
        self.rule, self.source, self.target = rule, source, target
        self._beside = beside
        self._started = time.time()
        self._end = end
        self._images: dict[str, None] = {}
        self._blobs: dict[str, BlobProgress] = {}
        self._done = self._failed = 0
        self._known = self._moved = 0
        self._meter = SpeedMeter()

    def tag_started(self, target: str, tag: str) -> None:
        """A tag is being copied."""
        self._beside.tag_started(target, tag)
        self._images[tag] = None

    def tag_finished(self, target: str, tag: str, verdict: str) -> None:
        """A tag is done."""
        self._beside.tag_finished(target, tag, verdict)
        self._images.pop(tag, None)
        self._done += 1
        self._failed += verdict == "failed"

    def blob_started(self, desc: Descriptor) -> None:
        """A blob begins to travel."""
        self._beside.blob_started(desc)
        self._known += desc.size
        self._blobs[desc.digest] = BlobProgress(next(iter(list_charged_tags()), ""), desc.size)

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """Bytes of it came."""
        self._beside.blob_moved(desc, count)
        self._moved += count
        self._meter.add(count)
        if (blob := self._blobs.get(desc.digest)) is not None:
            blob.moved += count

    def blob_finished(self, desc: Descriptor) -> None:
        """It is there, or failed."""
        self._beside.blob_finished(desc)
        self._blobs.pop(desc.digest, None)

    def job_finished(self) -> None:
        """The job has ended."""
        self._beside.job_finished()
        self._end(self)

    def as_running(self) -> RunningJob:
        """The job as it is now."""
        quiet = self._meter.quiet() if self._blobs else 0.0
        return RunningJob(
            self.rule,
            self.source,
            self.target,
            self._started,
            tuple(self._images)[:20],
            self._done,
            self._failed,
            max(0, self._moved),
            max(self._known, self._moved),
            self._meter.speed(),
            quiet if quiet >= _QUIET else 0.0,
        )


class Activity(Progress):
    """The jobs that run; give it to what opens the rules. `beside` is told as well, such as a display of progress."""

    def __init__(self, beside: Progress | None = None) -> None:
        self._beside = beside or Progress()
        self._jobs: dict[JobActivity, None] = {}

    def for_job(self, rule: str, source: str, target: str) -> Progress:
        """A job begins."""
        job = JobActivity(rule, source, target, self._forget, self._beside.for_job(rule, source, target))
        self._jobs[job] = None
        return job

    def held_up(self, reason: str) -> None:
        """A host must be left alone."""
        self._beside.held_up(reason)

    def running(self) -> Sequence[RunningJob]:
        """What runs now, the oldest first."""
        return [job.as_running() for job in self._jobs]

    def _forget(self, job: JobActivity) -> None:
        self._jobs.pop(job, None)
