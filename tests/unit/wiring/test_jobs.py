"""Jobs from sync rules: one per target, and no listing where tags are named literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.config.models import SyncRule
from ocisync.errors import ConfigError
from ocisync.spec.locator import ViewLocator
from ocisync.sync.select import TagSelection
from ocisync.wiring.jobs import sync_jobs

_HEAD = "version: 1\ntargets: {one: {type: static, path: ./one}, two: {type: static, path: ./two}}\nsync:\n"


def rule(text: str, folder: Path) -> SyncRule:
    return parse_config(f"{_HEAD}  - {text}\n", folder=folder).sync[0]


def test_one_job_per_target_with_the_repository_named_there(tmp_path: Path) -> None:
    jobs = sync_jobs(rule("{source: ghcr.io/org/app, target: [one, two/mirror/app], recheck: 1h}", tmp_path))
    assert [job.lock_name for job in jobs] == ["one/org/app", "two/mirror/app"]
    assert {job.recheck for job in jobs} == {3600.0}
    assert {str(job.source) for job in jobs} == {"docker://ghcr.io/org/app"}


@pytest.mark.parametrize(
    ("rule_text", "selection"),
    [
        ("{source: alpine, target: one}", TagSelection()),
        ('{source: "alpine:3.19", target: one}', TagSelection(literal={"3.19": "3.19"})),
        ("{source: alpine, target: one, tags: {allow: [latest]}}", TagSelection(literal={"latest": "latest"})),
        (r"{source: alpine, target: one, tags: {allow: ['3\.19']}}", TagSelection(literal={"3.19": "3.19"})),
        ("{source: alpine, target: one, tags: {allow: ['3.19']}}", TagSelection(allow=("3.19",))),
        (r"{source: alpine, target: one, tags: {allow: ['3\..*']}}", TagSelection(allow=(r"3\..*",))),
        ("{source: alpine, target: one, tags: {allow: [a, 'b|c']}}", TagSelection(allow=("a", "b|c"))),
        ("{source: alpine, target: one, tags: {allow: [a], deny: [b]}}", TagSelection(allow=("a",), deny=("b",))),
    ],
)
def test_literal_tags_need_no_listing(rule_text: str, selection: TagSelection, tmp_path: Path) -> None:
    (job,) = sync_jobs(rule(rule_text, tmp_path))
    assert job.tags == selection


def test_a_rule_with_a_format_sees_its_source_through_a_view(tmp_path: Path) -> None:
    (job,) = sync_jobs(rule("{source: ghcr.io/a, target: one, format: docker, drop_signatures: true}", tmp_path))
    assert isinstance(job.source, ViewLocator)
    assert (job.source.format, job.source.drop_signatures) == ("docker", True)
    assert str(job.source) == "docker://ghcr.io/a as docker"


def test_signatures_are_not_dropped_without_a_conversion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only dropped by a conversion"):
        rule("{source: ghcr.io/a, target: one, drop_signatures: true}", tmp_path)
