"""`inspect`, `tags` and `digest`: what is known of images without pulling them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from ocisync.commands.images.names import parse_source
from ocisync.commands.images.unpack import host_platform
from ocisync.config.models import Config
from ocisync.content.repository import Source
from ocisync.content.verify import read_manifest
from ocisync.errors import ConfigError, ManifestError, SignatureError
from ocisync.images.inspect import ReferrerView, RootView, find_references, pick_platform, view_image
from ocisync.images.views.cached import CachedView
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import Locator, registry_image
from ocisync.stores.archive.oci_layout_target import LayoutTarget
from ocisync.sync.judging.acceptance import Acceptance, SignatureVerdict
from ocisync.wiring.session import optional_session

_FIELD = re.compile(r"\{\{\s*(?P<json>json\s+)?(?P<path>(?:\.[A-Za-z0-9_-]+)+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """What was asked for, and what refers to it or to one of its images."""

    name: str
    root: RootView
    references: Sequence[ReferrerView]
    verdict: SignatureVerdict | None = None  # what a policy says of its signatures; None: none was asked for


async def inspect_image(
    reference: str, platform: str, config: Path | Config | None, cache: Path | None = None
) -> InspectedImage:
    """Look at an image or an index; with a platform, at that one of its images.

    What refers to it is not looked for when there is a cache: it would take requests, and no digest names it.
    """
    async with _open(reference, config, cache) as (source, locator):
        root = await view_image(source, await _pick(source, locator, platform))
        subjects = [root.root, *(image.desc for image in root.images)] if cache is None else []
        references = await find_references(source, subjects)
        return InspectedImage(str(locator), root, references)


async def check_signatures(reference: str, config: Config, policy: str) -> SignatureVerdict:
    """What a policy says of an image's signatures.

    It judges what the name means, as a copy of it would: an index as a whole, whichever platform is looked at.

    Raises:
        ConfigError: there is no such policy.
        SignatureError: the signatures cannot be read.
    """
    locator = await to_thread.run_sync(parse_source, reference)
    image = registry_image(locator)
    name = f"{image.host}/{image.repository}" if image else ""
    async with optional_session(config) as session, session.stores.source(locator) as source:
        if session.tools.open_checker is None:
            raise ConfigError("signatures cannot be checked here")
        checker = await session.tools.open_checker(Acceptance((policy,)), name, session.tools.ledger)
        root = await source.resolve(locator.reference)
        checked = await checker.check(source, [root], (), ())
    if failure := checked.failures.get(root.digest):
        raise SignatureError(failure.message, code=failure.code)
    return checked.verdicts[root.digest]


async def read_raw(reference: str, platform: str, config: Path | Config | None, cache: Path | None = None) -> bytes:
    """A manifest's bytes, verified."""
    async with _open(reference, config, cache) as (source, locator):
        return await read_manifest(source, await _pick(source, locator, platform))


async def read_config(reference: str, platform: str, config: Path | Config | None, cache: Path | None = None) -> bytes:
    """An image's configuration, verified; of an index, that of the machine's own platform."""
    async with _open(reference, config, cache) as (source, locator):
        root = await source.resolve(locator.reference)
        view = await view_image(source, await pick_platform(source, root, platform or host_platform()))
        blob = view.images[0].manifest.config
        if blob is None:
            raise ManifestError(f"{locator}: it has no configuration")
        return await read_manifest(source, blob)


def format_fields(template: str, image: InspectedImage) -> str:
    """The template with `{{.Field}}`, `{{.Labels.name}}` and `{{json .Field}}` filled in, by skopeo's names.

    Raises:
        ConfigError: the template is not understood, or has a field that is not known.
    """
    fields = _skopeo_fields(image)

    def fill(found: re.Match[str]) -> str:
        value: object = fields
        for key in filter(None, found["path"].split(".")):
            if not isinstance(value, Mapping) or (value is fields and key not in fields):
                known = ", ".join(sorted(fields))
                raise ConfigError(f"--format: {found[0][:80]}: there is no field {key[:80]!r}; known are {known}")
            value = value.get(key, "")
        return value if isinstance(value, str) and not found["json"] else json.dumps(value)

    text = _FIELD.sub(fill, template.replace("\\n", "\n").replace("\\t", "\t"))
    if "{{" in text:
        raise ConfigError(f"--format {template[:100]!r}: only fields are understood, such as {{{{.Digest}}}}")
    return text


def _skopeo_fields(image: InspectedImage) -> dict[str, object]:
    first = image.root.images[0] if image.root.images else None
    config = first.config if first else {}
    settings = config.get("config")
    inner = settings if isinstance(settings, Mapping) else {}
    layers = first.manifest.layers if first else ()
    return {
        "Name": image.name,
        "Digest": image.root.root.digest,
        "MediaType": image.root.manifest.media_type,
        "Created": config.get("created", ""),
        "DockerVersion": config.get("docker_version", ""),
        "Labels": inner.get("Labels") or {},
        "Architecture": config.get("architecture", ""),
        "Os": config.get("os", ""),
        "Variant": config.get("variant", ""),
        "Layers": [layer.digest for layer in layers],
        "Size": sum(view.size for view in image.root.images),
        "Env": inner.get("Env") or [],
        "Entrypoint": inner.get("Entrypoint") or [],
        "Cmd": inner.get("Cmd") or [],
        "User": inner.get("User", ""),
        "Platforms": [str(view.platform) for view in image.root.images if view.platform],
    }


async def resolve_digest(reference: str, platform: str, config: Path | Config | None) -> Digest:
    """The digest of an image."""
    async with _open(reference, config) as (source, locator):
        return (await _pick(source, locator, platform)).digest


async def list_tags(reference: str, config: Path | Config | None) -> tuple[str, Sequence[str]]:
    """What a repository or an archive is called, and its tags."""
    async with _open(reference, config) as (source, locator):
        return str(locator), await source.tags()


@asynccontextmanager
async def _open(
    reference: str, config: Path | Config | None, cache: Path | None = None
) -> AsyncIterator[tuple[Source, Locator]]:
    locator = await to_thread.run_sync(parse_source, reference)
    async with optional_session(config) as session, session.stores.source(locator) as source:
        yield CachedView(source, LayoutTarget(cache)) if cache else source, locator


async def _pick(source: Source, locator: Locator, platform: str) -> Descriptor:
    return await pick_platform(source, await source.resolve(locator.reference), platform)
