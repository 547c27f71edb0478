"""`ocisync pack`: a folder to an image."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ocisync.cli.formatting import counted, printable, size_text
from ocisync.cli.progress import progress
from ocisync.commands.pack import Packed, pack_to, parse_destination
from ocisync.errors import ConfigError
from ocisync.images.pack.excludes import parse_exclude_file
from ocisync.images.pack.settings import read_settings
from ocisync.wiring.session import optional_session, run_async

_COMMANDS = frozenset(("entrypoint", "cmd"))
_PAIRS = frozenset(("env", "labels", "annotations"))
_MAX_EPOCH = 253_402_300_799  # the last second of the year 9999


def pack_folder(
    folder: Path,
    destination: str,
    file: Path | None,
    options: Mapping[str, object],
    exclude_from: Path | None,
    config: Path | None,
) -> int:
    """Pack a folder; the exit status. `options` lie over what the file says; None says nothing."""
    place = parse_destination(destination)
    excludes = (*_listed(options["exclude"]), *(_patterns(exclude_from) if exclude_from else ()))
    given = {key: _value(key, value) for key, value in {**options, "exclude": excludes}.items() if value}
    settings = read_settings(file, given)
    epoch = _epoch()

    async def main() -> Packed:
        with progress() as shown:
            async with optional_session(config, shown) as session:
                return await pack_to(session, folder, settings, place, epoch)

    return _print_result(folder, str(place), run_async(main))


def _print_result(folder: Path, place: str, packed: Packed) -> int:
    for warning in packed.warnings:
        print(f"ocisync: {printable(warning)}", file=sys.stderr)
    report = packed.report
    failure = report.worst()
    if failure is not None:
        print(f"ocisync: {folder} was not packed to {place}: {failure.message} [{failure.code}]", file=sys.stderr)
        return 1
    traffic = report.traffic
    sent = f"{counted(traffic.blobs, 'blob')} sent, {traffic.skipped} there already, {size_text(traffic.bytes)}"
    print(f"{place}\n{report.tags[0].digest} ({sent}, {report.seconds:.1f} s)")
    return 0


def _value(key: str, value: object) -> object:
    if key in _COMMANDS:
        return _command(key, str(value))
    if key in _PAIRS:
        return _pairs(key, _listed(value))
    return tuple(_listed(value)) if isinstance(value, list | tuple) else value


def _listed(value: object) -> list[str]:
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


def _patterns(file: Path) -> list[str]:
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
