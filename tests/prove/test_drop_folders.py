"""500 times two kept archives with one name, and 50 uploads with pauses of 1 to 60 seconds."""

import random
from pathlib import Path

import pytest

from tests.integration.slow_uploads import upload_with_pauses
from tests.integration.test_drop_newest import check_the_newest_decides

pytestmark = pytest.mark.prove


@pytest.mark.anyio
async def test_the_newest_decides_every_time(tmp_path: Path) -> None:
    for seed in range(500):
        await check_the_newest_decides(tmp_path / str(seed), seed)


def test_uploads_that_pause_are_published(tmp_path: Path) -> None:
    chance = random.Random(50)
    pauses = [chance.uniform(1, 60) for _ in range(50)]
    assert upload_with_pauses(tmp_path, pauses, seed=50, deadline=120) == []
