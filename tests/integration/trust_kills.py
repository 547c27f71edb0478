"""Kills at random moments while a policy holds: no refused image is ever visible at the target."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.integration.mainjob import ENV, Directory, tags, walk, write_config
from tests.integration.signed_images import attach, bundle_artifact, sig_image, sig_tag
from tests.servers.command import run_ocisync, started
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Image, image_of, noise, push, tar
from tests.signatures import KeySigner

NAME = "acme/app"
TAGS = 6
BASE = tar({"base": noise(60_000, "base")})
_DAEMON_EVERY = 4  # rounds


@dataclass
class SignedWorld:
    """A source whose tags move before every pass, to images that are signed, signed by a stranger, or not at all."""

    folder: Path
    registry: DockerRegistry
    chance: random.Random
    wanted: dict[str, str] = field(default_factory=dict)  # tag -> the digest that the target is to have
    signed: set[str] = field(default_factory=set)  # digests
    refused: int = 0
    kills: int = 0
    duration: float = 1.0  # seconds, of the last whole pass
    ours: KeySigner = field(default_factory=KeySigner)
    stranger: KeySigner = field(default_factory=KeySigner)

    def __post_init__(self) -> None:
        (self.folder / "ours.pub").write_text(self.ours.pem)
        self.place = Directory(self.folder / "out")
        source, only = f"{self.registry.host}/{NAME}", {"allow": ["t[0-9]"]}
        rule = {"source": source, "target": "out", "interval": "100ms", "verify": "ours", "tags": only}
        policies = {"ours": {"keys": ["./ours.pub"]}}
        self.file = write_config(self.folder, {"out": self.place.settings}, sync=[rule], verify=policies)

    def change(self, number: int) -> None:
        """Move half of the tags; each third image is signed by nobody, or by a stranger."""
        for slot in self.chance.sample(range(TAGS), TAGS // 2):
            seed = f"{number}/{slot}"
            image = image_of([BASE, tar({seed: noise(40_000, seed)})], comment=seed)
            push(self.registry.client, NAME, f"t{slot}", image)
            self._sign(image, f"t{slot}")

    def _sign(self, image: Image, tag: str) -> None:
        who = self.chance.choice(("ours", "bundle", "stranger", "nobody"))
        name = f"{self.registry.host}/{NAME}"
        if who == "bundle":
            attach(self.registry.client, NAME, image, bundle_artifact(image, self.ours.bundle(image.digest)))
        elif who != "nobody":
            signer = self.ours if who == "ours" else self.stranger
            push(self.registry.client, NAME, sig_tag(image), sig_image(signer.layer(image.digest, name)))
        if who in ("ours", "bundle"):
            self.signed.add(image.digest)
            self.wanted[tag] = image.digest
        else:
            self.refused += 1

    def kill_once(self, number: int) -> None:
        """Begin a pass, or the daemon, and end it at a random moment."""
        command = "run" if number % _DAEMON_EVERY == 0 else "once"
        with started(command, "-c", self.file, env=ENV) as child:
            try:
                child.process.wait(self.chance.uniform(0.35, 1.05) * self.duration)
            except TimeoutExpired:
                child.kill()
                self.kills += 1

    def check(self) -> None:
        """Every image that a tag shows is signed, and whole."""
        for tag in tags(self.place, NAME):
            if tag.startswith("t"):
                digest = next(iter(walk(self.place, NAME, tag)))
                assert digest in self.signed, f"{tag}: {digest} is visible, and nobody who is trusted signed it"

    def converge(self) -> None:
        """The next pass brings all that is signed, and leaves the rest as it was."""
        began = monotonic()
        assert run_ocisync("once", "-c", self.file, env=ENV).code in (0, 1)  # 1: something was refused
        self.duration = monotonic() - began
        self.check()
        for tag, digest in self.wanted.items():
            assert next(iter(walk(self.place, NAME, tag))) == digest


def random_kills(count: int, folder: Path, registry: DockerRegistry, seed: int) -> SignedWorld:
    """So many kills; the world as it is at the end."""
    world = SignedWorld(folder, registry, random.Random(seed))
    for number in range(10 * count):
        if world.kills >= count:
            break
        world.change(number)
        if number:
            world.kill_once(number)
            world.check()
        world.converge()
    assert world.kills == count
    assert world.refused
    return world
