"""`ocisync top`: the status page in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import ConfigFile, service_config
from ocisync.cli.run import Url

Every = Annotated[float, typer.Option("--every", min=0.2, max=3600.0, help="Seconds between updates.")]


def top(url: Url = "", every: Every = 1.0, config: ConfigFile = None) -> None:
    """Watch a running daemon: what runs and how fast, what fails, how fresh each rule is. Ctrl-C ends it.

    Example: ocisync top

    Example: ocisync top --url http://mirror.example.com:8080 --every 5
    """
    run_async(_watch, service_config(config), url, every)


async def _watch(file: Path, url: str, every: float) -> None:
    import anyio
    from rich.console import Console

    from ocisync.cli.display.live import draw_status, open_screen
    from ocisync.commands.daemon_client import open_client

    async with open_client(file, url) as client:
        found = await client.status()  # before the screen changes: it may fail
        if not sys.stdout.isatty():
            Console(width=120).print(draw_status(found, 1000))
            return
        with open_screen() as live:
            while True:
                live.update(draw_status(found, live.console.height), refresh=True)
                await anyio.sleep(every)
                found = await client.status()
