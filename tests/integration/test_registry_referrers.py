"""Referrers at registries: the API, and the list under a tag where there is none (FAULTS 34)."""

import json
from dataclasses import dataclass

import anyio.to_thread
import pytest

from ocisync.content.openers import BytesOpener
from ocisync.errors import LimitExceeded, RegistryError
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.stores.registry import referrers as module
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.repository import RegistryRepository
from tests.integration.registries import NAME, manifest_desc, repository_at
from tests.servers import faults
from tests.servers.client import RegistryClient
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.images import (
    OCI_INDEX,
    Image,
    digest_of,
    make_artifact,
    make_image,
    push,
    referrers_list,
)

IMAGE = make_image()
SUBJECT = Digest(IMAGE.digest)
TAG = IMAGE.digest.replace(":", "-")
LIST = f"/v2/{NAME}/manifests/{TAG}"
API = f"/v2/{NAME}/referrers/"
ONE, TWO, THREE = (make_artifact(IMAGE, note=note) for note in ("one", "two", "three"))


def listed(registry: DockerRegistry) -> list[dict[str, object]]:
    """The entries under the tag, as another client reads them."""
    found = registry.client.expect(200, "GET", LIST, headers={"Accept": OCI_INDEX})
    assert found.headers["content-type"] == OCI_INDEX
    entries: list[dict[str, object]] = json.loads(found.body)["manifests"]
    return entries


def digests(entries: list[dict[str, object]]) -> set[object]:
    assert len({str(entry["digest"]) for entry in entries}) == len(entries), "an entry appears twice"
    return {entry["digest"] for entry in entries}


def keep(registry: DockerRegistry, *artifacts: Image) -> None:
    """What another client does: push them, and the list."""
    push(registry.client, NAME, TAG, referrers_list(*artifacts))


async def store(repository: RegistryRepository, *artifacts: Image) -> list[Descriptor]:
    """Push manifests by digest."""
    for one in artifacts:
        for data in one.blobs.values():
            desc = describe(data, "application/octet-stream")
            await repository.push(desc, BytesOpener(data))
        await repository.push(manifest_desc(one), BytesOpener(one.manifest))
    return [manifest_desc(one) for one in artifacts]


def api_page(*artifacts: Image, link: str = "") -> faults.Reply:
    headers = {"Content-Type": OCI_INDEX, **({"Link": f'<{link}>; rel="next"'} if link else {})}
    return faults.Reply(200, headers, referrers_list(*artifacts).manifest)


async def test_fault_34_referrers_without_an_api_are_read_from_the_list_under_the_tag(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    keep(registry, ONE, TWO)
    async with repository_at(registry_proxy.host) as repository:
        found = await repository.referrers(SUBJECT)
        assert [desc.digest for desc in found] == sorted([ONE.digest, TWO.digest])
        assert {desc.artifact_type for desc in found} == {"application/vnd.example.signature"}
        assert await repository.referrers(Digest(ONE.digest)) == []
    assert len(registry_proxy.seen("GET", API)) == 1, "that there is no API is found out once"


async def test_fault_34_the_tags_that_were_listed_tell_which_lists_there_are(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    keep(registry, ONE)
    async with repository_at(registry_proxy.host) as repository:
        await repository.tags()
        assert len(await repository.referrers(SUBJECT)) == 1
        assert await repository.referrers(Digest(ONE.digest)) == []
    assert len(registry_proxy.seen("GET", "/manifests/")) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_fault_34_any_refusal_of_the_api_means_the_tag(
    registry: DockerRegistry, registry_proxy: FaultProxy, status: int
) -> None:
    registry_proxy.on("GET", API, faults.Reply(status))
    keep(registry, ONE)
    async with repository_at(registry_proxy.host) as repository:
        assert [desc.digest for desc in await repository.referrers(SUBJECT)] == [ONE.digest]


async def test_fault_34_an_answer_that_is_no_index_means_the_tag(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    registry_proxy.on("GET", API, faults.Reply(200, {"Content-Type": "text/html"}, b"<html>"))
    keep(registry, ONE)
    async with repository_at(registry_proxy.host) as repository:
        assert [desc.digest for desc in await repository.referrers(SUBJECT)] == [ONE.digest]


async def test_a_refused_right_is_not_taken_for_a_missing_api(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("GET", API, faults.Reply(403))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RegistryError, match="status 403"):
            await repository.referrers(SUBJECT)


async def test_the_apis_answer_is_read_to_its_last_page(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("GET", r"page=2", api_page(TWO, THREE))
    registry_proxy.on("GET", API, api_page(ONE, TWO, link=f"{API}{SUBJECT}?page=2"))
    async with repository_at(registry_proxy.host) as repository:
        found = await repository.referrers(SUBJECT)
    assert [desc.digest for desc in found] == sorted(one.digest for one in (ONE, TWO, THREE))
    assert registry_proxy.seen("GET", "/manifests/") == []


async def test_pages_stay_on_the_registry_and_those_that_do_not_end_are_refused(
    registry_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = registry_proxy.on("GET", API, api_page(ONE, link="http://other.example/v2/?page=2"))
    async with repository_at(registry_proxy.host) as repository:
        assert len(await repository.referrers(SUBJECT)) == 1, "a circle ends"
        paths = [one.path for one in registry_proxy.seen("GET", API)]
        assert paths == [f"{API}{SUBJECT}", f"{API}{SUBJECT}?page=2"], "only the query of a Link is used"
        rule.action = api_page(ONE, link=f"{API}{SUBJECT}")
        with pytest.raises(RegistryError, match="may not be whole"):
            await repository.referrers(SUBJECT)
        monkeypatch.setattr(module, "MAX_PAGES", 1)
        rule.action = api_page(ONE, link=f"{API}{SUBJECT}?page=2")
        with pytest.raises(LimitExceeded, match="does not end"):
            await repository.referrers(SUBJECT)


async def test_a_garbled_answer_of_the_api_is_an_error_and_not_an_empty_list(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("GET", API, faults.Reply(200, {"Content-Type": OCI_INDEX}, b'{"manifests": 3}'))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RegistryError, match="not a list of referrers"):
            await repository.referrers(SUBJECT)


async def test_fault_34_the_list_is_made_and_added_to(registry: DockerRegistry) -> None:
    async with repository_at(registry.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, ONE))
        (entry,) = listed(registry)
        assert entry == {
            "mediaType": ONE.media_type,
            "digest": ONE.digest,
            "size": len(ONE.manifest),
            "artifactType": "application/vnd.example.signature",
            "annotations": {"note": "one"},
        }
        await repository.add_referrers(SUBJECT, await store(repository, ONE, TWO))
        assert digests(listed(registry)) == {ONE.digest, TWO.digest}
        assert [desc.digest for desc in await repository.referrers(SUBJECT)] == sorted([ONE.digest, TWO.digest])


async def test_fault_34_a_list_that_is_right_is_not_written(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    keep(registry, ONE, TWO)
    async with repository_at(registry_proxy.host) as repository:
        await repository.add_referrers(SUBJECT, [manifest_desc(ONE)])
    assert [one.method for one in registry_proxy.requests] == ["GET", "GET"]  # the API, the list


async def test_fault_34_what_others_wrote_stays(registry: DockerRegistry) -> None:
    """Fields that we do not know too."""
    push(registry.client, NAME, "", ONE)
    entry = {"mediaType": ONE.media_type, "digest": ONE.digest, "size": len(ONE.manifest), "x-more": {"a": 1}}
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": {"by": "them"}, "manifests": [entry]})
    registry.client.expect(201, "PUT", LIST, body.encode(), {"Content-Type": OCI_INDEX})
    async with repository_at(registry.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, TWO))
    assert listed(registry)[0] == entry
    kept = registry.client.expect(200, "GET", LIST, headers={"Accept": OCI_INDEX}).body
    assert json.loads(kept)["annotations"] == {"by": "them"}


async def test_a_registry_with_the_api_is_left_alone(registry: DockerRegistry, registry_proxy: FaultProxy) -> None:
    registry_proxy.on("GET", API, api_page())
    async with repository_at(registry_proxy.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, ONE))
    assert registry.client.request("GET", LIST).status == 404


async def test_fault_34_a_manifest_that_refers_to_something_else_is_not_entered(registry: DockerRegistry) -> None:
    stranger = make_artifact(make_image("another"))
    async with repository_at(registry.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, stranger, ONE))
        assert digests(listed(registry)) == {ONE.digest}


async def test_fault_34_a_published_tag_that_has_a_subject_is_entered(registry: DockerRegistry) -> None:
    async with repository_at(registry.host) as repository:
        await store(repository, ONE)
        await repository.publish({"signature": describe(ONE.manifest, ONE.media_type)})
    assert digests(listed(registry)) == {ONE.digest}


async def test_fault_34_a_tag_that_holds_something_else_is_never_overwritten(registry: DockerRegistry) -> None:
    push(registry.client, NAME, TAG, IMAGE)
    async with repository_at(registry.host) as repository:
        with pytest.raises(RegistryError, match=r"kept there: what the tag holds is of type .*; remove the tag"):
            await repository.add_referrers(SUBJECT, await store(repository, ONE))
        assert (await repository.resolve(TAG)).digest == IMAGE.digest
        assert await repository.referrers(SUBJECT) == []


@dataclass(frozen=True, slots=True)
class OverwrittenAfterwards(faults.Action):
    """Another client, which read the list before, writes it right after us."""

    client: RegistryClient
    body: bytes

    async def after(self, answer: faults.Answer) -> None:
        def put() -> None:
            self.client.expect(201, "PUT", LIST, self.body, {"Content-Type": OCI_INDEX})

        await anyio.to_thread.run_sync(put)


async def test_fault_34_an_entry_that_another_client_lost_is_entered_again(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    push(registry.client, NAME, "", TWO)
    theirs = OverwrittenAfterwards(registry.client, referrers_list(TWO).manifest)
    registry_proxy.on("PUT", f"/manifests/{TAG}", theirs, times=2)
    async with repository_at(registry_proxy.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, ONE))
    assert digests(listed(registry)) == {ONE.digest, TWO.digest}


async def test_fault_34_a_refused_condition_is_a_lost_race(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    registry_proxy.on("PUT", f"/manifests/{TAG}", faults.Reply(412), times=2)
    async with repository_at(registry_proxy.host) as repository:
        await repository.add_referrers(SUBJECT, await store(repository, ONE))
        await repository.add_referrers(SUBJECT, await store(repository, TWO))
    conditions = [
        (one.headers.get("if-none-match"), one.headers.get("if-match"))
        for one in registry_proxy.seen("PUT", f"/manifests/{TAG}")
    ]
    first = digest_of(referrers_list_of(ONE))
    assert conditions == [("*", None)] * 3 + [(None, f'"{first}"')]
    assert digests(listed(registry)) == {ONE.digest, TWO.digest}


def referrers_list_of(artifact: Image) -> bytes:
    """The list that ocisync writes for one artifact."""
    document = json.loads(referrers_list(artifact).manifest)
    document["manifests"][0]["annotations"] = {"note": "one"}
    return json.dumps(document, separators=(",", ":")).encode()


async def test_fault_34_endless_contention_ends_with_an_error_that_is_retried(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    registry_proxy.on("PUT", f"/manifests/{TAG}", faults.Reply(412))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RegistryError, match="keep changing this list") as caught:
            await repository.add_referrers(SUBJECT, await store(repository, ONE))
    assert caught.value.retryable


async def test_fault_34_many_writers_at_a_time_lose_nothing_that_a_second_look_does_not_bring_back(
    registry: DockerRegistry,
) -> None:
    """Each with a client of its own; this registry reads torn links while tags are written, so the waits are real."""
    patient = RegistryOptions(first_wait=0.02, longest_wait=0.5, retries=10)
    artifacts = [make_artifact(IMAGE, note=str(number)) for number in range(3)]
    async with repository_at(registry.host) as repository:
        descs = await store(repository, *artifacts)

    async def write(desc: Descriptor) -> None:
        async with repository_at(registry.host, patient) as own:
            await own.add_referrers(SUBJECT, [desc])

    async with anyio.create_task_group() as group:
        for desc in descs:
            group.start_soon(write, desc)
    for desc in descs:
        await write(desc)
    assert digests(listed(registry)) == {one.digest for one in artifacts}


@pytest.mark.parametrize("path", [API, LIST], ids=["api", "tag"])
async def test_fault_03_a_list_of_referrers_that_ends_early_is_read_again(
    registry: DockerRegistry, registry_proxy: FaultProxy, path: str
) -> None:
    keep(registry, ONE)
    cut = registry_proxy.on("GET", path, faults.Truncate(10), times=1)
    async with repository_at(registry_proxy.host) as repository:
        assert [desc.digest for desc in await repository.referrers(SUBJECT)] == [ONE.digest]
    assert cut.hits == 1
