"""Two hundred random layers: the tree is umoci's and GNU tar's, or the layer is refused."""

from pathlib import Path

import pytest

from tests.integration.test_unpack_odd import compare_layers

pytestmark = pytest.mark.prove


async def test_two_hundred_random_layers(tmp_path: Path) -> None:
    counts = await compare_layers(range(1000, 1200), tmp_path)
    assert counts["umoci"] >= 100
    assert counts["tar"] >= 100
