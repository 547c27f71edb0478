"""`ocisync pack`: a folder to an image."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_images
from ocisync.cli.arguments.options import AuthFile, ConfigFile, Creds, OnePlatform, Quiet, TlsVerify, with_access
from ocisync.cli.display.output import counted, printable, show, warn
from ocisync.errors import ConfigError
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for what packs
    from ocisync.commands.images.pack import Packed

_Texts = Annotated[list[str] | None, typer.Option(help="NAME=VALUE, or only a value; may be repeated.")]
_Destination = Annotated[
    str,
    typer.Argument(
        help="Where to, such as docker://HOST/NAME:TAG, oci:DIR, app.tar.gz.", autocompletion=complete_images
    ),
]
_COMMANDS = frozenset(("entrypoint", "cmd"))
_PAIRS = frozenset(("env", "labels", "annotations"))
_MAX_EPOCH = 253_402_300_799  # the last second of the year 9999


def pack(
    rootfs: Annotated[Path, typer.Argument(help="A folder that holds a root file system.")],
    destination: _Destination,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="A YAML file of settings; options add to it.")
    ] = None,
    parent: Annotated[str | None, typer.Option(help="The image to build on; any reference.")] = None,
    entrypoint: Annotated[str | None, typer.Option(help='Words, or a JSON list: ["/app","-v"].')] = None,
    cmd: Annotated[str | None, typer.Option(help="Default arguments, written as --entrypoint.")] = None,
    env: _Texts = None,
    directory: Annotated[str | None, typer.Option("--dir", help="The working folder.")] = None,
    port: _Texts = None,
    label: _Texts = None,
    user: Annotated[
        str | None,
        typer.Option(help="USER[:GROUP]; default the parent's, or 65532:65532. For root, --user 0."),
    ] = None,
    volume: _Texts = None,
    platform: OnePlatform = "",
    annotation: _Texts = None,
    blob: Annotated[
        list[str] | None,
        typer.Option(metavar="[TYPE=]FILE", help="A file to store with the image, in an index."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Leave out what matches.")] = None,
    exclude_from: Annotated[Path | None, typer.Option(help="A file with such patterns.")] = None,
    owner: Annotated[str | None, typer.Option(help="UID[:GID] of every file. Default: as they are.")] = None,
    form: Annotated[Literal["oci", "docker"] | None, typer.Option("--format", help="Media types; default oci.")] = None,
    compression: Annotated[
        Literal["gzip", "zstd", "none"] | None, typer.Option(help="Of the layer; default gzip.")
    ] = None,
    level: Annotated[int | None, typer.Option(help="Of the compression.")] = None,
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
    quiet: Quiet = False,
) -> None:
    """Pack a folder as an image of one layer; equal folders give equal digests.

    Example: ocisync pack ./rootfs oci-archive:app.tar --entrypoint /app --port 8080

    Example: ocisync pack ./site docker://registry.example.com/team/site:1 --parent docker://nginx:1
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.images.pack import pack_folder, parse_destination
    from ocisync.images.pack.settings import read_settings

    texts: dict[str, object] = {"parent": parent, "dir": directory, "user": user, "owner": owner, "platform": platform}
    commands = {"entrypoint": entrypoint, "cmd": cmd}
    lists = {"env": env, "ports": port, "labels": label, "volumes": volume, "annotations": annotation, "blobs": blob}
    layer = {"format": form, "compression": compression, "level": level}
    options = texts | commands | lists | layer | {"exclude": [*(exclude or ()), *_patterns(exclude_from)]}
    place = parse_destination(destination)
    given = {key: _value(key, value) for key, value in options.items() if value}
    merged = read_settings(settings, given)
    access = with_access(config, [destination, parent or ""], creds, tls_verify, authfile)
    with progress(quiet) as shown:
        packed = run_async(pack_folder, access, shown, rootfs, merged, place, _epoch())
    raise typer.Exit(_print_result(rootfs, str(place), packed, quiet))


def _print_result(folder: Path, place: str, packed: Packed, is_quiet: bool) -> int:
    for warning in packed.warnings:
        warn(f"ocisync: {printable(warning)}")
    report = packed.report
    failure = report.worst()
    if failure is not None:
        warn(f"ocisync: {folder} was not packed to {place}: {failure.message} [{failure.code}]")
        return 1
    if is_quiet:
        return 0
    traffic = report.traffic
    sent = f"{counted(traffic.blobs, 'blob')} sent, {traffic.skipped} there already, {size_text(traffic.bytes)}"
    show(f"{place}\n{report.tags[0].digest} ({sent}, {report.seconds:.1f} s)")
    return 0


def _value(key: str, value: object) -> object:
    if key in _COMMANDS:
        return _command(key, str(value))
    if key in _PAIRS:
        return _pairs(key, _as_list(value))
    return tuple(_as_list(value)) if isinstance(value, list | tuple) else value


def _as_list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _command(key: str, text: str) -> list[object]:
    """`["/app","-v"]`, or words as a shell splits them."""
    try:
        parsed = json.loads(text) if text.startswith("[") else shlex.split(text)
    except ValueError as exc:
        raise ConfigError(f"--{key} {text[:100]!r}: not a JSON list, nor words as a shell takes them: {exc}") from exc
    return list(parsed)


def _pairs(key: str, items: Sequence[str]) -> dict[str, str]:
    for item in items:
        if not item.partition("=")[0] or "=" not in item:
            raise ConfigError(f"{key}: {item[:100]!r}: expected NAME=VALUE")
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _patterns(file: Path | None) -> list[str]:
    from ocisync.images.pack.excludes import parse_exclude_file

    if file is None:
        return []
    try:
        return parse_exclude_file(file.read_text())
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"--exclude-from {file}: cannot be read: {exc}") from exc


def _epoch() -> int:
    """SOURCE_DATE_EPOCH in seconds, 0 without it.

    Spec: reproducible-builds.org, "SOURCE_DATE_EPOCH specification".
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "") or "0"
    if not text.isdecimal() or int(text) > _MAX_EPOCH:
        raise ConfigError(f"SOURCE_DATE_EPOCH={text[:40]!r}: expected seconds since 1970")
    return int(text)
