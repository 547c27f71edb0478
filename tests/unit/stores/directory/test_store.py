"""What a directory has beyond the contract: modes, links, leftovers, full disks, and no way out of its root."""

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from anyio import to_thread

from ocisync.content.files import Spool
from ocisync.content.memory import MemoryRepository
from ocisync.content.object_store import ObjectHeaders
from ocisync.content.openers import BytesOpener, find_bulk_reader
from ocisync.content.repository import ByteStream
from ocisync.content.threads import SpoolOpener
from ocisync.content.transfer.mover import BULK_FROM
from ocisync.errors import DigestMismatch, DiskError, InvalidName, SizeMismatch, StoreError
from ocisync.model.descriptor import describe
from ocisync.model.digest import Digest, sha256
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.directory.temporary import Temporary, remove_abandoned
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import CountingOpener, described, make_image, publish_image
from tests.contract.object_store_contract import get, keys, put
from tests.integration.test_drop import OTHER, _has_second_file_system

MIB = 1024 * 1024
HEADERS = ObjectHeaders("application/octet-stream")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def below(folder: Path) -> list[Path]:
    """Everything below a folder."""
    return sorted(folder.rglob("*"))


def files(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return [path for path in below(folder) if not path.is_dir()]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_modes_do_not_depend_on_the_umask(store: DirectoryStore, root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        await publish_image(StaticRegistry(store).repository("a/b"), make_image(), "latest")
    finally:
        os.umask(before)
    published = [path for path in below(root) if ".ocisync" not in path.parts]
    assert {stat.S_IMODE(path.stat().st_mode) for path in published if path.is_file()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in published if path.is_dir()} == {0o755}
    assert stat.S_IMODE((root / ".ocisync").stat().st_mode) == 0o700


async def test_a_tag_is_its_manifest_by_another_name(store: DirectoryStore, root: Path) -> None:
    image = make_image()
    await publish_image(StaticRegistry(store).repository("app"), image, "latest")
    folder = root / "v2/app/manifests"
    assert len({path.stat().st_ino for path in files(folder)}) == 1
    assert len(files(folder)) == 2


async def test_nothing_is_written_when_nothing_changed(store: DirectoryStore, root: Path) -> None:
    repository = StaticRegistry(store).repository("app")
    image = make_image()
    await publish_image(repository, image, "latest", "1.0")
    before = {path: path.stat().st_ctime_ns for path in files(root / "v2")}
    await StaticRegistry(store).repository("app").publish({"latest": image.desc, "1.0": image.desc})
    assert {path: path.stat().st_ctime_ns for path in files(root / "v2")} == before


async def test_the_content_type_is_read_from_a_manifest(store: DirectoryStore) -> None:
    image = make_image()
    await publish_image(StaticRegistry(store).repository("app"), image, "latest")
    for key, expected in {
        "v2/": "application/json",
        "v2/app/tags/list": "application/json",
        "v2/app/manifests/latest": image.media_type,
        f"v2/app/blobs/{image.blobs[0][0].digest}": "application/octet-stream",
    }.items():
        found = await store.head(key)
        assert found is not None
        assert found.content_type == expected


async def test_a_large_file_is_read_by_threads_as_it_is_by_chunks(store: DirectoryStore) -> None:
    content = os.urandom(BULK_FROM + 300_001)
    await put(store, "v2/key", content)
    async with store.open("v2/key", start=7, length=BULK_FROM + 1000) as (_, stream):
        reader = find_bulk_reader(stream)
        assert reader is not None
        buffer, read = memoryview(bytearray(400_000)), b""
        while count := await to_thread.run_sync(reader.read_into, buffer):
            read += bytes(buffer[:count])
    async with store.open("v2/key", start=7, length=BULK_FROM + 1000) as (_, stream):
        assert read == content[7 : BULK_FROM + 1007] == b"".join([chunk async for chunk in stream])
    async with store.open("v2/key", length=BULK_FROM - 1) as (_, stream):
        assert find_bulk_reader(stream) is None  # small: the hops would cost more


@pytest.mark.parametrize("by_thread", [False, True])
async def test_a_file_that_is_cut_while_it_is_read_is_an_error(
    store: DirectoryStore, root: Path, by_thread: bool
) -> None:
    await put(store, "v2/key", bytes(2 * BULK_FROM))
    async with store.open("v2/key") as (_, stream):
        os.truncate(root / "v2/key", BULK_FROM)
        with pytest.raises(DiskError, match="cut while it was read"):
            await (_read_by_thread(stream) if by_thread else _read_chunks(stream))


async def _read_by_thread(stream: ByteStream) -> None:
    reader, buffer = find_bulk_reader(stream), memoryview(bytearray(BULK_FROM))
    assert reader is not None
    while reader.read_into(buffer):
        pass


async def _read_chunks(stream: ByteStream) -> None:
    async for _ in stream:
        pass


async def test_a_reader_keeps_what_it_opened(store: DirectoryStore) -> None:
    await put(store, "v2/key", b"old")
    async with store.open("v2/key") as (_, stream):
        await put(store, "v2/key", b"new")
        assert b"".join([chunk async for chunk in stream]) == b"old"


@pytest.mark.parametrize(
    "key",
    [
        "../outside", "v2/../../outside", "/etc/passwd", "v2//x", "v2/./x", "", "/", "v2/a\0b", "v2/" + "a" * 256,
        ".ocisync/lock", ".ocisync/tmp/x",
    ],
)  # fmt: skip
async def test_fault_76_no_key_leads_out_of_the_root(store: DirectoryStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    await store.prepare()
    with pytest.raises(InvalidName):
        await put(store, key, b"content")
    with pytest.raises(InvalidName):
        await get(store, key)
    with pytest.raises(InvalidName):
        await store.delete([key])
    assert (tmp_path / "outside").read_bytes() == b"outside"


async def test_fault_76_no_link_leads_out_of_the_root(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "v2").mkdir(parents=True)
    (root / "v2/linked").symlink_to(outside)
    (root / "v2/file").symlink_to(outside / "secret")
    for attempt in (put(store, "v2/linked/x", b"x"), get(store, "v2/linked/secret"), get(store, "v2/file")):
        with pytest.raises(StoreError, match="symbolic link"):
            await attempt
    with pytest.raises(StoreError, match="symbolic link"):
        await store.delete(["v2/linked/secret"])
    assert not await store.copy("v2/file", "v2/copy", HEADERS, 1)
    assert await keys(store, "v2/") == []
    assert files(outside) == [outside / "secret"]
    await put(store, "v2/file", b"replaced")
    assert (outside / "secret").read_bytes() == b"secret"
    assert not (root / "v2/file").is_symlink()


async def test_fault_76_a_file_where_a_folder_must_be(store: DirectoryStore) -> None:
    await put(store, "v2/a", b"a file")
    with pytest.raises(StoreError, match="needs a folder"):
        await put(store, "v2/a/manifests/latest", b"x")


async def test_what_is_no_plain_file_is_not_there(store: DirectoryStore, root: Path) -> None:
    (root / "v2/a/manifests").mkdir(parents=True)
    os.mkfifo(root / "v2/a/manifests/fifo")
    assert await store.head("v2/a/manifests/fifo") is None
    assert await keys(store, "v2/") == []


async def test_listing_crosses_folders_in_the_order_of_keys(store: DirectoryStore) -> None:
    names = ["v2/a-b/x", "v2/a/x", "v2/a.b/x", "v2/a", "v2/ab/x", "v2/a/y/z", "v2/a/y-z"]
    for name in (name for name in names if name != "v2/a"):
        await put(store, name, b"x")
    expected = sorted(name for name in names if name != "v2/a")
    assert await keys(store, "v2/") == expected
    for start in range(len(expected)):
        assert await keys(store, "v2/", expected[start]) == expected[start + 1 :]
    assert await keys(store, "v2/a") == expected
    assert await keys(store, "v2/a/") == ["v2/a/x", "v2/a/y-z", "v2/a/y/z"]


async def test_leftovers_of_writers_that_are_gone_are_removed_at_start(store: DirectoryStore, root: Path) -> None:
    await put(store, "v2/key", b"content")
    scratch = root / ".ocisync/tmp"
    (scratch / "abandoned").write_bytes(b"half")
    busy = await to_thread.run_sync(Temporary, scratch, 4, sha256(b"busy"))
    await DirectoryStore(root).prepare()
    assert files(scratch) == [busy.path]
    await to_thread.run_sync(busy.discard)
    assert files(scratch) == []


def test_what_a_writer_has_locked_stays_whatever_the_clocks_say(tmp_path: Path) -> None:
    writers = [Temporary(tmp_path, 4, sha256(b"busy")), Temporary(tmp_path, len(LARGE), sha256(LARGE))]
    gone = Temporary(tmp_path, len(LARGE), sha256(LARGE[:-1]))
    gone.discard(keep=True)
    (tmp_path / "abandoned").write_bytes(b"half")
    for now in (time.time() - YEAR, time.time()):
        remove_abandoned(tmp_path, now)
        assert files(tmp_path) == sorted([gone.path, *(one.path for one in writers)])
    assert remove_abandoned(tmp_path, time.time() + YEAR) == 1
    assert files(tmp_path) == sorted(one.path for one in writers)
    for one in writers:
        one.discard()


async def test_a_failed_write_leaves_no_temporary(store: DirectoryStore, root: Path) -> None:
    opener = CountingOpener(b"x" * 3 * MIB, fail_after=2 * MIB)
    with pytest.raises(RuntimeError):
        await store.put("v2/key", opener, HEADERS, size=3 * MIB)
    assert files(root / ".ocisync/tmp") == []


LARGE = bytes(range(256)) * (65 * MIB // 256)
YEAR = 365 * 24 * 3600.0  # seconds


async def half_of_it(store: DirectoryStore) -> list[Path]:
    """A large blob whose source breaks off; the temporary files after that."""
    broken = CountingOpener(LARGE, fail_after=32 * MIB)
    with pytest.raises(RuntimeError):
        await store.put("v2/key", broken, HEADERS, size=len(LARGE), digest=sha256(LARGE))
    return files(store.root / ".ocisync/tmp")


async def test_what_came_of_a_large_blob_is_taken_up(store: DirectoryStore) -> None:
    [part] = await half_of_it(store)
    kept = part.stat().st_size
    assert kept > 30 * MIB
    await DirectoryStore(store.root).prepare()
    source = MemoryRepository()
    desc = describe(LARGE, "application/octet-stream")
    source.content[desc.digest] = desc, LARGE
    started: list[int] = []

    def noted(start: int) -> AbstractAsyncContextManager[ByteStream]:
        started.append(start)
        return source.open(desc, start)

    await store.put("v2/key", noted, HEADERS, size=desc.size, digest=desc.digest)
    assert started == [kept]
    assert await get(store, "v2/key") == LARGE
    assert files(store.root / ".ocisync/tmp") == []


async def test_a_damaged_part_is_not_taken_up_twice(store: DirectoryStore) -> None:
    [part] = await half_of_it(store)
    with part.open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(DigestMismatch):
        await store.put("v2/key", BytesOpener(LARGE), HEADERS, size=len(LARGE), digest=sha256(LARGE))
    assert files(store.root / ".ocisync/tmp") == []
    assert await store.head("v2/key") is None
    await store.put("v2/key", BytesOpener(LARGE), HEADERS, size=len(LARGE), digest=sha256(LARGE))
    assert await get(store, "v2/key") == LARGE


async def test_two_writers_of_a_large_blob_do_not_share_a_part(store: DirectoryStore, root: Path) -> None:
    await put(store, "v2/other", b"x")
    first = await to_thread.run_sync(Temporary, root / ".ocisync/tmp", len(LARGE), sha256(LARGE))
    await store.put("v2/key", BytesOpener(LARGE), HEADERS, size=len(LARGE), digest=sha256(LARGE))
    assert await get(store, "v2/key") == LARGE
    assert first.path.exists()
    await to_thread.run_sync(first.discard)


async def test_somebody_tidied_up_while_we_run(store: DirectoryStore, root: Path) -> None:
    await put(store, "v2/key", b"content")
    subprocess.run(["rm", "-rf", root / ".ocisync"], check=True)  # noqa: ASYNC221
    await put(store, "v2/key", b"other")
    assert await get(store, "v2/key") == b"other"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


@needs_root
async def test_fault_49_a_full_disk_is_told_and_nothing_is_left_behind(small_disk: Path) -> None:
    store = DirectoryStore(small_disk)
    repository = StaticRegistry(store).repository("app")
    image = make_image()
    await publish_image(repository, image, "latest")
    large = bytes(3 * MIB)
    with pytest.raises(DiskError, match="disk is full") as caught:
        await repository.push(described(large), BytesOpener(large))
    assert caught.value.code == "disk"
    assert str(small_disk) in str(caught.value)
    assert files(small_disk / ".ocisync/tmp") == []
    assert not await repository.exists(described(large))
    assert await repository.resolve("latest") == image.desc
    smaller = bytes(MIB)
    await repository.push(described(smaller), BytesOpener(smaller))
    assert await repository.exists(described(smaller))


@needs_root
async def test_fault_50_a_read_only_file_system_is_told(small_disk: Path) -> None:
    image = make_image()
    await publish_image(StaticRegistry(DirectoryStore(small_disk)).repository("app"), image, "latest")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)  # noqa: ASYNC221
    repository = StaticRegistry(DirectoryStore(small_disk)).repository("app")
    with pytest.raises(DiskError, match="read-only") as caught:
        await repository.push(described(b"x"), BytesOpener(b"x"))
    assert caught.value.code == "disk"
    assert not caught.value.retryable
    assert await repository.resolve("latest") == image.desc


async def _spooled(spool: Spool, data: bytes) -> SpoolOpener:
    await to_thread.run_sync(spool.write, data)
    return SpoolOpener(spool, sha256(data))


async def _put(store: DirectoryStore, key: str, opener: SpoolOpener, data: bytes) -> os.stat_result:
    """Store a spool; what became of it."""
    info = await store.put(key, opener, HEADERS, size=len(data), digest=sha256(data))
    path = store.root / key
    assert info == await store.head(key)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (data, 0o644)
    assert files(store.root / ".ocisync/tmp") == []
    return path.stat()


async def test_a_file_that_was_verified_as_it_was_written_is_taken_over_once(
    store: DirectoryStore, tmp_path: Path
) -> None:
    data = b"x" * MIB + b"y"
    other = DirectoryStore(tmp_path / "other")
    with Spool(tmp_path) as spool:
        opener = await _spooled(spool, data)
        first = await _put(store, "v2/a/blobs/one", opener, data)
        again = await _put(store, "v2/b/blobs/one", opener, data)
        elsewhere = await _put(other, "v2/a/blobs/one", opener, data)
        assert os.path.samestat(first, os.fstat(spool._fd))
    assert len({first.st_ino, again.st_ino, elsewhere.st_ino}) == 3
    assert (store.root / "v2/a/blobs/one").read_bytes() == data


async def test_a_file_that_was_to_be_taken_over_goes_with_its_writer(store: DirectoryStore, tmp_path: Path) -> None:
    await store.prepare()
    left = store.root / ".ocisync/tmp/left"
    with Spool(tmp_path) as spool:
        opener = await _spooled(spool, b"data")
        assert await opener.link(left, opener.digest, fsync=True)
        await DirectoryStore(store.root).prepare()
        assert left.read_bytes() == b"data"
    await DirectoryStore(store.root).prepare()
    assert not left.exists()


async def test_a_file_is_copied_where_it_cannot_be_taken_over(store: DirectoryStore, tmp_path: Path) -> None:
    await store.prepare()
    (store.root / ".ocisync/tmp").chmod(0o2700)
    with Spool(tmp_path) as spool:
        found = await _put(store, "v2/a/blobs/one", await _spooled(spool, b"data"), b"data")
        assert not os.path.samestat(found, os.fstat(spool._fd))


@pytest.mark.skipif(not _has_second_file_system(), reason="needs a second file system")
async def test_a_file_of_another_file_system_is_copied(store: DirectoryStore) -> None:
    with Spool(OTHER) as spool:
        await _put(store, "v2/a/blobs/one", await _spooled(spool, b"data"), b"data")


@pytest.mark.parametrize("announced", [(4, sha256(b"else")), (3, sha256(b"data"))], ids=["digest", "size"])
async def test_a_file_that_is_not_what_was_announced_is_not_taken_over(
    store: DirectoryStore, tmp_path: Path, announced: tuple[int, Digest]
) -> None:
    size, digest = announced
    with Spool(tmp_path) as spool:
        opener = await _spooled(spool, b"data")
        with pytest.raises((DigestMismatch, SizeMismatch)):
            await store.put("v2/a/blobs/one", opener, HEADERS, size=size, digest=digest)
    assert await store.head("v2/a/blobs/one") is None
    assert files(store.root) == []
