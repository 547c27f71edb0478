"""Pulling a graph to check it: every byte, and what is wrong is found."""

from __future__ import annotations

import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.errors import DigestMismatch, NotFound
from ocisync.images.pull_check import pull_and_check
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from tests.unit.sync.graphs import image, index

pytestmark = pytest.mark.anyio


def sample() -> tuple[MemoryRepository, Descriptor]:
    repository = MemoryRepository()
    return repository, index(repository, image(repository, b"base", b"a"), image(repository, b"base", b"b"))


def digest_with(repository: MemoryRepository, data: bytes) -> Digest:
    return next(digest for digest, (_, held) in repository.content.items() if held == data)


async def test_everything_is_read_once() -> None:
    repository, root = sample()
    pulled = await pull_and_check(repository, root)
    assert (pulled.manifests, pulled.blobs) == (3, 4)
    assert pulled.bytes == sum(len(data) for _, data in repository.content.values())


async def test_a_missing_blob_is_found() -> None:
    repository, root = sample()
    del repository.content[digest_with(repository, b"a")]
    with pytest.raises(NotFound):
        await pull_and_check(repository, root)


async def test_a_flipped_byte_is_found() -> None:
    repository, root = sample()
    digest = digest_with(repository, b"base")
    repository.content[digest] = (repository.content[digest][0], b"bXse")
    with pytest.raises(DigestMismatch):
        await pull_and_check(repository, root)
