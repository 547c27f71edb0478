"""Selection and names at the target, between two registries with passwords and TLS, read with skopeo."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.mirrors import Mirror, mirror
from tests.servers.command import run_ocisync
from tests.servers.images import Image, make_image, multi_platform
from tests.servers.tls import Certificate

VERSIONS = ("1.0", "3.4.9", "3.5", "3.9.1", "v3.10", "3.11-rc1", "4.0", "latest", "edge-1")


@pytest.fixture
def pair(tmp_path: Path, certificate: Certificate) -> Iterator[Mirror]:
    """Two empty registries."""
    with mirror(tmp_path, certificate) as opened:
        yield opened


def small(seed: str, **facts: str) -> Image:
    """An image that is quickly pushed."""
    return make_image(seed, layers=1, size=300, **facts)  # type: ignore[arg-type]  # texts are for texts


def gets(pair: Mirror, since: int, pattern: str) -> list[str]:
    """What the source was asked for by GET after so many requests, HEADs and log-ins left out."""
    asked = [one.path for one in pair.source.requests()[since:] if one.method == "GET" and one.status < 400]
    return [path for path in asked if re.search(pattern, path)]


def days_ago(days: float) -> str:
    """A date as configurations have it."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")


def test_tags_by_expressions_versions_and_the_latest(pair: Mirror) -> None:
    images = {tag: small(tag) for tag in VERSIONS}
    pair.fill("team/app", images)
    pair.rules(
        {"source": "from/team/app", "target": "out/all", "tags": {"deny": ["edge-.*"]}},
        {"source": "from/team/app", "target": "out/some", "tags": {"allow": [r"3\..*", "latest"], "deny": [".*rc.*"]}},
        {"source": "from/team/app", "target": "out/range", "tags": {"semver": ">=3.5 <4"}},
        {"source": "from/team/app", "target": "out/newest", "tags": {"semver": ">=3.5 <4", "latest": 2}},
        {"source": "from/team/app", "target": "out/sets", "tag_sets": [{"latest": 1}, {"allow": ["late.*"]}]},
    )
    report = pair.report()
    assert report.verdicts == {"copied"}
    expected = {
        "all": [tag for tag in VERSIONS if tag != "edge-1"],
        "some": ["3.4.9", "3.5", "3.9.1", "latest"],
        "range": ["3.5", "3.9.1", "v3.10"],
        "newest": ["3.9.1", "v3.10"],
        "sets": ["4.0", "latest"],
    }
    for name, tags in expected.items():
        assert pair.mirrored(name) == {tag: images[tag].manifest for tag in tags}, name
    assert pair.planned() == {}


def test_dates_are_learnt_once(pair: Mirror) -> None:
    ages = {"old": 90.0, "month": 29.0, "week": 6.0, "fresh": 0.1}
    images = {tag: small(tag, created=days_ago(age)) for tag, age in ages.items()}
    images["undated"] = small("undated", created="1970-01-01T00:00:00Z")
    pair.fill("app", {**images, "many": multi_platform("many", size=300)})  # of 2024
    pair.rules(
        {"source": "from/app", "target": "out/young", "tags": {"newer_than": "30d"}},
        {"source": "from/app", "target": "out/last", "tags": {"latest": 2, "latest_by": "created", "deny": ["fresh"]}},
    )
    report = pair.report()
    assert pair.mirrored("young").keys() == {"month", "week", "fresh"}
    assert pair.mirrored("last").keys() == {"month", "week"}
    told = report.warnings
    assert [("undated" in one, "do not say when" in one) for one in told] == [(True, True)] * 2
    before = len(pair.source.requests())
    assert pair.report().verdicts == {"unchanged"}
    assert gets(pair, before, "/manifests/|/blobs/") == []
    assert pair.planned() == {}


def test_literal_tags_need_no_listing_and_a_missing_one_is_a_failure_of_its_own(pair: Mirror) -> None:
    pair.fill("app", {"a": small("a"), "b": small("b")})
    pair.rules({"source": "from/app", "target": "out", "tags": {"allow": ["a", "gone"]}})
    finished = run_ocisync("once", "-c", pair.file).expect(1)
    assert "out/app:gone" in finished.stderr
    assert "source.missing" in finished.stderr
    assert pair.mirrored("app").keys() == {"a"}
    assert gets(pair, 0, "/tags/list") == []


def test_images_by_their_digests(pair: Mirror) -> None:
    old, new, other = small("old"), small("new"), small("other")
    pair.fill("app", {"1": old})
    pair.fill("app", {"1": new, "2": other})
    pair.rules(
        {"source": "from/app", "target": "out/pinned", "digests": {"stable": old.digest}, "tags": {"allow": ["2"]}},
        {"source": "from/app", "target": "out/listed", "digests": [old.digest]},
        {"type": "image", "source": f"from/app@{old.digest}", "target": "out/one:fixed"},
        {"type": "image", "source": "from/app:2", "target": "out/two:{tag}-mirror"},
    )
    pair.report()
    assert pair.mirrored("pinned") == {"stable": old.manifest, "2": other.manifest}
    assert pair.mirrored("listed") == {f"digest-{old.digest[7:23]}": old.manifest}
    assert pair.mirrored("one") == {"fixed": old.manifest}
    assert pair.mirrored("two") == {"2-mirror": other.manifest}
    assert pair.planned() == {}


def test_a_whole_registry_with_new_names(pair: Mirror) -> None:
    names = ("library/alpine", "team/app", "team/web", "team/tmp/one", "team/old-db", "x")
    images = {name: {"1": small(name), "v2": small(f"{name} 2")} for name in names}
    for name, tagged in images.items():
        pair.fill(name, tagged)
    everything = {
        "type": "registry",
        "source": "from",
        "target": "out/mirror/{repository}",
        "repositories": {"deny": ["team/tmp/.*", "x"]},
        "rename": {"strip_prefix": "library/", "repositories": {"team/old-(.*)": r"new/\1"}, "tags": {"v(.*)": r"\1"}},
    }
    part = {
        "type": "registry",
        "source": "from/team",
        "target": "out/part/{name}",
        "repositories": {"allow": [".*/web"]},
    }
    pair.rules({**everything, "name": "everything"}, {**part, "name": "part"})
    assert set(pair.planned().values()) == {"copy"}
    pair.report()
    expected = {
        "mirror/alpine": "library/alpine",
        "mirror/team/app": "team/app",
        "mirror/team/web": "team/web",
        "mirror/new/db": "team/old-db",
    }
    for target, name in expected.items():
        assert pair.mirrored(target) == {"1": images[name]["1"].manifest, "2": images[name]["v2"].manifest}, target
    assert pair.mirrored("part/web").keys() == {"1", "v2"}
    catalog = pair.target.client.expect(200, "GET", "/v2/_catalog").body
    assert catalog.count(b"mirror/") == 4
    assert pair.planned() == {}
    pair.fill("team/late", {"1": small("late")})
    assert pair.planned() == {"out/mirror/team/late:1": "copy"}


def test_two_repositories_never_become_one(pair: Mirror) -> None:
    for name in ("one/app", "two/app"):
        pair.fill(name, {"1": small(name)})
    pair.rules({"type": "registry", "source": "from", "target": "out/{name}"})
    report = pair.report()
    assert ["two/app is left out: it would become out/app, as one/app does" in one for one in report.warnings] == [True]
    assert pair.mirrored("app") == {"1": small("one/app").manifest}


def test_images_that_are_too_large_are_left_out(pair: Mirror) -> None:
    images = {"small": small("small"), "large": make_image("large", layers=2, size=20_000)}
    index = multi_platform("index", size=300)
    pair.fill("app", {**images, "index": index})
    pair.rules({"source": "from/app", "target": "out", "max_size": "10KiB"})
    report = pair.report()
    assert pair.mirrored("app") == {"small": images["small"].manifest, "index": index.manifest}
    (warning,) = report.warnings
    assert "larger than 10240 bytes: large (" in warning
    before = len(pair.source.requests())
    pair.report()
    assert gets(pair, before, "/manifests/|/blobs/") == []


def test_a_rule_that_means_nothing_is_warned_about_and_does_not_fail(pair: Mirror) -> None:
    pair.fill("app", {"1": small("app")})
    pair.rules(
        {"name": "tags", "source": "from/app", "target": "out", "tags": {"semver": ">=2"}},
        {"name": "names", "type": "registry", "source": "from", "target": "out", "repositories": {"allow": ["no.*"]}},
    )
    told = pair.report().warnings
    assert sorted(one.rpartition(": ")[2] for one in told) == [
        "no repository matches the rule's selection",
        "no tag matches the rule's selection",
    ]
    for command in ("once", "plan"):
        finished = run_ocisync(command, "-c", pair.file).expect(0)
        assert "no tag matches the rule's selection" in finished.stdout + finished.stderr
