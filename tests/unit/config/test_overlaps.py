"""Two rules that write one tag are refused; rules that may differ are not."""

from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.errors import ConfigError

TARGET = "version: 1\ntargets: {t: {type: static, path: r}}\nsync:\n"


def told(*rules: str) -> str:
    """What is wrong with rules; empty when nothing is."""
    text = TARGET + "".join(f"- {{name: r{number}, {rule}}}\n" for number, rule in enumerate(rules))
    try:
        parse_config(text, folder=Path("/"))
    except ConfigError as exc:
        return exc.message
    return ""


ALL = "source: a.example/x, target: t/x"


@pytest.mark.parametrize(
    ("rule", "tag"),
    [
        ("source: b.example/x, target: t/x", "every tag"),
        ("source: b.example/y, target: t/x, tags: {allow: ['1\\..*']}", "some tags"),
        ("source: 'b.example/x:edge', target: t/x", "edge"),
        ("source: 'b.example/x:edge', type: image, target: t/x", "edge"),
        ("source: b.example/x, target: t/x, tags: {allow: [stable, edge]}", "stable"),
        ("source: 'b.example/x:1', target: 't/x:stable'", "stable"),
        ("source: b.example/x, target: t/x, digests: {v1: 'sha256:" + "a" * 64 + "'}", "v1"),
        ("source: a.example/x, target: t/x, platforms: [linux/arm64]", "every tag"),  # the same source, other content
        ("source: a.example/x, target: t/x, format: oci", "every tag"),
        ("source: 'a.example/x:1.0', target: 't/x:stable'", "stable"),  # there it is what the source calls stable
    ],
)
def test_what_a_rule_for_all_tags_meets(rule: str, tag: str) -> None:
    for rules in ((ALL, rule), (rule, ALL)):
        message = told(*rules)
        assert f"sync[1].target: sync[0] writes {tag} of t/x too, from " in message
        assert message.startswith("ocisync.yaml:5:")


@pytest.mark.parametrize(
    "rule",
    [
        "source: b.example/x, target: t/y",
        "source: b.example/x, target: 't/x:{tag}-b'",
        "source: a.example/x, target: t/x, tags: {allow: [edge]}, interval: 5m",  # the same image, more often
        "source: a.example/x, target: t/x, tags: {latest: 3}",
        "source: b.example/x, target: t/x, enabled: false",
        "source: b.example, type: registry, target: 't/{repository}'",
    ],
)
def test_what_it_does_not_meet(rule: str) -> None:
    assert told(ALL, rule) == ""


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        ("tags: {allow: ['1\\..*']}", "tags: {allow: ['2\\..*']}", False),  # nobody knows the sources' tags
        ("tags: {allow: ['v.*']}", "tags: {allow: [v1]}", True),
        ("tags: {allow: ['v.*'], deny: [v1]}", "tags: {allow: [v1]}", False),
        ("tags: {semver: '>=1'}", "tags: {allow: ['1\\.2']}", True),
        ("tags: {semver: '>=2'}", "tags: {allow: ['1\\.2']}", False),
        ("tags: {allow: ['v.*'], latest: 2}", "tags: {allow: [v1]}", False),  # it may not be among the latest
        ("tag_sets: [{allow: ['a.*']}, {allow: ['b.*']}]", "tags: {allow: [b1]}", True),
        ("tags: {allow: [a]}, rename: {tags: {a: b}}", "tags: {allow: [b]}", True),
        ("tags: {allow: [a]}, rename: {tags: {a: b}}", "tags: {allow: [a]}", False),
    ],
)
def test_selections_of_two_sources(one: str, other: str, is_refused: bool) -> None:
    rules = (f"source: a.example/x, target: t/x, {one}", f"source: b.example/x, target: t/x, {other}")
    assert bool(told(*rules)) is is_refused


def test_one_of_several_targets_is_enough() -> None:
    assert "of t/x too" in told("source: a.example/x, target: [t/y, t/x]", "source: b.example/x, target: t/x")
