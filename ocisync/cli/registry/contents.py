"""What `ls` and `verify` show of ordinary registries, archives and layouts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.cli import run_async
from ocisync.cli.display.output import counted, printable, show, show_json, table, warn
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for the configuration
    from ocisync.commands.registry.images import RegistryPlace
    from ocisync.config.models import Config


def show_content(place: RegistryPlace, config: Path | Config | None, as_json: bool) -> None:
    """Print a repository's tags, or a registry's repositories."""
    from ocisync.commands.registry.images import list_registry

    found = run_async(list_registry, place, config)
    if as_json:
        tags = [asdict(tag) for tag in found.tags]
        show_json(tags or [{"name": name} for name in found.repositories])
    elif found.repositories:
        show("\n".join(["REPOSITORY", *map(printable, found.repositories)]))
    elif found.tags:
        show(table([("TAG", "KIND", "DIGEST"), *((tag.tag, tag.kind, tag.digest) for tag in found.tags)]))
    else:
        show("nothing is there")


def show_checked(image: str, config: Path | Config | None, as_json: bool) -> int:
    """Read an image whole, or all of a repository, and print what was found; 1 if anything is wrong."""
    from ocisync.commands.registry.images import verify_images

    found = run_async(verify_images, image, config)
    if as_json:
        show_json({"ok": not found.failures, **asdict(found)})
        return 1 if found.failures else 0
    for reference, failure in found.failures.items():
        warn(f"FAULT  {printable(reference)}: {printable(failure.message)} [{failure.code}]")
    read = f"{counted(found.read.manifests, 'manifest')}, {counted(found.read.blobs, 'blob')}"
    verdict = f"{counted(len(found.failures), 'fault')}" if found.failures else "all is well"
    show(f"{counted(found.images, 'image')}, {read}, {size_text(found.read.bytes)} read: {verdict}")
    return 1 if found.failures else 0
