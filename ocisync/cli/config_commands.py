"""`ocisync init`, `ocisync config check` and `ocisync config import`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ocisync.cli.formatting import counted
from ocisync.config.importers.detect import Origin, convert_file
from ocisync.config.load import load_config
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
    print(f"wrote {file}. Check it with: ocisync config check -c {file}\nStart the daemon with: ocisync run -c {file}")


def check(file: Path) -> None:
    """Check a configuration and say what it holds; errors are raised by the loader, all at once."""
    config = load_config(file)
    for warning in config.warnings:
        print(f"warning: {warning}")
    parts = (
        counted(len(config.targets), "target"),
        counted(len(config.drop), "drop rule"),
        counted(len(config.sync), "sync rule"),
    )
    print(f"{file}: valid; {', '.join(parts)}")


def import_config(file: Path, origin: Origin | None, output: Path | None) -> None:
    """Print another tool's configuration as ours, or write it to a new file that only its owner can read.

    Raises:
        ConfigError: it cannot be read or is not understood, or the output exists.
    """
    text = convert_file(file, origin)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with open(output, "x", encoding="utf-8", opener=_private) as stream:
            stream.write(text)
    except FileExistsError as exc:
        raise ConfigError(f"{output} exists already; name another file with --output") from exc
    except OSError as exc:
        raise ConfigError(f"{output} cannot be written: {exc.strerror}") from exc
    print(
        f"wrote {output}. Read its comments: each tells what has no equal.\n"
        f"Check it with: ocisync config check -c {output}"
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
