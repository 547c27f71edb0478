"""What fails now: an image, a job or an input stays listed until it went well, or its rule is gone."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ocisync.drop.rule import InputReport
from ocisync.logs import clean
from ocisync.state.image_records import ImageRecord
from ocisync.sync.reports import STOPPED, Failure, JobReport, RunReport

MOST = 500
_SLACK = 1.0  # seconds; the clock may have been set by a little meanwhile


@dataclass(frozen=True, slots=True)
class FailureNow:
    """What fails, and why."""

    at: float  # seconds since the epoch: when it failed last
    rule: str
    what: str  # an image, a repository or a file
    code: str
    message: str


@dataclass(slots=True)
class Failures:
    """What failed last and did not go well since, of at most `MOST` things: the oldest are forgotten."""

    _known: dict[tuple[str, str], FailureNow] = field(default_factory=dict)

    def load(self, images: Collection[ImageRecord]) -> None:
        """Take what failed before the start."""
        for image in sorted(images, key=lambda one: one.at):
            self._put(
                image.rule, _name_image(image.target, image.tag), Failure(image.code, image.message, ""), image.at
            )

    def observe_job(self, report: JobReport) -> None:
        """Take what a job came to."""
        place = report.target.removeprefix("target:")
        self._take(report.rule, place, report.failure)
        for tag in report.tags:
            self._take(report.rule, _name_image(report.target, tag.tag), tag.trouble)

    def observe_run(self, run: RunReport) -> None:
        """Forget what a whole run of a rule did not meet again: its image is gone, or no longer selected."""
        began = time.time() - run.seconds - _SLACK
        for key in [key for key, one in self._known.items() if one.rule == run.rule and one.at < began]:
            del self._known[key]

    def observe_input(self, report: InputReport) -> None:
        """Take what became of an input."""
        for job in report.jobs:  # the input tells it, once
            self._known.pop((job.rule, job.target.removeprefix("target:")), None)
            for tag in job.tags:
                self._known.pop((job.rule, _name_image(job.target, tag.tag)), None)
        self._take(report.rule, report.key, report.failure)

    def list_newest(self, rules: Collection[str]) -> Sequence[FailureNow]:
        """What fails of these rules, the newest first."""
        for key in [key for key in self._known if key[0] not in rules]:
            del self._known[key]
        return sorted(self._known.values(), key=lambda one: -one.at)

    def _take(self, rule: str, what: str, failure: Failure | None) -> None:
        if failure is None:
            self._known.pop((rule, what), None)
        elif failure.code != STOPPED:
            self._put(rule, what, failure, time.time())

    def _put(self, rule: str, what: str, failure: Failure, at: float) -> None:
        self._known.pop((rule, what), None)
        self._known[rule, what] = FailureNow(at, rule, what, failure.code, clean(failure.message))
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]


def _name_image(target: str, tag: str) -> str:
    return f"{target.removeprefix('target:')}:{tag}"
