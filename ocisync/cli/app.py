"""The command line assembled: each subject's commands, in the order in which help lists them.

The modules of the commands import what they need when they run, not before: `--help` and completion stay fast.
"""

from __future__ import annotations

from typing import Annotated, cast

import typer

from ocisync import __version__
from ocisync.cli import clients, config, copy, doctor, inspect, login, maintain, once, pack, run, status, unpack
from ocisync.cli.options import set_defaults
from ocisync.cli.output import show

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[2])  # click's ClickException: typer has it unnamed

app = typer.Typer(
    help="Keep container-image mirrors fresh: from drop folders and registries to static registries and registries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(set_defaults)
for commands in (run, once, status, copy, login, pack, unpack, inspect, maintain, doctor, config, clients):
    commands.add_commands(app)


@app.command()
def version() -> None:
    """Print the version."""
    show(f"ocisync {__version__}")


@app.command("help")
def show_help(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Such as `config check`.")] = None,
) -> None:
    """Print the help of a command, or this list of commands."""
    shown = context.find_root()
    for name in command or ():
        group = getattr(shown.command, "commands", {})
        if name not in group:
            raise typer.BadParameter(f"there is no command {' '.join(command or ())!r}", shown)
        shown = type(shown)(group[name], info_name=name, parent=shown)
    show(shown.get_help())
