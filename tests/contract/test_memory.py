"""The in-memory Target keeps the contract."""

import pytest

from ocisync.content.memory import MemoryRepository
from tests.contract.target_contract import TargetContract


class TestMemoryRepository(TargetContract):
    tells_of_tags = True

    @pytest.fixture
    def target(self) -> MemoryRepository:
        return MemoryRepository()
