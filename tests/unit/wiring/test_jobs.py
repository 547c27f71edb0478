"""Jobs from sync rules: one per target, no listing where tags are named literally, names at the target."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.errors import ConfigError
from ocisync.model.digest import Digest
from ocisync.model.locator import ViewLocator
from ocisync.model.name_mapping import Renaming, Substitution
from ocisync.model.platform import Platform
from ocisync.model.platform_filter import PlatformChoice
from ocisync.model.versions import parse_range
from ocisync.sync.job import Job
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.select import TagSelection, TagSet
from ocisync.wiring.jobs import repository_jobs, sync_jobs

_HEAD = """version: 1
targets:
  one: {type: static, path: ./one}
  two: {type: static, path: ./two}
  inner: {type: registry, url: "https://r.example"}
sync:
"""
DIGEST = Digest("sha256:" + "5" * 64)
PINNED = f"digest-{'5' * 16}"


def jobs_of(text: str, folder: Path, repository: str = "") -> list[Job]:
    """The jobs of one rule; of one repository of its registry, when that is given."""
    config = parse_config(f"{_HEAD}  - {text}\n", folder=folder)
    (rule,) = config.sync
    if not repository:
        return sync_jobs(rule, config)
    return repository_jobs(rule, config, type(rule.source)(rule.source.host, repository))


def test_one_job_per_target_with_the_repository_named_there(tmp_path: Path) -> None:
    jobs = jobs_of("{source: ghcr.io/org/app, target: [one, two/mirror/app], recheck: 1h}", tmp_path)
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
        ("{source: alpine, target: one, tags: {allow: ['3.19']}}", TagSelection(sets=(TagSet(("3.19",)),))),
        (r"{source: alpine, target: one, tags: {allow: ['3\..*']}}", TagSelection(sets=(TagSet((r"3\..*",)),))),
        ("{source: alpine, target: one, tags: {allow: [a, 'b|c']}}", TagSelection(sets=(TagSet(("a", "b|c")),))),
        ("{source: alpine, target: one, tags: {allow: [a], deny: [b]}}", TagSelection(sets=(TagSet(("a",), ("b",)),))),
        (
            "{source: alpine, target: one, tags: {allow: [a], latest: 2}}",
            TagSelection(sets=(TagSet(("a",), latest=2),)),
        ),
        (
            "{source: alpine, target: one, tags: {semver: '>=3', latest: 2, latest_by: created, newer_than: 1d}}",
            TagSelection(sets=(TagSet((), (), parse_range(">=3"), 2, "created", 86400.0),)),
        ),
        (
            "{source: alpine, target: one, tag_sets: [{allow: [a]}, {allow: [b]}]}",
            TagSelection(literal={"a": "a", "b": "b"}),
        ),
        (
            "{source: alpine, target: one, tags: {deny: [x]}, tag_sets: [{allow: [b]}]}",
            TagSelection(sets=(TagSet((), ("x",)), TagSet(("b",)))),
        ),
        (f"{{source: alpine, target: one, digests: ['{DIGEST}']}}", TagSelection(literal={}, pinned={PINNED: DIGEST})),
        (
            f"{{source: alpine, target: one, tags: {{latest: 1}}, digests: {{stable: '{DIGEST}'}}}}",
            TagSelection(sets=(TagSet(latest=1),), pinned={"stable": DIGEST}),
        ),
        ("{type: image, source: 'alpine:3', target: one}", TagSelection(literal={"3": "3"})),
        (f"{{type: image, source: 'alpine@{DIGEST}', target: one}}", TagSelection(literal={PINNED: DIGEST})),
        (f"{{type: image, source: 'alpine:3@{DIGEST}', target: one}}", TagSelection(literal={"3": DIGEST})),
        (f"{{type: image, source: 'alpine@{DIGEST}', target: 'one/a:fixed'}}", TagSelection(literal={"fixed": DIGEST})),
        ("{source: 'alpine:3', target: 'one/a:{tag}-x'}", TagSelection(literal={"3-x": "3"})),
        (
            r"{source: alpine, target: 'one/a:{tag}-x', rename: {tags: {'v(.*)': '\1'}}}",
            TagSelection(rename=Renaming((Substitution("v(.*)", r"\1"),), "{tag}-x")),
        ),
    ],
)
def test_what_a_rule_selects(rule_text: str, selection: TagSelection, tmp_path: Path) -> None:
    (job,) = jobs_of(rule_text, tmp_path)
    assert job.tags == selection


@pytest.mark.parametrize(
    ("rule_text", "repository"),
    [
        ("{source: 'docker.io/library/alpine', target: 'one/mirror/{repository}'}", "mirror/library/alpine"),
        ("{source: 'docker.io/library/alpine', target: 'one/mirror/{name}'}", "mirror/alpine"),
        ("{source: alpine, target: 'one/m/{repository}', rename: {strip_prefix: library/}}", "m/alpine"),
        ("{source: alpine, target: one, rename: {strip_prefix: library/}}", "alpine"),
        (r"{source: r.io/a/old-x, target: one, rename: {repositories: {'a/old-(.*)': 'b/new-\1'}}}", "b/new-x"),
        (r"{source: r.io/a/y, target: one, rename: {repositories: {'a/old-(.*)': 'b/new-\1'}}}", "a/y"),
    ],
)
def test_repositories_get_their_new_names(rule_text: str, repository: str, tmp_path: Path) -> None:
    (job,) = jobs_of(rule_text, tmp_path)
    assert job.target.repository == repository


def test_a_whole_registry_has_no_jobs_before_it_is_asked(tmp_path: Path) -> None:
    text = "{type: registry, source: 'r.io:5000', target: 'one/{repository}', tags: {allow: [latest]}}"
    assert jobs_of(text, tmp_path) == []
    (job,) = jobs_of(text, tmp_path, "team/app")
    assert (str(job.source), job.lock_name) == ("docker://r.io:5000/team/app", "one/team/app")
    assert job.tags == TagSelection(literal={"latest": "latest"})


def test_platforms_keep_the_index_at_static_targets_and_make_a_new_one_at_registries(tmp_path: Path) -> None:
    text = "{source: r.io/a, target: [one, inner], platforms: [linux/arm64], rewrite_index: true, max_size: 1KiB}"
    static, registry = jobs_of(text, tmp_path)
    choice = PlatformChoice((Platform("linux", "arm64"),))
    assert static.platforms == registry.platforms == choice
    assert static.largest == registry.largest == 1024
    assert str(static.source) == "docker://r.io/a"
    assert isinstance(registry.source, ViewLocator)
    assert registry.source.images == choice


def test_a_rule_with_a_format_sees_its_source_through_a_view(tmp_path: Path) -> None:
    (job,) = jobs_of("{source: ghcr.io/a, target: one, format: docker, drop_signatures: true}", tmp_path)
    assert isinstance(job.source, ViewLocator)
    assert (job.source.format, job.source.drop_signatures) == ("docker", True)
    assert str(job.source) == "docker://ghcr.io/a as docker"


@pytest.mark.parametrize(
    ("rule_text", "message"),
    [
        ("{source: ghcr.io/a, target: one, drop_signatures: true}", "only dropped by a conversion"),
        (
            "{type: registry, source: r.io, target: one/all}",
            "would become one. Write one/{repository}",
        ),
        ("{type: registry, source: 'r.io/a:1', target: one}", "a registry has no tag or digest"),
        (f"{{type: registry, source: r.io, target: one, digests: ['{DIGEST}']}}", "a digest is in one repository"),
        ("{source: r.io/a, target: one, repositories: {allow: [a]}}", "Add `type: registry`"),
        ("{type: image, source: r.io/a, target: one}", "an image needs a tag or a digest"),
        ("{type: image, source: 'r.io/a:1', target: one, tags: {latest: 1}}", "means the one image"),
        ("{source: 'r.io/a:1', target: one, tag_sets: [{latest: 1}]}", "the source names the one tag 1 already"),
        ("{source: r.io/a, target: one, tags: {semver: latest}}", "is not a range of versions"),
        ("{source: r.io/a, target: one, tags: {latest_by: created}}", "without `latest` there is nothing to order"),
        ("{source: r.io/a, target: one, tags: {newer_than: 0s}}", "no image can be that new"),
        ("{source: r.io/a, target: one, max_size: 0}", "no image can be that small"),
        ("{source: r.io/a, target: inner, platforms: [linux/amd64]}", "`rewrite_index: true` for a new index"),
        ("{source: r.io/a, target: [one, inner/x], attestations: none}", "inner is a registry: most refuse"),
        ("{source: r.io/a, target: inner, rewrite_index: true}", "without `platforms` every index stays whole"),
        ("{source: r.io/a, target: 'one/{registry}'}", "the placeholders are {repository}, {name}"),
        ("{source: r.io/a, target: 'one/A'}", "is not a repository name"),
        (r"{source: r.io/a, target: one, rename: {tags: {'v(.*)': '\2'}}}", "does not fit the expression"),
        ("{source: r.io/a, target: one, rename: {tags: {'v(': 'x'}}}", "cannot be compiled"),
        ("{source: r.io/a, target: one, rename: {repositories: {'a': 'A'}}}", "make no repository's name"),
        ("{source: r.io/a, target: one, digests: {'-x': 'sha256:0'}}", "is not a tag"),
        ("{source: r.io/a, target: one, digests: [latest]}", "digest"),
        ("{source: r.io/a, target: one, platforms: [amd64]}", "is not a platform"),
        ("{source: r.io/a, target: one, latest: 3}", "it belongs under `tags:`"),
        ("{source: r.io/a, target: one, tagSets: []}", "did you mean"),
    ],
)
def test_what_contradicts_itself_is_told(rule_text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs_of(rule_text, tmp_path)
    assert message in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize(
    ("written", "choice"),
    [
        ("", ReferrerChoice(False)),
        ("referrers: false", ReferrerChoice(False)),
        ("referrers: true", ReferrerChoice(True)),
        ("referrers: {types: [a/b, c/d]}, digest_tags: true", ReferrerChoice(True, ("a/b", "c/d"), True)),
    ],
)
def test_what_goes_along(written: str, choice: ReferrerChoice, tmp_path: Path) -> None:
    (job,) = jobs_of(f"{{source: ghcr.io/a, target: one, {written}}}", tmp_path)
    assert job.referrers == choice


def test_foreign_layers_are_another_scope(tmp_path: Path) -> None:
    (plain,) = jobs_of("{source: ghcr.io/a, target: one}", tmp_path)
    (job,) = jobs_of("{source: ghcr.io/a, target: one, include_external: true}", tmp_path)
    assert (plain.include_external, plain.scope) == (False, "")
    assert job.include_external
    assert job.scope != plain.scope


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("referrers: all", "expected true, false or types, found text"),
        ("referrers: [a/b]", "Write `true`, or `{types: [application/spdx+json]}`"),
        ("referrers: {type: a/b}", 'unknown key "type"'),
        ("referrers: {}", "`types` needs a list"),
        ("referrers: {types: []}", "`types` needs a list"),
        ("referrers: {types: [1]}", "`types` needs a list"),
        ("digest_tags: cosign", "digest_tags"),
        ("referrers: true, format: oci", "no longer fits once `format` changed its digest"),
        ("digest_tags: true, format: oci", "no longer fits once `format` changed its digest"),
    ],
)
def test_what_cannot_go_along(written: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs_of(f"{{source: ghcr.io/a, target: one, {written}}}", tmp_path)
    assert told in caught.value.message
