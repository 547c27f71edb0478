"""What daemons share out, and which units may not be handed out together."""

from __future__ import annotations

from ocisync.daemon.schedule import Schedule
from ocisync.engine.units import WHOLE, Unit, fingerprint, found_units, list_units
from ocisync.model.locator import TargetLocator, parse_locator
from ocisync.sync.job import Job


def _job(rule: str, source: str, target: str) -> Job:
    return Job(rule, parse_locator(f"docker://registry.example/{source}"), TargetLocator("t", target))


def _schedule(rule: str, *jobs: Job, interval: float = 60.0) -> Schedule:
    return Schedule(rule, jobs, interval)


def test_the_targets_of_one_source_are_one_unit() -> None:
    [unit] = list_units([_schedule("r", _job("r", "app", "a"), _job("r", "app", "b"))])
    assert (unit.rule, unit.item, unit.host) == ("r", "docker://registry.example/app", "registry.example")


def test_sources_of_one_rule_are_units_of_their_own() -> None:
    units = list_units([_schedule("r", _job("r", "app", "a"), _job("r", "base", "b"))])
    assert [unit.item for unit in units] == ["docker://registry.example/app", "docker://registry.example/base"]
    assert len({unit.lock for unit in units}) == 2


def test_units_that_write_to_one_target_share_a_lock_also_through_others() -> None:
    first = _schedule("r", _job("r", "one", "a"), _job("r", "one", "b"))
    second = _schedule("s", _job("s", "two", "b"), _job("s", "two", "c"))
    third = _schedule("u", _job("u", "three", "c"))
    other = _schedule("v", _job("v", "four", "d"))
    locks = {unit.rule: unit.lock for unit in list_units([third, first, other, second])}
    assert locks["r"] == locks["s"] == locks["u"] == TargetLocator("t", "a").lock_name
    assert locks["v"] != locks["r"]


def test_a_rule_that_finds_its_repositories_is_one_unit_until_it_has_found_them() -> None:
    assert list_units([_schedule("all")]) == [Unit("all", WHOLE, "rule all")]
    found = found_units("all", [_job("all", "app", "x"), _job("all", "app", "y"), _job("all", "base", "z")])
    assert [(unit.item.rpartition("/")[2], unit.host) for unit in found] == [
        ("app", "registry.example"),
        ("base", "registry.example"),
    ]


def test_the_fingerprint_follows_what_is_asked_for_and_not_its_order() -> None:
    one, two = _schedule("r", _job("r", "app", "a")), _schedule("s", _job("s", "base", "b"))
    assert fingerprint([one, two]) == fingerprint([two, one])
    assert fingerprint([one]) != fingerprint([_schedule("r", _job("r", "app", "a"), interval=61.0)])
    assert fingerprint([one]) != fingerprint([_schedule("r", _job("r", "app", "b"))])
