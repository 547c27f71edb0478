"""What a packed image is to be: read from a YAML file, the command line's options laid over it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ocisync.errors import ConfigError, InvalidName
from ocisync.images.pack.excludes import Excludes
from ocisync.images.pack.layer import TreeOptions
from ocisync.images.unpack.attributes import MAX_ID
from ocisync.model.platform import Platform, parse_platform

DEFAULT_USER = "65532:65532"  # "nonroot" in the images of distroless and of Chainguard
_PORT = re.compile(r"([0-9]{1,5})(-[0-9]{1,5})?(/(tcp|udp|sctp))?\Z")
_OWNER = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?\Z")
_MAX_FILE = 1024 * 1024  # bytes


def _split_pairs(value: object) -> object:
    """`[A=1, B=2]`, as docker writes it, is `{A: 1, B: 2}`."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(item, str) and item.partition("=")[0] for item in value):
        raise ValueError("expected a mapping, or a list of NAME=VALUE")
    return {item.partition("=")[0]: item.partition("=")[2] for item in value}


def _to_text(value: object) -> object:
    """Numbers, as YAML reads `user: 1000` and `ports: [80]`, are meant as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_port(value: str) -> str:
    if not _PORT.match(value):
        raise ValueError("expected a port such as 8080 or 53/udp")
    return value if "/" in value else f"{value}/tcp"


def _check_absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("expected an absolute path")
    return value


Text = Annotated[str, BeforeValidator(_to_text)]
Pairs = Annotated[dict[str, Text], BeforeValidator(_split_pairs)]
Port = Annotated[str, BeforeValidator(lambda value: _check_port(str(value)))]
AbsolutePath = Annotated[str, BeforeValidator(lambda value: _check_absolute(str(value)))]


class PackSettings(BaseModel):
    """Everything that can be said about an image but its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: Pairs = Field(default_factory=dict)
    dir: AbsolutePath | None = None
    ports: list[Port] = Field(default_factory=list)
    labels: Pairs = Field(default_factory=dict)
    user: Text | None = None
    volumes: list[AbsolutePath] = Field(default_factory=list)
    platform: str | None = None
    parent: str | None = None
    annotations: Pairs = Field(default_factory=dict)
    blobs: list[str] = Field(default_factory=list)  # [TYPE=]FILE
    exclude: list[str] = Field(default_factory=list)
    owner: Text | None = None
    format: Literal["oci", "docker"] = "oci"
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    level: int | None = None

    def wanted_platform(self) -> Platform | None:
        """The platform, when one is named; raises InvalidName."""
        return parse_platform(self.platform) if self.platform else None

    def tree_options(self, mtime: int) -> TreeOptions:
        """How the folder is read; `mtime` in seconds since the epoch.

        Raises:
            ConfigError: an owner or a pattern is malformed.
        """
        return TreeOptions(mtime, _parse_owner(self.owner), Excludes(self.exclude))


def read_settings(file: Path | None, options: Mapping[str, object]) -> PackSettings:
    """The file's settings with the options laid over them: lists and mappings grow, everything else is replaced.

    Raises:
        ConfigError: the file cannot be read, or something in it or in the options is not understood.
    """
    document = _load(file) if file else {}
    for key, value in options.items():
        document[key] = _merge(document.get(key), value)
    try:
        settings = PackSettings.model_validate(document)
        settings.wanted_platform()
    except ValidationError as exc:
        raise ConfigError(f"{file or 'options'}: {'; '.join(map(_describe_problem, exc.errors()))}") from exc
    except InvalidName as exc:
        raise ConfigError(exc.message) from exc
    if settings.format == "docker" and (settings.annotations or settings.blobs):
        raise ConfigError("docker's format knows neither annotations nor blobs beside the image; use --format oci")
    return settings


def _load(file: Path) -> dict[str, object]:
    try:
        text = file.read_bytes()
        if len(text) > _MAX_FILE:
            raise ConfigError(f"{file}: more than {_MAX_FILE} bytes")
        document = yaml.safe_load(text)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: not YAML: {exc}") from exc
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"{file}: expected settings such as `entrypoint: [/app]`")
    return document


def _merge(before: object, value: object) -> object:
    before = _split_pairs(before) if isinstance(value, dict) else before
    if isinstance(before, dict) and isinstance(value, dict):
        return {**before, **value}
    if isinstance(before, list) and isinstance(value, tuple):
        return [*before, *value]
    return list(value) if isinstance(value, tuple) else value


def _describe_problem(error: Mapping[str, object]) -> str:
    place = error["loc"]
    where = ".".join(map(str, place)) if isinstance(place, tuple) else str(place)
    return f"{where}: {error['msg']}"


def _parse_owner(text: str | None) -> tuple[int, int] | None:
    if text is None or text == "keep":
        return None
    found = _OWNER.match(text)
    if found is None or int(found[1]) > MAX_ID or int(found[2] or 0) > MAX_ID:
        raise ConfigError(f"owner {text[:40]!r}: expected UID or UID:GID in numbers, or keep")
    return int(found[1]), int(found[2] or found[1])
