"""Manifests that a source names by sha512: targets answer for a tag with a sha256, and passes agree on it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.reports import Verdict
from ocisync.sync.run import run_job
from tests.unit.sync.graphs import image, index, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio


def name_by_sha512(source: Recording, desc: Descriptor) -> Descriptor:
    """The same content, known to the source by its sha512 only."""
    data = source.content.pop(desc.digest)[1]
    named = replace(desc, digest=Digest("sha512:" + hashlib.sha512(data).hexdigest()))
    source.content[named.digest] = (named, data)
    return named


@pytest.mark.parametrize("is_index", [False, True])
async def test_passes_converge_and_the_digest_that_a_tag_answers_with_is_there(is_index: bool) -> None:
    source, target = Recording(), Recording()
    child = image(source, b"a layer")
    root = index(source, child) if is_index else child
    tag(source, "1", name_by_sha512(source, root))
    tools = tools_for(source, app=target)
    report = await run_job(job(), tools)
    assert [one.verdict for one in report.tags] == [Verdict.COPIED]
    assert target.tagged["1"].digest == root.digest
    assert root.digest in target.content
    target.events.clear()
    report = await run_job(job(), tools)
    assert [one.verdict for one in report.tags] == [Verdict.UNCHANGED]
    assert target.events == []


async def test_a_tag_that_moves_between_such_manifests_is_copied_again() -> None:
    source, target = Recording(), Recording()
    tools = tools_for(source, app=target)
    for layer in (b"old", b"new"):
        root = image(source, layer)
        tag(source, "1", name_by_sha512(source, root))
        assert (await run_job(job(), tools)).ok
        assert target.tagged["1"].digest == root.digest


async def test_a_full_look_at_such_a_tag_finds_it_right() -> None:
    source, target = Recording(), Recording()
    tag(source, "1", name_by_sha512(source, image(source, b"a layer")))
    tools = tools_for(source, app=target)
    await run_job(job(), tools)
    target.events.clear()
    report = await run_job(job(recheck=0.0), tools)
    assert [one.verdict for one in report.tags] == [Verdict.UNCHANGED]
    assert target.events == []
