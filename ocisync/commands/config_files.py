"""Configurations written to files: the starting one, and what was imported."""

from __future__ import annotations

import os
from pathlib import Path

from ocisync.config.template import read_template
from ocisync.errors import ConfigError


def write_starter(file: Path, force: bool) -> None:
    """Write the commented starting configuration.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(read_template())
    except FileExistsError as exc:
        raise ConfigError(f"{file} exists already; edit it, or replace it with --force") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}") from exc


def write_private(file: Path, text: str) -> None:
    """Write a new file that only its owner can read: an imported configuration may hold secrets.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    try:
        with open(file, "x", encoding="utf-8", opener=_open_private) as stream:
            stream.write(text)
    except FileExistsError as exc:
        raise ConfigError(f"{file} exists already; name another file with --output") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}") from exc


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
