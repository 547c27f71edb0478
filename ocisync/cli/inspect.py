"""`ocisync inspect`, `tags` and `digest`: looking at images without pulling them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_images
from ocisync.cli.arguments.options import (
    AsJson,
    AuthFile,
    Cache,
    ConfigFile,
    Creds,
    OnePlatform,
    TlsVerify,
    with_access,
)
from ocisync.cli.display.output import printable, show, show_json, show_raw, table
from ocisync.cli.display.signatures import verdict_json, verdict_text
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for what looks at images
    from ocisync.commands.images.inspect import InspectedImage
    from ocisync.config.models import Config
    from ocisync.images.inspect import ImageView, ReferrerView
    from ocisync.sync.judging.acceptance import SignatureVerdict


_Reference = Annotated[str, typer.Argument(help="An image, such as docker://alpine:3.", autocompletion=complete_images)]
_Verify = Annotated[
    str,
    typer.Option(
        "--verify", metavar="POLICY", help="Check signatures: a policy of the configuration, or a public key's file."
    ),
]
_ConfigOrImage = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", help="The configuration. Right before the image, as in skopeo: print the image's own."
    ),
]
_SHOWN = 10_000  # tags that are printed at a time


def inspect(
    context: typer.Context,
    reference: _Reference = "",
    platform: OnePlatform = "",
    verify: _Verify = "",
    raw: Annotated[bool, typer.Option("--raw", help="Print the manifest as it is, byte by byte.")] = False,
    form: Annotated[
        str,
        typer.Option("--format", metavar="TEXT", help="Print fields: '{{.Digest}} {{.Labels.version}}'."),
    ] = "",
    as_json: AsJson = False,
    cache: Cache = None,
    config: _ConfigOrImage = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """Show an image: platforms, sizes, layers, configuration.

    Example: ocisync inspect docker://alpine:3

    Example: ocisync inspect --platform linux/arm64 app.tar

    Example: ocisync inspect --format '{{.Digest}} {{.Architecture}}' docker://alpine:3

    Example: ocisync inspect --config docker://alpine:3

    Example: ocisync inspect --verify cosign.pub docker://ghcr.io/acme/app:1.0

    Example: ocisync inspect --raw docker://alpine:3
    """
    from ocisync.commands.images.inspect import format_fields, inspect_image, read_config, read_raw

    wants_config = not reference and config is not None  # `--config IMAGE`
    image_name = config if not reference and config is not None else reference
    if not image_name:
        raise typer.BadParameter("name an image, such as docker://alpine:3", context, param_hint="REFERENCE")
    file = Path(config) if config and not wants_config else None
    settings = with_access(file, [image_name], creds, tls_verify, authfile)
    if raw or wants_config:
        read = read_config if wants_config else read_raw
        show_raw(run_async(read, image_name, platform, settings, cache))
        return
    image = run_async(inspect_image, image_name, platform, settings, cache)
    if verify:
        image = replace(image, verdict=_check_signatures(image_name, settings, verify))
    if form:
        show(format_fields(form, image))
    elif as_json:
        show_json(_inspected_json(image))
    else:
        show(_inspected_text(image))
    raise typer.Exit(0 if image.verdict is None or image.verdict.is_valid else 1)


def _check_signatures(name: str, settings: Path | Config | None, policy: str) -> SignatureVerdict:
    from ocisync.commands.images.inspect import check_signatures
    from ocisync.commands.images.verify_policy import with_policy

    return run_async(check_signatures, name, with_policy(settings, policy), policy)


def tags(
    reference: Annotated[
        str, typer.Argument(help="A repository, such as docker://ghcr.io/org/app.", autocompletion=complete_images)
    ],
    as_json: AsJson = False,
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """List the tags of a repository or archive.

    Example: ocisync tags docker://ghcr.io/org/app

    Example: ocisync tags app.tar
    """
    from ocisync.commands.images.inspect import list_tags

    name, listed = run_async(list_tags, reference, with_access(config, [reference], creds, tls_verify, authfile))
    if as_json:
        show_json({"name": name, "tags": list(listed)})
        return
    for start in range(0, len(listed), _SHOWN):
        show("".join(f"{printable(tag)}\n" for tag in listed[start : start + _SHOWN]), end="")


def digest(
    reference: Annotated[
        str, typer.Argument(help="An image, such as docker://alpine:3.", autocompletion=complete_images)
    ],
    platform: OnePlatform = "",
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """Print the digest of an image, without pulling it.

    Example: ocisync digest docker://alpine:3

    Example: ocisync digest --platform linux/arm64 docker://alpine:3
    """
    from ocisync.commands.images.inspect import resolve_digest

    show(run_async(resolve_digest, reference, platform, with_access(config, [reference], creds, tls_verify, authfile)))


def _inspected_json(image: InspectedImage) -> dict[str, object]:
    root = image.root
    return {
        "digest": root.root.digest,
        "mediaType": root.manifest.media_type,
        "annotations": dict(root.manifest.annotations or {}),
        "images": [_image_json(one) for one in root.images],
        "missing": [child.digest for child in root.missing],
        "referrers": [_reference_json(reference) for reference in image.references],
        **({"signature": {"valid": image.verdict.is_valid} | verdict_json(image.verdict)} if image.verdict else {}),
    }


def _reference_json(reference: ReferrerView) -> dict[str, object]:
    desc = reference.desc
    found = {"digest": desc.digest, "mediaType": desc.media_type, "size": desc.size, "kind": reference.kind}
    more = {"tag": reference.tag} if reference.tag else {}
    return {**found, "subject": reference.subject, "annotations": dict(desc.annotations), **more}


def _image_json(image: ImageView) -> dict[str, object]:
    return {
        "digest": image.desc.digest,
        "mediaType": image.manifest.media_type,
        "platform": str(image.platform) if image.platform else None,
        "size": image.size,
        "created": image.config.get("created"),
        "config": image.config.get("config"),
        "layers": [
            {"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type, "createdBy": command}
            for layer, command in zip(image.manifest.layers, _commands(image), strict=True)
        ],
    }


def _inspected_text(image: InspectedImage) -> str:
    root = image.root
    parts = [f"{image.name}\n  digest  {root.root.digest}\n  type    {printable(root.manifest.media_type)}"]
    if root.manifest.is_index:
        rows = [("PLATFORM", "SIZE", "LAYERS", "DIGEST")]
        rows += [
            (
                printable(one.platform or "?"),
                size_text(one.size),
                str(len(one.manifest.layers)),
                one.desc.digest,
            )
            for one in root.images
        ]
        parts.append(table(rows))
        parts += [f"missing at the source: {child.digest} {child.platform or ''}" for child in root.missing]
    parts += [_image_text(one) for one in root.images]
    if image.references:
        parts.append(_references_text(image.references))
    if image.verdict is not None:
        parts.append(verdict_text(image.verdict))
    return "\n\n".join(parts)


def _references_text(references: Sequence[ReferrerView]) -> str:
    rows = [("REFERRER", "SIZE", "DIGEST", "OF")]
    rows += [
        (printable(one.kind)[:60], size_text(one.desc.size), one.desc.digest, one.subject[:19]) for one in references
    ]
    return table(rows)


def _image_text(image: ImageView) -> str:
    settings = image.config.get("config")
    lines = [printable(image.platform or "image"), f"  created     {printable(image.config.get('created', '?'))}"]
    if isinstance(settings, Mapping):
        lines += [
            f"  {key.lower():<11} {printable(json.dumps(settings[key]))}"
            for key in ("Entrypoint", "Cmd", "WorkingDir", "User", "Env", "ExposedPorts", "Volumes", "Labels")
            if settings.get(key)
        ]
    rows = [("  LAYER", "SIZE", "CREATED BY")]
    rows += [
        (f"  {layer.digest[:19]}", size_text(layer.size), printable(command)[:100])
        for layer, command in zip(image.manifest.layers, _commands(image), strict=True)
    ]
    return "\n".join([*lines, table(rows)])


def _commands(image: ImageView) -> list[str]:
    """The command that made each layer, where the history tells."""
    history = image.config.get("history")
    entries = [entry for entry in history if isinstance(entry, Mapping)] if isinstance(history, list) else []
    commands = [str(entry.get("created_by", "")) for entry in entries if not entry.get("empty_layer")]
    count = len(image.manifest.layers)
    return commands if len(commands) == count else [""] * count
