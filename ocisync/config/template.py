"""The commented configuration that `ocisync init` writes."""

from __future__ import annotations

from importlib.resources import files


def read_template() -> str:
    """A configuration that loads as it is: a drop folder and a static registry beside it, served on loopback."""
    return (files("ocisync.config") / "template.yaml").read_text(encoding="utf-8")
