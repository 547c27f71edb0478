"""What a scrape sees of a real daemon: the first failure rises from 0."""

from pathlib import Path

from tests.integration.mainjob import Directory, write_config
from tests.integration.test_daemon_faults import metric
from tests.servers.command import daemon
from tests.servers.process import free_port, wait_for


def test_the_first_bad_archive_and_a_skipped_file_are_seen(tmp_path: Path) -> None:
    place, folder = Directory(tmp_path / "mirror"), tmp_path / "drop"
    drop = {"name": "builds", "path": str(folder), "target": "out", "stable": "0s"}
    folder.mkdir()
    process = {"listen": f"127.0.0.1:{free_port()}"}
    with daemon(write_config(tmp_path, {"out": place.settings}, drop=[drop], daemon=process)) as running:
        page = running.get("/metrics").body.decode()
        assert 'ocisync_drop_inputs_total{outcome="failed",rule="builds"} 0.0' in page
        assert 'ocisync_drop_skipped_files{rule="builds"} 0.0' in page
        (folder / "notes.txt").write_text("no archive by its name")
        (folder / "bad.tar").write_bytes(b"no archive by its bytes")
        wait_for(lambda: metric(running, "ocisync_drop_inputs_total", outcome="failed") == 1, "the bad archive", 10)
        wait_for(lambda: metric(running, "ocisync_drop_skipped_files", rule="builds") == 1, "the skipped file", 10)
