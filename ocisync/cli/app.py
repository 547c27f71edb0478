"""The command line assembled: every command under its heading, in the order in which help lists them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, cast

import typer

from ocisync import __version__
from ocisync.cli import LazyCommands, make_command
from ocisync.cli.arguments.options import set_defaults
from ocisync.cli.display.help import CommandGroup
from ocisync.cli.display.output import show

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


_COMMANDS: dict[str, dict[str, str]] = {  # heading, name: module below `ocisync.cli`, function
    "Mirroring by rules": {
        "run": "run:run",
        "once": "once:once",
        "plan": "once:plan",
        "status": "status:status",
        "top": "top:top",
        "sync-now": "run:sync_now",
    },
    "Images": {
        "copy": "copy:copy",
        "push": "copy:push",
        "pack": "pack:pack",
        "unpack": "unpack:unpack",
        "inspect": "inspect:inspect",
        "tags": "inspect:tags",
        "digest": "inspect:digest",
    },
    "Registries": {
        "serve": "run:serve",
        "ls": "maintain:ls",
        "rm": "maintain:rm",
        "verify": "maintain:verify",
        "gc": "maintain:gc",
        "keep": "maintain:keep",
        "reconcile": "maintain:reconcile",
        "doctor": "doctor:doctor",
        "clients": "clients:clients",
        "login": "registry.login:login",
        "logout": "registry.login:logout",
    },
    "Setting up": {
        "init": "config:init",
        "demo": "run:demo",
        "completion": "arguments.completion:completion",
        "version": "app:version",
        "help": "app:show_help",
    },
}
_GROUPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "engine": (
        "Many machines",
        "Share the work among many daemons, through PostgreSQL.",
        {"migrate": "engine:migrate", "status": "engine:status"},
    ),
    "state": (
        "Many machines",
        "Move what the ledger remembers to another place.",
        {"move": "engine:move"},
    ),
    "bundle": (
        "Mirroring by rules",
        "Carry what changed at a mirror to a site without a network.",
        {"create": "bundle:create", "apply": "bundle:apply", "inspect": "bundle:inspect", "diff": "bundle:diff"},
    ),
    "config": (
        "Setting up",
        "Check the configuration, import another tool's, describe it to an editor.",
        {"check": "config:check", "import": "config:import_", "schema": "config:schema"},
    ),
    "notify": ("Setting up", "Try out who is told of failures.", {"test": "notify:send"}),
}
_SHARED: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "add_completion": False,  # its script for bash breaks names apart at colons; `completion` prints ours
}


def _take_no_options() -> None:
    """Have a group be one, also if it has a single command."""


def _make_group(name: str) -> Any:
    heading, text, commands = _GROUPS[name]
    group = typer.Typer(name=name, help=text, cls=CommandGroup, **_SHARED)
    group.callback()(_take_no_options)
    made = typer.main.get_group(group)
    made.rich_help_panel = heading
    made.commands = LazyCommands({one: partial(make_command, one, place) for one, place in commands.items()})
    return made


def _make_app() -> Any:
    group = typer.Typer(
        help="Keep container-image mirrors fresh: from drop folders and registries to static and ordinary registries.",
        context_settings={"help_option_names": ["-h", "--help"]},
        cls=CommandGroup,
        **_SHARED,
    )
    group.callback()(set_defaults)
    made = typer.main.get_group(group)
    made.commands = LazyCommands(
        {
            name: partial(make_command, name, place, heading)
            for heading, commands in _COMMANDS.items()
            for name, place in commands.items()
        }
        | {name: partial(_make_group, name) for name in _GROUPS}
    )
    return made


app = _make_app()
