"""A directory keeps both contracts."""

from pathlib import Path

import pytest

from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from tests.contract.object_store_contract import ObjectStoreContract
from tests.contract.target_contract import TargetContract


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "registry", fsync=False)


class TestDirectoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "registry", fsync=False)


class TestStaticRepositoryInADirectory(TargetContract):
    tells_of_tags = True

    @pytest.fixture
    def target(self, store: DirectoryStore) -> StaticRepository:
        return StaticRegistry(store).repository("library/app")

    @pytest.fixture
    def neighbour(self, store: DirectoryStore) -> tuple[str, StaticRepository]:
        return "other", StaticRegistry(store).repository("other")
