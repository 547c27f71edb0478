"""Unpacking: what is checked, what is kept, what failure leaves, and blobs that are kept for the next time."""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from ocisync.commands.images.unpack import Unpacked, host_platform, unpack_to
from ocisync.content.compress import Compression, Kind, make_block_compressor, split_blocks
from ocisync.content.decompress import Caps
from ocisync.content.tar.index import TarLimits
from ocisync.errors import (
    ArchiveError,
    DiffIdMismatch,
    InputError,
    LimitExceeded,
    ManifestError,
    NotFound,
    OcisyncError,
    UnsupportedManifest,
)
from ocisync.images.unpack.unpack_image import UnpackOptions
from ocisync.model.image_name import parse_image_name
from ocisync.model.locator import RegistryLocator, parse_locator
from tests.integration.rootfs import (
    file,
    folder,
    hard_link,
    image,
    in_thread,
    layer,
    names,
    session_in,
    special,
    symlink,
    unpack_bytes,
    unpack_layout,
    write_layout,
)
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    OCI_CONFIG,
    Image,
    describe,
    digest_of,
    docker_archive,
    image_of,
    make_index,
    oci_archive,
    push,
)
from tests.trees import differences
from tests.unit.content.tar.tars import member, pax, tar

ROOTLESS = UnpackOptions(rootless=True)
HELLO = layer(folder("./"), folder("d"), file("d/f", b"hello"))


async def test_fault_80_opaque_marks_anywhere(tmp_path: Path) -> None:
    """The mark, and a whiteout, may stand before, between or after what the layer brings."""
    below = layer(folder("a"), file("a/old", b"1"), folder("a/s", mode=0o700), file("a/s/old"), file("w", b"1"))
    pieces = [file("a/new", b"2"), file("a/s/new", b"3"), file("w", b"2"), file("a/.wh..wh..opq"), file(".wh.w")]
    for number, order in enumerate(itertools.permutations(pieces)):
        await unpack_bytes([below, layer(folder("a"), *order)], tmp_path / f"root{number}")
    await in_thread(partial(_check_all_equal, tmp_path, number + 1))
    assert names(tmp_path / "root0" / "a") == ["new", "s"]
    assert names(tmp_path / "root0" / "a" / "s") == ["new"]


@pytest.mark.skipif(os.geteuid() != 0, reason="shows what root gets beside what others get")
async def test_fault_81_rootless_maps(tmp_path: Path) -> None:
    data = layer(
        folder("./", mode=0o755),
        file("su", b"x", mode=0o6755, uid=1000, xattrs={"user.a": b"1", "trusted.b": b"2"}),
        special("null", tarfile.CHRTYPE, 1, 3, mode=0o666),
        symlink("l", "su", uid=5),
        folder("d", mode=0o2775, gid=7),
        file("huge", uid=2**33),
    )
    warnings = await unpack_bytes([data], tmp_path / "mine", ROOTLESS)
    found = {path.name: path.lstat() for path in (tmp_path / "mine").iterdir()}
    assert {(stat.st_uid, stat.st_gid) for stat in found.values()} == {(os.geteuid(), os.getegid())}
    assert {name: f"{stat.st_mode:o}" for name, stat in found.items()} == {
        "su": "100755",
        "null": "100666",  # an empty file stands for it
        "l": "120777",
        "d": "40775",
        "huge": "100644",
    }
    assert os.listxattr(tmp_path / "mine" / "su") == ["user.a"]
    assert len(warnings) == 2
    assert "device" in warnings[1]
    assert "trusted.b" in warnings[0]


async def test_fault_81_what_cannot_be_on_linux(tmp_path: Path) -> None:
    for pieces, error, text in (
        ([file("f", uid=2**32)], ArchiveError, "no owner 4294967296:0"),
        ([file("f", gid=2**32 - 1)], ArchiveError, "no owner 0:4294967295"),
        ([file("n" * 65536)], LimitExceeded, "4096 bytes"),
        ([symlink("l", "t" * 65536)], LimitExceeded, "4096 bytes"),
        ([file("f", xattrs={f"user.{number}": b"" for number in range(1025)})], LimitExceeded, "1024 extended"),
    ):
        with pytest.raises(error, match=text):
            await unpack_bytes([layer(*pieces)], tmp_path / "root", UnpackOptions(rootless=False))
        assert names(tmp_path) == []


async def test_attributes_of_overlays_and_of_the_machine_are_left_out(tmp_path: Path) -> None:
    hostile = {
        "trusted.overlay.redirect": b"/etc",
        "user.overlay.redirect": b"/",
        "security.selinux": b"x",
        "user.a": b"",
    }
    warnings = await unpack_bytes([layer(folder("d", xattrs=hostile), file("f", xattrs=hostile))], tmp_path / "root")
    assert os.listxattr(tmp_path / "root" / "d") == ["user.a"]
    assert os.listxattr(tmp_path / "root" / "f") == ["user.a"]
    assert len(warnings) == 6


async def test_malformed_numbers(tmp_path: Path) -> None:
    for record, value in (("mtime", "1e9"), ("mtime", "9" * 13), ("uid", "-1"), ("GNU__sparse__map", "1")):
        with pytest.raises(ArchiveError, match=r"malformed|understood"):
            await unpack_bytes([tar(pax(**{record: value}), member("f"))], tmp_path / "root")
    await unpack_bytes([tar(pax(mtime="-1.5"), member("f"))], tmp_path / "root")
    assert (tmp_path / "root" / "f").stat().st_mtime_ns == -1_500_000_000


async def test_a_layer_is_its_diff_id_or_nothing_stays(tmp_path: Path) -> None:
    good = image(HELLO, layer(file("x")))
    other = _with_config(good, lambda config: config["rootfs"]["diff_ids"].reverse())
    await in_thread(partial(write_layout, tmp_path / "layout", {"it": other}))
    with pytest.raises(DiffIdMismatch, match="the configuration says"):
        await unpack_layout(tmp_path / "layout", tmp_path / "root")
    assert names(tmp_path) == ["layout", "scratch"]


async def test_the_configuration_is_checked_first(tmp_path: Path) -> None:
    good = image(HELLO)
    cases: list[tuple[Image, type[OcisyncError], str]] = [
        (_with_config(good, lambda config: config["rootfs"]["diff_ids"].append(good.digest)), DiffIdMismatch, "2 diff"),
        (_with_config(good, lambda config: config["rootfs"].update(type="tree")), UnsupportedManifest, "'tree'"),
        (_with_config(good, lambda config: config.pop("rootfs")), UnsupportedManifest, "None"),
        (_with_config(good, lambda config: config.update(os="windows")), UnsupportedManifest, "windows"),
        (_with_manifest(good, OCI_CONFIG, "application/x+json"), UnsupportedManifest, "not an image"),
        (_with_manifest(good, "tar+gzip", "tar+lz4"), UnsupportedManifest, "no layer"),
        (replace(good, manifest=b"{}"), ManifestError, "needs a config"),
    ]  # fmt: skip
    for number, (bad, error, text) in enumerate(cases):
        layout = tmp_path / f"layout{number}"
        await in_thread(partial(write_layout, layout, {"it": bad}))
        with pytest.raises(error, match=text):
            await unpack_layout(layout, tmp_path / "root")
        assert not (tmp_path / "root").exists()


async def test_bombs_are_bounded(tmp_path: Path) -> None:
    bomb = image(layer(file("zeros", bytes(5_000_000))))
    await in_thread(partial(write_layout, tmp_path / "layout", {"it": bomb}))
    for caps in (Caps(output=1_000_000), Caps(ratio=10, ratio_from=100_000)):
        with pytest.raises(LimitExceeded, match="decompress"):
            await unpack_layout(tmp_path / "layout", tmp_path / "root", options=UnpackOptions(caps=caps))
    many = layer(*(file(str(number)) for number in range(101)))
    with pytest.raises(LimitExceeded, match="100 members"):
        await unpack_bytes([many], tmp_path / "root", UnpackOptions(limits=TarLimits(members=100)))
    assert names(tmp_path) == ["layout", "scratch"]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
async def test_layers_of_every_compression_and_what_follows_their_end(kind: Kind, tmp_path: Path) -> None:
    padded = HELLO + bytes(10240)  # as GNU tar pads
    layers = [padded, bytes(1024), b"", layer(file("d/g", bytes(3_000_000)))]
    await unpack_bytes(layers, tmp_path / "root", stored=lambda data: _compressed(data, kind))
    assert (tmp_path / "root" / "d" / "f").read_bytes() == b"hello"
    assert (tmp_path / "root" / "d" / "g").stat().st_size == 3_000_000


async def test_layers_of_other_compressions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="xz"):
        await unpack_bytes([HELLO], tmp_path / "root", stored=lzma.compress)


async def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    await unpack_bytes([HELLO], tmp_path / "root")
    for name in ("root", "link", "root/d/f", "missing/root"):
        with pytest.raises(InputError, match=r"not an empty folder|does not exist"):
            await unpack_bytes([HELLO], tmp_path / name)
    assert names(tmp_path) == ["link", "root"]


async def test_a_cancelled_unpacking_leaves_nothing(tmp_path: Path) -> None:
    many = layer(folder("closed", mode=0), *(file(f"closed/{number}") for number in range(20_000)))
    with anyio.move_on_after(0.3) as scope:
        await unpack_bytes([many] * 20, tmp_path / "root")
    assert scope.cancelled_caught
    assert names(tmp_path) == []


async def test_every_kind_of_source(tmp_path: Path, registry: DockerRegistry) -> None:
    made = image(HELLO, layer(hard_link("g", "d/f")))
    await in_thread(partial(push, registry.client, "team/app", "v1", made))
    await in_thread(partial(docker_archive, tmp_path / "docker.tar", {"app:v1": made}))
    await in_thread(partial(oci_archive, tmp_path / "oci.tar.gz", made, compress=True))
    places = [
        f"docker://{registry.host}/team/app:v1",
        f"docker-archive:{tmp_path}/docker.tar",
        f"oci-archive:{tmp_path}/oci.tar.gz",
    ]
    for number, place in enumerate(places):
        async with session_in(tmp_path / "scratch") as session:
            await unpack_to(session, parse_locator(place), tmp_path / str(number), "", None, UnpackOptions())
    await in_thread(lambda: _equal(tmp_path / "0", tmp_path / "1"))
    await in_thread(lambda: _equal(tmp_path / "0", tmp_path / "2"))


async def test_the_cache_is_shared_and_spares_what_it_has(tmp_path: Path, registry: DockerRegistry) -> None:
    base = layer(folder("base"), file("base/f", os.urandom(100_000)))
    one, two = image(base, layer(file("one"))), image(base, layer(file("two")))
    cache = tmp_path / "cache"
    for tag, made in (("one", one), ("two", two)):
        await in_thread(partial(push, registry.client, "app", tag, made))
    first = await _from_registry(registry, "one", tmp_path / "a", cache)
    second = await _from_registry(registry, "two", tmp_path / "b", cache)
    again = await _from_registry(registry, "two", tmp_path / "c", cache)
    assert [found.fetched.blobs for found in (first, second, again)] == [3, 2, 0]
    index = json.loads((cache / "index.json").read_text())
    names = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]}
    assert names == {one.digest[7:], two.digest[7:]}
    await in_thread(lambda: _equal(tmp_path / "b", tmp_path / "c"))


@pytest.mark.parametrize("kind", ["image", "index"])
async def test_a_digest_that_the_cache_holds_needs_no_registry(
    kind: str, tmp_path: Path, registry: DockerRegistry
) -> None:
    platforms = (parse_platform_tuple(host_platform()), ("linux", "s390x", ""))
    images = [image_of([layer(file(one[1]))], platform=one) for one in platforms]
    made = images[0] if kind == "image" else make_index(images)
    cache = tmp_path / "cache"
    await in_thread(partial(push, registry.client, f"away-{kind}", "v1", made))
    for number, host in enumerate((registry.host, "127.0.0.1:1")):  # where nobody listens
        place = RegistryLocator(parse_image_name(f"{host}/away-{kind}@{made.digest}"))
        async with session_in(tmp_path / "scratch") as session:
            done = await unpack_to(session, place, tmp_path / str(number), "", cache, UnpackOptions())
        assert done.digest == images[0].digest
    await in_thread(lambda: _equal(tmp_path / "0", tmp_path / "1"))


async def test_what_went_bad_in_the_cache_is_fetched_again(tmp_path: Path, registry: DockerRegistry) -> None:
    made = image(HELLO)
    cache = tmp_path / "cache"
    await in_thread(partial(push, registry.client, "app", "v1", made))
    await _from_registry(registry, "v1", tmp_path / "a", cache)
    blob = cache / "blobs" / "sha256" / digest_of(gzip.compress(HELLO, mtime=0))[7:]
    blob.write_bytes(blob.read_bytes()[::-1])
    again = await _from_registry(registry, "v1", tmp_path / "b", cache)
    assert again.fetched.blobs == 1
    await in_thread(lambda: _equal(tmp_path / "a", tmp_path / "b"))


async def test_one_platform_of_an_index(tmp_path: Path) -> None:
    own = parse_platform_tuple(host_platform())
    other = ("linux", "s390x", "")
    images = [image_of([layer(file(name))], platform=one) for name, one in (("own", own), ("other", other))]
    await in_thread(partial(oci_archive, tmp_path / "a.tar", make_index(images)))
    async with session_in(tmp_path / "scratch") as session:
        place = parse_locator(f"oci-archive:{tmp_path}/a.tar")
        await unpack_to(session, place, tmp_path / "own", "", None, UnpackOptions())
        await unpack_to(session, place, tmp_path / "other", "linux/s390x", None, UnpackOptions())
        with pytest.raises(NotFound, match="the index offers"):
            await unpack_to(session, place, tmp_path / "none", "plan9/mips", None, UnpackOptions())
    assert names(tmp_path / "own") == ["own"]
    assert names(tmp_path / "other") == ["other"]
    assert not (tmp_path / "none").exists()


def test_the_command(tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", {"it": image(HELLO)})
    done = run_ocisync("unpack", f"oci:{tmp_path}/layout", tmp_path / "root", "--cache", tmp_path / "cache").expect()
    assert done.stdout.startswith(f"{tmp_path}/root\nsha256:")
    assert (tmp_path / "root" / "d" / "f").read_bytes() == b"hello"
    again = run_ocisync("unpack", f"oci:{tmp_path}/layout", tmp_path / "root").expect(1)
    assert "is not an empty folder" in again.stderr


def parse_platform_tuple(text: str) -> tuple[str, str, str]:
    """As the tests' images take a platform."""
    system, architecture, *variant = text.split("/")
    return system, architecture, "".join(variant)


async def _from_registry(registry: DockerRegistry, tag: str, into: Path, cache: Path) -> Unpacked:
    place = RegistryLocator(parse_image_name(f"{registry.host}/app:{tag}"))
    async with session_in(into.parent / "scratch") as session:
        return await unpack_to(session, place, into, "", cache, UnpackOptions())


def _with_config(good: Image, change: Callable[[dict], object]) -> Image:  # type: ignore[type-arg]
    config = json.loads(good.config)
    change(config)
    raw = json.dumps(config).encode()
    manifest = json.loads(good.manifest)
    manifest["config"] = describe(OCI_CONFIG, raw)
    return replace(good, manifest=json.dumps(manifest).encode(), config=raw, blobs={**good.blobs, digest_of(raw): raw})


def _with_manifest(good: Image, old: str, new: str) -> Image:
    return replace(good, manifest=good.manifest.replace(old.encode(), new.encode()))


def _compressed(data: bytes, kind: Kind) -> bytes:
    return b"".join(map(make_block_compressor(Compression(kind)), split_blocks([data])))


def _check_all_equal(tmp_path: Path, count: int) -> None:
    for number in range(1, count):
        _equal(tmp_path / "root0", tmp_path / f"root{number}")


def _equal(one: Path, other: Path) -> None:
    assert differences(one, other) == []
