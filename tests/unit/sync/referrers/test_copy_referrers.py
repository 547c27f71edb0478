"""What goes along with images, over memory: everything that refers to them, once, in order, and bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.errors import NetworkError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import fallback_tag
from ocisync.sync.context import Limits
from ocisync.sync.job import Job
from ocisync.sync.plan import Action
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import Verdict
from ocisync.sync.run import plan_job, run_job
from ocisync.sync.select import TagSelection, TagSet
from tests.unit.sync.graphs import as_json, image, index, put, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

ALL = ReferrerChoice(True, (), True)
NUMBERS = TagSelection(None, (TagSet(("[0-9]+",)),))


class Telling(Recording):
    """A source that tells what it is told to tell, and counts who asked."""

    brings_referrers = False

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[Digest, list[Descriptor]] = {}
        self.asked: list[Digest] = []
        self.resolved: list[str] = []

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """As it is set up."""
        self.asked.append(digest)
        return self.lists.get(digest, [])

    async def resolve(self, reference: str) -> Descriptor:
        """Count, then resolve."""
        self.resolved.append(reference)
        return await super().resolve(reference)


class Referred(Recording):
    """A target that wants to be told, as a registry does."""

    validates = False

    async def is_empty(self) -> bool:
        """Nothing here asks for it: a listing tells."""
        raise AssertionError

    async def rejects_missing_blobs(self) -> bool:
        """It takes what comes."""
        return False

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """Write down."""
        assert all(one.digest in self.content for one in referrers), "told before they are here"
        self.events.append(f"refer {subject} {' '.join(one.digest for one in referrers)}")


def note(source: Telling, subject: Descriptor, text: str, *children: Descriptor, kind: str = "a/note") -> Descriptor:
    """An index that refers to another manifest, may list more, and is told by the source."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "artifactType": kind,
        "manifests": [as_json(child) for child in children],
        "subject": as_json(subject),
        "annotations": {"text": text},
    }
    desc = put(source, json.dumps(document).encode(), media_types.OCI_INDEX)
    source.lists.setdefault(subject.digest, []).append(replace(desc, artifact_type=kind))
    return desc


def wanting(choice: ReferrerChoice = ALL, *literal: str) -> Job:
    named = TagSelection(literal=dict(zip(literal, literal, strict=True)))
    return replace(job(tags=named if literal else NUMBERS), referrers=choice)


async def test_everything_that_refers_arrives_before_the_tag_and_is_told_to_the_target() -> None:
    source, target = Telling(), Referred()
    child = image(source, b"layer")
    root = index(source, child)
    tag(source, "1", root)
    parts = note(source, root, "parts", image(source, b"parts"))
    on_parts, on_child = note(source, parts, "on parts"), note(source, child, "on child")
    signature = image(source, b"signature")
    tag(source, root.digest.replace(":", "-") + ".sig", signature)
    report = await run_job(wanting(), tools_for(source, app=target))
    assert report.ok
    assert target.content.keys() == source.content.keys()
    last = target.events.index(f"tag 1 {root.digest}")
    assert last == len(target.events) - 1
    for subject, one in ((root, parts), (parts, on_parts), (child, on_child)):
        assert f"refer {subject.digest} {one.digest}" in target.events[:last]
    assert f"tag {root.digest.replace(':', '-')}.sig {signature.digest}" in target.events[:last]


async def test_each_digest_is_asked_about_once_and_nothing_when_nothing_is_wanted() -> None:
    source = Telling()
    root = image(source, b"layer")
    for name in "123":
        tag(source, name, root)
    note(source, root, "one")
    await run_job(wanting(), tools_for(source, app=Recording()))
    assert len(source.asked) == len(set(source.asked)) == 2
    source.asked.clear()
    await run_job(wanting(ReferrerChoice()), tools_for(source, app=Recording()))
    assert source.asked == []


@pytest.mark.parametrize("brings", [True, False])
async def test_a_source_that_brings_its_referrers_needs_no_asking_unless_they_are_refused(brings: bool) -> None:
    source, target = Telling(), Recording()
    root = image(source, b"layer")
    tag(source, "1", root)
    one = note(source, root, "one")
    source.brings_referrers = True  # as layouts have it
    await run_job(wanting(ReferrerChoice(None if brings else False)), tools_for(source, app=target))
    assert (one.digest in target.content) is brings


async def test_tags_are_looked_up_one_by_one_only_where_few_images_are_named_literally() -> None:
    source = Telling()
    names = ["1", "2", "3", "4"]
    for name in names:
        tag(source, name, image(source, name.encode()))
    await run_job(wanting(ALL, *names[:1]), tools_for(source, app=Recording()))
    assert len([one for one in source.resolved if one.startswith("sha256-")]) == 3
    source.resolved.clear()
    await run_job(wanting(ALL, *names), tools_for(source, app=Recording()))
    assert sorted(source.resolved) == names


async def test_fault_29_an_index_that_refers_to_what_it_lists_ends() -> None:
    source, target = Telling(), Recording()
    root = image(source, b"layer")
    tag(source, "1", root)
    circle = note(source, root, "and lists it", root)
    report = await run_job(wanting(), tools_for(source, app=target))
    assert report.ok
    assert circle.digest in target.content


async def test_fault_29_lists_that_lie_end() -> None:
    source, target = Telling(), Recording()
    root, other = image(source, b"layer"), image(source, b"other")
    tag(source, "1", root)
    source.lists = {root.digest: [root, other], other.digest: [root, other]}
    report = await run_job(wanting(), tools_for(source, app=target))
    assert report.ok
    assert other.digest in target.content


async def test_fault_29_referrers_nested_too_deep_or_too_many_are_refused() -> None:
    source = Telling()
    root = image(source, b"layer")
    tag(source, "1", root)
    last = root
    for number in range(4):
        last = note(source, last, str(number))
    for limits, told in ((Limits(max_index_depth=3), "nested more than 3"), (Limits(max_graph=3), "more than 3")):
        report = await run_job(wanting(), tools_for(source, limits, app=Recording()))
        assert [one.failure and one.failure.code for one in report.failed] == ["limit.exceeded"]
        assert told in str(report.failed[0].failure)
    assert (await run_job(wanting(), tools_for(source, Limits(max_index_depth=4), app=Recording()))).ok


async def test_a_referrer_that_its_list_names_in_vain_is_left_out() -> None:
    source, target = Telling(), Referred()
    root = image(source, b"layer")
    tag(source, "1", root)
    gone, there = note(source, root, "gone"), note(source, root, "there")
    del source.content[gone.digest]
    assert (await run_job(wanting(), tools_for(source, app=target))).ok
    assert f"refer {root.digest} {there.digest}" in target.events


async def test_a_referrer_that_is_not_whole_stops_its_image_and_no_other() -> None:
    source, target = Telling(), Recording()
    root, other = image(source, b"layer"), image(source, b"other")
    tag(source, "1", root)
    tag(source, "2", other)
    part = image(source, b"a part")
    note(source, root, "not whole", part)
    del source.content[part.digest]
    report = await run_job(wanting(), tools_for(source, app=target))
    assert {one.tag: one.verdict for one in report.tags} == {"1": Verdict.FAILED, "2": Verdict.COPIED}
    assert set(target.tagged) == {"2"}


async def test_a_source_that_cannot_tell_fails_the_image() -> None:
    class Broken(Telling):
        async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
            raise NetworkError("no route")

    source, target = Broken(), Recording()
    tag(source, "1", image(source, b"layer"))
    report = await run_job(wanting(), tools_for(source, app=target))
    assert [one.failure and one.failure.code for one in report.failed] == ["net.unreachable"]
    assert target.tagged == {}


async def test_types_are_those_of_the_list_or_else_of_the_manifest() -> None:
    source, target = Telling(), Recording()
    root = image(source, b"layer")
    tag(source, "1", root)
    wanted, other = note(source, root, "x", kind="a/wanted"), note(source, root, "y", kind="a/other")
    source.lists[root.digest] = [replace(one, artifact_type=None) for one in source.lists[root.digest]]
    await run_job(wanting(ReferrerChoice(True, ("a/wanted",))), tools_for(source, app=target))
    assert wanted.digest in target.content
    assert other.digest not in target.content


@pytest.mark.parametrize("choice", [ReferrerChoice(True), ReferrerChoice(True, ("a/note",))], ids=["all", "types"])
async def test_the_sources_own_list_goes_along_where_the_target_makes_none_and_it_is_whole(
    choice: ReferrerChoice,
) -> None:
    source, target, told = Telling(), Recording(), Referred()
    root = image(source, b"layer")
    tag(source, "1", root)
    own = index(source, note(source, root, "one"))
    tag(source, fallback_tag(root.digest), own)
    selection = replace(job(), referrers=choice)
    for place in (target, told):
        await run_job(selection, tools_for(source, app=place))
    assert (fallback_tag(root.digest) in target.tagged) is (not choice.types)
    assert set(told.tagged) == {"1"}


async def test_what_is_new_is_planned_and_brought_and_then_there_is_peace() -> None:
    source, target = Telling(), Recording()
    root = image(source, b"layer")
    tag(source, "1", root)
    tools = tools_for(source, app=target)
    await run_job(wanting(), tools)
    one = note(source, root, "one")
    (planned,) = (await plan_job(wanting(), tools))[1]
    assert planned.action is Action.REFER
    assert planned.attached is not None
    assert [desc.digest for desc in planned.attached.referrers] == [one.digest]
    report = await run_job(wanting(), tools)
    assert [tag.verdict for tag in report.tags] == [Verdict.COPIED]
    assert one.digest in target.content
    source.opened.clear()
    report = await run_job(wanting(), tools)
    assert [tag.verdict for tag in report.tags] == [Verdict.UNCHANGED]
    assert source.opened == []


async def test_a_signature_that_is_right_already_is_not_published_again() -> None:
    source, target = Telling(), Recording()
    root = image(source, b"layer")
    tag(source, "1", root)
    signature = root.digest.replace(":", "-") + ".sig"
    tag(source, signature, image(source, b"signature"))
    tools = tools_for(source, app=target)
    await run_job(wanting(), tools)
    target.events.clear()
    note(source, root, "something else")
    await run_job(wanting(), tools)
    assert not [event for event in target.events if event.startswith("tag sha256-")]


async def test_memory_repositories_that_tell_nothing_are_no_problem() -> None:
    source, target = MemoryRepository(), Recording()
    tag(source, "1", image(source, b"layer"))
    assert (await run_job(wanting(), tools_for(source, app=target))).ok
