"""The commands that talk to a running daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from ocisync.cli.options import ConfigFile, config_file, start_logging

Rules = Annotated[list[str], typer.Argument(metavar="RULE...", help="Sync rules by their names.")]
Repository = Annotated[
    str, typer.Option("--repository", help="Look at this repository only, of a rule that has several.")
]
Tag = Annotated[str, typer.Option("--tag", help="Look at this tag only.")]
Url = Annotated[str, typer.Option("--url", help="The daemon's address; daemon.listen of the configuration otherwise.")]


def add_commands(app: typer.Typer) -> None:
    """Give a command line these commands."""
    app.command("sync-now")(sync_now)


def sync_now(
    context: typer.Context,
    rules: Rules,
    repository: Repository = "",
    tag: Tag = "",
    url: Url = "",
    config: ConfigFile = None,
) -> None:
    """Have the running daemon run sync rules now, whatever their interval or schedule."""
    start_logging(context)
    from ocisync.commands.daemon_client import sync_now as ask
    from ocisync.wiring.session import run_async

    part = {"repository": repository, "tag": tag}
    run_async(ask, config_file(config), rules, {key: value for key, value in part.items() if value}, url)
    print(f"asked for {', '.join(rules)}; `ocisync status` shows how it goes")
