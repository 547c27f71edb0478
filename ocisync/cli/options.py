"""Options that many commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ocisync.errors import ConfigError

CONFIG_PLACES = (Path("ocisync.yaml"), Path("/etc/ocisync/ocisync.yaml"))

ConfigFile = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it at run time)
    typer.Option("--config", "-c", help="The configuration; $OCISYNC_CONFIG, ./ocisync.yaml or /etc/ocisync/."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LogLevel = Literal["debug", "info", "warning", "error"]


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


def start_logging(context: typer.Context, default: LogLevel = "error") -> None:
    """Log as the options before the command say; commands tell their failures themselves, so little beside them."""
    from ocisync.logs import configure_logging

    level, form = context.obj
    configure_logging(level or default, form or "console")
