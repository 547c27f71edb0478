"""OCI layouts that are being written keep the contract, in a directory and in a tar."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocisync.stores.archive.archive_target import OciArchiveTarget, open_oci_archive_target
from ocisync.stores.archive.oci_layout_target import LayoutTarget, open_layout_target
from tests.contract.target_contract import TargetContract


class TestLayoutTarget(TargetContract):
    @pytest.fixture
    async def target(self, tmp_path: Path) -> AsyncIterator[LayoutTarget]:
        async with open_layout_target(tmp_path / "layout") as target:
            yield target


class TestOciArchiveTarget(TargetContract):
    @pytest.fixture
    async def target(self, tmp_path: Path) -> AsyncIterator[OciArchiveTarget]:
        async with open_oci_archive_target(tmp_path / "archive.tar") as target:
            yield target
