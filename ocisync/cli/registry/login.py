"""`ocisync login` and `logout`: passwords for registries, shared with podman, docker and skopeo."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import AuthFile, ConfigFile, TlsVerify, optional_config
from ocisync.cli.display.output import show, warn
from ocisync.errors import ConfigError

_LONGEST = 65_536  # characters of a password

Registry = Annotated[str, typer.Argument(metavar="REGISTRY", help="HOST[:PORT], or HOST/PATH for a part of it.")]
LoginFileOption = Annotated[
    Path | None,
    typer.Option("--authfile", help="The file to write to, in place of the first one that would be read."),
]


def login(
    registry: Registry,
    username: Annotated[str, typer.Option("--username", "-u", help="The user name. Default: ask for it.")] = "",
    from_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    password: Annotated[str | None, typer.Option("--password", "-p", hidden=True)] = None,
    tls_verify: TlsVerify = None,
    authfile: LoginFileOption = None,
    config: ConfigFile = None,
) -> None:
    """Log in to a registry; the login is checked, then stored where podman and docker find it, too.

    Example: ocisync login ghcr.io --username alice

    Example: ocisync login ghcr.io -u alice --password-stdin < token.txt
    """
    from ocisync.commands.registry.login import log_in, registry_key

    if password is not None:
        raise ConfigError(
            "a password on the command line can be seen by every user of this machine, and stays in the shell's "
            "history: leave it out to be asked for it, or use --password-stdin"
        )
    key = registry_key(registry)
    name, secret = _read_login(username, from_stdin)
    verify = None if tls_verify is None else tls_verify == "true"
    done = run_async(log_in, key, name, secret, optional_config(config), verify, authfile)
    if not done.is_checked:
        warn(f"ocisync: {key} accepts everyone, so the password was not checked")
    show(f"logged in to {done.key} as {name}; stored in {done.place}")


def logout(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="The registry, as it was named at login.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Remove every login.")] = False,
    authfile: AuthFile = None,
) -> None:
    """Log out of a registry: remove its login from the files and credential helpers that have it.

    Example: ocisync logout ghcr.io
    """
    from ocisync.commands.registry.login import log_out, registry_key

    if every == bool(registry):
        raise ConfigError("name a registry to log out from, or give --all")
    keys = [registry_key(registry)] if registry else []
    removed = run_async(partial(log_out, keys, authfile, every=every))
    show("\n".join(f"removed the login for {key} from {place}" for key, place in removed) or "there are no logins")


def _read_login(username: str, from_stdin: bool) -> tuple[str, str]:
    """The user and the password, from options, standard input or the terminal.

    Raises:
        ConfigError: there is nobody to ask.
    """
    from ocisync.logs import register_secret

    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    if not username:
        if from_stdin or not is_terminal:
            raise ConfigError("name the user with --username")
        username = input("Username: ").strip()
    if from_stdin:
        password = sys.stdin.read(_LONGEST).rstrip("\r\n")
    elif is_terminal:
        import getpass

        password = getpass.getpass("Password: ")
    else:
        raise ConfigError("no terminal to ask for the password: give it on standard input with --password-stdin")
    if not username or not password:
        raise ConfigError("the user and the password must not be empty")
    register_secret(password)
    return username, password
