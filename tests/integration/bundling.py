"""What the tests of bundles share: a source that changes, bundles of it, and mirrors that are filled by both ways."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.mainjob import ENV, Place, write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    Image,
    Index,
    make_artifact,
    make_image,
    multi_platform,
    noise,
    push,
    referrers_list,
    tar,
)

APP, TOOL = "team/app", "team/tool"
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"
BASE = tar({"base": noise(60_000, "base")})


@dataclass
class Site:
    """A connected side with two rules, and its bundles."""

    folder: Path
    registry: DockerRegistry
    targets: Mapping[str, Place]  # by name; `out` is what the rules mirror into
    tags: dict[str, str] = field(default_factory=dict)  # name:tag -> digest

    def __post_init__(self) -> None:
        self.file = self.configure()

    @property
    def media(self) -> Path:
        """Where bundles are written to."""
        return self.folder / "media"

    def configure(self, **settings: object) -> Path:
        """The configuration: a rule for each repository."""
        targets = {name: place.settings for name, place in self.targets.items()}
        return write_config(self.folder, targets, sync=self.rules(**settings))

    def rules(self, **settings: object) -> list[dict[str, object]]:
        """A sync rule for each repository."""
        return [
            {
                "name": name.rpartition("/")[2],
                "source": f"{self.registry.host}/{name}",
                "target": f"out/{name}",
                "prune": True,
                "prune_limit": 1.0,
                "referrers": True,
                "digest_tags": True,
                **settings,
            }
            for name in (APP, TOOL)
        ]

    def put(self, name: str, tag: str, image: Image | Index) -> None:
        """Push an image to the source."""
        self.tags[f"{name}:{tag}"] = push(self.registry.client, name, tag, image)

    def create(self, *arguments: str | Path, code: int = 0, env: Mapping[str, str] | None = None) -> Finished:
        """`ocisync bundle create` of both rules."""
        done = run_ocisync(
            "bundle", "create", "app", "tool", "--name", "mirror", "-o", self.media, "-c", self.file, *arguments,
            env={**ENV, **(env or {})},
        )  # fmt: skip
        return done.expect(code)

    def mirror(self) -> None:
        """Bring the target `out` up to date, directly."""
        run_ocisync("once", "-c", self.file, env=ENV).expect(0)

    def apply(
        self,
        *paths: Path,
        target: str = "inner",
        code: int = 0,
        options: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """`ocisync bundle apply`."""
        place = ("--target", target, "-c", self.file, "--receipts", self.folder / "receipts")
        done = run_ocisync("bundle", "apply", *paths, *place, *options, env={**ENV, **(env or {})})
        return done.expect(code)

    def inventory(self, number: int) -> Path:
        """A bundle's inventory."""
        return self.media / f"mirror-{number:04d}.bundle.json"

    def files(self, number: int) -> list[Path]:
        """All files of a bundle."""
        return sorted(path for path in self.media.iterdir() if path.name.startswith(f"mirror-{number:04d}"))


def change(site: Site, number: int) -> None:
    """A step of the source's life: new and moved tags, shared layers, referrers, cosign's tags, removed tags."""
    moved = multi_platform(f"moved {number}", size=40_000)
    site.put(APP, "latest", moved)
    site.put(APP, f"v{number}", make_image(f"v{number}", shared=[BASE], size=30_000))
    site.put(TOOL, "stable", make_image(f"tool {number // 2}", shared=[BASE], size=20_000))
    signature = make_image(f"cosign {number}", layers=1)
    push(site.registry.client, APP, f"{moved.digest.replace(':', '-')}.sig", signature)
    parts = make_artifact(moved, SBOM, f"parts {number}")
    signed = make_artifact(parts, note=f"signed {number}")
    for subject, artifact, kind in ((moved, parts, SBOM), (parts, signed, SIGNATURE)):
        push(site.registry.client, APP, "", artifact)
        listing = referrers_list(artifact, kind=kind)
        push(site.registry.client, APP, subject.digest.replace(":", "-"), listing)
    if number >= 2:
        remove_tag(site, APP, f"v{number - 2}")


def remove_tag(site: Site, name: str, tag: str) -> None:
    """Remove a tag of the source, in its storage: docker-registry cannot do that by its API."""
    shutil.rmtree(site.registry.storage / f"docker/registry/v2/repositories/{name}/_manifests/tags/{tag}")
    del site.tags[f"{name}:{tag}"]
