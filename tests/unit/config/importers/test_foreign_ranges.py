"""Ranges of versions and expressions: what the other tool selects, by its own code, is what the import selects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ocisync.config.importers.detect import convert_file
from ocisync.config.load import parse_config
from ocisync.sync.select import select
from ocisync.wiring.jobs import sync_jobs

TAGS = re.split(
    r"\s+",
    """
    1 1.35 1.35-musl 1.36.0 1.36.0-glibc 1.36.1 v1.36.2 1.36.3.1 1.36.4-rc.1 1.36.5rc1 1.36.6_1 1.36.7-01 1.37
    2 2.0.0 2.0.0-rc1 2.1.0 20240101 latest stable-x x-latest 3f2a91c
""".strip(),
)


def selected(folder: Path, name: str, text: str) -> set[str]:
    (folder / name).write_text(text)
    config = parse_config(convert_file(folder / name).text, folder=folder, environ={})
    return set(select(sync_jobs(config.sync[0], config)[0].tags, TAGS).references)


def regsync(tags: str) -> str:
    return f"sync: [{{source: a.test/x, target: b.test/x, type: repository, tags: {tags}}}]\n"


def dregsy(tags: str, relay: str = "skopeo") -> str:
    places = "source: {registry: s.test}, target: {registry: d.test}"
    mapping = f"{{from: a/x, platform: all, tags: {tags}}}"
    return f"relay: {relay}\ntasks: [{{name: t, interval: 60, {places}, mappings: [{mapping}]}}]\n"


def skopeo(constraint: str) -> str:
    return f"a.test: {{images-by-semver: {{x: '{constraint}'}}}}\n"


def flux(selector: str) -> str:
    artifact = f"{{source: a.test/x, destination: b.test/x, selector: {selector}}}"
    return f"apiVersion: mirror.plugin.fluxcd.io/v1beta2\nkind: Config\nartifacts: [{artifact}]\n"


def zot(tags: str) -> str:
    content = f'{{"Prefix": "x", "Tags": {tags}}}'
    registry = f'{{"URLs": ["https://a.test", "http://a.test"], "PollInterval": "6h", "Content": [{content}]}}'
    server = '"Storage": {"RootDirectory": "/z"}, "HTTP": {}'
    return f'{{{server}, "Extensions": {{"Sync": {{"Registries": [{registry}]}}}}}}'


@pytest.mark.parametrize(
    ("ranges", "brought"),
    [
        # Versions with suffixes count, 1.36.5rc1 is none, and so are 2.0.0-rc1 below 2 and 2 above 1.37.
        ("['>=1.36 <2']", "1.36.0 1.36.1 v1.36.2 1.36.3.1 1.36.4-rc.1 1.36.7-01 1.37 2.0.0-rc1"),
        ("['>1.36']", "1.36.1 v1.36.2 1.36.3.1 1.36.4-rc.1 1.36.7-01 1.37 2 2.0.0 2.0.0-rc1 2.1.0 20240101"),
        ("['^1.36.1']", "1.36.1 v1.36.2 1.36.3.1 1.36.4-rc.1 1.36.7-01 1.37 2.0.0-rc1"),
        ("['~1']", "1"),  # below 1.1.0
        ("['=1.35', '2.0.0-rc1']", "1.35 2.0.0-rc1"),
    ],
)
def test_ranges_of_regsync(ranges: str, brought: str, tmp_path: Path) -> None:
    assert selected(tmp_path, "f.yml", regsync(f"{{semverRange: {ranges}}}")) == set(brought.split())


def test_alternatives_of_regsync_are_bound_at_one_end(tmp_path: Path) -> None:
    assert selected(tmp_path, "f.yml", regsync("{allow: ['stable|latest', '(?i)V1.36.2']}")) == {
        *("stable-x", "latest", "x-latest", "v1.36.2")
    }
    assert selected(tmp_path, "f.yml", regsync("{allow: ['(stable|latest)', '[[:digit:]]']}")) == {"latest", "1", "2"}


@pytest.mark.parametrize(
    ("versions", "brought"),
    [
        # A version with a suffix has three parts, and none has four.
        (">=1.35.0 <1.36.1", "1.35 1.36.0 1.36.0-glibc"),
        ("1.36.x", "1.36.0 1.36.1 v1.36.2 1.36.4-rc.1"),
        (">=1.37.0 <2.0.0 || >2.0.0", "1.37 2.0.0-rc1 2.1.0 20240101"),
    ],
)
def test_ranges_of_dregsy(versions: str, brought: str, tmp_path: Path) -> None:
    assert selected(tmp_path, "f.yml", dregsy(f"['semver: {versions}']")) == set(brought.split())


def test_digests_among_tags_of_dregsy(tmp_path: Path) -> None:
    """Its end-to-end test: a tag with a digest is made at the target, and `keep:` removes neither."""
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    tags = f"['{one}', '1.35.0-uclibc@{two}', 'keep: all.+']"
    assert selected(tmp_path, "f.yml", dregsy(tags, "docker")) == {"dregsy-" + "1" * 64, "1.35.0-uclibc"}
    assert selected(tmp_path, "f.yml", dregsy(tags)) == {"digest-" + "1" * 16, "1.35.0-uclibc"}
    found = convert_file(tmp_path / "f.yml")
    assert f"1.35.0-uclibc: '{two}'" in found.text
    (tmp_path / "f.yml").write_text(dregsy("[latest, 'sha256:1d8a...']"))
    assert "sha256:1d8a... was left out: it is not a digest" in convert_file(tmp_path / "f.yml").left_out[0]


@pytest.mark.parametrize(
    ("constraint", "brought"),
    [
        (">= 1.36.0", "1.36.0 1.36.1 v1.36.2 1.37 2 2.0.0 2.1.0 20240101"),
        (">1.36, <3", "1.37 2 2.0.0 2.1.0"),
        # One suffix in a range lets all versions with a suffix in.
        (">=1.35-0 <2", "1.35 1.35-musl 1.36.0 1.36.0-glibc 1.36.1 v1.36.2 1.36.4-rc.1 1.37 2.0.0-rc1"),
    ],
)
def test_ranges_of_skopeo(constraint: str, brought: str, tmp_path: Path) -> None:
    assert selected(tmp_path, "f.yml", skopeo(constraint)) == set(brought.split())


@pytest.mark.parametrize(
    ("selector", "brought"),
    [
        ('{semver: ">=1.36.0 <2.0.0", limit: 2}', "1.37 v1.36.2"),
        ("{limit: 2}", "20240101 2.1.0"),  # sorted as versions, which it also is without a range
        ("{limit: 0, regex: {pattern: '^1.*6.[4-7]'}}", "1.36.4-rc.1"),
        ("{sortBy: alphabetical, regex: {pattern: '^latest$'}}", "latest"),
    ],
)
def test_selectors_of_flux_mirror(selector: str, brought: str, tmp_path: Path) -> None:
    assert selected(tmp_path, "f.yml", flux(selector)) == set(brought.split())


@pytest.mark.parametrize(
    ("tags", "brought"),
    [
        ('{"semver": true, "regex": "36"}', "1.36.0 1.36.0-glibc 1.36.1 v1.36.2 1.36.4-rc.1"),
        ('{"SemVer": true, "excludeRegex": "^[12]"}', "v1.36.2"),
    ],
)
def test_tags_of_zot_whatever_the_case_of_its_keys(tags: str, brought: str, tmp_path: Path) -> None:
    assert selected(tmp_path, "f.json", zot(tags)) == set(brought.split())


@pytest.mark.parametrize(
    ("glob", "brought"),
    [
        ("a/**", "a a/b a/b/c"),
        ("/a/*", "a/b"),
        ("**/c", "c a/b/c x/c"),
        ("x{y,z}/?", "xy/1 xz/1"),
        ("[a-c]/b", "a/b"),
        ("x**", "xyz"),  # two stars beside other letters are one
        ("**", "a a/b a/b/c c x/c xy/1 xz/1 xyz"),
    ],
)
def test_globs_of_zot(glob: str, brought: str, tmp_path: Path) -> None:
    """Values of the tests of its library."""
    names = ("a", "a/b", "a/b/c", "c", "x/c", "xy/1", "xz/1", "xyz")
    assert {place for place, _ in list_places(tmp_path, names, glob)} == set(brought.split())


def test_the_first_content_that_fits_is_the_one_that_zot_takes(tmp_path: Path) -> None:
    places = list_places(tmp_path, ("a/b", "a/c", "d/e"), "a/b", "d/**", "a/b", "**")
    assert sorted(places) == [("a/b", 0), ("a/c", 2), ("d/e", 1)]


def list_places(folder: Path, names: tuple[str, ...], *prefixes: str) -> list[tuple[str, int]]:
    """Every repository that a rule means, and the rule's number."""
    content = ", ".join(f"{{prefix: '{one}'}}" for one in prefixes)
    registry = f"{{urls: ['https://a.test'], pollInterval: 6h, reqPerSec: 100, content: [{content}]}}"
    (folder / "f.yml").write_text(
        f"storage: {{rootDirectory: /z}}\nextensions: {{sync: {{registries: [{registry}]}}}}\n"
    )
    config = parse_config(convert_file(folder / "f.yml").text, folder=folder, environ={})
    assert config.registries["a.test"].requests_per_second == 100
    found = []
    for number, rule in enumerate(config.sync):
        for name in names:
            allow, deny = rule.repositories.allow or (".*",), rule.repositories.deny
            allowed, denied = (any(re.fullmatch(one, name) for one in some) for some in (allow, deny))
            if allowed and not denied if rule.type == "registry" else rule.source.repository == name:
                found.append((name, number))
    return found
