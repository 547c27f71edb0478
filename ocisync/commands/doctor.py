"""`doctor`: examine a published registry over the network, and try it as a mirror."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from ocisync.config.client_mirrors import MirroredPlace, find_mirror
from ocisync.config.load import load_config
from ocisync.doctor.diagnosis import Diagnosis, examine, parse_address
from ocisync.doctor.http_probe import open_probe
from ocisync.doctor.probe import Probe
from ocisync.errors import ConfigError
from ocisync.model import media_types

_MOST_PLACES = 50  # repositories that are tried


async def diagnose(url: str, ca: Path | None = None) -> Diagnosis:
    """Examine a registry from outside.

    Raises:
        InvalidName: not a URL that can be examined.
        ConfigError: the file of authorities cannot be used.
    """
    address = parse_address(url)
    async with open_probe(ca) as probe:
        return await examine(probe, address)


@dataclass(frozen=True, slots=True)
class MirrorTrial:
    """One image pulled through a mirror as a client would ask for it."""

    image: str  # as users name it, at its source
    asked: str  # what the client asks the mirror
    problem: str = ""  # why it would fall back to the source; empty: the mirror has it


async def try_mirror(file: Path, target: str, url: str, ca: Path | None = None) -> list[MirrorTrial]:
    """Ask a mirror what containerd, docker and podman ask it for the images that a target's rules bring.

    containerd adds `?ns=HOST`, the host of the source. A server must put up with it; a bucket that takes it for a
    parameter of its own refuses it.

    Raises:
        ConfigError: the target or its address is not known, or its rules mirror nothing.
    """
    config = await anyio.to_thread.run_sync(partial(load_config, file, needs_secrets=False))
    mirror = find_mirror(config, target, url)
    places = [place for place in mirror.places if place.repository][:_MOST_PLACES]
    if not places:
        raise ConfigError(f"{target}: its rules mirror no repository that could be tried")
    async with open_probe(ca) as probe:
        root = await probe.ask("GET", f"{mirror.url}/v2/")
        if root.status not in (200, 401):
            reason = root.failure or f"status {root.status}"
            return [MirrorTrial("every image", f"GET {mirror.url}/v2/", f"{reason}; clients take it for no registry")]
        return [await _try_place(probe, mirror.url, place) for place in places]


async def _try_place(probe: Probe, url: str, place: MirroredPlace) -> MirrorTrial:
    listed = await probe.ask("GET", f"{url}/v2/{place.place}/tags/list")
    names = (listed.json() or {}).get("tags")
    tags = [tag for tag in names if isinstance(tag, str)] if isinstance(names, list) else []
    if not tags:
        reason = listed.failure or f"status {listed.status}"
        why = "it lists no tag" if listed.status == 200 else reason
        return MirrorTrial(place.source, f"GET {url}/v2/{place.place}/tags/list", f"{why}; has the rule run?")
    manifest = f"{url}/v2/{place.place}/manifests/{tags[-1]}"
    image = f"{place.source}:{tags[-1]}"
    for asked in (f"{manifest}?ns={place.host}", manifest):
        answer = await probe.ask("HEAD", asked, {"Accept": media_types.ACCEPT})
        if answer.status != 200:
            return MirrorTrial(image, f"HEAD {asked}", answer.failure or f"status {answer.status}")
    return MirrorTrial(image, f"HEAD {manifest}?ns={place.host}")
