"""Uploads that pause are published once they are whole, and none ends in the failed folder."""

from pathlib import Path

from tests.integration.slow_uploads import upload_with_pauses


def test_fault_52_uploads_that_pause_are_published_once_they_are_whole(tmp_path: Path) -> None:
    assert upload_with_pauses(tmp_path, [2.0] * 4, seed=1, deadline=60) == []
