"""What daemons share out: one rule and one source repository at a time, with all targets of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.model.locator import registry_image
from ocisync.sync.job import Job

WHOLE = ""  # the item of a rule whose repositories are found when it runs


@dataclass(frozen=True, slots=True)
class Unit:
    """Work that one daemon does as a whole: the jobs of a rule that read the same repository.

    They go together because one read serves several targets. `lock` is shared by units that write to the same
    repositories, so that those are never handed out at the same time.
    """

    rule: str
    item: str  # the source, or what a maintenance job is about; `WHOLE`: the rule finds its repositories first
    lock: str
    host: str = ""  # the registry that is read; empty: none
    label: str = ""  # of the daemons that can do it; empty: any


def list_units(schedules: Iterable[Schedule]) -> list[Unit]:
    """The units of schedules, those of registry rules as one each."""
    groups = [(schedule, item, jobs) for schedule in schedules for item, jobs in _group(schedule)]
    component = _join_locks([job.lock_name for job in jobs] for _, _, jobs in groups)
    units = []
    for schedule, item, jobs in groups:
        lock = component[jobs[0].lock_name] if jobs else f"rule {schedule.rule}"
        units.append(Unit(schedule.rule, item, lock, _find_host(jobs), schedule.label))
    return units


def found_units(rule: str, jobs: Sequence[AnyJob]) -> list[Unit]:
    """The units of the repositories that a registry rule has found."""
    groups: dict[str, list[AnyJob]] = {}
    for job in jobs:
        groups.setdefault(item_of(job), []).append(job)
    return [Unit(rule, item, min(job.lock_name for job in own), _find_host(own)) for item, own in groups.items()]


def item_of(job: AnyJob) -> str:
    """What a job's unit is called within its rule."""
    return str(job.source) if isinstance(job, Job) else job.lock_name


def fingerprint(schedules: Iterable[Schedule]) -> str:
    """A name for what the configuration asks for: daemons of another one leave its units alone."""
    told = [
        [one.rule, str(one.interval), repr(one.cron), repr(one.jobs), repr(one.settings), one.label]
        for one in schedules
    ]
    return hashlib.sha256(json.dumps(sorted(told)).encode()).hexdigest()[:16]


def _group(schedule: Schedule) -> Iterator[tuple[str, list[AnyJob]]]:
    if not schedule.jobs:
        yield WHOLE, []
        return
    groups: dict[str, list[AnyJob]] = {}
    for job in schedule.jobs:
        groups.setdefault(item_of(job), []).append(job)
    yield from groups.items()


def _join_locks(groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Lock name -> the name of its component: names that stand together anywhere are of one component.

    The name of a component is that of its first member in the order of the alphabet.
    """
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for names in groups:
        for name in names:
            parent.setdefault(name, name)
        for name in names[1:]:
            first, second = sorted((find(names[0]), find(name)))
            parent[second] = first
    return {name: find(name) for name in parent}


def _find_host(jobs: Sequence[AnyJob]) -> str:
    images = (registry_image(job.source) for job in jobs if isinstance(job, Job))
    return next((image.host for image in images if image), "")
