"""The command line assembled: every command under its heading, in the order in which help lists them.

The modules of the commands import what they need when they run, not before: `--help` and completion stay fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

from ocisync import __version__
from ocisync.cli import (
    bundle,
    clients,
    config,
    copy,
    doctor,
    engine,
    inspect,
    maintain,
    notify,
    once,
    pack,
    run,
    status,
    top,
    unpack,
)
from ocisync.cli.arguments import completion
from ocisync.cli.arguments.options import set_defaults
from ocisync.cli.display.help import Command, CommandGroup
from ocisync.cli.display.output import show
from ocisync.cli.registry import login

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[2])  # click's ClickException: typer has it unnamed


def version() -> None:
    """Print the version.

    Example: ocisync version
    """
    show(f"ocisync {__version__}")


def show_help(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="Such as `config check`.")] = None,
) -> None:
    """Print the help of a command, or this list of commands.

    Example: ocisync help config check
    """
    shown = context.find_root()
    for name in command or ():
        group = getattr(shown.command, "commands", {})
        if name not in group:
            raise typer.BadParameter(f"there is no command {' '.join(command or ())!r}", shown)
        shown = type(shown)(group[name], info_name=name, parent=shown)
    show(shown.get_help())


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Mirroring by rules": {
        "run": run.run,
        "once": once.once,
        "plan": once.plan,
        "status": status.status,
        "top": top.top,
        "sync-now": run.sync_now,
    },
    "Images": {
        "copy": copy.copy,
        "push": copy.push,
        "pack": pack.pack,
        "unpack": unpack.unpack,
        "inspect": inspect.inspect,
        "tags": inspect.tags,
        "digest": inspect.digest,
    },
    "Registries": {
        "serve": run.serve,
        "ls": maintain.ls,
        "rm": maintain.rm,
        "verify": maintain.verify,
        "gc": maintain.gc,
        "keep": maintain.keep,
        "reconcile": maintain.reconcile,
        "doctor": doctor.doctor,
        "clients": clients.clients,
        "login": login.login,
        "logout": login.logout,
    },
    "Setting up": {
        "init": config.init,
        "demo": run.demo,
        "completion": completion.completion,
        "version": version,
        "help": show_help,
    },
}
_GROUPS: dict[str, tuple[str, str, dict[str, Callable[..., None]]]] = {
    "engine": (
        "Many machines",
        "Share the work among many daemons, through PostgreSQL.",
        {"migrate": engine.migrate, "status": engine.status},
    ),
    "state": (
        "Many machines",
        "Move what the ledger remembers to another place.",
        {"move": engine.move},
    ),
    "bundle": (
        "Mirroring by rules",
        "Carry what changed at a mirror to a site without a network.",
        {"create": bundle.create, "apply": bundle.apply, "inspect": bundle.inspect, "diff": bundle.diff},
    ),
    "config": (
        "Setting up",
        "Check the configuration, import another tool's, describe it to an editor.",
        {"check": config.check, "import": config.import_, "schema": config.schema},
    ),
    "notify": ("Setting up", "Try out who is told of failures.", {"test": notify.send}),
}


def _take_no_options() -> None:
    """Have a group be one, also if it has a single command."""


def _make_app() -> typer.Typer:
    shared: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "cls": CommandGroup}
    made = typer.Typer(
        help="Keep container-image mirrors fresh: from drop folders and registries to static and ordinary registries.",
        pretty_exceptions_enable=False,
        add_completion=False,  # its script for bash breaks names apart at colons; `completion` prints ours
        context_settings={"help_option_names": ["-h", "--help"]},
        **shared,
    )
    made.callback()(set_defaults)
    for heading, commands in _COMMANDS.items():
        for name, function in commands.items():
            made.command(name, cls=Command, rich_help_panel=heading)(function)
    for group, (heading, text, commands) in _GROUPS.items():
        inner = typer.Typer(help=text, **shared)
        inner.callback()(_take_no_options)
        for name, function in commands.items():
            inner.command(name, cls=Command)(function)
        made.add_typer(inner, name=group, rich_help_panel=heading)
    return made


app = _make_app()
