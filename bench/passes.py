"""Passes of a running daemon in which nothing changed, beside a bare client that sends the same requests."""

import http.client
import os
from pathlib import Path
from time import monotonic

from bench import limits
from bench.measure import S3, FolderPlace, Place, Source, Usage, source_registry
from bench.peers import SECRET, Errand, bucket_target, directory_target, ocisync_config, rule_name
from bench.record import READERS, Bench
from bench.workloads import Workload
from tests.servers.command import Daemon, daemon
from tests.servers.images import Json
from tests.servers.process import free_port

_TOKEN = {"TOKEN": "bench"}


def daemon_passes(bench: Bench, load: Workload, s3: S3) -> None:
    """One pass of a running daemon in which nothing changed, beside a bare client's HEADs."""
    with bench.folder() as folder:
        path = folder / "registry"
        _passes(bench, load, "directory", folder, FolderPlace(path), directory_target(path))
    with bench.folder() as folder, s3.place() as place:
        _passes(bench, load, "S3", folder, place, bucket_target(place.bucket))


def _passes(bench: Bench, load: Workload, kind: str, folder: Path, place: Place, target: Json) -> None:
    with source_registry(load.storage.root) as source:
        host = source.registry.host
        errand = Errand(load, host, "", folder / "client")
        process: Json = {"listen": f"127.0.0.1:{free_port()}", "token": {"env": "TOKEN"}}
        config = ocisync_config(errand, target, process)
        with daemon(config, env=SECRET | _TOKEN, timeout=300) as running:
            _finished(running, len(load.repositories))
            for _ in range(bench.runs):
                usage = _one_pass(running, load, source, place)
                bench.record(f"many to {kind}", "warm, daemon", "ocisync", usage)
                sent = limits.measured(limits.heads(load, host), READERS, folder / "limit")
                bench.record(f"many to {kind}", "warm, daemon", "bare HEADs", sent)


def _one_pass(running: Daemon, load: Workload, source: Source, place: Place) -> Usage:
    before = running.log.count("job.finished")
    source.skip()
    place.skip()
    used, began = _cpu(running.pid), monotonic()
    _trigger(running, load)
    _finished(running, before + len(load.repositories))
    usage = Usage(monotonic() - began, _cpu(running.pid) - used, _peak(running.pid))
    return place.since(source.since(usage))


def _trigger(running: Daemon, load: Workload) -> None:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"))
    for name in load.repositories:
        connection.request(
            "POST", f"/v1/sync/{rule_name(name)}", headers={"Authorization": f"Bearer {_TOKEN['TOKEN']}"}
        )
        connection.getresponse().read()
    connection.close()


def _finished(running: Daemon, jobs: int) -> None:
    """Wait until so many jobs have ended, as the log says; looked at every 20 ms."""
    running.child.wait_until(lambda: running.log.count("job.finished") >= jobs, f"{jobs} jobs to end", 600)


def _cpu(pid: int) -> float:
    """Seconds of CPU so far, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
