"""Bundles found by paths that users type."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.bundles.bundle_files import find_bundles
from ocisync.errors import BundleError


@pytest.mark.parametrize("name", ["nope", "x" * 5000, "a/b/c", "a\0b"])
def test_a_path_that_is_nowhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle is there"):
        find_bundles([tmp_path / name])
