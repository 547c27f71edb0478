"""What is no archive, told by its first bytes."""

from __future__ import annotations

import pytest

from ocisync.stores.archive.other_content import explain_content, explain_folder


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ("manifest.json".encode("utf-16"), "PowerShell"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"<html><body>Sign in", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "LFS"),
        (b"PK\x03\x04\x14\x00", "ZIP"),
    ],
)
def test_common_mistakes_are_named(head: bytes, word: str) -> None:
    assert word in explain_content(head)


@pytest.mark.parametrize("head", [b"", b"no archive at all", bytes(512)])
def test_of_what_nobody_knows_nothing_is_said(head: bytes) -> None:
    assert explain_content(head) == ""


def test_an_image_below_a_folder() -> None:
    assert "app/" in explain_folder({"app/manifest.json", "app/x.tar"}, {"app"})
    assert explain_folder({"app/readme"}, {"app"}) == ""
    assert explain_folder({"app/manifest.json", "other"}, {"app", "other"}) == ""
    assert "\x1b" not in explain_folder({"\x1b[31m/index.json"}, {"\x1b[31m"})
