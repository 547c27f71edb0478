"""The clients that are compared: each brings all repositories of a workload from one registry to another."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from bench.workloads import Workload
from tests.servers.images import Json
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket

OCISYNC = str(Path(sys.executable).with_name("ocisync"))
SECRET = {"S3_SECRET": SECRET_KEY}


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be brought from where to where; `folder` holds the client's settings and whatever it keeps."""

    workload: Workload
    source: str  # host:port
    target: str
    folder: Path
    validates: bool = False  # what ocisync is told of the target
    is_tls: bool = False  # at both ends, by an authority that the environment names

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_text(text)
        return path

    def script(self, commands: Sequence[Sequence[str]]) -> list[str]:
        """Commands one after the other, with a home of their own."""
        lines = ["set -e", f"export HOME={self.folder}", *map(join, commands)]
        return ["sh", str(self.write("commands.sh", "\n".join(lines)))]


def ocisync(errand: Errand) -> list[str]:
    """`ocisync once`, with the default limits."""
    scheme = "https" if errand.is_tls else "http"
    return ocisync_into(errand, {"type": "registry", "url": f"{scheme}://{errand.target}"})


def ocisync_into(errand: Errand, target: Json) -> list[str]:
    """`ocisync once` into any kind of target."""
    return [OCISYNC, "once", "-c", str(ocisync_config(errand, target))]


def ocisync_config(errand: Errand, target: Json, daemon: Json | None = None) -> Path:
    """One rule per repository; JSON is YAML."""
    rules = [
        {"name": rule_name(name), "source": f"{errand.source}/{name}", "target": "out", "interval": "1d"}
        for name in errand.workload.repositories
    ]
    process = {"state": str(errand.folder / "state")} | (daemon or {})
    hosts = filter(None, (errand.source, errand.target))
    registries: dict[str, Json] = {host: {"plain_http": not errand.is_tls} for host in hosts}
    if errand.validates:
        registries[errand.target]["validates"] = True
    document: Json = {"version": 1, "targets": {"out": target}, "sync": rules, "daemon": process}
    document["registries"] = registries
    return errand.write("ocisync.yaml", json.dumps(document))


def rule_name(repository: str) -> str:
    """The rule that brings a repository."""
    return repository.replace("/", "-")


def directory_target(path: Path) -> Json:
    """A static registry in a folder."""
    return {"type": "static", "path": str(path)}


def bucket_target(bucket: Bucket) -> Json:
    """A static registry in a bucket."""
    keys: Json = {"access_key_id": ACCESS_KEY, "secret_access_key": {"env": "S3_SECRET"}}
    where: Json = {"bucket": bucket.name, "endpoint": bucket.endpoint, "region": REGION, "path_style": True}
    return {"type": "s3"} | where | keys


def skopeo(errand: Errand) -> list[str]:
    """`skopeo sync` of all repositories."""
    images: Json = {name: [] for name in errand.workload.repositories}
    file = errand.write("sync.yaml", json.dumps({errand.source: {"tls-verify": errand.is_tls, "images": images}}))
    plain = () if errand.is_tls else ("--src-tls-verify=false", "--dest-tls-verify=false")
    kinds = ("--all", *plain, "--src", "yaml", "--dest", "docker")
    return ["skopeo", "--insecure-policy", "sync", "--retry-times", "3", *kinds, str(file), f"{errand.target}/skopeo"]


def regsync(errand: Errand) -> list[str]:
    """`regsync once`, four repositories at a time."""
    tls = "enabled" if errand.is_tls else "disabled"
    hosts = [{"registry": host, "tls": tls, "reqConcurrent": 6} for host in (errand.source, errand.target)]
    rules = [
        {"source": f"{errand.source}/{name}", "target": f"{errand.target}/{name}", "type": "repository"}
        for name in errand.workload.repositories
    ]
    document = {"version": 1, "creds": hosts, "defaults": {"parallel": 4}, "sync": rules}
    return ["regsync", "once", "-c", str(errand.write("regsync.yaml", json.dumps(document)))]


def crane(errand: Errand) -> list[str]:
    """`crane copy --all-tags`, repository by repository."""
    names = errand.workload.repositories
    copy = ["crane", "copy", "--all-tags", *(() if errand.is_tls else ("--insecure",))]
    return errand.script([[*copy, f"{errand.source}/{name}", f"{errand.target}/{name}"] for name in names])


def regctl(errand: Errand) -> list[str]:
    """`regctl image copy`, tag by tag."""
    tls = "enabled" if errand.is_tls else "disabled"
    hosts = [["regctl", "registry", "set", "--tls", tls, host] for host in (errand.source, errand.target)]
    copies = [["regctl", "image", "copy", source, target] for source, target in _pairs(errand)]
    return errand.script([*hosts, *copies])


def oras(errand: Errand) -> list[str]:
    """`oras copy`, tag by tag."""
    plain = () if errand.is_tls else ("--from-plain-http", "--to-plain-http")
    return errand.script([["oras", "copy", *plain, source, target] for source, target in _pairs(errand)])


def _pairs(errand: Errand) -> list[tuple[str, str]]:
    tags = errand.workload.tags
    return [(f"{errand.source}/{name}:{tag}", f"{errand.target}/{name}:{tag}") for name, tag in tags]


Client = Callable[[Errand], list[str]]
PEERS: Mapping[str, Client] = {"skopeo": skopeo, "crane": crane, "regsync": regsync, "regctl": regctl, "oras": oras}


def found_peers(only: str = "") -> dict[str, Client]:
    """The peers on this machine."""
    wanted = {only} if only else set(PEERS)
    return {name: client for name, client in PEERS.items() if name in wanted and shutil.which(name)}
