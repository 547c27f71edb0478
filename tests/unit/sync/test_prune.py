"""What prune removes, and when it refuses to: the decision as a table, and the flow over memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.model.digest import sha256
from ocisync.model.name_mapping import Renaming, Substitution
from ocisync.sync.job import Job, WritePolicy
from ocisync.sync.plan import Action
from ocisync.sync.prune import find_gone
from ocisync.sync.reports import Verdict
from ocisync.sync.run import plan_job, run_job
from ocisync.sync.select import TagSelection, TagSet
from tests.unit.sync.graphs import image, tag
from tests.unit.sync.recording import Recording, job, tools_for

ALL = TagSelection()
NUMBERS = TagSelection(sets=(TagSet(("[0-9]+",)),))
PRUNE = WritePolicy(prune=True)
FORCED = WritePolicy(prune=True, is_forced=True)
RENAMED = TagSelection(rename=Renaming((Substitution("v(.*)", r"\1"),)))
TEN = [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("selection", "policy", "listed", "present", "going", "is_refused"),
    [
        (ALL, WritePolicy(), TEN[1:], TEN, (), False),  # not asked to
        (ALL, PRUNE, TEN, TEN, (), False),
        (ALL, PRUNE, TEN[1:], TEN, ("0",), False),
        (ALL, PRUNE, TEN[2:], TEN, ("0", "1"), False),  # 20 % may go
        (ALL, PRUNE, TEN[3:], TEN, ("0", "1", "2"), True),
        (ALL, replace(PRUNE, is_forced=True), TEN[3:], TEN, ("0", "1", "2"), False),
        (ALL, replace(PRUNE, prune_limit=0.3), TEN[3:], TEN, ("0", "1", "2"), False),
        (ALL, replace(PRUNE, prune_limit=1.0), [], TEN, tuple(TEN), True),  # an empty listing is not believed
        (ALL, replace(PRUNE, is_forced=True), [], TEN, tuple(TEN), False),
        (ALL, PRUNE, [], [], (), False),
        (NUMBERS, PRUNE, TEN, [*TEN, "latest"], (), False),  # outside the rule's selection
        (TagSelection(sets=(TagSet(deny=("0",)),)), PRUNE, TEN[1:], TEN, (), False),
        (TagSelection({"9": "9", "0": "0"}), replace(PRUNE, prune_limit=0.5), TEN[1:], TEN, ("0",), False),
        (TagSelection({"mine": "0"}), replace(PRUNE, prune_limit=1), TEN[1:], [*TEN, "mine"], ("mine",), False),
        (RENAMED, PRUNE, ["v1", "2"], ["1", "2", "3", "4-x"], ("3", "4-x"), True),
        (RENAMED, FORCED, ["v1", "2"], ["1", "2", "3", "4-x"], ("3", "4-x"), False),
        (TagSelection(rename=Renaming(template="{tag}-x")), FORCED, ["1"], ["1-x", "2-x", "3"], ("2-x",), False),
        (TagSelection(pinned={"0": sha256(b"")}), PRUNE, TEN[1:], TEN, (), False),
        (TagSelection({"0": sha256(b"")}), PRUNE, TEN[1:], TEN, (), False),  # an image by its digest moves never
        (ALL, replace(PRUNE, backup="bkup-{tag}"), TEN, [*TEN, "bkup-0"], (), False),
        (ALL, PRUNE, TEN, [*TEN, f"sha256-{'a' * 64}.sig", f"sha256-{'b' * 64}"], (), False),
        (ALL, PRUNE, TEN, [*TEN, f"sha512-{'a' * 64}", f"sha256-{'b' * 64}.of-another-tool"], (), False),
        (ALL, PRUNE, TEN, [*TEN, "sha256-0b"], ("sha256-0b",), False),  # a commit's digits: somebody chose that name
    ],
)
def test_fault_48_what_goes_and_what_is_refused(
    selection: TagSelection,
    policy: WritePolicy,
    listed: list[str],
    present: list[str],
    going: tuple[str, ...],
    is_refused: bool,
) -> None:
    gone = find_gone(selection, policy, listed, present)
    assert (gone.tags, bool(gone.refusal)) == (going, is_refused)


def mirrored(*tags: str) -> tuple[Recording, Recording]:
    """A source, and a target that has two tags more."""
    source, target = Recording(), Recording()
    for name in tags:
        desc = image(source, name.encode())
        tag(source, name, desc)
    for name in (*tags, "gone", "other"):
        tag(target, name, image(target, name.encode()))
    return source, target


def pruning(policy: WritePolicy = PRUNE) -> Job:
    return replace(job(tags=TagSelection(sets=(TagSet(deny=("other",)),))), policy=policy)


@pytest.mark.anyio
async def test_what_the_plan_shows_is_removed_and_nothing_else() -> None:
    source, target = mirrored(*TEN)
    tools = tools_for(source, app=target)
    _, plan = await plan_job(pruning(), tools)
    assert [one.tag for one in plan if one.action is Action.PRUNE] == ["gone"]
    assert "gone" in target.tagged
    report = await run_job(pruning(), tools)
    assert report.ok
    assert [one.tag for one in report.tags if one.verdict is Verdict.PRUNED] == ["gone"]
    assert sorted(target.tagged) == [*TEN, "other"]


@pytest.mark.anyio
async def test_fault_48_a_mass_deletion_is_refused_and_the_tags_are_copied_all_the_same() -> None:
    source, target = mirrored("1", "2")
    report = await run_job(pruning(), tools_for(source, app=target))
    assert report.failure
    assert report.failure.code == "prune.refused"
    assert "1 of 3 tags" in report.failure.message
    assert {one.verdict for one in report.tags} <= {Verdict.COPIED, Verdict.UNCHANGED}
    assert "gone" in target.tagged


class Forgetful(Recording):
    """A source that does not list all that it has."""

    async def tags(self) -> list[str]:
        return [name for name in await super().tags() if name != "gone"]


@pytest.mark.anyio
async def test_fault_48_a_tag_that_the_source_did_not_list_but_has_stays() -> None:
    source, target = Forgetful(), Recording()
    for name in (*TEN, "gone"):
        tag(source, name, image(source, name.encode()))
        tag(target, name, image(target, name.encode()))
    report = await run_job(pruning(), tools_for(source, app=target))
    assert report.ok
    assert "gone" in target.tagged


class Elsewhere(Recording):
    """A target to which another writer comes between the survey and the publication."""

    def __init__(self, source: MemoryRepository) -> None:
        super().__init__()
        self._other = image(self, b"of another writer")
        self._source = source

    async def push_manifests(self, roots: object) -> None:
        del roots
        tag(self, "1", self._other)

    async def touch(self, digest: object) -> bool:
        del digest
        return True

    async def record_missing_images(self, index: object, omitted: object) -> None:
        raise AssertionError(index)

    stale_after = float("inf")


@pytest.mark.anyio
async def test_overwrite_never_spares_what_came_between_the_survey_and_the_publication() -> None:
    source = Recording()
    tag(source, "1", image(source, b"one"))
    target = Elsewhere(source)
    report = await run_job(replace(job(), policy=WritePolicy(overwrite=False)), tools_for(source, app=target))
    assert [(one.tag, one.verdict) for one in report.tags] == [("1", Verdict.KEPT)]
    assert "overwrite: never" in report.tags[0].reason
    assert target.tagged["1"].digest != source.tagged["1"].digest


@pytest.mark.anyio
async def test_a_tag_is_backed_up_before_it_moves_and_only_then() -> None:
    source, target = Recording(), Recording()
    first = image(source, b"one")
    tag(source, "1", first)
    policy = WritePolicy(backup="bkup-{tag}")
    tools = tools_for(source, app=target)
    await run_job(replace(job(), policy=policy), tools)
    assert list(target.tagged) == ["1"]
    second = image(source, b"two")
    tag(source, "1", second)
    await run_job(replace(job(), policy=policy), tools)
    await run_job(replace(job(), policy=policy), tools)
    assert {name: desc.digest for name, desc in target.tagged.items()} == {"1": second.digest, "bkup-1": first.digest}
    assert target.events[-2:] == [f"tag bkup-1 {first.digest}", f"tag 1 {second.digest}"]


@pytest.mark.anyio
async def test_a_backup_whose_name_is_too_long_fails_its_tag_and_leaves_it() -> None:
    source, target = Recording(), Recording()
    long = "x" * 126
    for name, data in ((long, b"new"), ("1", b"one")):
        tag(source, name, image(source, data))
    tag(target, long, image(target, b"old"))
    old = target.tagged[long].digest
    report = await run_job(replace(job(), policy=WritePolicy(backup="bkup-{tag}")), tools_for(source, app=target))
    assert {one.tag: one.verdict for one in report.tags} == {long: Verdict.FAILED, "1": Verdict.COPIED}
    assert target.tagged[long].digest == old
