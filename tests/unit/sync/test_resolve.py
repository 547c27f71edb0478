"""What a job is about, over memory: facts are looked up only when a rule asks, and nothing is read twice."""

from __future__ import annotations

import json

import pytest

from ocisync.errors import NotFound
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.platform import Platform, parse_platform
from ocisync.model.platform_filter import PlatformChoice
from ocisync.sync.job import Job
from ocisync.sync.ledger import MemoryLedger
from ocisync.sync.resolve import ResolvedTags, TagResolver, describe_unwanted
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection, TagSet
from tests.unit.sync.graphs import as_json, put, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

DAY = 86400.0
NOW = 1_750_000_000.0  # in June 2025
YOUNG = TagSelection(sets=(TagSet(newer_than=30 * DAY),))


def image(source: Recording, name: str, created: str = "", platform: str = "linux/amd64", size: int = 10) -> Descriptor:
    """An image with a date."""
    os, _, architecture = platform.partition("/")
    facts = {"os": os, "architecture": architecture, "note": name} | ({"created": created} if created else {})
    config = put(source, json.dumps(facts).encode(), media_types.OCI_CONFIG)
    layer = put(source, name.encode() * size, media_types.OCI_LAYER)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": as_json(config),
        "layers": [as_json(layer)],
    }
    return put(source, json.dumps(document).encode(), media_types.OCI_MANIFEST)


def index(source: Recording, *children: tuple[Descriptor, str]) -> Descriptor:
    """An index of images for platforms."""
    entries = [
        {**as_json(child), "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True))}
        for child, platform in children
    ]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return put(source, json.dumps(document).encode(), media_types.OCI_INDEX)


def asking(selection: TagSelection | None = None, *platforms: str, largest: int = 0) -> Job:
    """A job that asks for facts."""
    plain = job(tags=selection)
    choice = PlatformChoice(tuple(map(parse_platform, platforms)))
    return Job(plain.rule, plain.source, plain.target, plain.tags, platforms=choice, largest=largest)


async def choose(asked: Job, source: Recording, ledger: MemoryLedger) -> ResolvedTags:
    """Both steps, of a target of which nothing is known."""
    choosing = TagResolver(asked, source, ledger, NOW, workers=4, known={})
    return await choosing.resolve(await choosing.select())


async def test_a_rule_that_asks_for_no_facts_reads_nothing() -> None:
    source = Recording()
    tag(source, "1", image(source, "one"))
    chosen = await choose(asking(), source, MemoryLedger())
    assert chosen.references == {"1": "1"}
    assert source.opened == []


@pytest.mark.parametrize(
    ("created", "is_young"),
    [
        ("2025-06-10T00:00:00Z", True),
        ("2025-06-10T00:00:00.123456789+02:00", True),
        ("2024-06-10T00:00:00Z", False),
        ("1970-01-01T00:00:00Z", False),
        ("0001-01-01T00:00:00Z", False),
        ("", False),
        ("yesterday", False),
    ],
)
async def test_dates_as_configurations_write_them(created: str, is_young: bool) -> None:
    source = Recording()
    tag(source, "1", image(source, "one", created))
    chosen = await choose(asking(YOUNG), source, MemoryLedger())
    assert bool(chosen.references) == is_young


async def test_the_date_of_an_index_is_that_of_its_first_image_that_is_there() -> None:
    source = Recording()
    gone, there = image(source, "gone", "2020-01-01T00:00:00Z"), image(source, "there", "2025-06-10T00:00:00Z")
    tag(source, "1", index(source, (gone, "linux/amd64"), (there, "linux/arm64")))
    del source.content[gone.digest]
    chosen = await choose(asking(YOUNG), source, MemoryLedger())
    assert chosen.references == {"1": "1"}


async def test_what_was_learnt_is_not_read_again() -> None:
    source, ledger = Recording(), MemoryLedger()
    tag(source, "1", index(source, (image(source, "one", "2025-06-10T00:00:00Z"), "linux/amd64")))
    asked = asking(YOUNG, "linux/amd64", largest=10_000)
    first = await choose(asked, source, ledger)
    assert len(source.opened) == len(set(source.opened)) == 3  # the index, the image, its configuration
    source.opened.clear()
    again = await choose(asked, source, ledger)
    assert source.opened == []
    assert again.references == first.references == {"1": "1"}


async def test_a_copy_does_not_read_again_what_was_read_to_choose() -> None:
    source, target = Recording(), Recording()
    one, other = image(source, "one"), image(source, "other")
    root = index(source, (one, "linux/amd64"), (other, "linux/arm64"))
    tag(source, "1", root)
    report = await run_job(asking(None, "linux/amd64"), tools_for(source, app=target))
    assert report.ok
    assert source.opened.count(root.digest) == 1
    assert one.digest in target.content
    assert other.digest not in target.content


async def test_a_tag_whose_date_cannot_be_learnt_is_a_failure_and_not_left_out() -> None:
    source = Recording()
    broken, good = image(source, "broken", "2025-06-10T00:00:00Z"), image(source, "good", "2025-06-10T00:00:00Z")
    tag(source, "broken", broken)
    tag(source, "good", good)
    source.content[broken.digest] = (broken, b"{" + source.content[broken.digest][1][1:-1] + b" ")
    chosen = await choose(asking(YOUNG), source, MemoryLedger())
    assert chosen.references.keys() == {"broken", "good"}
    assert {name: failure.code for name, failure in chosen.failures.items()} == {"broken": "verify.digest"}
    assert chosen.roots.keys() == {"good"}


async def test_a_tag_that_vanishes_while_it_is_looked_at_is_a_failure_of_its_own() -> None:
    class Vanishing(Recording):
        async def resolve(self, reference: str) -> Descriptor:
            if reference == "1":
                raise NotFound("gone")
            return await super().resolve(reference)

    source = Vanishing()
    for name in "12":
        tag(source, name, image(source, name, "2025-06-10T00:00:00Z"))
    chosen = await choose(asking(YOUNG), source, MemoryLedger())
    assert {name: failure.code for name, failure in chosen.failures.items()} == {"1": "source.missing"}
    assert chosen.roots.keys() == {"2"}


async def test_platforms_and_sizes_leave_tags_out_with_a_warning_each() -> None:
    source = Recording()
    small, large = image(source, "s"), image(source, "large", size=1000)
    tag(source, "other", image(source, "arm", platform="linux/arm64"))
    tag(source, "small", index(source, (small, "linux/amd64"), (large, "linux/arm64")))
    tag(source, "large", index(source, (large, "linux/amd64"), (small, "linux/arm64")))
    chosen = await choose(asking(None, "linux/amd64", largest=500), source, MemoryLedger())
    assert chosen.references == {"small": "small"}
    first, second = chosen.warnings
    assert first.endswith("left out, as they have no image for linux/amd64: other (linux/arm64)")
    assert "larger than 500 bytes: large (" in second


async def test_a_platform_that_an_image_lacks_is_said_when_it_comes_and_not_again() -> None:
    source = Recording()
    one, other = image(source, "one"), image(source, "other")
    both = index(source, (one, "linux/amd64"), (other, "linux/s390x"))
    tag(source, "both", both)
    tag(source, "plain", one)
    tag(source, "half", index(source, (one, "linux/amd64")))
    asked = asking(None, "linux/amd64", "linux/s390x")
    chosen = await choose(asked, source, MemoryLedger())
    assert chosen.references.keys() == {"both", "half", "plain"}
    (said,) = chosen.warnings
    assert said.endswith("some platforms are missing: half (no linux/s390x), plain (no linux/s390x)")
    report = await run_job(asked, tools := tools_for(source, app=Recording()))
    assert [warning for warning in report.warnings if warning == said] == [said]
    assert (await run_job(asked, tools)).warnings == []


@pytest.mark.parametrize(
    ("platforms", "offered"),
    [
        ([], "nothing"),
        ([None], None),  # an artifact is for every platform
        ([Platform("linux", "amd64")], None),
        ([Platform("windows", "amd64"), Platform("linux", "arm64", "v8")], "windows/amd64, linux/arm64/v8"),
        ([Platform("windows", "amd64"), None], None),
    ],
)
def test_what_is_unwanted(platforms: list[Platform | None], offered: str | None) -> None:
    assert describe_unwanted(platforms, PlatformChoice((parse_platform("linux/amd64"),))) == offered
