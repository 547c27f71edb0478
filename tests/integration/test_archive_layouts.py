"""OCI layouts and oci-archives, as skopeo, umoci and docker write them, read and written byte-exact."""

from __future__ import annotations

import json
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Target
from ocisync.content.verify import read_manifest
from ocisync.errors import ArchiveError, DigestMismatch, Handling, InputError, NotFound, SizeMismatch
from ocisync.images.views.multi_platform import MergedConverter, PlatformMember, merge_platforms
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest
from ocisync.model.platform import parse_platform
from ocisync.stores.archive.archive_target import open_oci_archive_target
from ocisync.stores.archive.docker_archive import DockerArchiveSource
from ocisync.stores.archive.oci_layout import LayoutSource, open_oci_archive, open_oci_layout
from ocisync.stores.archive.oci_layout_target import open_layout_target
from ocisync.stores.archive.open_any import open_any
from tests.integration.archives import Entry, Sink, take, write_tar
from tests.servers.images import (
    Image,
    Index,
    digest_of,
    docker_archive,
    layout_files,
    make_image,
    multi_platform,
    oci_archive,
    write_archive,
)
from tests.servers.skopeo import skopeo

pytestmark = pytest.mark.anyio


def write_layout(root: Path, named: dict[str, Image | Index]) -> Path:
    for name, data in layout_files(named).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


async def put_all(target: Target, image: Image | Index, tag: str, there: str = "") -> None:
    """Copy what was made by hand: blobs but for one that is there, children, then the tag."""
    for one in image.children if isinstance(image, Index) else (image,):
        for digest, blob in one.blobs.items():
            if digest == there:
                continue
            await target.push(Descriptor("application/octet-stream", Digest(digest), len(blob)), BytesOpener(blob))
        child = Descriptor(one.media_type, Digest(one.digest), len(one.manifest))
        await target.push(child, BytesOpener(one.manifest))
    raw = image.manifest
    await target.publish({tag: Descriptor(image.media_type, Digest(image.digest), len(raw), data=raw)})


@pytest.mark.parametrize("compress", [False, True])
async def test_an_index_is_read_byte_exact(tmp_path: Path, compress: bool) -> None:
    image = multi_platform()
    path = oci_archive(tmp_path / "a.tar", {"1": image}, compress=compress)
    async with open_any(path, scratch=tmp_path) as source:
        assert isinstance(source, LayoutSource)
        assert await source.tags() == ["1"]
        kept = await take(source, "1")
    assert kept.tagged["1"].digest == image.digest
    held = {digest for child in image.children for digest in (child.digest, *child.blobs)}
    assert set(kept.content) == held | {image.digest}


async def test_archives_that_skopeo_wrote(tmp_path: Path) -> None:
    image = multi_platform()
    write_layout(tmp_path / "layout", {"1": image})
    arguments = ("copy", "--all", f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/a.tar:some/name:2")
    await anyio.to_thread.run_sync(skopeo, *arguments)
    async with open_any(tmp_path / "a.tar", scratch=tmp_path) as source:
        assert await source.tags() == ["some/name:2"]
        assert (await take(source, "some/name:2")).tagged["some/name:2"].digest == image.digest
        assert (await source.resolve("2")).digest == image.digest
        assert (await source.resolve(image.children[1].digest)).digest == image.children[1].digest


async def test_layouts_that_umoci_wrote(tmp_path: Path) -> None:
    for arguments in (
        ("init", "--layout", "l"),
        ("new", "--image", "l:first"),
        ("tag", "--image", "l:first", "second"),
    ):
        await anyio.to_thread.run_sync(lambda a=arguments: subprocess.run(["umoci", *a], cwd=tmp_path, check=True))  # type: ignore[misc]
    async with open_oci_layout(tmp_path / "l") as source:
        assert await source.tags() == ["first", "second"]
        one, other = await source.resolve("first"), await source.resolve("second")
        assert one == other == await source.resolve("")
        await take(source, "first")


async def test_what_is_written_is_read_by_skopeo_and_umoci(tmp_path: Path) -> None:
    index, image = multi_platform(), make_image()
    async with open_oci_archive_target(tmp_path / "a.tar") as archive:
        await put_all(archive, index, "multi")
        await put_all(archive, image, "one")
        assert not (await anyio.Path(tmp_path / "a.tar").exists())
    async with open_layout_target(tmp_path / "layout") as layout:
        await put_all(layout, index, "multi")
    async with open_layout_target(tmp_path / "layout") as layout:
        await put_all(layout, image, "one")
        assert (await layout.resolve("multi")).digest == index.digest
        assert (await layout.resolve(image.digest)).digest == image.digest
    for name in (f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/layout"):
        for tag, made in (("multi", index), ("one", image)):
            raw = await anyio.to_thread.run_sync(skopeo, "inspect", "--raw", f"{name}:{tag}")
            assert digest_of(raw) == made.digest
            await anyio.to_thread.run_sync(skopeo, "copy", "--all", f"{name}:{tag}", f"dir:{tmp_path}/{tag}")
    listed = await anyio.to_thread.run_sync(
        lambda: subprocess.run(["umoci", "ls", "--layout", "layout"], cwd=tmp_path, check=True, capture_output=True)
    )
    assert listed.stdout.decode().split() == ["multi", "one"]


async def test_an_archive_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    before = oci_archive(path, {"1": make_image()}).read_bytes()
    blob = Descriptor("application/octet-stream", Digest(digest_of(b"right")), 5)

    async def fail() -> None:
        async with open_oci_archive_target(path) as target:
            await put_all(target, multi_platform(), "1")
            await target.push(blob, BytesOpener(b"wrong"))

    with pytest.raises(DigestMismatch):
        await fail()
    assert await anyio.Path(path).read_bytes() == before
    assert names_in(tmp_path) == ["a.tar"]


async def test_a_wrong_blob_is_cut_off_and_the_archive_stays_whole(tmp_path: Path) -> None:
    image = make_image()
    blob = Descriptor("application/octet-stream", Digest(digest_of(b"right")), 5)
    async with open_oci_archive_target(tmp_path / "a.tar") as target:
        for wrong, error in ((b"wrong", DigestMismatch), (b"too long", SizeMismatch), (b"no", SizeMismatch)):
            with pytest.raises(error):
                await target.push(blob, BytesOpener(wrong))
        assert not await target.exists(blob)
        await put_all(target, image, "1")
    async with open_oci_archive(tmp_path / "a.tar", scratch=tmp_path) as source:
        assert (await take(source)).tagged[""].digest == image.digest


async def test_a_layout_directory_shows_no_wrong_blob(tmp_path: Path) -> None:
    blob = Descriptor("application/octet-stream", Digest(digest_of(b"right")), 5)
    async with open_layout_target(tmp_path) as target:
        with pytest.raises(DigestMismatch):
            await target.push(blob, BytesOpener(b"wrong"))
        assert names_in(tmp_path / "blobs" / "sha256") == []
        await target.push(blob, BytesOpener(b"right"))
        assert await target.exists(blob)
        assert mode_of(tmp_path / "blobs" / "sha256" / blob.digest[7:]) == 0o644
        with pytest.raises(NotFound):
            await target.resolve("absent")


async def test_a_layout_from_which_nothing_came_goes_again(tmp_path: Path) -> None:
    blob, there = (Descriptor("application/octet-stream", Digest(digest_of(body)), len(body)) for body in (b"a", b"b"))
    async with open_layout_target(tmp_path / "new") as target:
        await target.push(blob, BytesOpener(b"a"))
    assert names_in(tmp_path) == []
    async with open_layout_target(tmp_path / "cache", is_cache=True) as target:
        await target.push(blob, BytesOpener(b"a"))
    assert (tmp_path / "cache/blobs/sha256" / blob.digest[7:]).is_file()
    (tmp_path / "empty").mkdir()
    async with open_layout_target(tmp_path / "old") as target, open_layout_target(tmp_path / "empty") as empty:
        await empty.push(blob, BytesOpener(b"a"))
        await put_all(target, make_image(), "1")
    assert names_in(tmp_path / "empty") == []
    before = everything_in(tmp_path)
    async with open_layout_target(tmp_path / "old") as target:
        await target.push(there, BytesOpener(b"b"))
        assert await target.exists(there)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("fails_last", [False, True])
async def test_what_another_writer_may_rely_on_stays(tmp_path: Path, fails_last: bool) -> None:
    image = make_image()
    (digest, body), *_ = image.blobs.items()
    blob = Descriptor("application/octet-stream", Digest(digest), len(body))
    async with AsyncExitStack() as stack, open_layout_target(tmp_path / "l") as failing:
        await failing.push(blob, BytesOpener(body))
        other = await stack.enter_async_context(open_layout_target(tmp_path / "l"))
        assert await other.exists(blob)  # so it is not pushed again
        if fails_last:
            await put_all(other, image, "1", there=digest)
            await stack.aclose()
        else:
            stack.push_async_callback(put_all, other, image, "1", there=digest)
            kept = stack.pop_all()
    if not fails_last:
        await kept.aclose()
    async with open_layout_target(tmp_path / "l") as target:
        assert await target.exists(blob)
        assert (await target.resolve("1")).digest == image.digest


async def test_parallel_writers_lose_no_tag(tmp_path: Path) -> None:
    async with (
        open_layout_target(tmp_path) as one,
        open_layout_target(tmp_path) as other,
        anyio.create_task_group() as group,
    ):
        for number in range(12):
            group.start_soon(put_all, (one, other)[number % 2], make_image(f"{number}", layers=1), f"t{number}")
    async with open_oci_layout(tmp_path) as source:
        assert await source.tags() == sorted(f"t{number}" for number in range(12))


async def test_fault_71_a_hybrid_whose_index_lists_nothing_is_read_by_its_docker_side(tmp_path: Path) -> None:
    image = make_image()
    docker = [(name, data, "") for name, data in _docker_files(image).items()]
    for index in (b'{"schemaVersion":2,"manifests":null}', b'{"schemaVersion":2,"manifests":[]}', b"broken"):
        layout: list[Entry] = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', ""), ("index.json", index, "")]
        path = write_tar(tmp_path / "hybrid.tar", [*layout, *docker])
        async with open_any(path, scratch=tmp_path) as source:
            assert isinstance(source, DockerArchiveSource)
            await take(source)


async def test_a_hybrid_keeps_the_digests_of_its_layout(tmp_path: Path) -> None:
    image = make_image(compressed=False)
    path = write_archive(tmp_path / "hybrid.tar", {**_docker_files(image), **layout_files({"1": image})})
    async with open_any(path, scratch=tmp_path) as source:
        assert (await take(source)).tagged[""].digest == image.digest


async def test_an_unknown_layout_version_is_read_by_manifest_json_when_there_is_one(tmp_path: Path) -> None:
    image = make_image(compressed=False)
    newer = {**layout_files({"1": image}), "oci-layout": b'{"imageLayoutVersion":"9.0"}'}
    path = write_archive(tmp_path / "hybrid.tar", {**_docker_files(image), **newer})
    async with open_any(path, scratch=tmp_path) as source:
        assert isinstance(source, DockerArchiveSource)
    async with open_any(write_archive(tmp_path / "layout.tar", newer), scratch=tmp_path) as source:
        assert (await take(source)).tagged[""].digest == image.digest


@pytest.mark.parametrize(
    ("damage", "error"), [(None, NotFound), (b"other", SizeMismatch), (b"same length", DigestMismatch)]
)
async def test_fault_73_a_bad_blob_stops_its_own_image_only(
    tmp_path: Path, damage: bytes | None, error: type[Exception]
) -> None:
    good, bad = make_image("good"), make_image("bad")
    files = layout_files({"good": good, "bad": bad})
    name = f"blobs/{digest_of(bad.config).replace(':', '/')}"
    data = files.pop(name)
    if damage is not None:
        files[name] = bytes(len(data)) if damage == b"same length" else damage
    path = write_archive(tmp_path / "a.tar", files)
    async with open_oci_archive(path, scratch=tmp_path) as source:
        with pytest.raises(error) as caught:
            await take(source, "bad")
        assert getattr(caught.value, "handling", None) is Handling.QUARANTINE
        assert (await take(source, "good")).tagged["good"].digest == good.digest


async def test_fault_74_a_layout_of_several_images_needs_a_name(tmp_path: Path) -> None:
    path = oci_archive(tmp_path / "a.tar", {"1": make_image("1"), "2": make_image("2")})
    async with open_any(path, scratch=tmp_path) as source:
        with pytest.raises(InputError) as caught:
            await source.resolve("")
    assert caught.value.code == "name.missing"


async def test_blobs_of_a_layout_are_not_followed_out_of_it(tmp_path: Path) -> None:
    image = make_image()
    files: list[Entry] = [(name, data, "") for name, data in layout_files({"1": image}).items()]
    name = f"blobs/{image.digest.replace(':', '/')}"
    path = write_tar(tmp_path / "a.tar", [e for e in files if e[0] != name] + [(name, None, "/../../../etc/passwd")])
    async with open_any(path, scratch=tmp_path) as source:
        with pytest.raises(ArchiveError, match="leads out"):
            await take(source)


async def test_a_set_of_docker_and_oci_archives_becomes_one_index(tmp_path: Path) -> None:
    amd, arm = make_image("amd"), make_image("arm", platform=("linux", "arm64", "v8"))
    docker = docker_archive(tmp_path / "linux.amd64.tar.gz", amd, compress=True)
    oci = oci_archive(tmp_path / "linux.arm64.tar", arm)
    async with open_any(docker, scratch=tmp_path) as one, open_any(oci, scratch=tmp_path) as other:
        source = merge_platforms(
            [PlatformMember(parse_platform("linux/arm64"), other), PlatformMember(parse_platform("linux/amd64"), one)]
        )
        assert isinstance(source, MergedConverter)
        made = await source.convert("", Sink())
        children = parse_manifest(made.data or b"").children
        assert [str(child.platform) for child in children] == ["linux/amd64", "linux/arm64/v8"]
        assert children[1].digest == arm.digest
        for child in children:
            for blob in parse_manifest(await read_manifest(source, child), child.media_type).children:
                await Sink().push(blob, lambda start, blob=blob: source.open(blob, start))  # type: ignore[misc]


async def test_a_set_member_with_several_images_is_refused(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", {"a:1": make_image("1"), "b:1": make_image("2")})
    async with open_any(path, scratch=tmp_path) as source:
        with pytest.raises(InputError, match=r"^linux\.amd64\.tar: .*a:1, b:1.*holds one image") as caught:
            await merge_platforms(
                [PlatformMember(parse_platform("linux/amd64"), source, where="linux.amd64.tar")]
            ).resolve("")
    assert caught.value.code == "name.missing"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _docker_files(image: Image) -> dict[str, bytes]:
    names = [f"{number}/layer.tar" for number in range(len(image.layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]).encode()
    layers = dict(zip(names, image.layers, strict=True))
    return {**layers, "config.json": image.config, "manifest.json": manifest}
