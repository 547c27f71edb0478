"""`ocisync bundle create`, `diff`, `inspect` and `apply`: what changed at a mirror, for a site without a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import AsJson, ConfigFile, Quiet, config_file, optional_config
from ocisync.cli.display.output import counted, printable, show, show_json, table, warn
from ocisync.errors import ConfigError
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for bundles
    from ocisync.bundles.compare import Difference
    from ocisync.bundles.create_bundle import Created
    from ocisync.bundles.inventory import BundleInventory
    from ocisync.commands.bundle import AppliedBundle, Inspected
    from ocisync.sync.reports import JobReport, TagReport

_SHOWN = 50  # lines

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Files of a bundle, a folder of them, or the beginning of their names."),
]
Trust = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust", metavar="FILE", help="A public key (PEM): only bundles signed with it are accepted; may be repeated."
    ),
]


def create(
    rules: Annotated[
        list[str], typer.Argument(metavar="RULE...", help="The sync rules whose images go into the bundle.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write it to.")],
    base: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the other side has: an inventory (.bundle.json) or a receipt."),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The size of a volume, such as 4480MiB. Default: one volume."),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The bundle's name. Default: its base's, or its rule's.")
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign it with this private key (PEM); $OCISYNC_KEY_PASSWORD unlocks it."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write what rules would mirror into volumes: all of it, or what is new since a base.

    Example: ocisync bundle create app -o /media/usb --volume 4480MiB --key signing.pem

    Example: ocisync bundle create app -o /media/usb --base app-0006.receipt.json
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.bundle import CreateOptions
    from ocisync.commands.bundle import create as create_bundle
    from ocisync.config.load import load_config

    password = os.environ.get("OCISYNC_KEY_PASSWORD")
    options = CreateOptions(output, name, base, _parse_volume(volume), key, password)
    with progress(quiet or as_json) as shown:
        created = run_async(create_bundle, load_config(config_file(config)), rules, options, shown)
    if as_json:
        show_json(_created_json(created, output))
    else:
        for report in created.reports:
            _print_failures(report)
        if not quiet:
            show(_created_text(created, output))
    raise typer.Exit(0 if created.ok else 1)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="An inventory (.bundle.json) or a receipt.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show what is in B and not in A, which a site that has A would need.

    Example: ocisync bundle diff app-0006.bundle.json app-0007.bundle.json
    """
    from dataclasses import asdict

    from ocisync.commands.bundle import diff as find_difference

    found = run_async(find_difference, before, after)
    show_json(asdict(found)) if as_json else show(_difference_text(found))


def inspect(
    paths: Paths,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and check it.")] = False,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle holds, what it builds on and what is missing; exit 1 when it is not whole.

    Example: ocisync bundle inspect /media/usb/app-0007 --deep --trust signing.pub
    """
    from ocisync.commands.bundle import inspect as inspect_bundles

    async def run() -> list[Inspected]:
        return await inspect_bundles(paths, trust or (), deep=deep)

    found = run_async(run)
    if as_json:
        show_json([_inspected_json(one) for one in found])
    else:
        show("\n\n".join(map(_inspected_text, found)))
    raise typer.Exit(1 if any(one.missing for one in found) else 0)


def apply(
    paths: Paths,
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", metavar="TARGET[/PREFIX]", help="A target of the configuration, or static:DIR, s3://…"
        ),
    ],
    rename: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="New names: a YAML file with strip_prefix, repositories and tags."),
    ] = None,
    trust: Trust = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove tags that are gone at the source.")] = False,
    whole_images_only: Annotated[
        bool, typer.Option("--whole-images-only", help="Publish the images that are complete even if others are not.")
    ] = False,
    staging: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Collect volumes from several media here; apply when all are there."),
    ] = None,
    receipts: Annotated[Path, typer.Option("--receipts", metavar="DIR", help="The folder for the receipt.")] = Path(),
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Apply it even if a later bundle was applied before.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of a bundle, see that every image will be whole, and only then publish.

    Example: ocisync bundle apply /media/usb/app-0007* --target inner --trust signing.pub --prune

    Example: ocisync bundle apply /media/usb --target static:/srv/registry --staging /var/tmp/bundles
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.bundle import ApplyRequest
    from ocisync.commands.bundle import apply as apply_bundles

    request = ApplyRequest(
        target, rename, trust or (), prune, whole_images_only, staging, receipts, may_be_older=allow_older
    )
    with progress(quiet or as_json) as shown:
        done = run_async(apply_bundles, optional_config(config), paths, request, shown)
    if as_json:
        show_json([_applied_json(one) for one in done])
    else:
        for one in done:
            _print_applied(one, quiet=quiet)
    raise typer.Exit(0 if all(one.ok for one in done) else 1)


def _parse_volume(text: str | None) -> int:
    from ocisync.bundles.volume_layout import SMALLEST_VOLUME
    from ocisync.config.parsers import parse_size

    if text is None:
        return 0
    try:
        size = parse_size(text)
    except ValueError as exc:
        raise ConfigError(f"--volume: {exc}") from exc
    if size < SMALLEST_VOLUME:
        raise ConfigError(f"--volume {text}: the least is 1MiB")
    return size


def _print_failures(report: JobReport) -> None:
    if report.failure is not None:
        warn(f"{report.rule}: {report.source}: {printable(report.failure.message)} [{report.failure.code}]")
    for tag in report.failed:
        if tag.failure is not None:
            warn(f"{_image(report, tag)}: {printable(tag.failure.message)} [{tag.failure.code}]")
    for warning in report.warnings:
        warn(f"{report.rule}: warning: {printable(warning)}")


def _created_text(created: Created, output: Path) -> str:
    inventory = created.inventory
    if inventory is None:
        return "nothing has changed since the base: no bundle was written"
    lines = [f"{output / name}" for name in inventory.file_names]
    shown = lines if len(lines) <= _SHOWN else [lines[0], "…", lines[-1]]
    base = f", on the base of {inventory.base.id}" if inventory.base else ""
    counts = f"{counted(len(inventory.images), 'image')}, {counted(created.fresh, 'new blob')}"
    gone = f", {counted(len(inventory.removed), 'removed tag')}" if inventory.removed else ""
    resumed = " (what was there already was taken over)" if created.is_resumed else ""
    return "\n".join([*shown, f"{inventory.id}{resumed}: {counts}, {size_text(created.bytes)}{gone}{base}"])


def _created_json(created: Created, output: Path) -> dict[str, object]:
    inventory = created.inventory
    failures = [failure for report in created.reports for failure in _list_failures(report)]
    found: dict[str, object] = {"ok": created.ok, "failed": failures, "resumed": created.is_resumed}
    if inventory is None:
        return found | {"id": None}
    return found | _inventory_json(inventory) | {"files": [str(output / name) for name in inventory.file_names]}


def _inventory_json(inventory: BundleInventory) -> dict[str, object]:
    count, size = inventory.blobs.count_carried()
    return {
        "id": inventory.id,
        "kind": inventory.kind,
        "base": inventory.base.id if inventory.base else None,
        "images": [{"name": str(image), "digest": image.digest} for image in inventory.images],
        "removed": [f"{one.name}:{one.tag}" for one in inventory.removed],
        "volumes": inventory.file_names if inventory.volumes else [],
        "blobs": len(inventory.blobs),
        "newBlobs": count,
        "newBytes": size,
    }


def _difference_text(found: Difference) -> str:
    if found.is_empty:
        return "nothing differs"
    rows = [("", "IMAGE", "DIGEST")]
    rows += [("new", name, digest) for name, digest in found.added.items()]
    rows += [("moved", name, f"{before[:19]} -> {after[:19]}") for name, (before, after) in found.moved.items()]
    rows += [("gone", name, digest) for name, digest in found.removed.items()]
    rows += [("referrers", name, "") for name in found.referrers]
    return f"{table(rows)}\n{counted(found.blobs, 'new blob')}, {size_text(found.bytes)}"


def _inspected_text(one: Inspected) -> str:
    inventory = one.opened.inventory
    count, size = inventory.blobs.count_carried()
    counts = f"{counted(len(inventory.images), 'image')}, {counted(len(inventory.volumes), 'volume')}"
    counts += f", {counted(count, 'new blob')}, {size_text(size)}"
    lines = [
        f"{inventory.id}: {counts}",
        f"builds on {inventory.base.id}" if inventory.base else "builds on nothing: it is full",
    ]
    lines += ["signed by a trusted key"] if one.is_signed else []
    lines += ["every byte is as it should be"] if one.is_verified else []
    lines += [f"MISSING: {name}" for name in one.missing]
    images = [f"  {image}  {image.digest}" for image in inventory.images[:_SHOWN]]
    more = len(inventory.images) - _SHOWN
    images += [f"  … and {more} more; --json tells all"] if more > 0 else []
    gone = [f"  {one.name}:{one.tag}  removed" for one in inventory.removed[:_SHOWN]]
    return "\n".join([*lines, *images, *gone])


def _inspected_json(one: Inspected) -> dict[str, object]:
    return {
        **_inventory_json(one.opened.inventory),
        "missing": one.missing,
        "signed": one.is_signed,
        "verified": one.is_verified,
    }


def _print_applied(one: AppliedBundle, *, quiet: bool) -> None:
    applied = one.applied
    if applied is None:
        if not quiet:
            show(f"{one.id}: applied before, and a later one since: left alone")
        return
    for report in applied.reports:
        _print_failures(report)
    if applied.lacking:
        warn(f"{applied.inventory.id}: left out: {printable(applied.lacking)}")
    if quiet:
        return
    copied = sum(len(report.tags) - len(report.failed) for report in applied.reports)
    gone = f", {counted(len(applied.removed), 'tag')} removed" if applied.removed else ""
    show(f"{applied.inventory.id}: {copied} published, {applied.unchanged} there already{gone}")
    show(f"the receipt is {one.receipt}: carry it back, it is the best base of the next bundle")


def _applied_json(one: AppliedBundle) -> dict[str, object]:
    applied = one.applied
    if applied is None:
        return {"ok": True, "id": one.id, "appliedBefore": True}
    return {
        "ok": applied.ok,
        "id": applied.inventory.id,
        "published": [_image(report, tag) for report in applied.reports for tag in report.tags if tag.failure is None],
        "unchanged": applied.unchanged,
        "removed": applied.removed,
        "lacking": applied.lacking,
        "failed": [failure for report in applied.reports for failure in _list_failures(report)],
        "receipt": str(one.receipt),
    }


def _image(report: JobReport, tag: TagReport) -> str:
    return f"{report.target.removeprefix('target:')}:{tag.tag}"


def _list_failures(report: JobReport) -> Iterator[dict[str, str]]:
    """What failed, for machines."""
    for tag in report.failed:
        if tag.failure is not None:
            yield {"image": _image(report, tag), "code": tag.failure.code, "message": tag.failure.message}
    if report.failure is not None:
        yield {"image": report.source, "code": report.failure.code, "message": report.failure.message}
