"""SIGKILL in the middle of passes, and what every published tag must be afterwards; for short and long proofs."""

import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.integration.mainjob import (
    ENV,
    BucketPlace,
    Kind,
    Place,
    contents,
    listed_tags,
    open_place,
    tags,
    walk,
    write_config,
)
from tests.servers.command import run_ocisync, started
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Image, Index, docker_archive, image_of, make_index, noise, oci_archive, push, tar
from tests.servers.seaweed import Seaweed

NAME = "library/app"
SMALL_PARTS = {"multipart_threshold": "5MiB", "part_size": "5MiB"}
BASE = tar({"base": noise(60_000, "base")})
_DAEMON_EVERY = 4  # rounds


@dataclass
class KilledMirror(ABC):
    """A source that changes before every pass, and passes that are killed under way."""

    folder: Path
    registry: DockerRegistry
    chance: random.Random
    file: Path = field(init=False)  # the configuration
    wanted: dict[str, str] = field(default_factory=dict)  # tag -> the digest that the target is to have in the end
    duration: float = 1.0  # seconds, of the last whole pass
    kills: int = 0
    daemon_kills: int = 0

    @abstractmethod
    def change(self, number: int) -> None:
        """Move tags at the source."""

    @abstractmethod
    def check(self) -> None:
        """What must hold at the target at any moment."""

    @abstractmethod
    def converge(self) -> None:
        """One whole pass, and what must hold after it."""

    def kill_once(self, number: int) -> None:
        """Begin a pass, or the daemon, and end it at a random moment."""
        command = "run" if number % _DAEMON_EVERY == 0 else "once"
        with started(command, "-c", self.file, env=ENV) as child:
            try:
                child.process.wait(self.chance.uniform(0.35, 1.05) * self.duration)
            except TimeoutExpired:
                child.kill()
                self.kills += 1
                self.daemon_kills += command == "run"

    def kill_often(self, count: int) -> None:
        """So many kills, each with what must hold after it."""
        for number in range(10 * count):
            if self.kills >= count:
                break
            self.change(number)
            if number:
                self.kill_once(number)
                self.check()
            self.converge()
        assert self.kills == count

    def run_once(self, *codes: int) -> None:
        """A whole pass."""
        began = monotonic()
        assert run_ocisync("once", "-c", self.file, env=ENV).code in codes
        self.duration = monotonic() - began


@dataclass(kw_only=True)
class World(KilledMirror):
    """A rule and a drop folder."""

    place: Place
    before: dict[str, str] = field(default_factory=dict)  # tag -> digest, at the target after the last whole pass

    def __post_init__(self) -> None:
        sync = {"source": f"{self.registry.host}/{NAME}", "target": "out", "interval": "100ms"}
        drop = {"name": "d", "path": str(self.folder / "drop"), "target": "out", "done": "move", "stable": "0s"}
        self.file = write_config(self.folder, {"out": self.place.settings}, sync=[sync], drop=[drop])

    def change(self, number: int) -> None:
        """Move three tags of six, one of them a multi-platform one, and drop an archive."""
        for slot in self.chance.sample(range(6), 3):
            tag, made = f"t{slot}", _made(f"{number}/{slot}", multi=slot % 3 == 0)
            self.wanted[tag] = push(self.registry.client, NAME, tag, made)
        dropped = image_of([BASE, tar({"own": noise(40_000, f"drop{number}")})], comment=f"drop{number}")
        docker_archive(self.folder / f"drop/dropped{number}.tar", {f"built/app:{number % 3}": dropped})

    def check(self) -> None:
        """Every published tag pulls completely, and each is the old or the new one."""
        for tag in tags(self.place, NAME):
            digest = next(iter(walk(self.place, NAME, tag)))
            assert digest in (self.before.get(tag), self.wanted[tag]), tag
        for tag in tags(self.place, "built/app"):
            walk(self.place, "built/app", tag)

    def converge(self) -> None:
        """The next pass brings everything to what it should be."""
        self.run_once(0)
        self.before = dict(self.wanted)
        for tag, digest in self.wanted.items():
            assert next(iter(walk(self.place, NAME, tag))) == digest
        assert listed_tags(self.place, NAME) == tags(self.place, NAME) == sorted(self.wanted)
        assert listed_tags(self.place, "built/app") == tags(self.place, "built/app")
        assert [path.name for path in (self.folder / "drop").glob("*.tar")] == []


def _made(seed: str, *, multi: bool) -> Image | Index:
    own = tar({seed: noise(50_000, seed)})
    if not multi:
        return image_of([BASE, own], comment=seed)
    platforms = (("linux", "amd64", ""), ("linux", "arm64", "v8"))
    return make_index(image_of([BASE, own], platform=one, comment=seed) for one in platforms)


def random_kills(kind: Kind, count: int, folder: Path, registry: DockerRegistry, s3: Seaweed, seed: int) -> World:
    """So many kills; the world as it is at the end."""
    with open_place(kind, folder / "registry", s3) as place:
        world = World(folder, registry, random.Random(seed), place=place)
        world.kill_often(count)
    return world


@dataclass(frozen=True, slots=True)
class Straight:
    """What an uninterrupted run leaves behind."""

    content: Mapping[str, bytes]
    files: frozenset[str]  # of the drop folder


POINTS = {
    "spool": 2,
    "blob": 4,
    "part": 3,
    "complete.before": 1,
    "complete.after": 1,
    "manifest.child": 2,
    "manifest.digest": 2,
    "referrers": 4,
    "tag": 2,
    "tags_list": 2,
    "catalog": 1,  # repositories that become whole at the same time share one
    "ledger": 3,
    "archive.move": 3,
}
"""How often each point is passed at least, in one run of `scene`."""

ONLY = {"part": "s3", "complete.before": "s3", "complete.after": "s3", "blob": "directory"}


@contextmanager
def scene(kind: Kind, folder: Path, registry: DockerRegistry, s3: Seaweed) -> Iterator[tuple[Place, Path]]:
    """A target, and a configuration that passes every named point: a sync rule and two dropped archives."""
    with open_place(kind, folder / "registry", s3, **SMALL_PARTS) as place:
        docker_archive(folder / "drop/docker.tar", {"built/docker:1": image_of([BASE, tar({"a": b"a"})])})
        oci_archive(folder / "drop/oci.tar", {"built/oci:1": image_of([BASE, tar({"b": b"b"})])})
        sync = {"source": f"{registry.host}/{NAME}", "target": "out"}
        drop = {"name": "d", "path": str(folder / "drop"), "target": "out", "done": "move", "stable": "0s"}
        yield place, write_config(folder, {"out": place.settings}, sync=[sync], drop=[drop])


def fill_source(registry: DockerRegistry) -> dict[str, str]:
    """A multi-platform image and one with a layer that S3 takes in parts; their digests by tag."""
    big = image_of([BASE, tar({"big": noise(11 << 20, "big")})], comment="big")
    images: dict[str, Image | Index] = {"multi": _made("multi", multi=True), "big": big}
    return {tag: push(registry.client, NAME, tag, made) for tag, made in images.items()}


def straight_run(kind: Kind, folder: Path, registry: DockerRegistry, s3: Seaweed) -> Straight:
    """Everything published, without an interruption."""
    with scene(kind, folder, registry, s3) as (place, file):
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        return _outcome(place, folder)


def killed_run(
    kind: Kind, point: str, folder: Path, registry: DockerRegistry, s3: Seaweed, wanted: Mapping[str, str]
) -> Straight | None:
    """What is there after a kill at a named point and the pass after it; None when the point was not reached."""
    with scene(kind, folder, registry, s3) as (place, file):
        done = run_ocisync("once", "-c", file, env=ENV | {"OCISYNC_KILL_AT": point})
        if done.code == 0:
            return None
        assert done.code == -signal.SIGKILL, done
        for tag in tags(place, NAME):
            assert next(iter(walk(place, NAME, tag))) == wanted[tag]
        for name in ("built/docker", "built/oci"):
            for tag in tags(place, name):
                walk(place, name, tag)
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        return _outcome(place, folder)


def _outcome(place: Place, folder: Path) -> Straight:
    found = contents(place)
    if isinstance(place, BucketPlace):  # what pullers see of an object beside its bytes
        facts = {key: place.bucket.get(key) for key in found}
        found |= {f"{key} headers": f"{one.content_type} {one.cache_control}".encode() for key, one in facts.items()}
    drop = folder / "drop"
    return Straight(found, frozenset(path.relative_to(drop).as_posix() for path in drop.rglob("*")))
