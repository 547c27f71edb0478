"""Whatever comes in, nothing gets out, hangs, ends with a traceback or fills the memory; `make prove` tries 10,000."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from yarl import URL

from ocisync.config.parsers import parse_address, parse_duration, parse_size
from ocisync.daemon.webhooks.payloads import read_pushes
from ocisync.drop.naming import classify, find_slip, layout_pattern
from ocisync.errors import OcisyncError
from ocisync.model.cron import parse_cron
from ocisync.model.digest import parse_digest
from ocisync.model.image_name import parse_host, parse_image_name, parse_name, parse_tag, parse_tag_or_digest
from ocisync.model.locator import parse_locator
from ocisync.model.manifest import parse_manifest
from ocisync.model.platform import parse_platform
from ocisync.model.registry_root import parse_root
from ocisync.model.versions import parse_range, parse_version
from ocisync.serve.errors import ApiError
from ocisync.serve.headers import wanted_range
from ocisync.serve.routes import parse_path
from ocisync.stores.archive.docker_manifest import parse_config, parse_entries
from ocisync.stores.archive.names import name_key
from ocisync.stores.registry.auth.challenge import parse_challenges
from ocisync.stores.registry.paging import next_page
from tests.forked import Ended, Run, command_runner
from tests.hostile import as_json, change, random_files, random_request, random_text, write_folder, write_tar
from tests.integration.mainjob import Directory, write_config
from tests.servers.command import daemon, run_ocisync
from tests.servers.images import Json, digest_of, docker_archive, image_of, make_image, make_index, tar
from tests.servers.simulated import Simulated
from tests.servers.simulated_kinds import simulated

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MIB = 1 << 20
MOST = 300 * MIB
SECRET = "a token of enough characters"


def faults(ended: Ended) -> list[str]:
    """What is wrong with how a command ended."""
    said = ended.stderr + ended.stdout
    found = {
        "status": ended.code not in (0, 1, 2),
        "traceback": "Traceback" in said,
        "defect": re.search(r"\binternal\b", said) is not None,
        "steers": STEERS.search(said) is not None,
        "memory": ended.peak > MOST,
    }
    return [what for what, holds in found.items() if holds]


class Bench:
    """A folder to work in, and one beside it that nothing may touch."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run
        self.work, self.outside = folder / "work", folder / "outside"
        self.wrong: list[str] = []
        self.tried = 0

    def try_out(self, *arguments: str, what: str = "") -> Ended:
        """Run a command, and look at what it did. One of ten has a process of its own."""
        self.tried += 1
        ended = self.run(*arguments, is_inside=self.tried % 10 != 0)
        found = faults(ended)
        if sorted(path.name for path in self.folder.iterdir()) != ["err", "home", "out", "outside", "work"]:
            found.append("escape")
        if [path.name for path in self.outside.iterdir()] != ["kept"] or (self.outside / "kept").read_text() != "kept":
            found.append("touched")
        if found:
            figures = f"{ended.code}, {ended.peak // MIB} MiB"
            self.wrong.append(f"{what} {found} {arguments!r}: {figures}: {ended.stdout[-500:]} {ended.stderr[-1500:]}")
        return ended

    def clear(self, *names: str) -> None:
        """Remove what a command made."""
        for name in names:
            path = self.work / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    for name in ("work", "outside", "home"):
        (folder / name).mkdir()
    (folder / "outside/kept").write_text("kept")
    for name in ("out", "err"):
        (folder / name).touch()
    config = "version: 1\ntargets: {x: {type: static, path: ./reg}}\ndefaults: {retries: 0}\ndaemon: {state: ./state}\n"
    (folder / "work/ocisync.yaml").write_text(config)
    rule = "drop: [{name: r, path: ./drop, target: x, stable: 0s, settle: 0s}]\n"
    (folder / "work/drop.yaml").write_text(config + rule)
    with command_runner(folder / "work") as run:
        made = Bench(folder, run)
        yield made
        assert not made.wrong, f"{len(made.wrong)}\n" + "\n".join(made.wrong[:10])


def prove_archives(count: int, seed: int, folder: Path) -> None:
    """Archives and layouts through copy, drop folders, unpack and what looks at them."""
    rng = random.Random(seed)
    with bench(folder) as one:
        for number in range(count):
            kind = rng.choice(("docker", "oci"))
            files = random_files(rng, str(one.outside), kind)
            is_folder = kind == "oci" and rng.random() < 0.3
            name = "lay" if is_folder else "x.tar"
            act = rng.randrange(6)
            place = one.work / ("drop/team" if act == 5 else ".") / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (write_folder if is_folder else write_tar)(place, files, rng, str(one.outside))
            place.mkdir(exist_ok=True) if is_folder else None
            reference = f"{'oci:' if is_folder else f'{kind}-archive:'}{name}"
            commands = (
                ("copy", reference, f"static:reg//a/b:t{number}"),
                ("copy", "--all", reference, "static:reg"),
                ("unpack", reference, "out"),
                ("inspect", reference),
                ("tags", reference),
                ("once", "-c", "drop.yaml"),
            )
            one.try_out(*commands[act], what=f"seed {seed} number {number}")
            one.clear(name, "out", "drop")
        one.try_out("verify", "x", what="at the end")


def prove_manifests(count: int, seed: int, folder: Path) -> None:
    """Manifests, indexes and configurations of a registry, through what pulls and looks."""
    rng = random.Random(seed)
    with simulated("the specification") as registry, bench(folder) as one:
        image = image_of([tar({"f": b"x"})])
        for number in range(count):
            config = as_json(change(json.loads(image.config), rng), rng) if rng.random() < 0.4 else image.config
            made: Json = json.loads(image.manifest)
            registry.blobs = {**image.blobs}
            made["config"] = json.loads(image.manifest)["config"] | _add_blob(registry, config)
            raw = as_json(change(made, rng), rng) if rng.random() < 0.6 else json.dumps(made).encode()
            media_type = image.media_type
            if rng.random() < 0.3:
                index = make_index([image])
                digest = registry.put("a/b", "child", media_type, raw)
                listed = json.loads(index.manifest)
                listed["manifests"][0] |= {"digest": digest, "size": len(raw)}
                raw, media_type = as_json(change(listed, rng), rng), index.media_type
            if rng.random() < 0.1:
                media_type = rng.choice(("text/html", "application/json", "application/x; y=\x80z", "a/b" * 900))
            registry.put("a/b", "t", media_type, raw)
            source = f"docker://{registry.host}/a/b:t"
            commands = (
                ("copy", source, "static:reg//a/b:t"),
                ("copy", "--format", "docker", source, "docker-archive:out:x/y:t"),
                ("copy", "--platform", "linux/amd64", source, "oci:out:t"),
                ("unpack", source, "out"),
                ("inspect", source),
                ("digest", source),
            )
            one.try_out(*rng.choice(commands), what=f"seed {seed} number {number}: {raw[:600]!r}")
            one.clear("out")


def _add_blob(registry: Simulated, raw: bytes) -> Json:
    registry.blobs[digest_of(raw)] = raw
    return {"digest": digest_of(raw), "size": len(raw)}


PARSERS: dict[str, Callable[[str], object]] = {
    "image name": parse_image_name,
    "name": parse_name,
    "tag": parse_tag,
    "tag or digest": parse_tag_or_digest,
    "host": parse_host,
    "digest": parse_digest,
    "place": parse_locator,
    "root": parse_root,
    "platform": parse_platform,
    "version": parse_version,
    "range": parse_range,
    "cron": parse_cron,
    "archive's name": name_key,
    "drop name": lambda text: classify(text, "{name}/{tag}/{os}-{arch}{-variant}"),
    "drop slip": lambda text: find_slip(text, "{name}/{tag}/{os}-{arch}{-variant}"),
    "layout": layout_pattern,
    "route": parse_path,
    "range header": lambda text: wanted_range(text, None, '"x"', 100),
    "challenge": lambda text: parse_challenges([text]),
    "duration": parse_duration,
    "size": parse_size,
    "address": parse_address,
    "manifest": lambda text: parse_manifest(text.encode(errors="replace")),
    "entries": lambda text: parse_entries(text.encode(errors="replace")),
    "config": lambda text: parse_config(text.encode(errors="replace")),
    "github": lambda text: read_pushes("github", text.encode(errors="replace"), {}),
    "harbor": lambda text: read_pushes("harbor", text.encode(errors="replace"), {}),
}


def prove_names(count: int, seed: int) -> None:
    """Texts through every parser of names: what is no name is refused as that."""
    rng = random.Random(seed)
    here = URL("http://r.example/v2/a/tags/list")
    for _ in range(count):
        text = random_text(rng)
        for what, parse in PARSERS.items():
            try:
                parse(text)
            except (OcisyncError, ApiError):
                continue
            except ValueError:
                assert what in ("duration", "size", "address", "layout", "cron", "github", "harbor"), (what, text)
            except BaseException as exc:
                raise AssertionError(f"{what}: {text!r}") from exc
        with suppress(OcisyncError):
            next_page(here, text)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A daemon that serves one image, with a token and webhooks."""
    place = Directory(tmp_path / "registry")
    archive = docker_archive(tmp_path / "x.tar", {"a/b:t": make_image()})
    run_ocisync("copy", f"docker-archive:{archive}", f"static:{place.path}//a/b:t").expect(0)
    hooks = {name: {"type": name, "secret": "s" * 20} for name in ("github", "harbor")}
    config = write_config(tmp_path, {"out": place.settings}, daemon={"serve": "out", "token": SECRET}, webhooks=hooks)
    with daemon(config, is_fork=False) as running:
        yield running.url, place.path
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{running.pid}/status").read_text())
        assert peak is not None
        assert int(peak[1]) * 1024 < MOST
        assert running.get("/healthz").status == 200
        assert "Traceback" not in running.log
        assert STEERS.search(running.log) is None


def prove_requests(count: int, seed: int, url: str, folder: Path) -> None:
    """Requests to a daemon that serves: each is answered or refused, and nothing changes."""
    rng = random.Random(seed)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    digest = next(path.name for path in folder.rglob("blobs/sha256*"))
    parts = urlsplit(url)
    for number in range(count):
        raw = random_request(rng, "a/b", digest, SECRET)
        with socket.create_connection((parts.hostname, parts.port or 0), timeout=20) as made:
            said = b""
            with suppress(ConnectionError):
                made.sendall(raw)
                with suppress(OSError):  # refused and closed already
                    made.shutdown(socket.SHUT_WR)
                while len(said) < MIB and (more := made.recv(65536)):
                    said += more
        assert not said or said.startswith(b"HTTP/"), (seed, number, raw[:300], said[:300])  # in the client's version
        assert not re.match(rb"HTTP/... 500", said), (seed, number, raw[:300], said[:300])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.timeout(600)
def test_thirty_hostile_archives(tmp_path: Path) -> None:
    prove_archives(30, 1, tmp_path)


@pytest.mark.timeout(600)
def test_twenty_hostile_manifests(tmp_path: Path) -> None:
    prove_manifests(20, 1, tmp_path)


def test_a_thousand_names() -> None:
    prove_names(1000, 1)


@pytest.mark.timeout(600)
def test_three_hundred_hostile_requests(served: tuple[str, Path]) -> None:
    prove_requests(300, 1, *served)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(100, 110))
def test_ten_thousand_hostile_archives(seed: int, tmp_path: Path) -> None:
    prove_archives(1000, seed, tmp_path)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(200, 210))
def test_ten_thousand_hostile_manifests(seed: int, tmp_path: Path) -> None:
    prove_manifests(1000, seed, tmp_path)


@pytest.mark.prove
def test_ten_thousand_names() -> None:
    prove_names(10_000, 300)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(400, 410))
def test_ten_thousand_hostile_requests(seed: int, served: tuple[str, Path]) -> None:
    prove_requests(1000, seed, *served)
