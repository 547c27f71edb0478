"""Passes of a running daemon in which nothing changed, beside a bare client that sends the same requests."""

import http.client
import os
import re
import time
from datetime import datetime
from pathlib import Path

from bench import limits
from bench.measure import S3, FolderPlace, Place, Source, Usage, source_registry
from bench.peers import SECRET, Errand, bucket_target, directory_target, ocisync_config
from bench.record import READERS, Bench
from bench.workloads import Workload
from tests.servers.command import Daemon, daemon
from tests.servers.images import Json
from tests.servers.process import free_port

_TOKEN = {"TOKEN": "a token of the bench"}
_ENDED = "rule.finished"  # a job that found nothing to do is logged at debug
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_PAUSE = 0.5  # seconds
HEADS, CONDITIONAL, SAME = "bare HEADs", "bare conditional HEADs", "bare, all the same"


def daemon_passes(bench: Bench, load: Workload, s3: S3) -> None:
    """One pass of a running daemon in which nothing changed, beside what a bare client may send instead."""
    with bench.folder() as folder:
        path = folder / "registry"
        _passes(bench, load, "directory", folder, FolderPlace(path), directory_target(path), [])
    with bench.folder() as folder, s3.place() as place:
        lists = limits.listings(load, place.bucket)
        _passes(bench, load, "S3", folder, place, bucket_target(place.bucket), lists)


def _passes(
    bench: Bench, load: Workload, kind: str, folder: Path, place: Place, target: Json, lists: list[limits.Request]
) -> None:
    with source_registry(load.storage.root, bench.tls) as source:
        origin = source.registry.url
        errand = Errand(load, source.registry.host, "", folder / "client", is_tls=bench.tls is not None)
        heads = limits.heads(load, origin, conditional=True)
        asked = {HEADS: limits.heads(load, origin), CONDITIONAL: heads, SAME: [*lists, *heads]}
        process: Json = {"listen": f"127.0.0.1:{free_port()}", "token": {"env": "TOKEN"}}
        config = ocisync_config(errand, target, process)
        with daemon(config, env=SECRET | _TOKEN, timeout=300, is_fork=False) as running:
            _finished(running, len(load.repositories))
            for _ in range(bench.runs * bench.repeats):
                usage = _one_pass(running, load, source, place)
                bench.record(f"many to {kind}", "warm, daemon", "ocisync", usage)
                for client, requests in asked.items():
                    sent = limits.measured(requests, READERS, folder / "limit")
                    bench.record(f"many to {kind}", "warm, daemon", client, sent)


def _one_pass(running: Daemon, load: Workload, source: Source, place: Place) -> Usage:
    before = running.log.count(_ENDED)
    source.skip()
    place.skip()
    used, began = _cpu(running.pid), time.time()
    _trigger(running)
    ended = _finished(running, before + len(load.repositories))
    usage = Usage(ended - began, _cpu(running.pid) - used, _peak(running.pid))
    return place.since(source.since(usage))


def _trigger(running: Daemon) -> None:
    """Let every rule run now."""
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"))
    connection.request("POST", "/v1/sync", headers={"Authorization": f"Bearer {_TOKEN['TOKEN']}"})
    connection.getresponse().read()
    connection.close()


def _finished(running: Daemon, jobs: int) -> float:
    """Wait until so many jobs have ended; when the last one did, in seconds since the epoch, as the log says.

    The log is looked at seldom, because whoever looks takes the CPU from those who are measured.
    """
    until = time.monotonic() + 600
    while running.log.count(_ENDED) < jobs:
        if time.monotonic() > until or running.child.process.poll() is not None:
            raise RuntimeError(f"{jobs} jobs did not end: {running.log[-3000:]}")
        time.sleep(_PAUSE)
    line = next(line for line in reversed(running.log.splitlines()) if _ENDED in line)
    stamp = _STAMP.search(line)
    if stamp is None:
        raise RuntimeError(f"no time in the log's line: {line}")
    return datetime.fromisoformat(stamp[0]).timestamp()


def _cpu(pid: int) -> float:
    """Seconds of CPU so far, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
