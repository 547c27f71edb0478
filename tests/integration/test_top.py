"""Watching a daemon from the command line: `top`, `status --watch`, `sync-now --wait`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ocisync.cli.display.live import draw_status
from ocisync.daemon.status.snapshot import as_document
from tests import status_samples
from tests.integration.mainjob import Directory, tags, write_config
from tests.servers.command import daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_image, push

NAME = "library/app"
TOKEN = "a token of many letters"


def drawn(document: dict[str, object], height: int) -> list[str]:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(draw_status(document, height))
    console.file.close()
    return console.export_text().splitlines()


def test_the_screen_tells_what_runs_what_fails_and_how_fresh_rules_are() -> None:
    lines = drawn(as_document(status_samples.busy()), 40)
    text = "\n".join(lines)
    assert lines[0].startswith("ocisync 0.1.0  2 of 7 need attention   11.4 MiB/s")
    for told in ("61.0 MiB of 148.0 MiB", "waits for pulls from quay.io", "✗ web-2.4.1.tar.gz: ", "runs now", "in 56m"):
        assert told in text, told
    assert len(drawn(as_document(status_samples.large()), 30)) <= 30
    assert "… and 4" in "\n".join(drawn(as_document(status_samples.large()), 30))
    assert "no rules" in "\n".join(drawn(as_document(status_samples.empty()), 30))


def test_sync_now_waits_for_the_end_and_has_its_exit_status(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    place = Directory(tmp_path / "registry")
    rules: list[dict[str, object]] = [
        {"name": "good", "source": f"{registry.host}/{NAME}", "target": "out", "interval": "1d"},
        {"name": "bad", "source": f"{registry.host}/library/none", "target": "out/none", "interval": "1d"},
    ]
    file = write_config(tmp_path, {"out": place.settings}, sync=rules, daemon={"token": TOKEN})
    with daemon(file):
        assert "good: done" in run_ocisync("sync-now", "good", "--wait", "-c", file).expect(0).stdout
        assert tags(place, NAME) == ["1"]
        failed = run_ocisync("sync-now", "good", "bad", "--wait", "-c", file).expect(1)
        assert failed.stdout == "good: done\n"
        assert "bad: " in failed.stderr
        push(registry.client, NAME, "2", make_image("two"))
        run_ocisync("sync-now", "good", "--tag", "2", "--wait", "-c", file).expect(0)
        assert tags(place, NAME) == ["1", "2"]
        told = run_ocisync("top", "-c", file).expect(0).stdout
        assert "1 of 2 needs attention" in told
        assert "good" in told
    assert "no daemon answers" in run_ocisync("top", "-c", file).expect(1).stderr
