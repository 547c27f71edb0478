"""Two registries with htpasswd and TLS by an authority of their own, and a rule that mirrors one to the other."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.mainjob import ENV, write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import Image, Index, push
from tests.servers.skopeo import inspect_raw, list_tags
from tests.servers.tls import Certificate

NAME = "library/app"
_CREDENTIALS = ("--creds", f"{USERNAME}:{PASSWORD}")


@dataclass(frozen=True, slots=True)
class Report:
    """What `once --json` tells."""

    jobs: list[Mapping[str, Any]]

    @property
    def verdicts(self) -> set[str]:
        """What became of the tags."""
        return {tag["verdict"] for job in self.jobs for tag in job["tags"]}

    @property
    def warnings(self) -> list[str]:
        """All that was warned about."""
        return [warning for job in self.jobs for warning in job["warnings"]]

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        """Of tags, then of jobs."""
        tags = [tag["failure"] for job in self.jobs for tag in job["tags"] if tag["failure"]]
        return [*tags, *(job["failure"] for job in self.jobs if job["failure"])]


@dataclass
class Mirror:
    """A source, a target, and the rule between them."""

    folder: Path
    source: DockerRegistry
    target: DockerRegistry
    file: Path = Path()

    def rule(self, **settings: object) -> None:
        """Write the configuration anew, with one rule."""
        self.rules({"name": "app", "source": f"{self.source.host}/{NAME}", "target": "out"} | settings)

    def rules(self, *rules: Mapping[str, object], **targets: Mapping[str, object]) -> None:
        """Write the configuration anew; `from` at the start of a source stands for the source's host."""
        sync = [{**rule, "source": re.sub("^from", self.source.host, str(rule["source"]))} for rule in rules]
        secret = {"username": USERNAME, "password": PASSWORD, "ca": str(self.source.authority)}
        hosts = {self.source.host: secret, self.target.host: secret}
        known = {"out": {"type": "registry", "url": self.target.url}, **targets}
        self.file = write_config(self.folder, known, sync=sync, registries=hosts)

    def fill(self, name: str, images: Mapping[str, Image | Index]) -> None:
        """Push images to the source, by their tags."""
        for tag, image in images.items():
            self.put(tag, image, name)

    def put(self, tag: str, image: Image | Index, name: str = NAME) -> str:
        """Point a tag of the source at an image; its digest."""
        return push(self.source.client, name, tag, image)

    def drop(self, digest: str) -> None:
        """Remove an image and its tags from the source."""
        self.source.client.expect(202, "DELETE", f"/v2/{NAME}/manifests/{digest}")

    def once(self, *arguments: str, code: int = 0) -> Finished:
        """One pass."""
        return run_ocisync("once", "-c", self.file, *arguments).expect(code)

    def report(self, code: int = 0) -> Report:
        """One pass, and what it says of itself."""
        finished = run_ocisync("once", "-c", self.file, "--json", env=ENV).expect(code)
        return Report(json.loads(finished.stdout)["jobs"])

    def planned(self) -> dict[str, str]:
        """What a pass would do, but for what is unchanged: `target:tag` -> action."""
        finished = run_ocisync("plan", "-c", self.file, "--json", env=ENV).expect(0)
        tags = json.loads(finished.stdout)["tags"]
        return {f"{one['target']}:{one['tag']}": one["action"] for one in tags if one["action"] != "skip"}

    def plan(self) -> str:
        """What a pass would do."""
        return run_ocisync("plan", "-c", self.file).expect(0).stdout

    def tags(self, name: str = NAME) -> list[str]:
        """The target's tags, as skopeo lists them."""
        return sorted(list_tags(f"{self.target.host}/{name}", *_CREDENTIALS))

    def mirrored(self, name: str) -> dict[str, bytes]:
        """The target's tags with their manifests' bytes, as skopeo lists and gets them."""
        return {tag: self.manifest(tag, name) for tag in self.tags(name)}

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
