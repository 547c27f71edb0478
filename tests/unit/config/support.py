"""A configuration from text, and its errors as lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from ocisync.config.load import parse_config
from ocisync.config.models import Config
from ocisync.errors import ConfigError

FOLDER = Path("/srv/conf")
TARGETS = "targets: {local: {type: static, path: ./registry}, inner: {type: registry, url: https://r.example}}"


def load(text: str, *, environ: Mapping[str, str] | None = None, folder: Path = FOLDER) -> Config:
    """A whole file's text, without its indentation."""
    return parse_config(dedent(text), folder=folder, file="c.yaml", environ=environ or {})


def with_targets(text: str, *, environ: Mapping[str, str] | None = None, folder: Path = FOLDER) -> Config:
    """As `load`, after two lines that give the version and two targets."""
    return load(f"version: 1\n{TARGETS}\n{dedent(text)}", environ=environ, folder=folder)


def errors(text: str, *, folder: Path = FOLDER) -> list[str]:
    """The lines of the error that a whole text gives."""
    with pytest.raises(ConfigError) as caught:
        load(text, folder=folder)
    return caught.value.message.splitlines()


def errors_with_targets(text: str) -> list[str]:
    """As `errors`, after the two lines of `with_targets`; so the text begins on line 3."""
    return errors(f"version: 1\n{TARGETS}\n{dedent(text)}")
