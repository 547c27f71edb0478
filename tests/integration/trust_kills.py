"""Kills at random moments while a policy holds: no refused image is ever visible at the target."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.kills import KilledMirror
from tests.integration.mainjob import Directory, tags, walk, write_config
from tests.integration.signed_images import attach, bundle_artifact, sig_image, sig_tag
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Image, Index, image_of, multi_platform, noise, push, tar
from tests.signatures import KeySigner

NAME = "acme/app"
TAGS = 6
BASE = tar({"base": noise(60_000, "base")})


@dataclass
class SignedWorld(KilledMirror):
    """A source whose tags move to images that are signed, signed by a stranger, in part, or not at all."""

    signed: set[str] = field(default_factory=set)  # digests
    refused: set[str] = field(default_factory=set)
    ours: KeySigner = field(default_factory=KeySigner)
    stranger: KeySigner = field(default_factory=KeySigner)

    def __post_init__(self) -> None:
        (self.folder / "ours.pub").write_text(self.ours.pem)
        self.place = Directory(self.folder / "out")
        source, only = f"{self.registry.host}/{NAME}", {"allow": ["t[0-9]"]}
        rule = {
            "source": source,
            "target": "out",
            "interval": "100ms",
            "verify": {"any": ["ours"], "each": "platform"},
            "tags": only,
        }
        policies = {"ours": {"keys": ["./ours.pub"]}}
        self.file = write_config(self.folder, {"out": self.place.settings}, sync=[rule], verify=policies)

    def change(self, number: int) -> None:
        """Move half of the tags to images of which some may not be taken."""
        for slot in self.chance.sample(range(TAGS), TAGS // 2):
            seed, tag = f"{number}/{slot}", f"t{slot}"
            image = multi_platform(seed) if slot % 3 == 0 else _make_image(seed)
            push(self.registry.client, NAME, tag, image)
            if self._sign(image):
                self.signed.add(image.digest)
                self.wanted[tag] = image.digest
            else:
                self.refused |= {image.digest, *(child.digest for child in getattr(image, "children", ()))}

    def _sign(self, image: Image | Index) -> bool:
        """Whether the image was signed by somebody who is trusted."""
        who = self.chance.choice(("ours", "bundle", "stranger", "child", "nobody"))
        if who == "bundle":
            attach(self.registry.client, NAME, image, bundle_artifact(image, self.ours.bundle(image.digest)))
        elif who in ("ours", "stranger"):
            self._tag(image, self.ours if who == "ours" else self.stranger)
        elif who == "child" and isinstance(image, Index):
            self._tag(image.children[0], self.ours)
        return who in ("ours", "bundle")

    def _tag(self, image: Image | Index, signer: KeySigner) -> None:
        layer = signer.layer(image.digest, f"{self.registry.host}/{NAME}")
        push(self.registry.client, NAME, sig_tag(image), sig_image(layer))

    def check(self) -> None:
        """Every image that a tag shows is signed, and whole; what was refused is not there by its digest either."""
        for tag in tags(self.place, NAME):
            if tag.startswith("t"):
                digest = next(iter(walk(self.place, NAME, tag)))
                assert digest in self.signed, f"{tag}: {digest} is visible, and nobody who is trusted signed it"
        there = {path.name for path in (self.folder / "out" / "v2" / NAME / "manifests").glob("sha256:*")}
        assert not there & self.refused

    def converge(self) -> None:
        """The next pass brings all that is signed, and leaves the rest as it was."""
        self.run_once(0, 1)  # 1: something was refused
        self.check()
        for tag, digest in self.wanted.items():
            assert next(iter(walk(self.place, NAME, tag))) == digest


def _make_image(seed: str) -> Image:
    return image_of([BASE, tar({seed: noise(40_000, seed)})], comment=seed)


def random_kills(count: int, folder: Path, registry: DockerRegistry, seed: int) -> SignedWorld:
    """So many kills; the world as it is at the end."""
    world = SignedWorld(folder, registry, random.Random(seed))
    world.kill_often(count)
    assert world.refused
    return world
