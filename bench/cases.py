"""The cases: which client runs what, in turn, beside which limit."""

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from bench import limits
from bench.archives import archives
from bench.measure import (
    S3,
    FolderPlace,
    Place,
    RegistryPlace,
    Source,
    Usage,
    median,
    run,
    s3_server,
    source_registry,
    target_registry,
)
from bench.peers import (
    OCISYNC,
    SECRET,
    Client,
    Errand,
    bucket_target,
    directory_target,
    ocisync,
    ocisync_config,
    ocisync_into,
    rule_name,
)
from bench.storage import remove, stored_bytes
from bench.workloads import Sizes, Workload, workload
from tests.servers.command import Daemon, daemon
from tests.servers.images import Json
from tests.servers.process import free_port

READERS, WRITERS = 6, 16  # requests at a time: the configuration's defaults for registries and for S3
_TOKEN = {"TOKEN": "bench"}

Key = tuple[str, str, str]  # case, phase, client


@dataclass(slots=True)
class Bench:
    """One benchmark, and what it has measured so far."""

    work: Path
    sizes: Sizes
    runs: int
    peers: Mapping[str, Client]
    tell: Callable[[str], None]
    records: dict[Key, list[Usage]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def record(self, case: str, phase: str, client: str, usage: Usage) -> None:
        """Keep one run."""
        self.records.setdefault((case, phase, client), []).append(usage)
        self.tell(f"{case}, {phase}, {client}: {usage.wall:.2f} s, {usage.cpu:.2f} s of CPU")

    def get(self, case: str, phase: str, client: str) -> Usage | None:
        """The median of the runs, if there were any."""
        runs = self.records.get((case, phase, client))
        return median(runs) if runs else None

    def load(self, name: str) -> Workload:
        """A workload; made when it is not there."""
        self.tell(f"{name}: preparing")
        return workload(name, self.work, self.sizes)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one run, on the disk of the workloads."""
        self.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.work, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def many(bench: Bench) -> None:
    """Many small images."""
    load = bench.load("many")
    bench.counts["many"] = len(load.tags)
    mirror(bench, load)
    with bench.folder() as folder, s3_server(folder) as s3:
        daemon_passes(bench, load, s3)
        cold_s3(bench, load, s3)


def typical(bench: Bench) -> None:
    """Images as they usually are."""
    _cold_and_warm(bench, "typical")


def big(bench: Bench) -> None:
    """Large layers, and one of them alone."""
    _cold_and_warm(bench, "big")
    single(bench, bench.load("single"))


def scale(bench: Bench) -> None:
    """Very many tags: only ocisync, beside its own figures for `many`."""
    load = bench.load("scale")
    bench.counts["scale"] = len(load.tags)
    mirror(replace_peers(bench), load)


def archive(bench: Bench) -> None:
    """A docker-archive, and the same with one layer rebuilt."""
    bench.tell("archive: preparing")
    made = archives(bench.work, bench.sizes)
    for _ in range(bench.runs):
        with bench.folder() as folder:
            bench.record("archive", "cold", "skopeo", _skopeo_archive(made.first, folder))
        with bench.folder() as folder:
            for phase, file, tag in (("cold", made.first, "v1"), ("rebuilt", made.rebuilt, "v2")):
                bench.record("archive", phase, "ocisync", _dropped(file, tag, folder))


def start(bench: Bench) -> None:
    """The start of the process alone."""
    with bench.folder() as folder:
        file = folder / "ocisync.yaml"
        run([OCISYNC, "init", file], folder)
        for _ in range(max(bench.runs, 5)):
            bench.record("start", "--help", "ocisync", run([OCISYNC, "--help"], folder))
            bench.record("start", "config check", "ocisync", run([OCISYNC, "config", "check", "-c", file], folder))


CASES: Mapping[str, Callable[[Bench], None]] = {
    "start": start,
    "many": many,
    "typical": typical,
    "big": big,
    "archive": archive,
    "scale": scale,
}


def replace_peers(bench: Bench) -> Bench:
    """The same benchmark, its records shared, without peers."""
    return replace(bench, peers={})


def mirror(bench: Bench, load: Workload) -> None:
    """Registry to registry: every client in turn."""
    clients = {"ocisync": ocisync, **bench.peers}
    for _ in range(bench.runs):
        for name, client in clients.items():
            with bench.folder() as folder, _pair(load, folder) as (source, target):
                errand = Errand(load, source.registry.host, target.registry.host, folder / "client")
                _phases(bench, name, client(errand), errand, (source, target))


def _phases(bench: Bench, name: str, command: list[str], errand: Errand, servers: tuple[Source, RegistryPlace]) -> None:
    def step(phase: str) -> None:
        bench.record(errand.workload.name, phase, name, _measured(command, errand.folder, *servers))

    step("cold")
    step("warm")
    if name == "ocisync":
        remove(errand.folder / "state")
        step("warm, no ledger")
    if errand.workload.moves:
        with errand.workload.moved():
            step("moved")


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


def cold_s3(bench: Bench, load: Workload, s3: S3) -> None:
    """Registry to S3, beside the same PUTs and the same reads from bare clients."""
    for _ in range(bench.runs):
        with bench.folder() as folder, source_registry(load.storage.root) as source:
            host = source.registry.host
            with s3.place() as place:
                command = ocisync_into(Errand(load, host, "", folder / "client"), bucket_target(place.bucket))
                usage = _measured(command, folder / "client", source, place)
                bench.record(f"{load.name} to S3", "cold", "ocisync", usage)
            with s3.place() as place:
                puts = limits.puts(load, place.bucket)
                bench.counts[f"{load.name} objects"] = len(puts)
                sent = limits.measured(puts, WRITERS, folder / "limit")
                bench.record(f"{load.name} to S3", "cold", "bare PUTs", place.since(sent))
            read = limits.measured(limits.reads(load, host), READERS, folder / "limit")
            bench.record(f"{load.name} to S3", "cold", "bare GETs", source.since(read))


def single(bench: Bench, load: Workload) -> None:
    """One large blob into a directory, beside curl and openssl."""
    name, one = next(iter(load.repositories.items()))
    largest = max(one.blobs.values(), key=lambda blob: blob.size)
    for _ in range(bench.runs):
        with bench.folder() as folder, source_registry(load.storage.root) as source:
            host, place = source.registry.host, FolderPlace(folder / "registry")
            command = [OCISYNC, "copy", f"docker://{host}/{name}:v0", f"static:{place.path}//{name}:v0"]
            bench.record("single", "cold", "ocisync", _measured(command, folder, source, place))
            piped = limits.piped(f"http://{host}/v2/{name}/blobs/{largest.digest}", folder / "limit")
            bench.record("single", "cold", "curl | openssl", source.since(piped))


def _cold_and_warm(bench: Bench, name: str) -> None:
    load = bench.load(name)
    mirror(bench, load)
    with bench.folder() as folder, s3_server(folder) as s3:
        cold_s3(bench, load, s3)


@contextmanager
def _pair(load: Workload, folder: Path) -> Iterator[tuple[Source, RegistryPlace]]:
    with source_registry(load.storage.root) as source, target_registry(folder / "target") as target:
        yield source, target


def _measured(command: list[str], folder: Path, source: Source, place: Place) -> Usage:
    folder.mkdir(parents=True, exist_ok=True)
    source.skip()
    place.skip()
    return place.since(source.since(run(command, folder, SECRET)))


def _skopeo_archive(file: Path, folder: Path) -> Usage:
    out = folder / "layout"
    usage = run(["skopeo", "--insecure-policy", "copy", f"docker-archive:{file}", f"oci:{out}:v1"], folder)
    return replace(usage, stored=stored_bytes(out))


def _dropped(file: Path, tag: str, folder: Path) -> Usage:
    """A file put into a drop folder, by one pass, with what the passes before it left."""
    drop, out = folder / "drop" / "app", folder / "registry"
    drop.mkdir(parents=True, exist_ok=True)
    (drop / f"{tag}.tar").hardlink_to(file)
    rule: Json = {"name": "drop", "path": str(folder / "drop"), "target": "out", "stable": "0s"}
    target = directory_target(out)
    document = {"version": 1, "targets": {"out": target}, "drop": [rule], "daemon": {"state": str(folder / "state")}}
    config = folder / "ocisync.yaml"
    config.write_text(json.dumps(document))
    return FolderPlace(out).since(run([OCISYNC, "once", "-c", config], folder))
