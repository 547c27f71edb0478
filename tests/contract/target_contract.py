"""What every Target promises. A store's tests subclass `TargetContract` and give it the `target` fixture.

Optional powers are tested where the target has them; `neighbour` is another repository of the same target, for mounts.
"""

import random

import anyio
import pytest

from ocisync.content.capabilities import Inventory, Mounter
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Source, Target
from ocisync.content.verify import read_manifest
from ocisync.errors import DigestMismatch, NetworkError, NotFound, SizeMismatch, VerificationError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from tests.contract.graphs import (
    CountingOpener,
    described,
    make_image,
    make_index,
    publish_image,
    push_image,
)

MIB = 1024 * 1024
BIG = random.Random(1).randbytes(3 * MIB + 17)


async def read_all(source: Target, desc: Descriptor) -> bytes:
    """Content by its digest."""
    assert isinstance(source, Source)
    async with source.open(desc) as stream:
        return b"".join([chunk async for chunk in stream])


class TargetContract:
    """One repository to copy to; `big` is content that the store treats as large."""

    big = BIG
    tells_of_tags = False  # without a listing

    @pytest.fixture
    def target(self) -> Target:
        """An empty repository."""
        raise NotImplementedError

    @pytest.fixture
    def neighbour(self) -> tuple[str, Target] | None:
        """Another repository of the same target, and its name."""
        return None

    @pytest.mark.parametrize("data", [b"", b"x", b"abc" * 1000], ids=["empty", "one byte", "small"])
    async def test_what_is_pushed_exists_and_reads_back(self, target: Target, data: bytes) -> None:
        desc = described(data)
        assert not await target.exists(desc)
        await target.push(desc, BytesOpener(data))
        assert await target.exists(desc)
        assert await read_all(target, desc) == data

    async def test_large_content(self, target: Target) -> None:
        opener = CountingOpener(self.big)
        await target.push(described(self.big), opener)
        assert await read_all(target, described(self.big)) == self.big
        assert (opener.opened, opener.still_open) == (1, 0)

    async def test_the_size_counts_as_well(self, target: Target) -> None:
        desc = described(b"content")
        await target.push(desc, BytesOpener(b"content"))
        assert not await target.exists(Descriptor(desc.media_type, desc.digest, desc.size + 1))

    @pytest.mark.parametrize("size", [100, None])
    async def test_other_bytes_of_the_right_size_are_refused(self, target: Target, size: int | None) -> None:
        data = self.big[:size]
        with pytest.raises(DigestMismatch):
            await target.push(described(data), BytesOpener(data[:-1] + bytes([data[-1] ^ 1])))
        assert not await target.exists(described(data))

    @pytest.mark.parametrize("size", [0, 100, None])
    async def test_a_longer_body_is_refused(self, target: Target, size: int | None) -> None:
        data = self.big[:size]
        with pytest.raises(SizeMismatch):
            await target.push(described(data), BytesOpener(data + b"x"))
        assert not await target.exists(described(data))

    @pytest.mark.parametrize("size", [100, None])
    async def test_a_shorter_body_is_refused(self, target: Target, size: int | None) -> None:
        data = self.big[:size]
        with pytest.raises(VerificationError):
            await target.push(described(data), BytesOpener(data[:-1]))
        assert not await target.exists(described(data))

    async def test_a_source_that_breaks_leaves_nothing_and_is_closed(self, target: Target) -> None:
        opener = CountingOpener(self.big, fail_after=2 * MIB, error=NetworkError("the source broke"))
        with pytest.raises(NetworkError, match="the source broke"):
            await target.push(described(self.big), opener)
        assert not await target.exists(described(self.big))
        assert opener.opened >= 1
        assert opener.still_open == 0

    async def test_after_a_failure_the_same_content_can_be_pushed(self, target: Target) -> None:
        broken = CountingOpener(self.big, fail_after=MIB, error=NetworkError("the source broke"))
        with pytest.raises(NetworkError):
            await target.push(described(self.big), broken)
        await target.push(described(self.big), CountingOpener(self.big))
        assert await read_all(target, described(self.big)) == self.big

    async def test_a_cancelled_push_leaves_nothing_and_closes_its_source(self, target: Target) -> None:
        opener = CountingOpener(self.big, stop_after=2 * MIB)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(target.push, described(self.big), opener)
                await opener.stopped.wait()
                group.cancel_scope.cancel()
        assert not await target.exists(described(self.big))
        assert opener.still_open == 0

    async def test_stored_twice_is_harmless(self, target: Target) -> None:
        desc = described(b"content")
        for _ in range(2):
            await target.push(desc, BytesOpener(b"content"))
        assert await read_all(target, desc) == b"content"

    async def test_many_at_a_time(self, target: Target) -> None:
        bodies = [str(number).encode() * 40_000 for number in range(24)]
        async with anyio.create_task_group() as group:
            for body in bodies:
                group.start_soon(target.push, described(body), BytesOpener(body))
        for body in bodies:
            assert await read_all(target, described(body)) == body

    async def test_inline_data_is_the_content(self, target: Target) -> None:
        opener = CountingOpener(b"never read", fail_after=0)
        await target.push(described(b"inline").with_data(b"inline"), opener)
        assert await read_all(target, described(b"inline")) == b"inline"
        with pytest.raises(DigestMismatch):
            await target.push(described(b"inline").with_data(b"enilni"), opener)

    async def test_manifests_and_tags(self, target: Target) -> None:
        image = make_index(make_image("amd64"), make_image("arm64"))
        await publish_image(target, image, "1.0", "latest")
        for reference in ("1.0", "latest", image.desc.digest):
            found = await target.resolve(reference)
            assert (found.media_type, found.digest, found.size) == (image.media_type, sha256(image.raw), len(image.raw))
            assert await read_manifest(target, found) == image.raw  # type: ignore[arg-type]
        child = image.children[1].desc
        assert await target.resolve(child.digest) == child
        assert await target.exists(child)

    async def test_a_tag_moves(self, target: Target) -> None:
        old, new = make_image("old"), make_image("new")
        await publish_image(target, old, "latest", "old")
        await publish_image(target, new, "latest")
        assert await target.resolve("latest") == new.desc
        assert await target.resolve("old") == old.desc
        assert await target.resolve(old.desc.digest) == old.desc

    async def test_a_pushed_image_has_no_tag_yet(self, target: Target) -> None:
        await push_image(target, make_index(make_image("only pushed")))
        with pytest.raises(NotFound):
            await target.resolve("latest")

    async def test_publishing_again_changes_nothing(self, target: Target) -> None:
        image = make_image("again")
        for _ in range(2):
            await publish_image(target, image, "a", "b")
        assert await target.resolve("b") == image.desc

    async def test_what_is_not_there(self, target: Target) -> None:
        nowhere = described(b"nowhere")
        assert not await target.exists(nowhere)
        for reference in ("latest", nowhere.digest):
            with pytest.raises(NotFound):
                await target.resolve(reference)
        with pytest.raises(NotFound):
            await read_all(target, nowhere)

    async def test_tags_are_listed_in_lexical_order(self, target: Target) -> None:
        assert isinstance(target, Source)
        await publish_image(target, make_image("tags"), "b", "sha256-abc", "10", "9", "B", "zz", "_", "a.b-c")
        assert list(await target.tags()) == ["10", "9", "B", "_", "a.b-c", "b", "sha256-abc", "zz"]

    async def test_sha512_content(self, target: Target) -> None:
        import hashlib

        for data in (b"longer digest", self.big):
            digest = Digest("sha512:" + hashlib.sha512(data).hexdigest())
            desc = Descriptor(media_types.OCI_LAYER, digest, len(data))
            with pytest.raises(DigestMismatch):
                await target.push(desc, BytesOpener(data[::-1]))
            await target.push(desc, BytesOpener(data))
            assert await read_all(target, desc) == data

    async def test_an_inventory_knows_everything(self, target: Target) -> None:
        if not isinstance(target, Inventory):
            pytest.skip("not an inventory")
        nothing = await target.list_all()
        assert (dict(nothing.tags), dict(nothing.sizes)) == ({}, {})
        image = make_index(make_image("one"), make_image("two"))
        await publish_image(target, image, "latest", "1.0")
        outline = await target.list_manifests()
        stored = await target.list_all()
        assert await target.list_all(outline) == stored
        assert outline.tags == stored.tags == {"latest": image.desc.digest, "1.0": image.desc.digest}
        below = [image, *image.children]
        assert outline.sizes == {one.desc.digest: one.desc.size for one in below}
        blobs = {desc.digest: desc.size for child in image.children for desc, _ in child.blobs}
        assert stored.sizes == {one.desc.digest: one.desc.size for one in below} | blobs

    async def test_an_inventory_never_calls_tags_right_that_are_not(self, target: Target) -> None:
        if not isinstance(target, Inventory):
            pytest.skip("not an inventory")
        one, two = make_image("one"), make_image("two")
        tags = {"1": one.desc.digest, "also1": one.desc.digest, "2": two.desc.digest}
        assert not await target.holds_tags(tags)
        await publish_image(target, one, "1", "also1")
        await publish_image(target, two, "2")
        assert await target.holds_tags(tags) == self.tells_of_tags
        assert not await target.holds_tags({**tags, "3": one.desc.digest})
        assert not await target.holds_tags({**tags, "1": two.desc.digest})
        assert not await target.holds_tags({**tags, "1": described(b"never there").digest})
        await publish_image(target, two, "1")
        assert not await target.holds_tags(tags)
        await target.delete([two.desc.digest])
        assert not await target.holds_tags({"2": two.desc.digest})

    async def test_an_inventory_deletes(self, target: Target) -> None:
        if not isinstance(target, Inventory):
            pytest.skip("not an inventory")
        image = make_image("to be deleted", layers=3)
        await publish_image(target, image, "latest")
        gone = [desc for desc, _ in image.blobs]
        await target.delete([*(desc.digest for desc in gone), described(b"never there").digest])
        assert not any([await target.exists(desc) for desc in gone])
        assert await target.exists(image.desc)
        assert set((await target.list_all()).sizes) == {image.desc.digest}

    async def test_a_mounter_takes_from_its_neighbour(
        self, target: Target, neighbour: tuple[str, Target] | None
    ) -> None:
        if not isinstance(target, Mounter) or neighbour is None:
            pytest.skip("not a mounter")
        name, other = neighbour
        desc = described(self.big)
        assert not await target.mount(desc, name)
        await other.push(desc, BytesOpener(self.big))
        wrong_size = Descriptor(desc.media_type, desc.digest, desc.size - 1)
        assert not await target.mount(wrong_size, name)
        assert await target.mount(desc, name)
        assert await target.exists(desc)
        assert await read_all(target, desc) == self.big
