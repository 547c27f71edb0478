"""What every ObjectStore promises. A store's tests subclass `ObjectStoreContract` and give it the `store` fixture."""

import random

import anyio
import pytest

from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ObjectStore, ServerSideStore
from ocisync.content.openers import BytesOpener
from ocisync.errors import DigestMismatch, NotFound, PreconditionFailed, SizeMismatch
from ocisync.model.digest import sha256

HEADERS = ObjectHeaders("application/octet-stream", "no-cache")
BIG = random.Random(2).randbytes(1_500_001)


async def put(store: ObjectStore, key: str, data: bytes, if_match: str | None = None) -> ObjectInfo:
    """Write one object."""
    return await store.put(key, BytesOpener(data), HEADERS, size=len(data), digest=sha256(data), if_match=if_match)


async def get(store: ObjectStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    """Read one object."""
    async with store.open(key, start=start, length=length) as (_, stream):
        return b"".join([chunk async for chunk in stream])


async def keys(store: ObjectStore, prefix: str, start_after: str = "") -> list[str]:
    """List keys."""
    return [info.key async for info in store.list(prefix, start_after=start_after)]


class ObjectStoreContract:
    """Named bytes."""

    honours_conditions = True

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store."""
        raise NotImplementedError

    async def test_an_object_is_written_and_read(self, store: ObjectStore) -> None:
        written = await put(store, "v2/a/blobs/x", BIG)
        found = await store.head("v2/a/blobs/x")
        assert found is not None
        assert (found.key, found.size, found.etag) == ("v2/a/blobs/x", len(BIG), written.etag)
        assert found.modified > 1_600_000_000
        async with store.open("v2/a/blobs/x") as (info, stream):
            assert (info.size, info.etag) == (found.size, found.etag)
            assert b"".join([chunk async for chunk in stream]) == BIG

    async def test_an_object_is_replaced(self, store: ObjectStore) -> None:
        first = await put(store, "v2/key", b"first")
        second = await put(store, "v2/key", b"later")
        assert first.etag != second.etag
        assert await get(store, "v2/key") == b"later"

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, slice(0, None)), (5, None, slice(5, None)), (5, 7, slice(5, 12)), (0, 0, slice(0, 0)),
            (700_000, 600_000, slice(700_000, 1_300_000)), (1_500_000, 100, slice(1_500_000, None)),
            (1_500_001, None, slice(0, 0)), (2_000_000, 5, slice(0, 0)),
        ],
    )  # fmt: skip
    async def test_ranges(self, store: ObjectStore, start: int, length: int | None, expected: slice) -> None:
        await put(store, "v2/key", BIG)
        assert await get(store, "v2/key", start, length) == BIG[expected]

    async def test_a_reader_may_leave_early(self, store: ObjectStore) -> None:
        await put(store, "v2/key", BIG)
        for _ in range(20):
            async with store.open("v2/key") as (_, stream):
                async for chunk in stream:
                    assert BIG.startswith(chunk)
                    break

    async def test_what_is_absent(self, store: ObjectStore) -> None:
        assert await store.head("v2/nothing") is None
        assert await store.head("v2/nothing/below/it") is None
        with pytest.raises(NotFound):
            await get(store, "v2/nothing")
        assert await keys(store, "v2/") == []
        await store.delete(["v2/nothing", "v2/nothing/below/it"])

    async def test_folders_are_no_objects(self, store: ObjectStore) -> None:
        await put(store, "v2/a/manifests/b", b"content")
        assert await store.head("v2/a/manifests") is None
        assert await store.head("v2/a") is None

    async def test_the_root_key_ends_in_a_slash(self, store: ObjectStore) -> None:
        await put(store, "v2/", b"{}")
        await put(store, "v2/index.html", b"{}")
        await put(store, "v2/a/tags/list", b"[]")
        assert await store.head("v2/") is not None
        assert await get(store, "v2/index.html") == b"{}"
        assert await get(store, "v2/a/tags/list") == b"[]"

    @pytest.mark.parametrize(
        ("sent", "error"),
        [(b"other!!", DigestMismatch), (b"longer than it", SizeMismatch), (b"short", SizeMismatch)],
    )
    async def test_a_wrong_body_is_refused(self, store: ObjectStore, sent: bytes, error: type[Exception]) -> None:
        with pytest.raises(error):
            await store.put("v2/key", BytesOpener(sent), HEADERS, size=7, digest=sha256(b"content"))
        assert await store.head("v2/key") is None

    @pytest.mark.parametrize("size", [6, 8])
    async def test_without_a_digest_the_size_is_checked(self, store: ObjectStore, size: int) -> None:
        with pytest.raises(SizeMismatch):
            await store.put("v2/key", BytesOpener(b"content"), HEADERS, size=size)
        await store.put("v2/key", BytesOpener(b"content"), HEADERS, size=7)
        assert await get(store, "v2/key") == b"content"

    async def test_only_when_absent(self, store: ObjectStore) -> None:
        await put(store, "v2/key", b"first", if_match="")
        with pytest.raises(PreconditionFailed):
            await put(store, "v2/key", b"second", if_match="")
        assert await get(store, "v2/key") == b"first"

    async def test_only_when_unchanged(self, store: ObjectStore) -> None:
        first = await put(store, "v2/key", b"first")
        second = await put(store, "v2/key", b"second", if_match=first.etag)
        with pytest.raises(PreconditionFailed):
            await put(store, "v2/key", b"third", if_match=first.etag)
        assert await get(store, "v2/key") == b"second"
        found = await store.head("v2/key")
        assert found is not None
        assert found.etag == second.etag

    async def test_unchanged_means_present(self, store: ObjectStore) -> None:
        first = await put(store, "v2/key", b"first")
        await store.delete(["v2/key"])
        with pytest.raises(PreconditionFailed):
            await put(store, "v2/key", b"second", if_match=first.etag)

    async def test_one_of_many_wins(self, store: ObjectStore) -> None:
        if not self.honours_conditions:
            pytest.skip("the provider ignores conditions")
        winners: list[int] = []

        async def write(number: int) -> None:
            try:
                await put(store, "v2/key", f"{number}".encode(), if_match="")
            except PreconditionFailed:
                return
            winners.append(number)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(write, number)
        assert len(winners) == 1
        assert await get(store, "v2/key") == f"{winners[0]}".encode()

    async def test_listing_is_sorted_and_complete(self, store: ObjectStore) -> None:
        names = ["a", "B", "b", "sha256:00", "sha256:ff", "_", "0", "zz", "sha256-00", "a.b", "a-b"]
        for name in names:
            await put(store, f"v2/a/manifests/{name}", name.encode())
        await put(store, "v2/a/blobs/sha256:00", b"blob")
        await put(store, "v2/ab/manifests/a", b"another repository")
        expected = [f"v2/a/manifests/{name}" for name in sorted(names)]
        assert await keys(store, "v2/a/manifests/") == expected
        assert await keys(store, "v2/a/") == ["v2/a/blobs/sha256:00", *expected]
        assert await keys(store, "v2/a/manifests/sha256:") == [key for key in expected if "sha256:" in key]
        listed = {info.key: info async for info in store.list("v2/a/manifests/")}
        found = await store.head("v2/a/manifests/zz")
        assert found is not None
        assert (listed[found.key].size, listed[found.key].etag) == (2, found.etag)

    @pytest.mark.parametrize(
        ("start_after", "first"), [("a", "b"), ("sha256;", "z"), ("aa", "b"), ("0", "B"), ("z", None), ("zzz", None)]
    )
    async def test_listing_goes_on_after_a_key(self, store: ObjectStore, start_after: str, first: str | None) -> None:
        for name in ("B", "a", "b", "sha256:00", "sha256:ff", "z"):
            await put(store, f"v2/a/manifests/{name}", b"x")
        found = await keys(store, "v2/a/manifests/", f"v2/a/manifests/{start_after}")
        assert found[:1] == ([f"v2/a/manifests/{first}"] if first else [])

    async def test_a_long_listing(self, store: ObjectStore) -> None:
        names = [f"v2/a/manifests/{number:05}" for number in range(1203)]
        async with anyio.create_task_group() as group:
            for worker in range(16):
                group.start_soon(_put_all, store, names[worker::16])
        assert await keys(store, "v2/a/manifests/") == names
        assert await keys(store, "v2/a/manifests/", names[599]) == names[600:]
        await store.delete(names[:1100])
        assert await keys(store, "v2/a/") == names[1100:]

    async def test_a_copy(self, store: ObjectStore) -> None:
        assert isinstance(store, ServerSideStore)
        assert not await store.copy("v2/a/key", "v2/b/key", HEADERS, 1)
        await put(store, "v2/a/key", BIG)
        await put(store, "v2/b/key", b"old")
        assert await store.copy("v2/a/key", "v2/b/key", HEADERS, len(BIG))
        assert await get(store, "v2/b/key") == BIG
        assert await store.copy("v2/a/key", "v2/b/key", HEADERS, len(BIG))
        await store.delete(["v2/a/key"])
        assert await get(store, "v2/b/key") == BIG


async def _put_all(store: ObjectStore, names: list[str]) -> None:
    for name in names:
        await put(store, name, b"x")
