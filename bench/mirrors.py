"""From a registry to a registry, every client in turn; and to S3, beside bare clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import copies, limits, threads
from bench.measure import S3, RegistryPlace, Source, source_registry, target_registry
from bench.peers import Errand, bucket_target, ocisync, ocisync_into
from bench.record import READERS, WRITERS, Bench, measured
from bench.storage import remove
from bench.workloads import Workload

_BARE = ((copies.NAME, "bench.copies"), (threads.NAME, "bench.threads"))


def mirror(bench: Bench, load: Workload) -> None:
    """Registry to registry: every client in turn."""
    clients = {"ocisync": ocisync, **bench.peers}
    for _ in range(bench.runs):
        for name, client in clients.items():
            with bench.folder() as folder, _pair(bench, load, folder) as (source, target):
                ends = source.registry.host, target.registry.host
                errand = Errand(load, *ends, folder / "client", is_tls=bench.tls is not None)
                _phases(bench, name, client(errand), errand, (source, target))
        for name, module in _BARE if bench.peers else ():
            with bench.folder() as folder, _pair(bench, load, folder) as (source, target):
                steps = copies.to_registry(load, source.registry.url, target.registry.url)
                source.skip()
                target.skip()
                sent = copies.measured(steps, to_s3=False, folder=folder / "limit", module=module)
                bench.record(load.name, "cold", name, target.since(source.since(sent)))


def _phases(bench: Bench, name: str, command: list[str], errand: Errand, servers: tuple[Source, RegistryPlace]) -> None:
    def step(phase: str) -> None:
        bench.record(errand.workload.name, phase, name, measured(command, errand.folder, *servers))

    step("cold")
    for _ in range(bench.repeats):
        step("warm")
    if name == "ocisync":
        for validates, phase in ((False, "warm, no ledger"), (True, "warm, no ledger, validates")):
            ocisync(replace(errand, validates=validates))
            for _ in range(bench.repeats):
                remove(errand.folder / "state")
                step(phase)
        ocisync(errand)
    if errand.workload.moves:
        with errand.workload.moved():
            step("moved")


def cold_s3(bench: Bench, load: Workload, s3: S3) -> None:
    """Registry to S3, beside the same PUTs and the same reads from bare clients; each meets a source that is fresh."""
    case, storage = f"{load.name} to S3", load.storage.root
    for _ in range(bench.runs):
        with bench.folder() as folder:
            with source_registry(storage, bench.tls) as source, s3.place() as place:
                errand = Errand(load, source.registry.host, "", folder / "client", is_tls=bench.tls is not None)
                command = ocisync_into(errand, bucket_target(place.bucket))
                bench.record(case, "cold", "ocisync", measured(command, errand.folder, source, place))
            with s3.place() as place:
                puts = limits.puts(load, place.bucket)
                bench.counts[f"{load.name} objects"] = len(puts)
                bench.record(case, "cold", "bare PUTs", place.since(limits.measured(puts, WRITERS, folder / "limit")))
            for name, module in _BARE:
                with source_registry(storage, bench.tls) as source, s3.place() as place:
                    steps = copies.to_bucket(load, source.registry.url, place.bucket)
                    source.skip()
                    sent = copies.measured(steps, to_s3=True, folder=folder / "limit", module=module)
                    bench.record(case, "cold", name, place.since(source.since(sent)))
            with source_registry(storage, bench.tls) as source:
                reads = limits.reads(load, source.registry.url)
                source.skip()
                bench.record(case, "cold", "bare GETs", source.since(limits.measured(reads, READERS, folder / "limit")))


@contextmanager
def _pair(bench: Bench, load: Workload, folder: Path) -> Iterator[tuple[Source, RegistryPlace]]:
    storage, tls = load.storage.root, bench.tls
    with source_registry(storage, tls) as source, target_registry(folder / "target", tls) as target:
        yield source, target
