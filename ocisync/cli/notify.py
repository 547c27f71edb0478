"""`ocisync notify test`: whether messages to people arrive."""

from __future__ import annotations

from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import ConfigFile, service_config
from ocisync.cli.display.output import printable, show, warn


def send(
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these entries of `notify`.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Send a test message to everyone that the configuration names under `notify`.

    Example: ocisync notify test

    Example: ocisync notify test ops --config /etc/ocisync/ocisync.yaml
    """
    from ocisync.commands.notify import send_test
    from ocisync.config.load import load_config

    failures = run_async(send_test, load_config(service_config(config)), channels or [])
    for name, failure in failures.items():
        if failure is None:
            show(f"{name}: sent")
        else:
            warn(f"ocisync: {name}: {printable(failure.message)} [{failure.code}]")
    raise typer.Exit(1 if any(failures.values()) else 0)
