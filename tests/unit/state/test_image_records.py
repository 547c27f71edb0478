"""What is remembered of each image."""

from __future__ import annotations

from pathlib import Path

from ocisync.content.cost import Cost
from ocisync.logs import register_secret
from ocisync.model.digest import Digest, sha256
from ocisync.state.image_records import ImageRecord
from ocisync.state.open import open_state
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict

DOWN = Failure("net.unreachable", "registry.example: refused", "retry")


def report(*tags: TagReport, target: str = "target:out/app", failure: Failure | None = None) -> JobReport:
    return JobReport("rule", "docker://r.example/app", target, tags=list(tags), failure=failure)


def tag(name: str, verdict: Verdict = Verdict.UNCHANGED, digest: str = "one", **more: object) -> TagReport:
    return TagReport(name, verdict, "why", Digest(sha256(digest.encode())), **more)  # type: ignore[arg-type]


async def remembered(folder: Path, *reports: JobReport, is_partial: bool = False) -> list[ImageRecord]:
    async with open_state(folder) as state:
        for one in reports:
            await state.images.record(one, is_partial=is_partial)
        return await state.images.of_rule("rule")


async def test_each_image_is_told_with_what_it_cost(tmp_path: Path) -> None:
    copied = tag("1", Verdict.COPIED, cost=Cost(7, 1000, 1.23456))
    failed = TagReport("2", Verdict.FAILED, "why", None, DOWN)
    one, two = await remembered(tmp_path, report(copied, failed))
    assert (one.verdict, one.digest, one.bytes, one.requests, one.seconds) == (
        *("copied", sha256(b"one")),
        *(1000, 7, 1.235),
    )
    assert (two.verdict, two.digest, two.code, two.message) == ("failed", "", DOWN.code, DOWN.message)


async def test_the_last_look_counts_and_an_image_that_stays_is_not_written_again(tmp_path: Path) -> None:
    before = await remembered(tmp_path, report(tag("1", Verdict.FAILED, failure=DOWN), tag("2")))
    after = await remembered(tmp_path, report(tag("1"), tag("2")))
    assert [image.verdict for image in after] == ["unchanged", "unchanged"]
    assert after[0].code == ""
    assert after[0].at > before[0].at
    assert after[1].at == before[1].at
    (moved,) = await remembered(tmp_path, report(tag("2", digest="two")))
    assert (moved.digest, moved.at > before[1].at) == (sha256(b"two"), True)


async def test_what_a_whole_look_no_longer_finds_is_forgotten_at_that_target(tmp_path: Path) -> None:
    await remembered(tmp_path, report(tag("1"), tag("2")), report(tag("1"), target="target:other/app"))
    kept = await remembered(tmp_path, report(tag("2")))
    assert [(image.target, image.tag) for image in kept] == [("target:other/app", "1"), ("target:out/app", "2")]


async def test_a_part_or_a_failure_as_a_whole_tells_nothing_of_the_others(tmp_path: Path) -> None:
    await remembered(tmp_path, report(tag("1"), tag("2")))
    assert len(await remembered(tmp_path, report(tag("1")), is_partial=True)) == 2
    assert len(await remembered(tmp_path, report(failure=DOWN))) == 2


async def test_fault_64_no_secret_gets_into_the_records(tmp_path: Path) -> None:
    register_secret("open-sesame-2")
    lost = Failure("auth.denied", "https://me:open-sesame-2@r.example refused\x1b[2J", "fail")
    (image,) = await remembered(tmp_path, report(tag("1", Verdict.FAILED, failure=lost)))
    assert "open-sesame-2" not in image.message
    assert "\x1b" not in image.message
