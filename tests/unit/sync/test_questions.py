"""How a distant source is asked, by what is known of its tags before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync import resolve
from ocisync.sync.context import Limits
from ocisync.sync.run import plan_job, run_job
from tests.unit.sync.graphs import image, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

ALL = [str(number) for number in range(5)]  # more than are asked for one by one


class Remote(Recording):
    """Writes down how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def resolve(self, reference: str) -> Descriptor:
        """Without anything known."""
        self.asked.append(f"resolve {reference}")
        return await super().resolve(reference)

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """With what it pointed at before."""
        self.asked.append(f"revalidate {reference} {known.digest}")
        return await super().resolve(reference)

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        """With its bytes."""
        self.asked.append(f"pull {reference}")
        found = await super().resolve(reference)
        return found.with_data(self.content[found.digest][1])


def tagged(source: Recording, name: str, note: str = "") -> Descriptor:
    """An image under a tag."""
    desc = image(source, note=f"{name} {note}")
    tag(source, name, desc)
    return desc


def filled() -> tuple[Remote, dict[str, Descriptor]]:
    """A source with five tags."""
    source = Remote()
    return source, {name: tagged(source, name) for name in ALL}


def asked(source: Remote) -> list[str]:
    """What was asked since the last look, in order of the tags."""
    found, source.asked = source.asked, []
    return sorted(found)


async def test_what_the_target_lacks_comes_with_its_tag_and_is_not_read_again() -> None:
    source, images = filled()
    assert (await run_job(job(), tools_for(source, app=Recording()))).ok
    assert asked(source) == [f"pull {name}" for name in ALL]
    assert not {one.digest for one in images.values()} & set(source.opened)


async def test_an_unchanged_tag_is_asked_whether_it_is_what_it_was() -> None:
    source, images = filled()
    tools = tools_for(source, app=Recording())
    await run_job(job(), tools)
    asked(source)
    report = await run_job(job(), tools)
    assert {one.verdict.value for one in report.tags} == {"unchanged"}
    assert asked(source) == [f"revalidate {name} {one.digest}" for name, one in images.items()]


async def test_a_tag_that_moved_is_found_by_that_question() -> None:
    source, _ = filled()
    tools = tools_for(source, app=(target := Recording()))
    await run_job(job(), tools)
    moved = tagged(source, "3", "new")
    await run_job(job(), tools)
    assert target.tagged["3"].digest == moved.digest


async def test_when_a_full_look_is_due_nothing_known_is_believed() -> None:
    source, _ = filled()
    tools = tools_for(source, app=Recording())
    await run_job(job(), tools)
    asked(source)
    await run_job(job(recheck=0.0), tools)
    assert asked(source) == [f"resolve {name}" for name in ALL]


async def test_what_several_targets_want_is_pulled_by_none_of_them_alone() -> None:
    source, _ = filled()
    shared = replace(job(), shares=("here/app", "there/app"))
    await run_job(shared, tools_for(source, app=Recording()))
    assert asked(source) == [f"resolve {name}" for name in ALL]


async def test_a_plan_reads_no_manifest() -> None:
    source, _ = filled()
    _, planned = await plan_job(job(), tools_for(source, app=Recording()))
    assert [one.action.value for one in planned] == ["copy"] * len(ALL)
    assert asked(source) == [f"resolve {name}" for name in ALL]


class Plain:
    """A target as a registry is: it shows its tags and no more, and tells whether it has any."""

    tags_any_content = False
    validates = False

    def __init__(self) -> None:
        self.held = Recording()
        self.exists, self.push, self.publish = self.held.exists, self.held.push, self.held.publish
        self.open, self.tags, self.resolve = self.held.open, self.held.tags, self.held.resolve
        self.looks = 0

    def can_resume_upload(self, size: int) -> bool:
        """As registries answer."""
        return False

    async def is_empty(self) -> bool:
        """Count, and answer."""
        self.looks += 1
        return not self.held.tagged

    async def rejects_missing_blobs(self) -> bool:
        """It takes what comes."""
        return False

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """None is brought in these tests."""
        raise AssertionError(subject)


async def test_a_tag_that_is_left_out_does_not_count_as_one_that_is_there() -> None:
    source, target = Remote(), Plain()
    tag(source, "1", image(source, b"one"))
    tag(source, "2", image(source, b"two" * 1000))
    report = await run_job(replace(job(), largest=1000), tools_for(source, app=target))
    assert [(one.tag, one.verdict.value) for one in report.tags] == [("1", "copied")]
    assert target.looks == 1


async def test_no_more_is_pulled_beforehand_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source, images = filled()
    monkeypatch.setattr(resolve, "_ROOM", 2 * max(one.size for one in images.values()) + 1)
    assert (await run_job(job(), tools_for(source, limits=Limits(images=1), app=Recording()))).ok
    assert [one.split()[0] for one in source.asked] == ["pull"] * 3 + ["resolve"] * 2
    read_later = [name for name, one in images.items() if one.digest in source.opened]
    assert read_later == ALL[2:]
