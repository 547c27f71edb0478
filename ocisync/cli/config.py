"""`ocisync init` and `ocisync config`: a configuration written, checked, taken over and described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ocisync.cli.options import ConfigFile, config_file
from ocisync.cli.output import counted, show, show_raw, warn
from ocisync.errors import ConfigError


def add_commands(app: typer.Typer) -> None:
    """Give a command line these commands."""
    app.command()(init)
    group = typer.Typer(
        help="Check the configuration, describe it to an editor, or import another tool's.", no_args_is_help=True
    )
    group.command("check")(check)
    group.command("import")(import_)
    group.command("schema")(schema)
    app.add_typer(group, name="config")


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("ocisync.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented starting configuration."""
    from ocisync.commands.config_files import write_starter

    write_starter(file, force)
    show(f"wrote {file}. Check it with: ocisync config check -c {file}\nStart the daemon with: ocisync run -c {file}")


def check(
    given: Annotated[Optional[Path], typer.Argument(metavar="[FILE]", help="The same as --config FILE.")] = None,  # noqa: UP045
    config: ConfigFile = None,
) -> None:
    """Check a configuration; every error is listed with its file and line."""
    from ocisync.config.load import load_config

    if given and config and given != config:
        raise ConfigError(f"{given} and --config {config} are two files: check one after the other")
    file = config_file(given or config)
    found = load_config(file)
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
        typer.Argument(help="A file of regsync, skopeo sync, dregsy, zot, image-syncer or oc image mirror."),
    ],
    origin: Annotated[
        Optional[Literal["regsync", "skopeo", "dregsy", "zot", "image-syncer", "oc-mirror"]],  # noqa: UP045
        typer.Option("--from", help="The tool it is for; recognised by the content otherwise."),
    ] = None,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="A new file to write it to.")] = None,  # noqa: UP045
    partial: Annotated[bool, typer.Option("--partial", help="Exit 0 even if something is left out.")] = False,
) -> None:
    """Write another tool's configuration as ocisync's, with comments on whatever has no equal.

    What is left out is told on stderr, and the exit status is 1 then, unless --partial is given.
    """
    from ocisync.commands.config_files import write_private
    from ocisync.config.importers.detect import convert_file

    found = convert_file(file, origin)
    if output is None:
        show_raw(found.text.encode())
    else:
        write_private(output, found.text)
        show(
            f"wrote {output}. Read its comments: each tells what has no equal.\n"
            f"Check it with: ocisync config check -c {output}"
        )
    for left_out in found.left_out:
        warn(f"left out: {left_out}")
    if found.left_out and not partial:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from ocisync.config.schema import schema_text

    show_raw(schema_text().encode())
