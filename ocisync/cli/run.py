"""`ocisync run`, `serve`, `sync-now` and `demo`: what runs for long, and who asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_sync_rules
from ocisync.cli.arguments.options import (
    ConfigFile,
    LogFormatOption,
    LogLevelOption,
    QuietLog,
    Verbose,
    optional_config,
    service_config,
)
from ocisync.cli.display.output import printable, show, warn

Rules = Annotated[
    list[str], typer.Argument(metavar="RULE...", help="Sync rules by their names.", autocompletion=complete_sync_rules)
]
Repository = Annotated[str, typer.Option("--repository", help="Only this repository, of a rule that has several.")]
Tag = Annotated[str, typer.Option("--tag", help="Only this tag.")]
Url = Annotated[str, typer.Option("--url", help="The daemon's address. Default: daemon.listen of the configuration.")]


def run(
    context: typer.Context,
    config: ConfigFile = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    quiet: QuietLog = False,
    verbose: Verbose = False,
) -> None:
    """Run the daemon: watch drop folders, mirror on schedule, keep static registries up to date.

    Example: ocisync run --config /etc/ocisync/ocisync.yaml

    Example: ocisync run --log-level debug
    """
    from ocisync.commands.run import load_daemon_config, run_daemon

    level, form = context.obj
    level = log_level or ("debug" if verbose else "warning" if quiet else level)
    file = service_config(config)
    run_async(run_daemon, file, load_daemon_config(file, level, log_format or form))


def serve(
    directory: Annotated[
        str, typer.Argument(help="A static registry: a directory, s3://BUCKET?endpoint=URL, or a target")
    ],
    listen: Annotated[
        str, typer.Option(help="ADDRESS:PORT, or only a port, which means 127.0.0.1; port 0 lets the system choose.")
    ] = "127.0.0.1:5000",
    config: ConfigFile = None,
) -> None:
    """Serve a static registry read-only over HTTP, for docker, podman, skopeo, crane.

    Example: ocisync serve ./registry --listen 8080

    Example: ocisync serve "s3://images?endpoint=https://s3.example.com"
    """
    from ocisync.commands.run import serve_registry

    run_async(serve_registry, directory, listen, optional_config(config))


def sync_now(
    rules: Rules,
    repository: Repository = "",
    tag: Tag = "",
    url: Url = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait and show progress; exit 1 if something failed.")] = False,
    config: ConfigFile = None,
) -> None:
    """Ask the running daemon to run sync rules now, whatever their interval or schedule.

    Example: ocisync sync-now alpine

    Example: ocisync sync-now alpine --wait

    Example: ocisync sync-now everything --repository team/app --tag 1.2
    """
    from ocisync.commands.daemon_client import sync_now as ask

    given = {"repository": repository, "tag": tag}
    part = {key: value for key, value in given.items() if value}
    if not wait:
        run_async(ask, service_config(config), rules, part, url)
        show(f"asked for {', '.join(rules)}; `ocisync status` shows how it goes")
        return
    from ocisync.cli.display.live import WaitDisplay

    with WaitDisplay(rules) as shown:
        failures = run_async(ask, service_config(config), rules, part, url, shown.show)
    for rule in rules:
        if rule in failures:
            warn(f"{rule}: {printable(failures[rule])}")
        else:
            show(f"{rule}: done")
    raise typer.Exit(1 if failures else 0)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after pulling everything back.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to work. Default: a temporary folder.")] = None,
) -> None:
    """Show the main job on this machine: archives dropped, published, served, mirrored, pulled back and checked.

    Example: ocisync demo --once
    """
    from ocisync.cli.demo import run_demo

    raise typer.Exit(run_demo(once, folder))
