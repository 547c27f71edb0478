"""The commented configurations that `ocisync init` writes, one for each place where ocisync runs."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["local", "container", "systemd", "kubernetes", "mirror", "farm"]


def read_template(place: Place = "local") -> str:
    """A configuration that loads as it is, and needs nothing but what is there where it runs."""
    return _read(f"{place}.yaml")


def read_unit(program: str, config: str) -> str:
    """The unit of systemd, for a program and a configuration at their places."""
    text = _read("ocisync.service")
    return text.replace("/opt/ocisync/bin/ocisync run -c /etc/ocisync/ocisync.yaml", f"{program} run -c {config}")


def _read(name: str) -> str:
    return (files("ocisync.config") / "templates" / name).read_text(encoding="utf-8")
