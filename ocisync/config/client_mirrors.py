"""Settings of clients that make them pull from a mirror: what the targets and rules say, in each client's own form.

A rule says which repository of a source is where at the target. podman, k3s and OpenShift can be told that for each
repository, whatever it is called at the mirror. containerd and docker know only "this host's repositories are there,
under this prefix"; what is called otherwise cannot be told them and is listed as left out.

Clients ask the mirror first and the source when the mirror lacks an image, so a mirror that is a part of a source, or
is down, breaks nothing. Pure.

Spec: containerd's docs/hosts.md; containers-registries.conf(5); k3s' "Private Registry Configuration"; dockerd(8);
OpenShift's ImageDigestMirrorSet and ImageTagMirrorSet (config.openshift.io/v1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import yaml

from ocisync.config.models import Config, LayoutFolderTarget, RegistryTarget, SyncRule
from ocisync.errors import ConfigError
from ocisync.model.image_name import DOCKER_HUB
from ocisync.model.name_mapping import REPOSITORY, TAG
from ocisync.model.place_name import PlaceName

Client = Literal["containerd", "podman", "k3s", "docker", "openshift"]
_HUB_SERVER = "https://registry-1.docker.io"
_CERTS = "/etc/containerd/certs.d"


@dataclass(frozen=True, slots=True)
class MirroredPlace:
    """A repository of a source, or all below a path of it, and where that is at the mirror."""

    host: str
    repository: str  # at the source; with `is_whole` a path that names begin with, or empty: all of the host's
    place: str  # the same at the mirror
    is_whole: bool = False

    @property
    def source(self) -> str:
        """The host and the path, as image names have them."""
        return _join(self.host, self.repository)

    @property
    def prefix(self) -> str | None:
        """What goes before the source's names at the mirror; None when they are called otherwise there."""
        if self.place == self.repository:
            return ""
        whole = f"/{self.repository}" if self.repository else ""
        return self.place.removesuffix(whole) if self.place.endswith(whole) else None


@dataclass(frozen=True, slots=True)
class ClientMirror:
    """Where clients reach a target, and what they find there."""

    url: str  # without a slash at its end
    places: tuple[MirroredPlace, ...]
    left_out: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The host, and the path that goes before every name, as image names have them."""
        parts = urlsplit(self.url)
        return parts.netloc + parts.path

    @property
    def is_plain(self) -> bool:
        """Whether it is reached without TLS."""
        return self.url.startswith("http://")


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file for a client."""

    path: str
    text: str


def find_mirror(config: Config, target: str, url: str = "") -> ClientMirror:
    """What a target mirrors, by the enabled rules; `url` is where clients reach it, where the configuration cannot say.

    Raises:
        ConfigError: there is no such target, or its address is not known.
    """
    if target not in config.targets:
        raise ConfigError(f"no target is named {target}; known are {', '.join(config.targets) or 'none'}")
    settings = config.targets[target]
    if isinstance(settings, LayoutFolderTarget):
        raise ConfigError(f"{target}: no client pulls from layouts; name a target of another type")
    if not url and isinstance(settings, RegistryTarget):
        url = settings.url
    if not url:
        raise ConfigError(f"where clients reach {target} is not in the configuration: give it as --url")
    places: list[MirroredPlace] = []
    left_out: list[str] = []
    for rule in config.sync:
        if rule.enabled:
            _add_places(rule, target, places, left_out)
    return ClientMirror(url.rstrip("/"), tuple(dict.fromkeys(places)), tuple(left_out))


def _add_places(rule: SyncRule, target: str, places: list[MirroredPlace], left_out: list[str]) -> None:
    host, path = rule.source.host, rule.source.repository
    if isinstance(rule.source, PlaceName):  # nobody pulls from there by this name
        return
    for at, reference in enumerate(rule.target):
        if reference.target != target:
            continue
        if rule.rename.tags or reference.tag not in ("", TAG):
            left_out.append(f"{host}/{path}: its tags have other names at the mirror, and no client can be told that")
        elif rule.type != "registry":
            places.append(MirroredPlace(host, path, rule.places[at].repository))
        elif rule.rename.strip_prefix or rule.rename.repositories:
            left_out.append(f"{host}: `rename` gives its repositories names that clients cannot be told")
        elif (template := reference.repository or REPOSITORY).endswith(REPOSITORY):
            place = template.removesuffix(REPOSITORY) + path
            places.append(MirroredPlace(host, path, place.rstrip("/"), is_whole=True))
        else:
            left_out.append(f"{host}: {template} gives its repositories names that clients cannot be told")


def render(client: Client, mirror: ClientMirror) -> tuple[list[ClientFile], list[str]]:
    """The files of a client, and what cannot be said in them."""
    files, left_out = _RENDERERS[client](mirror)
    return files, [*mirror.left_out, *left_out]


Rendered = tuple[list[ClientFile], list[str]]


def _render_containerd(mirror: ClientMirror) -> Rendered:
    files, left_out = [], _list_renamed(mirror.places)
    for host, places in _by_host(mirror.places).items():
        prefixes = list(dict.fromkeys(one.prefix for one in places if one.prefix is not None))
        if not prefixes:
            continue
        lines = [f'server = "{_HUB_SERVER if host == DOCKER_HUB else f"https://{host}"}"']
        for prefix in prefixes:
            path = "/".join(filter(None, (urlsplit(mirror.url).path.strip("/"), prefix)))
            origin = f"{urlsplit(mirror.url).scheme}://{urlsplit(mirror.url).netloc}"
            lines += ["", f'[host."{origin}/v2/{path}"]' if path else f'[host."{origin}"]']
            lines += ['  capabilities = ["pull", "resolve"]', *(["  override_path = true"] if path else [])]
        files.append(ClientFile(f"{_CERTS}/{host}/hosts.toml", "\n".join(lines) + "\n"))
    return files, left_out


def _render_podman(mirror: ClientMirror) -> Rendered:
    blocks = []
    for one in mirror.places:
        block = ["[[registry]]", f'prefix = "{one.source}"', f'location = "{one.source}"', "", "[[registry.mirror]]"]
        block.append(f'location = "{_join(mirror.location, one.place)}"')
        blocks.append("\n".join([*block, *(["insecure = true"] if mirror.is_plain else [])]))
    return [ClientFile("/etc/containers/registries.conf.d/050-ocisync.conf", "\n\n".join(blocks) + "\n")], []


def _render_k3s(mirror: ClientMirror) -> Rendered:
    mirrors: dict[str, object] = {}
    base = urlsplit(mirror.url).path.strip("/")
    for host, places in _by_host(mirror.places).items():
        rewrite = {}
        for one in sorted(places, key=lambda place: (place.is_whole, place.repository)):
            old, new = one.repository, "/".join(filter(None, (base, one.place)))
            if one.is_whole:
                old, new = "/".join(filter(None, (re.escape(old), "(.*)"))), "/".join(filter(None, (new, "$1")))
            else:
                old = re.escape(old)
            rewrite[f"^{old}$".replace(r"\-", "-").replace(r"\/", "/")] = new
        is_same = all(one.place == one.repository for one in places) and not base
        mirrors[host] = {"endpoint": [mirror.url.removesuffix(f"/{base}")]} | ({} if is_same else {"rewrite": rewrite})
    return [ClientFile("/etc/rancher/k3s/registries.yaml", _dump({"mirrors": mirrors}))], []


def _render_docker(mirror: ClientMirror) -> Rendered:
    left_out = []
    for one in mirror.places:
        if one.host != DOCKER_HUB:
            left_out.append(f"{one.source}: docker mirrors Docker Hub only")
        elif one.place != one.repository or urlsplit(mirror.url).path:
            left_out.append(
                f"{one.source}: docker wants it under its own name at the mirror's root, not as {one.place}"
            )
    if len(left_out) == len(mirror.places):
        return [], left_out
    settings: dict[str, object] = {"registry-mirrors": [mirror.url]}
    if mirror.is_plain:
        settings["insecure-registries"] = [urlsplit(mirror.url).netloc]
    return [ClientFile("/etc/docker/daemon.json", json.dumps(settings, indent=2) + "\n")], left_out


def _render_openshift(mirror: ClientMirror) -> Rendered:
    pairs = [{"source": one.source, "mirrors": [_join(mirror.location, one.place)]} for one in mirror.places]
    documents = [
        {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": "ocisync"}, "spec": {key: pairs}}
        for kind, key in (("ImageDigestMirrorSet", "imageDigestMirrors"), ("ImageTagMirrorSet", "imageTagMirrors"))
    ]
    return [ClientFile("ocisync-mirrors.yaml", "---\n".join(map(_dump, documents)))], []


_RENDERERS = {
    "containerd": _render_containerd,
    "podman": _render_podman,
    "k3s": _render_k3s,
    "docker": _render_docker,
    "openshift": _render_openshift,
}


def _by_host(places: Iterable[MirroredPlace]) -> Mapping[str, list[MirroredPlace]]:
    found: dict[str, list[MirroredPlace]] = {}
    for one in places:
        found.setdefault(one.host, []).append(one)
    return found


def _list_renamed(places: Iterable[MirroredPlace]) -> list[str]:
    why = "containerd wants it under its own name at the mirror, after a prefix, not as"
    return [f"{one.source}: {why} {one.place}" for one in places if one.prefix is None]


def _join(host: str, path: str) -> str:
    return f"{host}/{path}" if path else host


class _AliasFreeDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """OpenShift's two documents share a list, and the second must not refer to the first."""
        del data
        return True


def _dump(document: object) -> str:
    return yaml.dump(document, Dumper=_AliasFreeDumper, sort_keys=False, width=1000)
