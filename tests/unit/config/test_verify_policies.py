"""Who may have signed: what `verify` says of keys, trusted roots and names that cannot be right."""

import json
from pathlib import Path

import pytest

from tests.signatures import KeySigner, Sigstore
from tests.unit.config.support import TARGETS, errors, load

PEOPLE = "keyless: [{issuer: 'https://a.example', identity: x}]"


def text(policy: str, demand: str = "verify: ours", more: str = "") -> str:
    rule = f"sync: [{{source: a.example/x, target: local, {demand}{more}}}]"
    return f"version: 1\n{TARGETS}\nverify: {{ours: {{{policy}}}}}\n{rule}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = Sigstore().trusted_root()
    (tmp_path / "key.pub").write_text(KeySigner().pem)
    (tmp_path / "root.json").write_bytes(root)
    (tmp_path / "client.json").write_text(json.dumps({"trustedRoot": json.loads(root), "signingConfig": {}}))
    (tmp_path / "torn.json").write_bytes(root[:-30])
    (tmp_path / "other.json").write_text('{"hello": "world"}')
    (tmp_path / "empty.json").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "policy",
    [
        "keys: [key.pub]",
        "keys: [{file: ./key.pub}]",
        "keys: [key.pub], trusted_root: root.json",
        f"{PEOPLE}, trusted_root: root.json",
        f"{PEOPLE}, trusted_root: client.json",
        PEOPLE,
    ],
)
def test_good_ones(policy: str, folder: Path) -> None:
    assert list(load(text(policy), folder=folder).verify) == ["ours"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("keys: [none.pub]", "cannot read the key's file"),
        ("keys: [root.json]", "it is not a public key in PEM"),
        ("keys: []", "nothing could satisfy it"),
        (f"{PEOPLE}, trusted_root: none.json", "cannot read"),
        (f"{PEOPLE}, trusted_root: torn.json", "torn.json is not JSON"),
        (f"{PEOPLE}, trusted_root: empty.json", "empty.json is not JSON"),
        (f"{PEOPLE}, trusted_root: other.json", "names neither authorities nor logs"),
        (f"{PEOPLE}, trusted_root: key.pub", "key.pub is not JSON"),
        (f"{PEOPLE}, trusted_root: [root.json]", "expected the file of a trusted root"),
    ],
)
def test_bad_ones(policy: str, told: str, folder: Path) -> None:
    (line,) = errors(text(policy), folder=folder)
    assert line.startswith("c.yaml:3: verify.ours")
    assert told in line


@pytest.mark.parametrize(
    ("demand", "told"),
    [
        ("verify: our", 'no policy is named "our": did you mean "ours"?'),
        ("verify: {any: [ours, theirs]}", 'no policy is named "theirs"'),
        ("verify: []", "it needs `any` or `all`"),
        ("verify: {}", "it needs `any` or `all`"),
        ("verify: {any: [ours], all: [ours]}", "it needs `any` or `all`"),
        ("verify: {any: [ours], else: ignore}", "refuse"),
        ("min_age: {of: 3d, by: log}", "a log knows of signatures only"),
        ("verify: ours, min_age: {of: 3d, by: log}", "has keys only, so nobody tells when they signed"),
    ],
)
def test_bad_demands(demand: str, told: str, folder: Path) -> None:
    (line,) = errors(text("keys: [key.pub]", demand), folder=folder)
    assert line.startswith("c.yaml:4: sync[")
    assert told in line


@pytest.mark.parametrize(
    ("demand", "is_possible"),
    [("ours", True), ("[ours, bare]", True), ("{all: [ours, bare]}", False), ("bare", False)],
)
def test_ages_by_log_need_a_policy_that_has_times(demand: str, is_possible: bool, folder: Path) -> None:
    policies = "keys: [key.pub], trusted_root: root.json}, bare: {keys: [key.pub]"
    whole = text(policies, f"verify: {demand}, min_age: {{of: 3d, by: log}}")
    if is_possible:
        assert load(whole, folder=folder).sync[0].min_age is not None
    else:
        assert 'the policy "bare" has keys only' in errors(whole, folder=folder)[0]
