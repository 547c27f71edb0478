"""Commands that root runs by hand work as the service does: as its user, with its variables.

Otherwise `sudo ocisync once` would leave files behind that belong to root, and lack the secrets that only the service
has. What counts is the systemd unit whose `ExecStart` names the same configuration.

Spec: systemd.unit(5), systemd.exec(5): User, Group, Environment, EnvironmentFile.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import anyio

UNIT = "ocisync.service"
_PLACES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


@dataclass(slots=True)
class ServiceUnit:
    """What a unit says of how the service runs."""

    user: str = ""
    group: str = ""
    command: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def runs(self, config: Path) -> bool:
        """Whether this is the configuration that the service runs with."""
        return str(config.absolute()) in self.command


def become_service(config: Path) -> str:
    """Go on as the user of the service that runs with this configuration, if root started us; the user, or "".

    It must come before anything that has threads.
    """
    if os.geteuid() != 0 or (unit := read_unit()) is None or not unit.user or not unit.runs(config):
        return ""
    try:
        user = pwd.getpwnam(unit.user)
        group = grp.getgrnam(unit.group).gr_gid if unit.group else user.pw_gid
    except KeyError:
        return ""
    for name, value in unit.variables.items():
        os.environ.setdefault(name, value)
    if user.pw_uid == 0:
        return ""
    if not _may_read_program(user.pw_uid, group):
        return ""
    os.initgroups(unit.user, group)
    os.setgid(group)
    os.setuid(user.pw_uid)
    os.environ |= {"HOME": user.pw_dir, "USER": unit.user, "LOGNAME": unit.user}
    os.environ.pop("XDG_RUNTIME_DIR", None)  # root's
    return unit.user


def _may_read_program(uid: int, gid: int) -> bool:
    """Whether the user could import what is not imported yet: a program below /root is for root only."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        files = (os.__file__, anyio.__file__, __file__)
        return all(os.access(file, os.R_OK, effective_ids=True) for file in files)
    finally:
        os.seteuid(0)
        os.setegid(0)


def read_unit() -> ServiceUnit | None:
    """The service's unit with its drop-ins; None where there is none."""
    if (main := find_unit()) is None:
        return None
    unit = ServiceUnit()
    dropped = {file.name: file for place in reversed(_places()) for file in (place / f"{UNIT}.d").glob("*.conf")}
    for file in (main, *(dropped[name] for name in sorted(dropped))):
        _read_into(unit, file)
    return unit


def find_unit() -> Path | None:
    """The file of the service's unit that counts, if there is one."""
    return next((place / UNIT for place in _places() if (place / UNIT).is_file()), None)


def _places() -> list[Path]:
    named = os.environ.get("SYSTEMD_UNIT_PATH", "")
    return [Path(place) for place in filter(None, named.split(":"))] or [Path(place) for place in _PLACES]


def _read_into(unit: ServiceUnit, file: Path) -> None:
    for line in _read(file).replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith(("#", ";")):
            continue
        match key.strip():
            case "User":
                unit.user = value.strip()
            case "Group":
                unit.group = value.strip()
            case "ExecStart":
                unit.command = _split(value)
            case "Environment":
                unit.variables |= _pairs(_split(value))
            case "EnvironmentFile":
                unit.variables |= _pairs(_read(Path(value.strip().removeprefix("-"))).splitlines())


def _pairs(lines: list[str]) -> dict[str, str]:
    """`NAME=value` of each line; quotes around a value are taken off."""
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            words = _split(value) if value[:1] in ("'", '"') else [value.strip()]
            found[name.strip()] = words[0] if words else ""
    return found


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
