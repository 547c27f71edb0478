"""Rules for whole registries: which repositories they mean, and what each becomes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from ocisync.config.load import parse_config
from ocisync.daemon.schedule import Schedule
from ocisync.errors import RegistryError
from ocisync.sync.context import JobContext
from ocisync.wiring.archives import Archives
from ocisync.wiring.catalog_rules import expand_rule
from ocisync.wiring.session import Session
from ocisync.wiring.stores import StoreFactory

LISTED = ["library/alpine", "team/app", "team/tmp", "x/manifests"]


class Listing(StoreFactory):
    """Stores whose registry has this catalog."""

    asked = 0
    error: RegistryError | None = None

    async def repositories(self, host: str) -> list[str]:
        """The catalog."""
        self.asked += 1
        if self.error:
            raise self.error
        return LISTED


def session(rule: str, folder: Path) -> Session:
    """A session with one rule and two static targets."""
    head = "version: 1\ntargets: {one: {type: static, path: ./one}, two: {type: static, path: ./two}}\nsync:\n"
    config = parse_config(f"{head}  - {rule}\n", folder=folder)
    stores = Listing(config, Archives(config, folder), AsyncExitStack(), lambda _: None)
    return Session(config, stores, JobContext(stores))


@pytest.mark.parametrize(
    ("rule", "places", "catalogs"),
    [
        ("{source: r.io, target: one}", ["one/library/alpine", "one/team/app", "one/team/tmp", "one/x/manifests"], 1),
        (
            "{source: r.io, target: [one, 'two/m/{name}'], repositories: {allow: [team/app]}}",
            ["one/team/app", "two/m/app"],
            0,
        ),
        ("{source: r.io/team, target: one, repositories: {deny: ['.*tmp']}}", ["one/team/app"], 1),
        ("{source: r.io, target: one, repositories: {allow: ['team/.*']}}", ["one/team/app", "one/team/tmp"], 1),
        ("{source: r.io/team, target: one, rename: {strip_prefix: team/}}", ["one/app", "one/tmp"], 1),
        ("{source: r.io/none, target: one}", [], 1),
    ],
)
def test_the_repositories_of_a_rule(rule: str, places: list[str], catalogs: int, tmp_path: Path) -> None:
    opened = session(rule.replace("{", "{type: registry, name: all, ", 1), tmp_path)
    found = anyio.run(expand_rule, Schedule("all", (), 60.0), opened)
    assert [job.lock_name for job in found.jobs] == places
    assert isinstance(opened.stores, Listing)
    assert opened.stores.asked == catalogs
    assert [report.ok for report in found.reports] == ([] if places else [True])
    assert all("no repository matches" in report.warnings[0] for report in found.reports)


def test_a_catalog_that_cannot_be_had_is_a_failed_report(tmp_path: Path) -> None:
    opened = session("{type: registry, name: all, source: r.io, target: one}", tmp_path)
    assert isinstance(opened.stores, Listing)
    opened.stores.error = RegistryError("refused")
    found = anyio.run(expand_rule, Schedule("all", (), 60.0), opened)
    assert found.jobs == ()
    assert [report.failure and report.failure.code for report in found.reports] == ["registry.error"]


def test_other_rules_have_the_jobs_they_always_have(tmp_path: Path) -> None:
    opened = session("{name: one, source: r.io/a, target: one}", tmp_path)
    assert anyio.run(expand_rule, Schedule("one", (), 60.0), opened).jobs == ()
