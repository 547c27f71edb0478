"""Options that many commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ocisync import __version__
from ocisync.cli.display.output import show
from ocisync.errors import ConfigError

if TYPE_CHECKING:
    from ocisync.config.models import Config
    from ocisync.content.compress import Compression

_LOGS_BY_CONFIG = frozenset({"run"})  # commands that set up the log by the configuration
_LOG_LEVELS = {"serve": "info", "doctor": "warning", "pack": "warning", "unpack": "warning"}  # elsewhere "error"
CONFIG_PLACES = (Path("ocisync.yaml"), Path("/etc/ocisync/ocisync.yaml"))

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration. Default: $OCISYNC_CONFIG, ./ocisync.yaml, /etc/ocisync/.",
    ),
]
OnePlatform = Annotated[str, typer.Option("--platform", help="Only the image for OS/ARCHITECTURE[/VARIANT].")]
LayerCompression = Annotated[
    Literal["gzip", "zstd", "none"] | None,
    typer.Option("--compression", help="Of layers that are uncompressed in docker-archives; default gzip."),
]
CompressionLevel = Annotated[int | None, typer.Option("--level", help="Compression level: gzip 1 to 12, zstd 1 to 19.")]
Creds = Annotated[str, typer.Option("--creds", metavar="USER:PASSWORD", help="The login to use at the registry.")]
TlsVerify = Annotated[
    Literal["true", "false"] | None,
    typer.Option("--tls-verify", help="With false: accept any certificate, and plain HTTP where there is no TLS."),
]
AuthFile = Annotated[
    Path | None,
    typer.Option("--authfile", help="Use only this file of credentials, as podman and docker write it."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="An OCI layout that caches what was read; all images may share it."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every step: the same as --log-level debug.")]
QuietLog = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
LogLevelOption = Annotated[LogLevel | None, typer.Option("--log-level", help="Minimum log level.")]
LogFormatOption = Annotated[LogFormat | None, typer.Option("--log-format", help="How log lines look.")]


def _print_version(wanted: bool) -> None:
    """Answer while the options are parsed: afterwards, a missing command is an error."""
    if wanted:
        show(f"ocisync {__version__}")
        raise typer.Exit


def set_defaults(
    context: typer.Context,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    version: Annotated[  # noqa: ARG001 (its callback answers)
        bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take the options before the command, and have a log that is quiet: commands tell their failures themselves."""
    context.obj = (log_level, log_format)
    command = context.invoked_subcommand or ""
    if command not in _LOGS_BY_CONFIG:
        from ocisync.logs import configure_logging

        configure_logging(log_level or _LOG_LEVELS.get(command, "error"), log_format or "console")


def optional_config(given: Path | None) -> Path | None:
    """The configuration to use, or None where there is none."""
    if given is not None:
        return given
    if named := os.environ.get("OCISYNC_CONFIG"):
        return Path(named)
    return next((place for place in CONFIG_PLACES if place.is_file()), None)


def config_file(given: Path | None) -> Path:
    """The configuration to use.

    Raises:
        ConfigError: none was named and none stands where one is looked for.
    """
    found = optional_config(given)
    if found is None:
        places = " or ".join(str(place) for place in CONFIG_PLACES)
        raise ConfigError(
            f"no configuration: name one with --config FILE, or write one with `ocisync init` (looked for {places})"
        )
    return found


def service_config(given: Path | None) -> Path:
    """The configuration to use, as the service's user where root runs the command; raises as `config_file`."""
    from ocisync.cli.display.output import warn
    from ocisync.commands.service_user import become_service

    file = config_file(given)
    if user := become_service(file):
        warn(f"ocisync: running as {user}, the user of ocisync.service")
    return file


Side = tuple[Sequence[str], str, str | None]  # locators, --creds and --tls-verify


def with_access(
    config: Path | None, texts: Sequence[str], creds: str, tls_verify: str | None, authfile: Path | None
) -> Path | Config | None:
    """The configuration for a command that names registries, changed by the options for logins and trust."""
    return with_access_of(config, (texts, creds, tls_verify), ((), "", None), authfile)


def with_access_of(config: Path | None, source: Side, destination: Side, authfile: Path | None) -> Path | Config | None:
    """The same for a command that has a source and a destination."""
    file = optional_config(config)
    if authfile is None and not any((*source[1:], *destination[1:])):
        return file
    from ocisync.cli import run_async
    from ocisync.commands.registry.access import HostAccess, apply_access, hosts_of, join_hosts

    sides = [
        hosts_of(texts, HostAccess(creds, None if verify is None else verify == "true"))
        for texts, creds, verify in (source, destination)
    ]
    return run_async(apply_access, file, join_hosts(*sides), authfile)


def compression_of(kind: Literal["gzip", "zstd", "none"] | None, level: int | None) -> Compression | None:
    """What was asked for; None when nothing was. Raises ConfigError where the kind has no such level."""
    from ocisync.content.compress import Compression

    return None if kind is None and level is None else Compression(kind or "gzip", level)
