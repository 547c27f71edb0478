"""Two registries with htpasswd and TLS by an authority of their own, and a rule that mirrors one to the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.mainjob import write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import Image, Index, push
from tests.servers.skopeo import inspect_raw, list_tags
from tests.servers.tls import Certificate

NAME = "library/app"
_CREDENTIALS = ("--creds", f"{USERNAME}:{PASSWORD}")


@dataclass
class Mirror:
    """A source, a target, and the rule between them."""

    folder: Path
    source: DockerRegistry
    target: DockerRegistry
    file: Path = Path()

    def rule(self, **settings: object) -> None:
        """Write the configuration anew."""
        rule = {"name": "app", "source": f"{self.source.host}/{NAME}", "target": "out"} | settings
        secret = {"username": USERNAME, "password": PASSWORD, "ca": str(self.source.authority)}
        hosts = {self.source.host: secret, self.target.host: secret}
        targets = {"out": {"type": "registry", "url": self.target.url}}
        self.file = write_config(self.folder, targets, sync=[rule], registries=hosts)

    def put(self, tag: str, image: Image | Index, name: str = NAME) -> str:
        """Point a tag of the source at an image; its digest."""
        return push(self.source.client, name, tag, image)

    def drop(self, digest: str) -> None:
        """Remove an image and its tags from the source."""
        self.source.client.expect(202, "DELETE", f"/v2/{NAME}/manifests/{digest}")

    def once(self, *arguments: str, code: int = 0) -> Finished:
        """One pass."""
        return run_ocisync("once", "-c", self.file, *arguments).expect(code)

    def plan(self) -> str:
        """What a pass would do."""
        return run_ocisync("plan", "-c", self.file).expect(0).stdout

    def tags(self, name: str = NAME) -> list[str]:
        """The target's tags, as skopeo lists them."""
        return sorted(list_tags(f"{self.target.host}/{name}", *_CREDENTIALS))

    def manifest(self, tag: str, name: str = NAME) -> bytes:
        """A manifest of the target, as skopeo gets it."""
        return inspect_raw(f"{self.target.host}/{name}:{tag}", *_CREDENTIALS)


@contextmanager
def mirror(folder: Path, certificate: Certificate, *, deletes: bool = True) -> Iterator[Mirror]:
    """Both registries, empty; `deletes`: whether the target lets manifests be deleted."""
    storage = {"filesystem": {"rootdirectory": str(folder / "target/storage")}, "delete": {"enabled": deletes}}
    with (
        docker_registry(folder / "source", basic=True, tls=certificate) as source,
        docker_registry(folder / "target", basic=True, tls=certificate, settings={"storage": storage}) as target,
    ):
        yield Mirror(folder, source, target)
