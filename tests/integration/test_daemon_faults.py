"""The daemon as an operator has it: full disks, signals, bad configurations, load, secrets."""

import os
import re
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.big import MIB, big_archive
from tests.integration.mainjob import Directory, tags, walk, write_config
from tests.servers.command import Daemon, daemon, run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Stall, Trickle
from tests.servers.images import Json, docker_archive, image_of, make_image, noise, push, tar, write_archive
from tests.servers.process import wait_for
from tests.servers.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed

NAME = "library/app"
FAST = {"interval": "200ms", "jitter": 0}


def metric(running: Daemon, name: str, **labels: str) -> float:
    """A metric's value; 0 when it is not there."""
    text = running.get("/metrics").body.decode()
    lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return sum(float(line.split()[-1]) for line in lines if all(f'{k}="{v}"' in line for k, v in labels.items()))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; skipped where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_fault_49_a_full_target_pauses_the_intake_which_resumes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "6m") as disk:
        place = Directory(disk / "registry")
        drop = {"name": "d", "path": str(tmp_path / "drop"), "target": "out", "rescan": "1s"}
        file = write_config(tmp_path, {"out": place.settings}, drop=[drop])
        (tmp_path / "drop").mkdir()
        with daemon(file) as running:
            big = image_of([tar({"big": noise(9 * MIB, "big")})])
            docker_archive(tmp_path / "drop/big.tar", {"big/app:1": big})
            wait_for(lambda: metric(running, "ocisync_drop_inputs_total", outcome="retry"), "the disk to be full")
            assert "the disk is full" in running.log
            assert (tmp_path / "drop/big.tar").exists()
            assert not (tmp_path / "drop/failed").exists()
            assert [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size > MIB] == []
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            wait_for(lambda: tags(place, "big/app") == ["1"], "the intake to resume", 60)
            assert big.config in walk(place, "big/app", "1").values()
            assert running.get("/healthz").status == 200


def slow_sync(folder: Path, proxy: FaultProxy, registry: DockerRegistry, drain: str) -> tuple[Directory, Path]:
    """A sync rule through a proxy, with an image at the source."""
    push(registry.client, NAME, "1", make_image("slow", size=400_000))
    place = Directory(folder / "registry")
    rule = {"source": f"{proxy.host}/{NAME}", "target": "out"}
    return place, write_config(folder, {"out": place.settings}, sync=[rule], daemon={"drain": drain})


def test_fault_58_sigterm_in_mid_copy_cuts_off_what_does_not_end(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    place, file = slow_sync(tmp_path, registry_proxy, registry, "500ms")
    stalled = registry_proxy.on("GET", "/blobs/", Stall(100_000))
    with daemon(file) as running:
        wait_for(lambda: stalled.hits >= 2, "blobs under way")
        began = monotonic()
        os.kill(running.pid, signal.SIGTERM)
        assert running.child.process.wait(10) == 0
        assert monotonic() - began < 5
    assert tags(place, NAME) == []
    registry_proxy.rules.clear()
    run_ocisync("once", "-c", file).expect(0)
    walk(place, NAME, "1")


def test_fault_58_sigterm_in_mid_copy_lets_work_end_in_time(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    place, file = slow_sync(tmp_path, registry_proxy, registry, "30s")
    slow = registry_proxy.on("GET", "/blobs/", Trickle(4_000, 0.005))
    with daemon(file) as running:
        wait_for(lambda: slow.hits >= 2, "blobs under way")
        os.kill(running.pid, signal.SIGTERM)
        assert running.child.process.wait(30) == 0
    walk(place, NAME, "1")


def test_fault_59_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    target = Directory(tmp_path / "registry").settings
    with daemon(write_config(tmp_path / "first", {"out": target}, daemon={"state": str(tmp_path / "state")})) as first:
        second = write_config(tmp_path / "second", {"out": target}, daemon={"state": str(tmp_path / "state")})
        done = run_ocisync("run", "-c", second)
        assert done.code not in (0, 1)
        assert str(tmp_path / "state") in done.stderr
        assert "another" in done.stderr
        assert "Traceback" not in done.stderr
        assert first.get("/readyz").status == 200


def test_fault_60_health_answers_in_time_while_layers_are_compressed_and_hashed(tmp_path: Path) -> None:
    place = Directory(tmp_path / "registry")
    drop = {"name": "d", "path": str(tmp_path / "drop"), "target": "out", "level": 6}
    file = write_config(tmp_path, {"out": place.settings}, drop=[drop])
    (tmp_path / "drop").mkdir()
    with daemon(file) as running:
        big_archive(tmp_path / "drop/big.tar", "big/app:1", 150 * MIB)
        slowest, count = 0.0, 0
        while not tags(place, "big/app"):
            began = monotonic()
            assert running.get("/healthz").status == 200
            slowest, count = max(slowest, monotonic() - began), count + 1
        assert count > 20, "the work was over too soon to tell"
        assert slowest < 1


def test_fault_63_a_typo_ends_the_start_with_file_line_and_key(tmp_path: Path) -> None:
    file = write_config(tmp_path, {"out": Directory(tmp_path / "r").settings}, daemon={"drian": "3s"})
    line = 1 + file.read_text().splitlines().index("  drian: 3s")
    done = run_ocisync("run", "-c", file).expect(2)
    for part in (f"{file}:{line}", "drian", "drain"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_fault_63_a_bad_file_at_sighup_keeps_the_old_configuration(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    place = Directory(tmp_path / "registry")
    rule = {"source": f"{registry.host}/{NAME}", "target": "out"} | FAST
    file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
    good = file.read_text()
    with daemon(file) as running:
        wait_for(lambda: tags(place, NAME) == ["1"], "the first tag")
        file.write_text(good.replace("interval:", "intervall:"))
        os.kill(running.pid, signal.SIGHUP)
        wait_for(lambda: metric(running, "ocisync_config_reloads_total", outcome="failed") == 1, "the refusal")
        assert "intervall" in running.log
        push(registry.client, NAME, "2", make_image("two"))
        wait_for(lambda: tags(place, NAME) == ["1", "2"], "the old rules to go on")
        file.write_text(good.replace(NAME, "library/other"))
        push(registry.client, "library/other", "3", make_image("three"))
        os.kill(running.pid, signal.SIGHUP)
        wait_for(lambda: tags(place, "library/other") == ["3"], "the new rules")
        assert metric(running, "ocisync_config_reloads_total", outcome="ok") == 1


SECRETS = {
    "REGISTRY_PASSWORD": PASSWORD,
    "WRONG_PASSWORD": "hunter2-registry-secret",
    "HEADER": "header-secret-value-17",
    "TOKEN": "daemon-token-secret-99",
    "WRONG_S3": "wrong-s3-secret-key-4711",
    "S3_SECRET": SECRET_KEY,
}


def test_fault_64_no_secret_in_anything_that_is_produced(tmp_path: Path, s3: Seaweed) -> None:
    with docker_registry(tmp_path / "source", basic=True) as registry:
        push(registry.client, NAME, "1", make_image("secret"))
        file = secret_config(tmp_path, registry, s3)
        (tmp_path / "drop").mkdir()
        write_archive(tmp_path / "drop/bad.tar", {"etc/passwd": b"no image"})
        with daemon(file, "--log-level", "debug", env=SECRETS, is_fork=False) as running:
            wait_for(lambda: metric(running, "ocisync_errors_total", rule="denied"), "the registry's refusal")
            wait_for(lambda: metric(running, "ocisync_errors_total", rule="bucket"), "the bucket's refusal", 60)
            wait_for(lambda: metric(running, "ocisync_jobs_total", rule="good", outcome="ok"), "the good rule")
            wait_for(lambda: list((tmp_path / "drop").glob("failed/*.txt")), "the bad archive's reason")
            pages = [running.get(path).body for path in ("/metrics", "/v1/status", "/readyz", "/nothing")]
            arguments = Path(f"/proc/{running.pid}/cmdline").read_bytes()
            log = running.log
        once = run_ocisync("--log-level", "debug", "once", "--json", "-c", file, env=SECRETS)
        status = run_ocisync("status", "-c", file, env=SECRETS)
    texts = {"log": log, "once": once.stdout + once.stderr, "status": status.stdout + status.stderr}
    produced = {name: text.encode() for name, text in texts.items()}
    produced |= {"arguments": arguments, "pages": b"".join(pages), "files": written(tmp_path)}
    assert b"auth.denied" in produced["log"]
    assert len(produced["files"]) > 1000
    for name, data in produced.items():
        for hidden in hidden_forms():
            assert hidden not in data, f"{hidden!r} stands in {name}"


def secret_config(folder: Path, registry: DockerRegistry, s3: Seaweed) -> Path:
    """Right and wrong credentials everywhere."""
    keys = {"access_key_id": ACCESS_KEY, "endpoint": s3.endpoint, "path_style": True, "region": "us-east-1"}
    bucket = {"type": "s3", "bucket": s3.bucket().name} | keys
    targets = {
        "local": Directory(folder / "registry").settings,
        "refusing": bucket | {"secret_access_key": {"env": "WRONG_S3"}},
        "bucket": bucket | {"secret_access_key": {"env": "S3_SECRET"}},
    }
    other = f"localhost:{registry.port}"  # the same registry, under a name with wrong credentials
    login = {"username": USERNAME, "password": {"env": "REGISTRY_PASSWORD"}, "headers": {"X-Secret": {"env": "HEADER"}}}
    registries = {registry.host: login, other: {"username": USERNAME, "password": {"env": "WRONG_PASSWORD"}}}
    sync: list[Json] = [
        {"name": "good", "source": f"{registry.host}/{NAME}", "target": ["local", "bucket"]},
        {"name": "denied", "source": f"{other}/{NAME}", "target": "local/denied"},
        {"name": "bucket", "source": f"{registry.host}/{NAME}", "target": "refusing"},
    ]
    drop = [{"name": "d", "path": str(folder / "drop"), "target": "local"}]
    process = {"token": {"env": "TOKEN"}}
    return write_config(folder, targets, sync=sync, drop=drop, daemon=process, registries=registries)


def written(folder: Path) -> bytes:
    """Everything ocisync wrote: state, reasons, the registry."""
    roots = (folder / "state", folder / "drop/failed", folder / "registry")
    return b"".join(path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file())


def hidden_forms() -> list[bytes]:
    """The secrets, and how they would stand in a header."""
    plain = [secret.encode() for secret in SECRETS.values()]
    return plain + [b64encode(f"{USERNAME}:".encode() + one) for one in plain] + [b"X-Amz-Signature=", b"AWS4-HMAC-"]
