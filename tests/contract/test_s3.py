"""A bucket on SeaweedFS keeps both contracts."""

import random
from collections.abc import AsyncIterator

import pytest

from ocisync.stores.s3.options import MIB, S3Options
from ocisync.stores.s3.store import S3Store, open_s3
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from tests.contract.object_store_contract import ObjectStoreContract
from tests.contract.target_contract import TargetContract
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket


def options_for(bucket: Bucket, **changes: object) -> S3Options:
    """How to reach a test's bucket."""
    given = {"endpoint": bucket.endpoint, "region": REGION, "path_style": True} | changes
    return S3Options(bucket.name, access_key=ACCESS_KEY, secret_key=SECRET_KEY, **given)  # type: ignore[arg-type]


@pytest.fixture
async def store(bucket: Bucket) -> AsyncIterator[S3Store]:
    async with open_s3(options_for(bucket)) as opened:
        yield opened


class TestS3Store(ObjectStoreContract):
    @pytest.fixture
    async def store(self, bucket: Bucket) -> AsyncIterator[S3Store]:
        async with open_s3(options_for(bucket)) as opened:
            yield opened


class TestS3StoreBelowAPrefix(ObjectStoreContract):
    @pytest.fixture
    async def store(self, bucket: Bucket) -> AsyncIterator[S3Store]:
        async with open_s3(options_for(bucket, prefix="/mirror/")) as opened:
            yield opened


class TestStaticRepositoryOnS3(TargetContract):
    @pytest.fixture
    def target(self, store: S3Store) -> StaticRepository:
        return StaticRegistry(store).repository("library/app")

    @pytest.fixture
    def neighbour(self, store: S3Store) -> tuple[str, StaticRepository]:
        return "other", StaticRegistry(store).repository("other")


class TestStaticRepositoryOnS3InParts(TargetContract):
    """What is large goes in three parts."""

    big = random.Random(3).randbytes(11 * MIB + 5)

    @pytest.fixture
    async def target(self, bucket: Bucket) -> AsyncIterator[StaticRepository]:
        in_parts = options_for(bucket, multipart_threshold=MIB, part_size=5 * MIB, part_memory=10 * MIB)
        async with open_s3(in_parts) as store:
            yield StaticRegistry(store).repository("library/app")
