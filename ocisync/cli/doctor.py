"""`ocisync doctor`: what clients of a published registry trip over, and what mends it."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_targets
from ocisync.cli.arguments.options import AsJson, ConfigFile, config_file
from ocisync.cli.display.output import counted, printable, show, show_json
from ocisync.doctor.causes import CLIENTS, Level
from ocisync.doctor.remedies import ANY
from ocisync.errors import ConfigError

if TYPE_CHECKING:  # the start of other commands does not pay for what examines
    from ocisync.commands.doctor import MirrorTrial
    from ocisync.doctor.checks import CheckFinding
    from ocisync.doctor.diagnosis import Diagnosis

_MARKS = {Level.FAILS: "✗", Level.RISK: "!", Level.NOTE: "·"}
_FRONTS = {
    "nginx": "nginx", "caddy": "Caddy", "s3": "S3 bucket", "cloudfront": "CloudFront", "cloudflare": "Cloudflare",
    ANY: "to do",
}  # fmt: skip


def doctor(
    url: Annotated[str, typer.Argument(help="A published registry: https://HOST, or https://HOST/NAME:TAG")],
    client: Annotated[list[str] | None, typer.Option(help="Check for this client only; may be repeated.")] = None,
    ca: Annotated[Path | None, typer.Option(help="A PEM file of authorities to trust as well.")] = None,
    mirror: Annotated[
        str,
        typer.Option(
            help="Ask for the images of this target's rules, as clients do that pull through a mirror.",
            autocompletion=complete_targets,
        ),
    ] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Test a published registry as docker, podman, crane, oras and others use it; exit 1 if one would fail.

    Example: ocisync doctor https://registry.example.com/team/app:1.0

    Example: ocisync doctor http://127.0.0.1:8080 --client podman

    Example: ocisync doctor https://mirror.example.com --mirror mirror
    """
    from ocisync.commands.doctor import diagnose, try_mirror

    if mirror:
        tried = run_async(try_mirror, config_file(config), mirror, url, ca)
        show_json([asdict(one) for one in tried]) if as_json else show(_mirror_text(tried))
        raise typer.Exit(1 if any(one.problem for one in tried) else 0)
    wanted = _check_clients(client or [])
    found = run_async(diagnose, url, ca)
    show_json(_diagnosis_json(found, wanted)) if as_json else show(_diagnosis_text(found, wanted))
    raise typer.Exit(1 if found.failing(wanted) else 0)


def _mirror_text(tried: Sequence[MirrorTrial]) -> str:
    lines = [f"{'✗' if one.problem else '✓'} {printable(one.image)}  {printable(one.asked)}" for one in tried]
    for at, one in enumerate(tried):
        if one.problem:
            lines[at] += f"\n    {printable(one.problem)}"
    failed = sum(bool(one.problem) for one in tried)
    verdict = f"{failed} of them would come from the source" if failed else "all of them come from the mirror"
    return "\n".join([*lines, f"{counted(len(tried), 'image')} tried: {verdict}"])


def _check_clients(clients: Collection[str]) -> tuple[str, ...]:
    """The clients that count; raises ConfigError for one that is not known."""
    names = ["podman" if name == "skopeo" else name for name in clients]
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a client that the doctor knows; name {', '.join(CLIENTS)} or skopeo")
    return tuple(names) or CLIENTS


def _diagnosis_json(found: Diagnosis, clients: Collection[str]) -> dict[str, object]:
    address = found.address
    return {
        "url": address.root,
        "name": address.name,
        "reference": address.tag,
        "fronts": list(found.fronts),
        "requests": found.requests,
        "fails": bool(found.failing(clients)),
        "clients": {name: [one.cause.code for one in found.of_client(name)] for name in clients},
        "findings": [_finding_json(found, one) for one in found.findings],
    }


def _finding_json(found: Diagnosis, one: CheckFinding) -> dict[str, object]:
    cause = one.cause
    return {
        "code": cause.code,
        "level": cause.level.value,
        "clients": list(cause.clients),
        "title": cause.title,
        "why": cause.why,
        "seen": one.seen,
        "cures": dict(found.remedies[cause.code]),
    }


def _diagnosis_text(found: Diagnosis, clients: Collection[str]) -> str:
    address = found.address
    image = f"/{address.name}{'@' if ':' in address.tag else ':'}{address.tag}" if address.tag else ""
    front = f", served by {' behind '.join(_FRONTS[name] for name in found.fronts)}" if found.fronts else ""
    parts = [f"{printable(address.root + image)}: {counted(found.requests, 'request')}{front}"]
    parts += [_finding_text(found, one) for one in found.findings]
    parts.append("\n".join(_client_text(found, name) for name in clients))
    return "\n\n".join(parts)


def _finding_text(found: Diagnosis, one: CheckFinding) -> str:
    cause = one.cause
    who = f"  [{', '.join(cause.clients) if cause.clients != CLIENTS else 'every client'}]" if cause.clients else ""
    lines = [f"{_MARKS[cause.level]} {cause.title}{who}  ({cause.code})"]
    lines.append(f"    seen: {printable(one.seen)}")
    lines.append(f"    why:  {cause.why}")
    for front, text in found.remedies[cause.code].items():
        lines += [f"    {_FRONTS[front]}:", textwrap.indent(text, "        ")]
    return "\n".join(lines)


def _client_text(found: Diagnosis, client: str) -> str:
    trips = found.of_client(client)
    fails = [one.cause.code for one in trips if one.cause.level is Level.FAILS]
    risks = [one.cause.code for one in trips if one.cause.level is Level.RISK]
    verdict = f"fails: {', '.join(fails)}" if fails else "works"
    return f"{client:<11} {verdict}" + (f"; mind: {', '.join(risks)}" if risks else "")
