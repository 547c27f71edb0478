"""docker-archives, as skopeo and we ourselves write them, converted."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import pytest
import zstandard
from structlog.testing import capture_logs

from ocisync.content.compress import Compression
from ocisync.content.decompress import Caps
from ocisync.content.tar.index import TarLimits
from ocisync.content.verify import read_manifest
from ocisync.errors import ArchiveError, DiffIdMismatch, InputChanged, InputError, LimitExceeded, OcisyncError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest
from ocisync.stores.archive.docker_archive import ConversionOptions, DockerArchiveSource, open_docker_archive
from ocisync.stores.archive.oci_layout import open_oci_layout
from ocisync.stores.archive.oci_layout_target import open_layout_target
from ocisync.stores.archive.open_any import open_any
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from tests.integration.archives import Entry, Sink, take, write_tar
from tests.servers.images import OCI_LAYER, Image, describe, digest_of, docker_archive, image_of, make_image, noise, tar
from tests.servers.skopeo import skopeo
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


async def converted(path: Path, options: ConversionOptions | None = None, reference: str = "") -> bytes:
    """The bytes of the manifest that an archive becomes."""
    async with open_docker_archive(path, scratch=path.parent, options=options) as source:
        made = await source.convert(reference, Sink())
    assert made.data is not None
    return made.data


def entries(
    image: Image,
    *,
    layers: dict[str, bytes] | None = None,
    tags: list[str] | None = None,
    sources: Mapping[str, object] | None = None,
) -> list[Entry]:
    """A docker-archive's members: the layers under the names given, manifest.json last."""
    named = layers if layers is not None else {f"{n}/layer.tar": layer for n, layer in enumerate(image.layers)}
    listed = {"Config": "config.json", "RepoTags": tags, "Layers": list(named), "LayerSources": sources}
    manifest = json.dumps([listed]).encode()
    members: list[Entry] = [(name, layer, "") for name, layer in named.items()]
    return [*members, ("config.json", image.config, ""), ("manifest.json", manifest, "")]


async def test_what_skopeo_wrote_is_converted_and_read_back_by_skopeo(tmp_path: Path) -> None:
    image = make_image(size=2_500_000, layers=2)  # more than two blocks each
    docker_archive(tmp_path / "made.tar", {"example/app:1": image})
    await anyio.to_thread.run_sync(
        skopeo, "copy", f"docker-archive:{tmp_path}/made.tar", f"docker-archive:{tmp_path}/skopeo.tar:example/app:2"
    )
    async with (
        open_any(tmp_path / "skopeo.tar", scratch=tmp_path) as source,
        open_layout_target(tmp_path / "layout") as target,
    ):
        assert isinstance(source, DockerArchiveSource)
        assert await source.tags() == ["docker.io/example/app:2"]

        class Into(Sink):
            async def push(self, desc: Descriptor, opener: object) -> None:
                await target.push(desc, opener)  # type: ignore[arg-type]

            async def record(self, diff_id: Digest, desc: Descriptor) -> None:
                self.layers[diff_id] = desc

        made = await source.convert("example/app:2", Into())
        config = parse_manifest(made.data or b"").config
        assert config is not None
        await target.push(config, lambda start: source.open(config, start))
        await target.publish({"2": made})
    assert str(made.platform) == "linux/amd64"
    raw = await anyio.to_thread.run_sync(skopeo, "inspect", "--raw", f"oci:{tmp_path}/layout:2")
    assert digest_of(raw) == made.digest
    await anyio.to_thread.run_sync(
        skopeo, "copy", f"oci:{tmp_path}/layout:2", f"docker-archive:{tmp_path}/back.tar:x:1"
    )
    async with open_any(tmp_path / "back.tar", scratch=tmp_path) as back:
        again = await take(back)
    layers = {digest for digest, (desc, _) in again.content.items() if "layer" in desc.media_type}
    assert layers == {layer.digest for layer in parse_manifest(made.data or b"").layers}
    bundle = ("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:2", f"{tmp_path}/bundle")
    await anyio.run_process(bundle)
    unpacked = tmp_path / "bundle" / "rootfs" / "image" / "1"
    assert await anyio.Path(unpacked).read_bytes() == noise(2_500_000, "image/1")


async def test_one_archive_gives_the_same_digests_everywhere(tmp_path: Path) -> None:
    image = make_image(size=3_000_000)
    one = docker_archive(tmp_path / "one.tar", {"a:1": image})
    other = write_tar(tmp_path / "other.tar", entries(image))
    wrapped = docker_archive(tmp_path / "wrapped.tar.gz", image, compress=True)
    assert await converted(one) == await converted(other) == await converted(wrapped)


async def test_the_configuration_is_kept_to_the_byte(tmp_path: Path) -> None:
    image = image_of([tar({"a": b"x"})])
    odd = b' {"b":1,\n' + image.config[1:] + b"\n"
    path = write_tar(tmp_path / "a.tar", [(n, odd if n == "config.json" else b, k) for n, b, k in entries(image)])
    async with open_docker_archive(path, scratch=tmp_path) as source:
        kept = await take(source)
    assert Digest(digest_of(odd)) in kept.content


@pytest.mark.parametrize("kind", WRAPPERS)
async def test_fault_77_an_archive_compressed_as_a_whole(tmp_path: Path, kind: str) -> None:
    image = make_image()
    plain = docker_archive(tmp_path / "plain.tar", image)
    (tmp_path / "odd-name").write_bytes(WRAPPERS[kind](plain.read_bytes()))
    assert await converted(tmp_path / "odd-name") == await converted(plain)
    assert names_in(tmp_path) == ["odd-name", "plain.tar"]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_layers_that_are_compressed_already_keep_their_bytes(tmp_path: Path, kind: str) -> None:
    image = make_image(size=100_000)
    packed = {f"{n}.tar": WRAPPERS[kind](layer) for n, layer in enumerate(image.layers)}
    path = write_tar(tmp_path / "a.tar", entries(image, layers=packed))
    async with open_docker_archive(path, scratch=tmp_path) as source:
        sink = Sink()
        made = await source.convert("", sink)
        again = [desc async for desc in _reread(source, made)]
    layers = parse_manifest(made.data or b"").layers
    assert [layer.digest for layer in layers] == [digest_of(layer) for layer in packed.values()]
    assert {layer.media_type.rpartition("+")[2] for layer in layers} == {kind}
    assert again == list(layers)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _reread(source: DockerArchiveSource, made: Descriptor):  # type: ignore[no-untyped-def]
    for layer in parse_manifest(made.data or b"").layers:
        sink = Sink()
        await sink.push(layer, lambda start, layer=layer: source.open(layer, start))  # type: ignore[misc]
        yield layer


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
async def test_layers_can_be_opened_again_after_their_spool_is_gone(tmp_path: Path, kind: str) -> None:
    path = docker_archive(tmp_path / "a.tar", make_image(size=1_500_000))
    options = ConversionOptions("docker", Compression(kind))  # type: ignore[arg-type]
    async with open_docker_archive(path, scratch=tmp_path, options=options) as source:
        made = await source.convert("", Sink())
        again = [layer async for layer in _reread(source, made)]
    assert again == list(parse_manifest(made.data or b"").layers)


async def test_a_known_layer_is_neither_compressed_nor_sent(tmp_path: Path) -> None:
    base = make_image("base", layers=3)
    rebuilt = image_of([*base.layers[:2], tar({"new": b"x"})])
    sink = Sink()
    for name, image in (("one.tar", base), ("two.tar", rebuilt)):
        async with open_docker_archive(docker_archive(tmp_path / name, image), scratch=tmp_path) as source:
            await source.convert("", sink)
    assert len(sink.pushed) == 4


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_what_others_compressed_does_not_stand_for_what_we_make(tmp_path: Path, kind: str) -> None:
    """Else the digests of an archive would depend on what was published before it."""
    image = make_image()
    packed = {f"{n}.tar": WRAPPERS[kind](layer) for n, layer in enumerate(image.layers)}
    theirs = write_tar(tmp_path / "theirs.tar", entries(image, layers=packed))
    plain = docker_archive(tmp_path / "plain.tar", image)
    sink = Sink()
    made = []
    for path in (theirs, plain, theirs):
        async with open_docker_archive(path, scratch=tmp_path) as source:
            made.append((await source.convert("", sink)).data)
    assert made == [await converted(theirs), await converted(plain), await converted(theirs)]
    assert made[0] != made[1]


async def test_layers_with_a_plain_source_stay_plain(tmp_path: Path) -> None:
    """As docker 25 names them; the digests are those of the layout that it writes beside."""
    image = make_image(compressed=False, layers=3)
    diff_ids = [digest_of(layer) for layer in image.layers]
    sources = {one: describe(OCI_LAYER, layer) for one, layer in zip(diff_ids[:2], image.layers, strict=False)}
    path = write_tar(tmp_path / "a.tar", entries(image, sources=sources))
    layers = parse_manifest(await converted(path)).layers
    assert [layer.digest for layer in layers[:2]] == diff_ids[:2]
    assert [layer.media_type for layer in layers] == [OCI_LAYER, OCI_LAYER, f"{OCI_LAYER}+gzip"]


async def test_foreign_layers_are_named_and_not_sent(tmp_path: Path) -> None:
    image = make_image()
    url, kind = "https://example.com/base", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    source = {**describe(kind, b"elsewhere"), "urls": [url]}
    members = entries(image, sources={digest_of(image.layers[0]): source})
    path = write_tar(tmp_path / "a.tar", members[1:])  # without the layer
    sink = Sink()
    async with open_docker_archive(path, scratch=tmp_path, options=ConversionOptions("docker")) as archive:
        made = await archive.convert("", sink)
    first, second = parse_manifest(made.data or b"").layers
    assert (first.media_type, first.digest, first.urls) == (kind, digest_of(b"elsewhere"), (url,))
    assert sink.pushed == [second.digest]


async def test_a_layer_that_stands_twice_is_converted_once(tmp_path: Path) -> None:
    layer = tar({"a": b"x"})
    image = image_of([layer, tar({"b": b"y"}), layer])
    names = {"0.tar": layer, "1.tar": image.layers[1], "2.tar": layer}
    path = write_tar(tmp_path / "a.tar", entries(image, layers=names))
    sink = Sink()
    async with open_docker_archive(path, scratch=tmp_path) as source:
        made = await source.convert("", sink)
    layers = parse_manifest(made.data or b"").layers
    assert len(sink.pushed) == 2
    assert [layers[0], len(layers)] == [layers[2], 3]


async def test_resolve_before_and_after_a_conversion(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", {"a:1": make_image("1"), "b:2": make_image("2")})
    async with open_docker_archive(path, scratch=tmp_path) as source:
        found = await source.resolve("a:1")
        assert found == await source.convert("a:1", Sink())
        assert await source.resolve(found.digest) == found
        assert await read_manifest(source, Descriptor(found.media_type, found.digest, found.size)) == found.data
        assert source.references() == (("a:1",), ("b:2",))


async def test_fault_74_several_images_need_a_name(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", {"a:1": make_image("1"), "b:2": make_image("2")})
    async with open_docker_archive(path, scratch=tmp_path) as source:
        with pytest.raises(InputError, match="a:1, b:2") as caught:
            await source.convert("", Sink())
    assert caught.value.code == "name.missing"


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
async def test_fault_72_a_layer_that_is_not_its_diff_id(tmp_path: Path, kind: str) -> None:
    image = make_image()
    wrong = tar({"other": b"content"})
    layers = {"0.tar": image.layers[0], "1.tar": wrong if kind == "plain" else WRAPPERS[kind](wrong)}
    path = write_tar(tmp_path / "a.tar", entries(image, layers=layers))
    sink = Sink()
    async with open_docker_archive(path, scratch=tmp_path) as source:
        with pytest.raises(DiffIdMismatch) as caught:
            await source.convert("", sink)
    assert caught.value.code == "verify.diffid"
    assert Digest(digest_of(image.layers[1])) not in sink.layers


async def test_fault_72_counts_differ_on_a_real_file(tmp_path: Path) -> None:
    image = make_image()
    path = write_tar(tmp_path / "a.tar", entries(image, layers={"0.tar": image.layers[0]}))
    with pytest.raises(DiffIdMismatch):
        await converted(path)


async def test_fault_65_cut_or_damaged_files_are_quarantined(tmp_path: Path) -> None:
    whole = docker_archive(tmp_path / "whole.tar", make_image(size=4000)).read_bytes()
    packed = gzip.compress(whole, mtime=0)
    path = tmp_path / "damaged"
    cuts = [whole[:cut] for cut in range(0, whole.rindex(b"]") + 1, 509)]
    damaged = [*cuts, *(packed[:cut] for cut in range(0, len(packed), 499)), b"\0" * 5000, os.urandom(5000)]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(OcisyncError) as caught:
            async with open_any(path, scratch=tmp_path) as source:
                await take(source)
        assert caught.value.code in ("archive.invalid", "verify.diffid"), caught.value
        assert caught.value.handling.value == "quarantine"
        assert str(path) in str(caught.value)


async def test_fault_67_bombs_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(bytes(80 * 1024**2), 9))
    options = ConversionOptions(caps=Caps(ratio=200))
    with pytest.raises(LimitExceeded, match="bomb"):
        async with open_any(path, scratch=tmp_path, options=options):
            pass
    with pytest.raises(LimitExceeded):
        async with open_any(path, scratch=tmp_path, options=ConversionOptions(caps=Caps(output=1024**2))):
            pass
    layer = gzip.compress(bytes(80 * 1024**2), 9)
    inner = write_tar(tmp_path / "inner.tar", entries(make_image(), layers={"0": layer, "1": layer}))
    with pytest.raises(LimitExceeded):
        await converted(inner, options)
    assert names_in(tmp_path) == ["bomb.tar.gz", "inner.tar"]


async def test_fault_69_two_manifests_on_a_real_file(tmp_path: Path) -> None:
    image = make_image()
    path = write_tar(tmp_path / "a.tar", [*entries(image), ("./manifest.json", b"[]", "")])
    with pytest.raises(ArchiveError, match=r"manifest\.json.*twice"):
        await converted(path)
    same = write_tar(tmp_path / "b.tar", [*entries(image), entries(image)[-1]])
    assert await converted(same)


@pytest.mark.parametrize("name", ["../../secret", "out/layer.tar", "away"])
async def test_fault_70_members_lead_nowhere_outside(tmp_path: Path, name: str) -> None:
    image = make_image(layers=1)
    (tmp_path / "secret").write_bytes(image.layers[0])
    links: list[Entry] = [("out", None, "../.."), ("away", None, str(tmp_path / "secret"))]
    listed = entries(image, layers={name: image.layers[0]})[1:]
    with pytest.raises(ArchiveError, match=r"leads out|missing"):
        await converted(write_tar(tmp_path / "a.tar", [*links, *listed]))


@pytest.mark.parametrize("listed", [b"null", b"[]", b""])
async def test_fault_71_no_or_null_manifest_json(tmp_path: Path, listed: bytes) -> None:
    members = entries(make_image())[:-1]
    path = write_tar(tmp_path / "a.tar", [*members, ("manifest.json", listed, "")] if listed else members)
    for opener in (open_any, open_docker_archive):
        with pytest.raises(ArchiveError):
            async with opener(path, scratch=tmp_path):
                pass


async def test_fault_75_a_root_filesystem_is_called_one(tmp_path: Path) -> None:
    names = ("bin/sh", "etc/passwd", "usr/bin/env", "var/lib/x", "etc/hosts")
    path = write_tar(tmp_path / "rootfs.tar", [(name, b"x", "") for name in names])
    with pytest.raises(ArchiveError, match=r"root filesystem.*docker export"):
        async with open_any(path, scratch=tmp_path):
            pass
    other = write_tar(tmp_path / "other.tar", [("readme", b"x", "")])
    with pytest.raises(ArchiveError, match=r"neither a docker-archive"):
        async with open_any(other, scratch=tmp_path):
            pass


async def test_fault_77_old_and_odd_archives_are_read(tmp_path: Path) -> None:
    image = make_image()
    first, second = image.layers
    legacy: list[Entry] = [
        ("../never/used", b"x", ""),
        ("/layers/one/layer.tar", first, ""),
        ("./two/layer.tar", second, ""),
        ("three/layer.tar", None, "../layers/one/layer.tar"),
        ("four/layer.tar", None, "/two/layer.tar"),
    ]
    listed = entries(image, layers={"three/layer.tar": b"", "./four/layer.tar": b""})[2:]
    path = write_tar(tmp_path / "a.tar", [*legacy, *listed])
    assert await converted(path) == await converted(docker_archive(tmp_path / "b.tar", image))


async def test_fault_53_replaced_or_cut_while_it_is_converted(tmp_path: Path) -> None:
    image = make_image(size=200_000, layers=1)
    path = docker_archive(tmp_path / "a.tar", image)

    class Meddling(Sink):
        def __init__(self, meddle: Callable[[], object]) -> None:
            super().__init__()
            self.meddle = meddle

        async def lookup(self, diff_id: Digest) -> Descriptor | None:
            await anyio.to_thread.run_sync(self.meddle)
            return None

    replacements: list[Callable[[], object]] = [
        lambda: docker_archive(path, make_image("other", size=200_000)),
        lambda: os.truncate(path, 100_000),
        lambda: path.unlink(missing_ok=True),
    ]
    for meddle in replacements:
        docker_archive(path, image)
        async with open_docker_archive(path, scratch=tmp_path) as source:
            with pytest.raises(InputChanged) as caught:
                await source.convert("", Meddling(meddle))
        assert caught.value.retryable


async def test_no_descriptor_and_no_file_is_left(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar.gz", make_image(size=400_000), compress=True)
    await converted(path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        await converted(path)
        with pytest.raises(InputError):
            await converted(path, reference="absent:1")
        with anyio.move_on_after(0.001):
            await converted(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert names_in(tmp_path) == ["a.tar.gz"]


async def test_an_archive_with_too_many_members(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a.tar", make_image())
    with pytest.raises(LimitExceeded, match=str(path)):
        await converted(path, ConversionOptions(limits=TarLimits(members=3)))


async def test_open_layout_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        async with open_oci_layout(tmp_path / "absent"):
            pass
    with pytest.raises(ArchiveError, match=r"no index\.json"):
        async with open_oci_layout(tmp_path):
            pass


async def test_an_image_with_many_names_is_converted_once(tmp_path: Path) -> None:
    first, second = make_image(layers=2), make_image(layers=1)
    names = [f"example/app:{number}" for number in range(700)]  # more than one batch
    members = [(f"one/{name}", content, link) for name, content, link in entries(first)[:-2]]
    members += [("one.json", first.config, ""), ("two.json", second.config, ""), ("two/0.tar", second.layers[0], "")]
    listed = [
        {"Config": "one.json", "RepoTags": names, "Layers": [f"one/{number}/layer.tar" for number in range(2)]},
        {"Config": "two.json", "RepoTags": ["example/app:other"], "Layers": ["two/0.tar"]},
    ]
    write_tar(tmp_path / "made.tar", [*members, ("manifest.json", json.dumps(listed).encode(), "")])
    target = Recording()
    tags = TagSelection(literal={name.partition(":")[2]: name for name in [*names, "example/app:other"]})
    async with open_docker_archive(tmp_path / "made.tar", scratch=tmp_path) as source:
        with capture_logs() as logs:
            report = await run_job(job(tags=tags), tools_for(source, app=target))
    assert report.ok
    assert [entry["event"] for entry in logs].count("image.converted") == 2
    assert len(target.tagged) == 701
    assert len({desc.digest for desc in target.tagged.values()}) == 2
    assert len(target.pushed) == len(set(target.pushed))
