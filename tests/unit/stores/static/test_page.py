"""The page's parts, and when it is written."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from ocisync.content.object_store import ObjectHeaders
from ocisync.content.openers import BytesOpener
from ocisync.errors import StoreError
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static.page import PAGE_KEY, is_ours, page_body, publish_page, render_page

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SCRIPT = re.compile(r"<script>(.*)</script>", re.DOTALL)


def test_the_policy_lets_only_this_style_and_this_script_run() -> None:
    page = page_body().decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    for pattern, directive in ((_STYLE, "style-src"), (_SCRIPT, "script-src")):
        part = pattern.search(page)
        assert part
        digest = base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; connect-src 'self'")


def test_nothing_is_loaded_from_elsewhere_and_no_markup_is_made_of_texts() -> None:
    page = page_body().decode()
    assert set(re.findall(r"https?://[\w.]+", page)) <= {"http://www.w3.org"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", page)
    assert "{{" not in page
    assert len(page) < 40_000


def _luminance(color: str) -> float:
    full = color if len(color) == 7 else "#" + "".join(2 * digit for digit in color[1:])
    channels = [int(full[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_have_enough_contrast_in_light_and_dark(scheme: int) -> None:
    style = _STYLE.search(page_body().decode())
    assert style
    root = re.findall(r":root \{(.*?)\}", style[1], re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", root))
    for text in ("ink", "soft", "accent", "warn"):
        for behind in ("back", "card", "fill"):
            assert _contrast(colors[text], colors[behind]) >= 4.5, (text, behind)
    assert _contrast(colors["accent"], colors["accent-soft"]) >= 4.5


async def _stored(store: DirectoryStore) -> bytes:
    async with store.open(PAGE_KEY) as (_, stream):
        return b"".join([chunk async for chunk in stream])


async def _put(store: DirectoryStore, body: bytes) -> None:
    await store.put(PAGE_KEY, BytesOpener(body), ObjectHeaders("text/html"), size=len(body))


async def test_it_is_written_once(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, fsync=False)
    assert await publish_page(store)
    assert not await publish_page(store)
    assert await _stored(store) == page_body()


async def test_an_older_page_of_ours_is_replaced(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, fsync=False)
    older = render_page('<meta name="generator" content="ocisync">{{policy}}', "", "")
    assert is_ours(older)
    await _put(store, older)
    assert await publish_page(store)
    assert await _stored(store) == page_body()


async def test_another_page_is_left_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, fsync=False)
    await _put(store, b"<html>my own</html>")
    assert not await publish_page(store)
    assert await _stored(store) == b"<html>my own</html>"


class _Refusing(DirectoryStore):
    async def head(self, key: str) -> None:
        raise StoreError(f"{key}: refused")


async def test_a_page_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    assert not await publish_page(_Refusing(tmp_path))
