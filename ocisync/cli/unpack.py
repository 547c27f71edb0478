"""`ocisync unpack`: an image to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ocisync.cli import run_async
from ocisync.cli.options import AuthFile, ConfigFile, Creds, OnePlatform, Quiet, TlsVerify, start_logging, with_access
from ocisync.cli.output import counted, printable, show, size_text, warn


def add_commands(app: typer.Typer) -> None:
    """Give a command line this command."""
    app.command()(unpack)


def unpack(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="An image, such as docker://alpine:3")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for its root file system.")],
    platform: OnePlatform = "",
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--cache", help="An OCI layout that keeps blobs for the next time, shared by all images."),
    ] = None,
    rootless: Annotated[
        bool, typer.Option("--rootless", help="Everything is the caller's own, no devices; the default unless root.")
    ] = False,
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
    quiet: Quiet = False,
) -> None:
    """Unpack an image's layers to a folder, verified; nothing is left behind when that fails."""
    start_logging(context, default="warning")
    from ocisync.cli.progress import progress
    from ocisync.commands.image_names import parse_source
    from ocisync.commands.unpack import unpack_image

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
