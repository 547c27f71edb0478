"""Rules about bundles that cannot do what they say are refused."""

from pathlib import Path

import pytest

from ocisync.config.load import parse_config
from ocisync.errors import ConfigError

HEAD = "version: 1\ntargets: {t: {type: static, path: r}}\nsync:\n- {name: app, source: a.example/x, target: t/x}\n"
ENGINE = "engine: {type: postgres, dsn: postgresql://h/d}\n"
BUNDLE = "bundle:\n- {name: mirror, rules: [app], outbox: out}\n"


def check(text: str) -> str:
    """What is wrong; empty when nothing is."""
    try:
        parse_config(HEAD + text, folder=Path("/"))
    except ConfigError as exc:
        return exc.message
    return ""


def test_a_bundle_is_of_rules_that_are_there() -> None:
    assert check(BUNDLE) == ""
    assert "no sync rule is named 'other'" in check(BUNDLE.replace("[app]", "[app, other]"))
    assert "belong together" in check(BUNDLE.replace("outbox: out", "outbox: out, base: receipt"))


def test_several_daemons_write_bundles() -> None:
    assert check(ENGINE + BUNDLE) == ""


@pytest.mark.parametrize(
    ("more", "bundles", "words"),
    [
        ("", "{receipts: back}", ""),
        ("", "{}", "write `receipts`"),
        ("label: here, ", "{receipts: back}", ""),
    ],
)
def test_several_daemons_take_bundles_from_shared_folders(more: str, bundles: str, words: str) -> None:
    drop = f"drop:\n- {{name: d, path: in, target: t, {more}bundles: {bundles}}}\n"
    said = check(ENGINE + drop)
    assert words in said if words else said == ""
    assert check(drop.replace(more, "")) == ""
