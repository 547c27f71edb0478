"""`ocisync run`, `serve`, `sync-now` and `demo`: what runs for long, and who asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.options import ConfigFile, LogFormatOption, LogLevelOption, config_file, start_logging
from ocisync.cli.output import show

Rules = Annotated[list[str], typer.Argument(metavar="RULE...", help="Sync rules by their names.")]
Repository = Annotated[
    str, typer.Option("--repository", help="Look at this repository only, of a rule that has several.")
]
Tag = Annotated[str, typer.Option("--tag", help="Look at this tag only.")]
Url = Annotated[str, typer.Option("--url", help="The daemon's address; daemon.listen of the configuration otherwise.")]


def add_commands(app: typer.Typer) -> None:
    """Give a command line these commands."""
    app.command()(run)
    app.command()(serve)
    app.command("sync-now")(sync_now)
    app.command()(demo)


def run(
    context: typer.Context,
    config: ConfigFile = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Run the daemon: watch drop folders, mirror on schedule, keep static registries up to date."""
    from ocisync.commands.run import load_daemon_config, run_daemon

    level, form = context.obj
    file = config_file(config)
    run_async(run_daemon, file, load_daemon_config(file, log_level or level, log_format or form))


def serve(
    context: typer.Context,
    directory: Annotated[str, typer.Argument(help="A static registry: a directory, or s3://BUCKET?endpoint=URL")],
    listen: Annotated[
        str, typer.Option(help="Address and port, or a port of 127.0.0.1; port 0 lets the system pick.")
    ] = "127.0.0.1:5000",
) -> None:
    """Serve a static registry read-only over HTTP, for docker, podman, skopeo, crane."""
    start_logging(context, default="info")
    from ocisync.commands.run import serve_registry

    run_async(serve_registry, directory, listen)


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

    part = {"repository": repository, "tag": tag}
    run_async(ask, config_file(config), rules, {key: value for key, value in part.items() if value}, url)
    show(f"asked for {', '.join(rules)}; `ocisync status` shows how it goes")


def demo(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End by itself after pulling everything back.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to work; a temporary folder otherwise.")] = None,
) -> None:
    """Show the main job on this machine: archives dropped, published, served, mirrored, pulled back and checked."""
    start_logging(context)
    from ocisync.cli.demo import run_demo

    raise typer.Exit(run_demo(once, folder))
