"""`ocisync unpack`: an image to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_images
from ocisync.cli.arguments.options import AuthFile, Cache, ConfigFile, Creds, OnePlatform, Quiet, TlsVerify, with_access
from ocisync.cli.display.output import counted, printable, show, warn
from ocisync.model.text.quantities import size_text


def unpack(
    source: Annotated[str, typer.Argument(help="An image, such as docker://alpine:3.", autocompletion=complete_images)],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for its root file system.")],
    platform: OnePlatform = "",
    cache: Cache = None,
    rootless: Annotated[
        bool, typer.Option("--rootless", help="Files belong to you, devices are left out; the default unless root.")
    ] = False,
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
    quiet: Quiet = False,
) -> None:
    """Unpack an image's layers to a folder, verified; if it fails, nothing is left behind.

    Example: ocisync unpack docker://alpine:3 ./rootfs

    Example: ocisync unpack app.tar ./rootfs --platform linux/arm64
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.images.names import parse_source
    from ocisync.commands.images.unpack import unpack_image

    locator = parse_source(source)
    settings = with_access(config, [source], creds, tls_verify, authfile)
    with progress(quiet) as shown:
        done = run_async(unpack_image, settings, shown, locator, folder, platform, cache, rootless)
    for warning in done.warnings:
        warn(f"ocisync: {printable(warning)}")
    if quiet:
        return
    fetched = f"{counted(done.fetched.blobs, 'blob')} fetched, {size_text(done.fetched.bytes)}"
    show(f"{folder}\n{done.digest} ({counted(done.layers, 'layer')}, {fetched})")
