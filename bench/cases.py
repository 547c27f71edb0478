"""The cases: which client runs what, in turn, beside which limit."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bench import compression, limits
from bench.archives import archives
from bench.measure import FolderPlace, Usage, run, s3_server, source_registry
from bench.mirrors import cold_s3, mirror
from bench.passes import daemon_passes
from bench.peers import OCISYNC, SECRET, Errand, bucket_target, directory_target, ocisync_config
from bench.record import Bench, measured
from bench.storage import stored_bytes
from tests.servers.images import Json


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
    """Large layers."""
    _cold_and_warm(bench, "big")


def single(bench: Bench) -> None:
    """One large blob into a directory, beside curl and openssl."""
    load = bench.load("single")
    name, one = next(iter(load.repositories.items()))
    largest = max(one.blobs.values(), key=lambda blob: blob.size)
    for _ in range(bench.runs):
        with bench.folder() as folder, source_registry(load.storage.root, bench.tls) as source:
            host, place = source.registry.host, FolderPlace(folder / "registry")
            errand = Errand(load, host, "", folder, is_tls=bench.tls is not None)
            config = ocisync_config(errand, directory_target(place.path))
            images = f"docker://{host}/{name}:v0", f"static:{place.path}//{name}:v0"
            command = [OCISYNC, "copy", "-c", str(config), *images]
            bench.record("single", "cold", "ocisync", measured(command, folder, source, place))
            piped = limits.piped(f"{source.registry.url}/v2/{name}/blobs/{largest.digest}", folder / "limit")
            bench.record("single", "cold", "curl | openssl", source.since(piped))


def scale(bench: Bench) -> None:
    """Very many tags: only ocisync, beside its own figures for `many`."""
    load = bench.load("scale")
    bench.counts["scale"] = len(load.tags)
    mirror(replace(bench, peers={}, repeats=1), load)


def archive(bench: Bench) -> None:
    """A docker-archive, and the same with one layer rebuilt."""
    bench.tell("archive: preparing")
    made = archives(bench.work, bench.sizes)
    for _ in range(bench.runs):
        with bench.folder() as folder:
            bench.record("archive", "cold", "skopeo", _skopeo_archive(made.first, folder))
        with bench.folder() as folder:
            out = directory_target(folder / "registry")
            for phase, file, tag in (("cold", made.first, "v1"), ("rebuilt", made.rebuilt, "v2")):
                place = FolderPlace(folder / "registry")
                bench.record("archive", phase, "ocisync", place.since(_dropped(file, tag, folder, out)))
        with bench.folder() as folder:
            asked = {"archive": str(made.first), "folder": str(folder)}
            bench.record(
                "archive", "cold", compression.NAME, limits.apart("bench.compression", asked, folder / "limit")
            )
        with bench.folder() as folder, s3_server(folder / "s3") as s3, s3.place() as bucket:
            sent = _dropped(made.first, "v1", folder, bucket_target(bucket.bucket))
            bench.record("archive to S3", "cold", "ocisync", bucket.since(sent))


def start(bench: Bench) -> None:
    """The start of the process alone."""
    with bench.folder() as folder:
        file = folder / "ocisync.yaml"
        run([OCISYNC, "init", file], folder)
        for _ in range(max(bench.runs, 5)):
            bench.record("start", "--help", "ocisync", run([OCISYNC, "--help"], folder))
            bench.record("start", "config check", "ocisync", run([OCISYNC, "config", "check", "-c", file], folder))


def _cold_and_warm(bench: Bench, name: str) -> None:
    load = bench.load(name)
    mirror(bench, load)
    with bench.folder() as folder, s3_server(folder) as s3:
        cold_s3(bench, load, s3)


def _skopeo_archive(file: Path, folder: Path) -> Usage:
    out = folder / "layout"
    usage = run(["skopeo", "--insecure-policy", "copy", f"docker-archive:{file}", f"oci:{out}:v1"], folder)
    return replace(usage, stored=stored_bytes(out))


def _dropped(file: Path, tag: str, folder: Path, target: Json) -> Usage:
    """A file put into a drop folder, by one pass, with what the passes before it left."""
    drop = folder / "drop" / "app"
    drop.mkdir(parents=True, exist_ok=True)
    (drop / f"{tag}.tar").hardlink_to(file)
    rule: Json = {"name": "drop", "path": str(folder / "drop"), "target": "out", "stable": "0s"}
    document = {"version": 1, "targets": {"out": target}, "drop": [rule], "daemon": {"state": str(folder / "state")}}
    config = folder / "ocisync.yaml"
    config.write_text(json.dumps(document))
    return run([OCISYNC, "once", "-c", config], folder, SECRET)


CASES: Mapping[str, Callable[[Bench], None]] = {
    "start": start,
    "many": many,
    "typical": typical,
    "big": big,
    "single": single,
    "archive": archive,
    "scale": scale,
}
