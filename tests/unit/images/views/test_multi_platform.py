"""Merged multi-platform images: what agrees is put together in one order, the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ocisync.content.capabilities import Converter
from ocisync.content.memory import MemoryRepository
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, NotFound
from ocisync.images.views.multi_platform import PlatformMember, agree_platform, merge_platforms
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest
from ocisync.model.platform import Platform, parse_platform

pytestmark = pytest.mark.anyio

AMD, ARM, ARM_V8, ARM_V6 = map(parse_platform, ("linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm/v6"))


def keep(store: MemoryRepository, document: Mapping[str, object], media_type: str) -> Descriptor:
    desc = describe(json.dumps(document).encode(), media_type)
    assert desc.data is not None
    store.content[desc.digest] = (desc, desc.data)
    return Descriptor(desc.media_type, desc.digest, desc.size)


def entry(desc: Descriptor, **more: object) -> dict[str, object]:
    return {"mediaType": desc.media_type, "digest": desc.digest, "size": desc.size, **more}


def image(store: MemoryRepository, platform: Platform, *, docker: bool = False) -> Descriptor:
    facts = {"os": platform.os, "architecture": platform.architecture, "rootfs": {"diff_ids": []}}
    named = {**facts, "variant": platform.variant} if platform.variant else facts
    config = keep(store, named, media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG)
    kind = media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST
    return keep(store, {"schemaVersion": 2, "mediaType": kind, "config": entry(config), "layers": []}, kind)


def holding(platform: Platform, *, docker: bool = False) -> MemoryRepository:
    store = MemoryRepository()
    store.tagged[""] = image(store, platform, docker=docker)
    return store


def indexed(*platforms: Platform) -> MemoryRepository:
    """A member that is an index, with an attestation beside each image."""
    store = MemoryRepository()
    children = []
    for platform in platforms:
        child = image(store, platform)
        where = {"os": platform.os, "architecture": platform.architecture}
        children.append(entry(child, platform=where))
        children.append(
            entry(
                child,
                platform={"os": "unknown", "architecture": "unknown"},
                annotations={"vnd.docker.reference.type": "attestation-manifest"},
            )
        )
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": children}
    store.tagged[""] = keep(store, document, media_types.OCI_INDEX)
    return store


async def test_the_index_does_not_depend_on_the_order_of_the_members() -> None:
    members = [PlatformMember(ARM, holding(ARM_V8)), PlatformMember(AMD, holding(AMD))]
    one, other = [await merge_platforms(order).resolve("") for order in (members, members[::-1])]
    assert one.data == other.data
    assert one.data is not None
    parsed = parse_manifest(one.data)
    assert parsed.media_type == media_types.OCI_INDEX
    assert [str(child.platform) for child in parsed.children] == ["linux/amd64", "linux/arm64/v8"]


async def test_everything_below_the_index_can_be_opened() -> None:
    source = merge_platforms([PlatformMember(ARM, holding(ARM)), PlatformMember(AMD, holding(AMD))])
    index = await source.resolve("")
    listed = parse_manifest(await read_manifest(source, Descriptor(index.media_type, index.digest, index.size)))
    for child in listed.children:
        assert (await source.resolve(child.digest)).digest == child.digest
        config = parse_manifest(await read_manifest(source, child)).config
        assert config is not None
        await read_manifest(source, config)
    with pytest.raises(NotFound):
        await source.resolve(Digest("sha256:" + "0" * 64))
    assert not isinstance(source, Converter)


async def test_docker_members_make_a_docker_list_and_mixed_ones_an_index() -> None:
    docker = [PlatformMember(ARM, holding(ARM, docker=True)), PlatformMember(AMD, holding(AMD, docker=True))]
    assert (await merge_platforms(docker).resolve("")).media_type == media_types.DOCKER_LIST
    mixed = [docker[0], PlatformMember(AMD, holding(AMD))]
    assert (await merge_platforms(mixed).resolve("")).media_type == media_types.OCI_INDEX


@pytest.mark.parametrize(("named", "config"), [(AMD, ARM), (ARM_V6, parse_platform("linux/arm/v7"))])
async def test_a_file_named_for_another_platform_is_refused(named: Platform, config: Platform) -> None:
    with pytest.raises(InputError, match=rf"^odd\.tar: .*{named}.*{config}") as caught:
        await merge_platforms([PlatformMember(named, holding(config), where="odd.tar")]).resolve("")
    assert caught.value.code == "platform.mismatch"


async def test_two_members_for_one_platform_are_refused() -> None:
    with pytest.raises(InputError, match=r"one\.tar, two\.tar") as caught:
        merge_platforms(
            [PlatformMember(ARM, holding(ARM), where="one.tar"), PlatformMember(ARM_V8, holding(ARM), where="two.tar")]
        )
    assert caught.value.code == "platform.duplicate"
    with pytest.raises(InputError):
        merge_platforms([])


async def test_a_member_that_is_an_index_gives_its_child_for_the_platform() -> None:
    store = indexed(AMD, ARM)
    index = await merge_platforms([PlatformMember(ARM, store)]).resolve("")
    assert index.data is not None
    children = parse_manifest(index.data).children
    assert [str(child.platform) for child in children] == ["linux/arm64"]
    with pytest.raises(InputError, match=r"linux/amd64, linux/arm64"):
        await merge_platforms([PlatformMember(ARM_V6, store)]).resolve("")


def test_a_configuration_without_platform_is_refused() -> None:
    with pytest.raises(InputError, match="nothing"):
        agree_platform(AMD, None)


@pytest.mark.parametrize(
    ("named", "config", "agreed"),
    [
        (Platform("linux", "arm", "v6"), Platform("linux", "arm"), Platform("linux", "arm", "v6")),
        (Platform("linux", "arm", "v5"), Platform("linux", "arm"), Platform("linux", "arm", "v5")),
        (Platform("linux", "amd64", "v3"), Platform("linux", "amd64"), Platform("linux", "amd64", "v3")),
        (Platform("linux", "arm"), Platform("linux", "arm", "v7"), Platform("linux", "arm", "v7")),
        (
            Platform("windows", "amd64", os_version="ltsc2019"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
        ),
        (
            Platform("windows", "amd64", os_version="10.0.17763"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
        ),
    ],
)
def test_a_configuration_that_says_less_does_not_contradict(
    named: Platform, config: Platform, agreed: Platform
) -> None:
    assert agree_platform(named, config) == agreed


@pytest.mark.parametrize(
    ("named", "config"),
    [
        (Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7")),
        (Platform("linux", "arm", "v6"), Platform("linux", "arm64")),
        (Platform("linux", "amd64", "v3"), Platform("linux", "amd64", "v2")),
        (
            Platform("windows", "amd64", os_version="10.0.1776"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
        ),
        (
            Platform("windows", "amd64", os_version="10.0.20348"),
            Platform("windows", "amd64", os_version="10.0.17763.5458"),
        ),
    ],
)
def test_a_configuration_that_says_otherwise_is_refused(named: Platform, config: Platform) -> None:
    with pytest.raises(InputError) as caught:
        agree_platform(named, config)
    assert caught.value.code == "platform.mismatch"
