"""`ocisync init` and `ocisync config`: a configuration written, checked, taken over and described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ocisync.cli.arguments.options import ConfigFile, config_file
from ocisync.cli.display.output import counted, show, show_raw, warn
from ocisync.errors import ConfigError


def init(
    file: Annotated[
        Path | None,
        typer.Argument(help="Where to write it. Default: ocisync.yaml; for systemd as root /etc/ocisync/ocisync.yaml."),
    ] = None,
    place: Annotated[
        Literal["local", "container", "systemd", "kubernetes", "mirror", "farm"],
        typer.Option("--for", help="Where ocisync will run, or what for.", show_default=False),
    ] = "local",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented configuration that works as it is, without questions.

    Example: ocisync init

    Example: ocisync init --for mirror

    Example: ocisync init /etc/ocisync/ocisync.yaml --for systemd
    """
    from ocisync.commands.config_files import write_starter

    show(write_starter(file, place, force))


def check(
    given: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The same as --config FILE.")] = None,
    config: ConfigFile = None,
) -> None:
    """Check a configuration; every error is listed with its file and line.

    Example: ocisync config check

    Example: ocisync config check mirror.yaml
    """
    from ocisync.config.load import load_config

    if given and config and given != config:
        raise ConfigError(f"{given} and --config {config} are two files: check one after the other")
    file = config_file(given or config)
    found = load_config(file, needs_secrets=False)
    if found.verify:
        from ocisync.wiring.trust import check_policies

        check_policies(found.verify)
    for warning in found.warnings:
        show(f"warning: {warning}")
    parts = (
        counted(len(found.targets), "target"),
        counted(len(found.drop), "drop rule"),
        counted(len(found.sync), "sync rule"),
    )
    show(f"{file}: valid; {', '.join(parts)}")


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="A file of regsync, skopeo sync, dregsy, zot, image-syncer, flux-mirror or oc image mirror."
        ),
    ],
    origin: Annotated[
        Literal["regsync", "skopeo", "dregsy", "zot", "image-syncer", "oc-mirror", "flux-mirror"] | None,
        typer.Option("--from", help="The tool that it is for. Default: detected from the content."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file to write to.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Exit 0 even if something is left out.")] = False,
) -> None:
    """Write another tool's configuration as ocisync's, with comments on what has no equivalent.

    What is left out goes to standard error, and the exit status is then 1, unless --partial is given.

    Example: ocisync config import regsync.yml -o ocisync.yaml

    Example: ocisync config import --from zot config.json --partial
    """
    from ocisync.commands.config_files import write_private
    from ocisync.config.importers.detect import convert_file

    found = convert_file(file, origin)
    if output is None:
        show_raw(found.text.encode())
    else:
        write_private(output, found.text)
        show(
            f"wrote {output}. Read its comments: each tells what has no equivalent.\n"
            f"Check it with: ocisync config check -c {output}"
        )
    for left_out in found.left_out:
        warn(f"left out: {left_out}")
    if found.left_out and not partial:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    Example: ocisync config schema > ocisync.schema.json
    """
    from ocisync.config.schema import schema_text

    show_raw(schema_text().encode())
