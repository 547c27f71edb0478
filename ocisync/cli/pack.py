"""`ocisync pack`: a folder to an image."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from ocisync.cli import run_async
from ocisync.cli.options import AuthFile, ConfigFile, Creds, OnePlatform, Quiet, TlsVerify, start_logging, with_access
from ocisync.cli.output import counted, printable, show, size_text, warn
from ocisync.errors import ConfigError

if TYPE_CHECKING:  # the start of other commands does not pay for what packs
    from ocisync.commands.pack import Packed

_Texts = Annotated[Optional[list[str]], typer.Option(help="May be given again; NAME=VALUE where it has both.")]  # noqa: UP045
_COMMANDS = frozenset(("entrypoint", "cmd"))
_PAIRS = frozenset(("env", "labels", "annotations"))
_MAX_EPOCH = 253_402_300_799  # the last second of the year 9999


def add_commands(app: typer.Typer) -> None:
    """Give a command line this command."""
    app.command()(pack)


def pack(
    context: typer.Context,
    rootfs: Annotated[Path, typer.Argument(help="A folder that holds a root file system.")],
    destination: Annotated[str, typer.Argument(help="Where to, such as docker://HOST/NAME:TAG, oci:DIR, app.tar.gz")],
    settings: Annotated[Optional[Path], typer.Option("--settings", help="A YAML file; options add to it.")] = None,  # noqa: UP045
    parent: Annotated[Optional[str], typer.Option(help="An image to put the folder on, any reference.")] = None,  # noqa: UP045
    entrypoint: Annotated[Optional[str], typer.Option(help='Words, or a JSON list: ["/app","-v"].')] = None,  # noqa: UP045
    cmd: Annotated[Optional[str], typer.Option(help="Default arguments, written as --entrypoint.")] = None,  # noqa: UP045
    env: _Texts = None,
    directory: Annotated[Optional[str], typer.Option("--dir", help="Where the program starts.")] = None,  # noqa: UP045
    port: _Texts = None,
    label: _Texts = None,
    user: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="USER[:GROUP]; the parent's, or else 65532:65532. Ask for root by --user 0."),
    ] = None,
    volume: _Texts = None,
    platform: OnePlatform = "",
    annotation: _Texts = None,
    blob: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="[TYPE=]FILE", help="A file that goes with the image, in an index."),
    ] = None,
    exclude: Annotated[Optional[list[str]], typer.Option(metavar="PATTERN", help="What to leave out.")] = None,  # noqa: UP045
    exclude_from: Annotated[Optional[Path], typer.Option(help="A file with such patterns.")] = None,  # noqa: UP045
    owner: Annotated[Optional[str], typer.Option(help="UID[:GID] of every file; as they are otherwise.")] = None,  # noqa: UP045
    form: Annotated[Optional[Literal["oci", "docker"]], typer.Option("--format", help="Media types; oci.")] = None,  # noqa: UP045
    compression: Annotated[Optional[Literal["gzip", "zstd", "none"]], typer.Option(help="Of the layer; gzip.")] = None,  # noqa: UP045
    level: Annotated[Optional[int], typer.Option(help="Of the compression.")] = None,  # noqa: UP045
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
    quiet: Quiet = False,
) -> None:
    """Pack a folder as an image of one layer; equal folders give equal digests."""
    start_logging(context, default="warning")
    from ocisync.cli.progress import progress
    from ocisync.commands.pack import pack_folder, parse_destination
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
