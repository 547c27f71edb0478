"""The daemon reads its configuration again when the file changes, also as Kubernetes changes it."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.mainjob import Directory, tags, write_config
from tests.integration.test_daemon_faults import FAST, NAME, metric
from tests.servers.command import daemon
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_image, push
from tests.servers.process import wait_for

OTHER = "library/other"


class ConfigMap:
    """A mounted ConfigMap: the files are links through `..data`, which is swapped for each new state."""

    def __init__(self, folder: Path, text: str) -> None:
        self.file = folder / "ocisync.yaml"
        self._folder = folder
        self._states = 0
        folder.mkdir()
        self.write(text)
        self.file.symlink_to("..data/ocisync.yaml")

    def write(self, text: str) -> None:
        """As the kubelet does: a new folder, a new link renamed over the old one, the old folder gone."""
        data, before = self._folder / "..data", (self._folder / "..data").resolve()
        self._states += 1
        state = self._folder / f"..state_{self._states}"
        state.mkdir()
        (state / "ocisync.yaml").write_text(text)
        new = self._folder / "..data_tmp"
        new.symlink_to(state.name)
        new.rename(data)
        if self._states > 1:
            (before / "ocisync.yaml").unlink()
            before.rmdir()


class PlainFile:
    """A file that is written in place."""

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir()
        self.file = folder / "ocisync.yaml"
        self.write = self.file.write_text
        self.write(text)


@pytest.mark.parametrize("kind", [ConfigMap, PlainFile])
def test_a_changed_file_is_taken_and_an_invalid_one_refused(
    tmp_path: Path, registry: DockerRegistry, kind: type[ConfigMap | PlainFile]
) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    push(registry.client, OTHER, "2", make_image("two"))
    place = Directory(tmp_path / "registry")
    rule = {"source": f"{registry.host}/{NAME}", "target": "out"} | FAST
    text = write_config(tmp_path, {"out": place.settings}, sync=[rule], daemon={"watch_config": True}).read_text()
    mounted = kind(tmp_path / "mounted", text)
    with daemon(mounted.file) as running:
        wait_for(lambda: tags(place, NAME) == ["1"], "the first rule")
        mounted.write(text.replace("interval:", "intervall:").replace("target: out", "target: nowhere"))
        wait_for(lambda: metric(running, "ocisync_config_reloads_total", outcome="failed") == 1, "the refusal")
        assert "intervall" in running.log
        assert "nowhere" in running.log
        push(registry.client, NAME, "3", make_image("three"))
        wait_for(lambda: tags(place, NAME) == ["1", "3"], "the old rules to go on")
        mounted.write(text.replace(NAME, OTHER))
        wait_for(lambda: tags(place, OTHER) == ["2"], "the new rule")
        assert metric(running, "ocisync_config_reloads_total", outcome="ok") == 1
        assert metric(running, "ocisync_config_reloads_total", outcome="failed") == 1


def test_without_the_setting_a_changed_file_waits_for_a_signal(tmp_path: Path) -> None:
    drop = {"name": "builds", "path": str(tmp_path / "drop"), "target": "out", "stable": "0s"}
    (tmp_path / "drop").mkdir()
    file = write_config(tmp_path, {"out": Directory(tmp_path / "registry").settings}, drop=[drop])
    with daemon(file) as running:
        file.write_text("not: valid")
        (tmp_path / "drop" / "bad.tar").write_bytes(b"no archive")
        wait_for(lambda: metric(running, "ocisync_drop_inputs_total", outcome="failed") == 1, "a later change")
        assert metric(running, "ocisync_config_reloads_total") == 0


def test_an_edited_rule_runs_at_once_and_the_others_when_they_are_due(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    push(registry.client, NAME, "2", make_image("two"))
    push(registry.client, OTHER, "1", make_image("one"))
    place = Directory(tmp_path / "registry")
    rules: list[Mapping[str, object]] = [
        {"name": "edited", "source": f"{registry.host}/{NAME}", "target": "out", "tags": {"allow": ["1"]}},
        {"name": "other", "source": f"{registry.host}/{OTHER}", "target": "out", "interval": "1d"},
    ]
    file = write_config(tmp_path, {"out": place.settings}, sync=rules)
    with daemon(file) as running:
        wait_for(lambda: tags(place, NAME) == ["1"], "the first run")
        wait_for(lambda: tags(place, OTHER) == ["1"], "the first run of the other")
        assert "- '1'" in file.read_text()
        file.write_text(file.read_text().replace("- '1'", "- '[12]'"))
        os.kill(running.pid, signal.SIGHUP)
        wait_for(lambda: tags(place, NAME) == ["1", "2"], "the edited rule to run")
        assert metric(running, "ocisync_jobs_total", rule="other") == 1
