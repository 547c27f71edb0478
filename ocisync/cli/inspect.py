"""`ocisync inspect`, `tags` and `digest`: looking at images without pulling them."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ocisync.cli.formatting import printable, size_text, table
from ocisync.commands.image_names import parse_source
from ocisync.content.repository import Source
from ocisync.content.verify import read_manifest
from ocisync.images.inspect import ImageView, ReferrerView, RootView, find_references, pick_platform, view_image
from ocisync.model.descriptor import Descriptor
from ocisync.model.locator import Locator
from ocisync.wiring.session import optional_session, run_async


def show_digest(reference: str, platform: str, config: Path | None) -> None:
    """Print a digest."""

    async def act(source: Source, locator: Locator) -> None:
        print((await _picked(source, locator, platform)).digest)

    _with_source(reference, config, act)


def show_tags(reference: str, as_json: bool, config: Path | None) -> None:
    """Print tags, one per line."""

    async def act(source: Source, locator: Locator) -> None:
        tags = list(await source.tags())
        text = (
            json.dumps({"name": str(locator), "tags": tags}, indent=2) if as_json else "\n".join(map(printable, tags))
        )
        sys.stdout.write(text + "\n" if text else "")

    _with_source(reference, config, act)


def show_raw(reference: str, platform: str, config: Path | None) -> None:
    """Print a manifest's bytes."""

    async def act(source: Source, locator: Locator) -> None:
        sys.stdout.buffer.write(await read_manifest(source, await _picked(source, locator, platform)))

    _with_source(reference, config, act)


def show_image(reference: str, platform: str, as_json: bool, config: Path | None) -> None:
    """Print what an image is."""

    async def act(source: Source, locator: Locator) -> None:
        root = await view_image(source, await _picked(source, locator, platform))
        references = await find_references(source, [root.root, *(image.desc for image in root.images)])
        if as_json:
            print(json.dumps(_as_json(root, references), indent=2))
        else:
            print(_as_text(str(locator), root, references))

    _with_source(reference, config, act)


def _with_source(reference: str, config: Path | None, act: Callable[[Source, Locator], Awaitable[None]]) -> None:
    locator = parse_source(reference)

    async def main() -> None:
        async with optional_session(config) as session, session.stores.source(locator) as source:
            await act(source, locator)

    run_async(main)


async def _picked(source: Source, locator: Locator, platform: str) -> Descriptor:
    return await pick_platform(source, await source.resolve(locator.reference), platform)


def _as_json(root: RootView, references: Sequence[ReferrerView]) -> dict[str, object]:
    return {
        "digest": root.root.digest,
        "mediaType": root.manifest.media_type,
        "annotations": dict(root.manifest.annotations or {}),
        "images": [_image_json(image) for image in root.images],
        "missing": [child.digest for child in root.missing],
        "referrers": [_reference_json(reference) for reference in references],
    }


def _reference_json(reference: ReferrerView) -> dict[str, object]:
    desc = reference.desc
    found = {"digest": desc.digest, "mediaType": desc.media_type, "size": desc.size, "kind": reference.kind}
    more = {"tag": reference.tag} if reference.tag else {}
    return {**found, "subject": reference.subject, "annotations": dict(desc.annotations), **more}


def _image_json(image: ImageView) -> dict[str, object]:
    return {
        "digest": image.desc.digest,
        "mediaType": image.manifest.media_type,
        "platform": str(image.platform) if image.platform else None,
        "size": image.size,
        "created": image.config.get("created"),
        "config": image.config.get("config"),
        "layers": [
            {"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type, "createdBy": command}
            for layer, command in zip(image.manifest.layers, _commands(image), strict=True)
        ],
    }


def _as_text(name: str, root: RootView, references: Sequence[ReferrerView]) -> str:
    parts = [f"{name}\n  digest  {root.root.digest}\n  type    {printable(root.manifest.media_type)}"]
    if root.manifest.is_index:
        rows = [("PLATFORM", "SIZE", "LAYERS", "DIGEST")]
        rows += [
            (
                printable(image.platform or "?"),
                size_text(image.size),
                str(len(image.manifest.layers)),
                image.desc.digest,
            )
            for image in root.images
        ]
        parts.append(table(rows))
        parts += [f"missing at the source: {child.digest} {child.platform or ''}" for child in root.missing]
    parts += [_image_text(image) for image in root.images]
    if references:
        parts.append(_references_text(references))
    return "\n\n".join(parts)


def _references_text(references: Sequence[ReferrerView]) -> str:
    rows = [("REFERRER", "SIZE", "DIGEST", "OF")]
    rows += [
        (printable(one.kind)[:60], size_text(one.desc.size), one.desc.digest, one.subject[:19]) for one in references
    ]
    return table(rows)


def _image_text(image: ImageView) -> str:
    settings = image.config.get("config")
    lines = [printable(image.platform or "image"), f"  created     {printable(image.config.get('created', '?'))}"]
    if isinstance(settings, Mapping):
        lines += [
            f"  {key.lower():<11} {printable(json.dumps(settings[key]))}"
            for key in ("Entrypoint", "Cmd", "WorkingDir", "User", "Env", "ExposedPorts", "Volumes", "Labels")
            if settings.get(key)
        ]
    rows = [("  LAYER", "SIZE", "CREATED BY")]
    rows += [
        (f"  {layer.digest[:19]}", size_text(layer.size), printable(command)[:100])
        for layer, command in zip(image.manifest.layers, _commands(image), strict=True)
    ]
    return "\n".join([*lines, table(rows)])


def _commands(image: ImageView) -> list[str]:
    """The command that made each layer, where the history tells."""
    history = image.config.get("history")
    entries = [entry for entry in history if isinstance(entry, Mapping)] if isinstance(history, list) else []
    commands = [str(entry.get("created_by", "")) for entry in entries if not entry.get("empty_layer")]
    count = len(image.manifest.layers)
    return commands if len(commands) == count else [""] * count
