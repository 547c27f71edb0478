"""What a source or target refuses or gets wrong, and the copy does all the same; and what is refused here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

import pytest

from ocisync.content.repository import ByteStream, Opener
from ocisync.errors import AuthError, NotFound, OcisyncError, RegistryError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync import copy
from ocisync.sync.context import Limits
from ocisync.sync.job import WritePolicy
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import Verdict
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from tests.unit.sync.graphs import as_json, image, index, put, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

REFUSALS = [
    AuthError("401", status=401),
    AuthError("403", status=403),
    RegistryError("405", status=405),
    RegistryError("500", status=500),
]
FEW, MANY = ["1"], [str(number) for number in range(6)]


@dataclass
class Server:
    """A registry as a target: it holds what it is given, and refuses or says what a test wants."""

    held: Recording = field(default_factory=Recording)
    refused: Mapping[str, OcisyncError] = field(default_factory=dict)  # by what is asked
    claimed: set[Digest] = field(default_factory=set)  # said to be there, and is not
    is_strict: bool = False  # it refuses a manifest of which it lacks a part
    tags_any_content = False
    validates = False

    def _ask(self, what: str) -> None:
        if what in self.refused:
            raise self.refused[what]

    async def tags(self) -> Sequence[str]:
        self._ask("tags")
        return await self.held.tags()

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        return self.held.open(desc, start)

    async def resolve(self, reference: str) -> Descriptor:
        self._ask("resolve")
        return await self.held.resolve(reference)

    async def exists(self, desc: Descriptor) -> bool:
        self._ask("exists")
        return desc.digest in self.claimed or await self.held.exists(desc)

    async def is_empty(self) -> bool:
        self._ask("is_empty")
        return not self.held.tagged

    async def rejects_missing_blobs(self) -> bool:
        self._ask("rejects_missing_blobs")
        return False

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        if desc.is_manifest:
            self._check(desc.data or b"")
        await self.held.push(desc, opener)

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        for root in tags.values():
            self._check(root.data or b"")
        await self.held.publish(tags)

    def can_resume_upload(self, size: int) -> bool:
        return False

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        raise AssertionError(subject)

    def _check(self, raw: bytes) -> None:
        for digest in _named(raw):
            if self.is_strict and digest not in self.held.content:
                code = "MANIFEST_UNKNOWN" if b"manifests" in raw else "MANIFEST_BLOB_UNKNOWN"
                raise RegistryError(f"PUT: status 400 ({code}: {digest})", status=400)


def _named(raw: bytes) -> list[Digest]:
    document = json.loads(raw)
    children = [*document.get("manifests", []), *document.get("layers", [])]
    children += [document["config"]] if "config" in document else []
    return [Digest(child["digest"]) for child in children]


def filled(names: Sequence[str]) -> Recording:
    """A source with an image under each tag."""
    source = Recording()
    for name in names:
        tag(source, name, image(source, name.encode()))
    return source


@pytest.mark.parametrize("what", ["tags", "resolve", "exists", "is_empty", "rejects_missing_blobs"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
@pytest.mark.parametrize("names", [FEW, MANY], ids=["few", "many"])
async def test_a_look_that_only_saves_something_may_be_refused(
    what: str, refusal: OcisyncError, names: list[str]
) -> None:
    source, target = filled(names), Server(refused={what: refusal}, is_strict=True)
    report = await run_job(job(), tools_for(source, app=target))
    assert report.ok
    assert {one.verdict for one in report.tags} == {Verdict.COPIED}
    assert target.held.tagged.keys() == source.tagged.keys()
    assert target.held.content.keys() == source.content.keys()


@pytest.mark.parametrize("names", [FEW, MANY], ids=["few", "many"])
async def test_where_every_look_is_refused_the_ledger_is_believed_until_the_next_full_look(names: list[str]) -> None:
    source = filled(names)
    target = Server(refused=dict.fromkeys(["tags", "resolve", "exists", "is_empty"], REFUSALS[1]))
    tools = tools_for(source, app=target)
    await run_job(job(), tools)
    target.held.pushed.clear()
    report = await run_job(job(), tools)
    assert {one.verdict for one in report.tags} == {Verdict.UNCHANGED}
    assert target.held.pushed == []
    tag(source, names[0], moved := image(source, b"moved"))
    await run_job(job(), tools)
    assert target.held.tagged[names[0]].digest == moved.digest


@pytest.mark.parametrize(
    "policy", [WritePolicy(overwrite=False), WritePolicy(backup="old-{tag}"), WritePolicy(prune=True)]
)
@pytest.mark.parametrize("what", ["tags", "resolve"])
async def test_a_look_on_which_tags_depend_must_not_be_refused(policy: WritePolicy, what: str) -> None:
    source, target = filled(MANY), Server(refused={what: REFUSALS[1]})
    tag(target.held, "0", image(target.held, b"another"))
    report = await run_job(replace(job(), policy=policy), tools_for(source, app=target))
    assert not report.ok
    assert target.held.tagged["0"].digest != source.tagged["0"].digest


@pytest.mark.parametrize("depth", [0, 1, 2], ids=["image", "index", "nested"])
async def test_what_a_target_only_said_that_it_had_is_sent_after_all(depth: int) -> None:
    source, target = Recording(), Server(is_strict=True)
    root = image(source, b"a layer")
    for _ in range(depth):
        root = index(source, root)
    tag(source, "1", root)
    tag(target.held, "another", image(target.held, b"another"))
    target.claimed = set(source.content) - {root.digest}
    report = await run_job(job(), tools_for(source, app=target))
    assert report.ok
    assert source.content.keys() <= target.held.content.keys()
    assert [target.held.pushed.count(digest) for digest in source.content if digest != root.digest] == [1] * (
        len(source.content) - 1
    )


@pytest.mark.parametrize("depth", [0, 1], ids=["image", "index"])
async def test_what_a_target_does_not_know_yet_is_named_once_more(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "_SETTLE", 0.0)
    refused: set[bytes] = set()

    class Late(Server):
        def _check(self, raw: bytes) -> None:
            if raw not in refused:
                refused.add(raw)
                raise RegistryError("PUT: status 400 (MANIFEST_BLOB_UNKNOWN: whatever)", status=400)

    source, target = Recording(), Late()
    root = image(source, b"a layer")
    root = index(source, root) if depth else root
    tag(source, "1", root)
    assert (await run_job(job(), tools_for(source, app=target))).ok
    assert len(refused) == 1 + depth
    assert len(target.held.pushed) == len(set(target.held.pushed)), "nothing is sent twice"


async def test_a_refusal_that_sending_again_cannot_cure_is_told() -> None:
    class Stubborn(Server):
        def _check(self, raw: bytes) -> None:
            raise RegistryError("PUT: status 400 (MANIFEST_BLOB_UNKNOWN: whatever)", status=400)

    source, target = filled(FEW), Stubborn()
    report = await run_job(job(), tools_for(source, app=target))
    assert [one.failure and one.failure.code for one in report.failed] == ["registry.error"]
    assert len(target.held.pushed) == len(set(target.held.pushed))


async def test_a_list_of_the_sources_tags_that_only_saves_something_may_be_refused() -> None:
    class Unlisted(Recording):
        async def tags(self) -> Sequence[str]:
            raise RegistryError("no list", status=403)

    source, target = Unlisted(), Recording()
    for name in MANY:
        tag(source, name, image(source, name.encode()))
    wanted = job(tags=TagSelection(literal={name: name for name in MANY}))
    report = await run_job(replace(wanted, referrers=ReferrerChoice(digest_tags=True)), tools_for(source, app=target))
    assert report.ok
    assert target.tagged.keys() == source.tagged.keys()


class Moving(Recording):
    """A source that forgets a manifest as soon as its tag moves; that happens when the manifest is first opened."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.moves = {name: image(self, name.encode()) for name in names}
        self.tagged |= self.moves

    async def resolve(self, reference: str) -> Descriptor:
        found = await super().resolve(reference)
        if reference in self.moves:
            old = self.moves.pop(reference)
            tag(self, reference, image(self, f"{reference} moved".encode()))
            self.content.pop(old.digest, None)
        return found


@pytest.mark.parametrize("names", [FEW, MANY], ids=["few", "many"])
async def test_a_tag_that_moves_after_it_was_looked_up_is_brought_as_it_is_now(names: list[str]) -> None:
    source, target = Moving(names), Recording()
    wanted = job(tags=TagSelection(literal={name: name for name in names}))
    report = await run_job(wanted, tools_for(source, app=target))
    assert report.ok
    assert {name: desc.digest for name, desc in target.tagged.items()} == {
        name: desc.digest for name, desc in source.tagged.items()
    }
    assert all("while it was copied" in one.reason for one in report.tags)


async def test_a_tag_that_moved_since_must_not_move_the_targets_where_the_rule_forbids_it() -> None:
    source, target = Moving(FEW), Recording()
    old = source.tagged["1"]
    tag(target, "1", image(target, b"1"))
    assert target.tagged["1"].digest == old.digest
    wanted = replace(job(tags=TagSelection(literal={"1": "1"})), policy=WritePolicy(overwrite=False))
    report = await run_job(wanted, tools_for(source, app=target))
    assert target.tagged["1"].digest == old.digest
    assert {one.verdict for one in report.tags} <= {Verdict.KEPT, Verdict.UNCHANGED}


class ByTagOnly(Recording):
    """A source that knows a manifest by its tag and not by its digest, as caches do that have not fetched it yet."""

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:  # type: ignore[override]
        if desc.is_manifest:
            raise NotFound(f"{desc.digest}: not here by its digest")
        return super().open(desc, start)

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        return await self.resolve(reference)

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        found = await self.resolve(reference)
        return found.with_data(self.content[found.digest][1])


async def test_a_manifest_that_the_source_knows_by_its_tag_only_is_read_by_it() -> None:
    source, target = ByTagOnly(), Server()
    tag(source, "1", image(source, b"a layer"))
    wanted = job(tags=TagSelection(literal={"1": "1"}))
    report = await run_job(wanted, tools_for(source, app=target))
    assert report.ok
    assert target.held.tagged["1"].digest == source.tagged["1"].digest


def manifest_of(source: Recording, config: Descriptor, *layers: Descriptor) -> Descriptor:
    """An image manifest that says of its parts what it likes."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": as_json(config),
        "layers": [as_json(layer) for layer in layers],
    }
    return put(source, json.dumps(document).encode(), media_types.OCI_MANIFEST)


@pytest.mark.parametrize("wrong_first", [True, False])
@pytest.mark.parametrize("part", ["layer", "config"])
async def test_one_digest_with_two_sizes_is_refused_in_either_order(wrong_first: bool, part: str) -> None:
    source, target = Recording(), Recording()
    config = put(source, b"{}", media_types.OCI_CONFIG)
    layer = put(source, b"a layer", media_types.OCI_LAYER)
    right = layer if part == "layer" else config
    wrong = replace(right, media_type=media_types.OCI_LAYER, size=right.size + 1)
    if part == "layer":
        root = manifest_of(source, config, *([wrong, right] if wrong_first else [right, wrong]))
    else:
        first, second = (wrong, right) if wrong_first else (right, wrong)
        root = manifest_of(source, first, layer, replace(second, media_type=media_types.OCI_LAYER))
    tag(source, "1", root)
    report = await run_job(job(), tools_for(source, app=target))
    assert [one.failure and one.failure.code for one in report.failed] == ["manifest.ambiguous"]
    assert target.tagged == {}


@pytest.mark.parametrize("wrong_first", [True, False])
async def test_two_manifests_that_give_one_digest_two_sizes_are_not_both_published(wrong_first: bool) -> None:
    source, target = Recording(), Recording()
    config, layer = put(source, b"{}", media_types.OCI_CONFIG), put(source, b"a layer", media_types.OCI_LAYER)
    wrong = replace(layer, size=layer.size + 1)
    tag(source, "1", manifest_of(source, config, wrong if wrong_first else layer))
    tag(source, "2", manifest_of(source, config, layer if wrong_first else wrong))
    report = await run_job(job(), tools_for(source, Limits(images=1), app=target))
    wrong_tag, right_tag = ("1", "2") if wrong_first else ("2", "1")
    assert [(one.tag, one.failure and one.failure.code) for one in report.failed] == [(wrong_tag, "verify.size")]
    assert target.tagged.keys() == {right_tag}
