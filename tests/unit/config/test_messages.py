"""Messages about unknown and missing keys, at every place where a section can stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.config.models import Config
from ocisync.errors import ConfigError

RULE = "source: quay.io/a/b, target: out"
PLACES = {  # a file with `wrong` where it is not known; the place; a key that is known there
    "wrong: 1": ("wrong", "webhooks"),
    "registries: {quay.io: {wrong: 1}}": ("registries[quay.io].wrong", "mirrors"),
    "registries: {quay.io: {ecr: {wrong: 1}}}": ("registries[quay.io].ecr.wrong", "region"),
    "registries: {quay.io: {proxy: {wrong: 1}}}": ("registries[quay.io].proxy.wrong", "username"),
    "defaults: {rate_limit: {wrong: 1}}": ("defaults.rate_limit.wrong", "min"),
    "targets: {out: {type: s3, bucket: b, wrong: 1}}": ("targets.out.wrong", "endpoint"),
    "targets: {out: {type: registry, url: 'https://r', wrong: 1}}": ("targets.out.wrong", "url"),
    "verify: {me: {wrong: 1}}": ("verify.me.wrong", "keyless"),
    "verify: {me: {keyless: [{wrong: 1}]}}": ("verify.me.keyless[0].wrong", "issuer"),
    "drop: [{wrong: 1}]": ("drop[0].wrong", "path"),
    f"sync: [{{{RULE}, tags: {{wrong: 1}}}}]": ("sync[0].tags.wrong", "allow"),
    f"sync: [{{{RULE}, tag_sets: [{{wrong: 1}}]}}]": ("sync[0].tag_sets[0].wrong", "deny"),
    f"sync: [{{{RULE}, min_age: {{of: 3d, wrong: 1}}}}]": ("sync[0].min_age.wrong", "by"),
    f"sync: [{{{RULE}, verify: {{any: [me], wrong: 1}}}}]": ("sync[0].verify.wrong", "else"),
    "bundle: [{wrong: 1}]": ("bundle[0].wrong", "outbox"),
    "webhooks: {hub: {type: dockerhub, wrong: 1}}": ("webhooks.hub.wrong", "secret"),
    "notify: {ops: {type: slack, wrong: 1}}": ("notify.ops.wrong", "url"),
    "archives: {wrong: 1}": ("archives.wrong", "members"),
    "daemon: {wrong: 1}": ("daemon.wrong", "listen"),
    "engine: {type: postgres, wrong: 1}": ("engine.wrong", "dsn"),
}


@pytest.mark.parametrize("text", PLACES)
def test_an_unknown_key_is_told_with_those_that_are_known_there(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"version: 1\n{text}\n", folder=Path("/"), environ={})
    place, known = PLACES[text]
    line = next(line for line in refused.value.message.splitlines() if "unknown key" in line)
    assert f': {place}: unknown key "wrong". Known here: ' in line
    assert known in line.partition("Known here: ")[2].split(", ")


def test_every_section_has_a_place_above() -> None:
    assert {text.partition(":")[0] for text in PLACES} - {"wrong"} == set(Config.model_fields) - {"version"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("bundle: [{}]", "bundle[0].outbox"),
        ("engine: {type: postgres}", "engine.dsn"),
        ("drop: [{}]", "drop[0].path"),
        ("sync: [{}]", "sync[0].source"),
        ("targets: {out: {type: s3}}", "targets.out.bucket"),
        ("verify: {me: {keyless: [{}]}}", "verify.me.keyless[0].issuer"),
        ("notify: {ops: {}}", "notify.ops.type"),
        ("webhooks: {hub: {}}", "webhooks.hub.secret"),
        (f"sync: [{{{RULE}, min_age: {{}}}}]", "sync[0].min_age.of"),
    ],
)
def test_a_missing_key_is_told_with_its_meaning(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"version: 1\n{text}\n", folder=Path("/"), environ={})
    line = next(line for line in refused.value.message.splitlines() if f": {place}: " in line)
    assert "the required key is missing. Add it: " in line
    assert not line.rstrip().endswith("Add it:")
