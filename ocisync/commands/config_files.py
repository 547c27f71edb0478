"""Configurations written to files: the starting one, and what was imported."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ocisync.commands.service_user import find_unit
from ocisync.config.template import Place, read_template, read_unit
from ocisync.errors import ConfigError

SERVICE_FILE = Path("/etc/ocisync/ocisync.yaml")
_NEXT: dict[Place, str] = {
    "local": "Start the daemon with: ocisync run -c {file}",
    "container": "Start it with: podman run -v ocisync:/var/lib/ocisync -v {file}:/etc/ocisync/ocisync.yaml:ro,Z "
    "-p 127.0.0.1:8080:8080 ocisync",
    "kubernetes": "Load it with: kubectl create configmap ocisync --from-file={file}",
    "mirror": "Look at what it would do with: ocisync plan -c {file}\nStart the daemon with: ocisync run -c {file}",
    "farm": "Start the daemon with: ocisync run -c {file}",
}


def write_starter(file: Path | None, place: Place, force: bool) -> str:
    """Write the commented starting configuration for a place; what was written, and what to do next.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    if file is None:
        file = SERVICE_FILE if place == "systemd" and os.geteuid() == 0 else Path("ocisync.yaml")
    _write(file, read_template(place), force)
    told = f"wrote {file}. Check it with: ocisync config check {file}\n"
    if place != "systemd":
        return told + _NEXT[place].format(file=file.absolute() if place == "container" else file)
    if find_unit() is not None:
        return told + "Then: systemctl enable --now ocisync"
    unit = file.with_name("ocisync.service")
    program = os.path.abspath(shutil.which(sys.argv[0]) or "/opt/ocisync/bin/ocisync")  # noqa: PTH100 (also without ..)
    _write(unit, read_unit(program, str(SERVICE_FILE)), force)
    config = "" if file == SERVICE_FILE else f"install -D -m 0644 {file} {SERVICE_FILE}\n  "
    return told + (
        f"wrote {unit}. As root:\n  {config}useradd --system --home-dir /var/lib/ocisync ocisync\n"
        "  install -d -o ocisync -g ocisync -m 2775 /var/lib/ocisync/drop\n"
        f"  install -m 0644 {unit} /etc/systemd/system/ocisync.service\n"
        "  systemctl daemon-reload && systemctl enable --now ocisync"
    )


def _write(file: Path, text: str, force: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
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
