"""The demonstration, as a stranger runs it."""

from __future__ import annotations

from pathlib import Path

from tests.servers.command import run_ocisync


def test_once_shows_the_main_job_and_ends_well(tmp_path: Path) -> None:
    finished = run_ocisync("demo", "--once", "--folder", str(tmp_path / "demo"), timeout=60)
    finished.expect(0)
    assert "skopeo copy" in finished.stdout
    assert finished.stdout.count("all as promised") == 2
    assert (tmp_path / "demo/registry/v2/mirror/hello/manifests/1.0").read_bytes()
