"""`ocisync copy` and `ocisync push`: images, now."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from ocisync.cli import run_async
from ocisync.cli.options import (
    CompressionLevel,
    ConfigFile,
    LayerCompression,
    compression_of,
    optional_config,
    start_logging,
)
from ocisync.cli.output import counted, printable, show, size_text, warn
from ocisync.errors import ConfigError

if TYPE_CHECKING:  # the start of other commands does not pay for what copies
    from collections.abc import Callable, Sequence

    from ocisync.content.compress import Compression
    from ocisync.model.locator import Locator
    from ocisync.model.media_type_families import Format
    from ocisync.sync.referrer_set import ReferrerChoice
    from ocisync.sync.reports import Failure, JobReport, TagReport


def add_commands(app: typer.Typer) -> None:
    """Give a command line these commands."""
    app.command()(copy)
    app.command()(push)


def copy(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="What to copy, such as docker://ghcr.io/org/app:1.0 or FILE."),
    ],
    destination: Annotated[str, typer.Argument(help="Where to, such as static:./registry//app:1.0, oci-archive:FILE")],
    every: Annotated[bool, typer.Option("--all", help="Every named image of the source, under its name.")] = False,
    platform: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Only the image for it, such as linux/arm64; given again, a new index of these."),
    ] = None,
    form: Annotated[
        Optional[Literal["oci", "docker"]],  # noqa: UP045
        typer.Option("--format", help="Rewrite manifests in these media types; digests change."),
    ] = None,
    drop_signatures: Annotated[
        bool, typer.Option("--drop-signatures", help="With --format: convert signed images, leaving their signatures.")
    ] = False,
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    referrers: Annotated[
        bool, typer.Option("--referrers", help="With what refers to the image (signatures, SBOMs), and to that.")
    ] = False,
    artifact_type: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--artifact-type", help="With --referrers: only of this type; may be given again."),
    ] = None,
    digest_tags: Annotated[
        bool, typer.Option("--digest-tags", help="With cosign's tags of the image: .sig, .att and .sbom.")
    ] = False,
    include_external: Annotated[
        bool, typer.Option("--include-external", help="Foreign layers too, from their own URLs if need be.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Send everything again, whatever the destination says it has.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Copy images with all their platforms, digests unchanged; several images into one archive."""
    start_logging(context)
    from ocisync.cli.progress import progress
    from ocisync.commands.copy import CopyOptions, copy_sources
    from ocisync.commands.image_names import parse_source
    from ocisync.sync.referrer_set import ReferrerChoice

    choice = ReferrerChoice(referrers or None, tuple(artifact_type or ()), digest_tags)
    options = CopyOptions(choice, include_external, send_again=force)
    packing = compression_of(compression, level)
    views = [_view(parse_source(source), platform or (), form, drop_signatures, packing) for source in sources]
    _check_referrers(choice, form, destination)
    with progress() as shown:
        copying = partial(copy_sources, optional_config(config), shown, packing, every=every)
        copied = run_async(copying, views, destination, options)
    is_piped = destination.partition(":")[2].partition(":")[0] == "-"
    for one in copied:
        _print_result(one.source, one.place, one.report, warn if is_piped else show)
    raise typer.Exit(0 if all(one.report.ok for one in copied) else 1)


def push(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder of archives named OS.ARCH.tar.gz")],
    destination: Annotated[str, typer.Argument(help="A registry: s3://BUCKET?endpoint=URL, static:DIR, docker://HOST")],
    tag: Annotated[list[str], typer.Option("--tag", "-t", help="NAME:TAG to publish as; may be given again.")],
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    config: ConfigFile = None,
) -> None:
    """Publish a folder of archives, one per platform, as one multi-arch image."""
    start_logging(context)
    from ocisync.cli.progress import progress
    from ocisync.commands.copy import push_set, set_in_folder
    from ocisync.model.locator import locate_in

    packing = compression_of(compression, level)
    places = [locate_in(destination, *_name_and_tag(text)) for text in tag]
    source = set_in_folder(folder)
    with progress() as shown:
        reports = run_async(push_set, optional_config(config), shown, packing, source, places)
    for place, report in zip(places, reports, strict=True):
        _print_result(source, place, report)
    raise typer.Exit(0 if all(report.ok for report in reports) else 1)


def _view(
    source: Locator,
    platforms: Sequence[str],
    form: Format | None,
    drop_signatures: bool,
    packing: Compression | None,
) -> Locator:
    """A source as the options want it seen.

    Raises:
        ConfigError: options that contradict each other.
    """
    from ocisync.model.locator import ViewLocator
    from ocisync.model.platform import parse_platform
    from ocisync.model.platform_filter import EVERYTHING, PlatformChoice

    if drop_signatures and form is None:
        raise ConfigError("--drop-signatures goes with --format: without a conversion signatures stay valid")
    if form == "docker" and packing is not None and packing.kind == "zstd":
        raise ConfigError("--compression zstd needs OCI's media types: docker reads no zstd in its own")
    if not platforms and form is None:
        return source
    wanted = tuple(parse_platform(platform) for platform in platforms)
    if len(wanted) > 1:
        return ViewLocator(source, None, form, drop_signatures, PlatformChoice(wanted))
    return ViewLocator(source, wanted[0] if wanted else None, form, drop_signatures, EVERYTHING)


def _check_referrers(choice: ReferrerChoice, form: Format | None, destination: str) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: they do.
    """
    if choice.types and not choice.referrers:
        raise ConfigError("--artifact-type goes with --referrers: it says which of them to take")
    if not (choice.referrers or choice.digest_tags):
        return
    if form is not None:
        raise ConfigError("--format changes digests, so nothing that refers to an image fits: leave one of them out")
    if destination.startswith("docker-archive:"):
        raise ConfigError("a docker-archive holds images only, not what refers to them: write an oci-archive")


def _name_and_tag(text: str) -> tuple[str, str]:
    from ocisync.model.image_name import split_tag

    name, tag = split_tag(text)
    if not name:
        raise ConfigError(f"--tag {text[:100]!r}: expected NAME:TAG, such as team/app:1.0")
    return name, tag or "latest"


def _print_result(source: Locator, place: Locator | str, report: JobReport, tell: Callable[[str], None] = show) -> None:
    """`tell` prints the result: standard output may be taken by the archive itself."""
    if report.failure is not None:
        _print_failure(str(source), place, report.failure)
    for tag in report.failed:
        if tag.failure is not None:
            _print_failure(f"{source} ({tag.tag})", place, tag.failure)
    for warning in report.warnings:
        warn(f"ocisync: {printable(warning)}")
    done = [tag for tag in report.tags if tag.failure is None]
    lines = [f"{_name_of(place, tag, of=len(report.tags))}\n{tag.digest}" for tag in done]
    if done:
        traffic = report.traffic
        sent = f"{counted(traffic.blobs, 'blob')} sent, {traffic.mounted} linked, {traffic.skipped} there already"
        lines.append(f"({sent}, {size_text(traffic.bytes)}, {report.seconds:.1f} s)")
        tell(("\n" if len(done) > 1 else " ").join(lines))


def _print_failure(source: str, place: Locator | str, failure: Failure) -> None:
    text = printable(f"{source} was not copied to {place}: {failure.message}")
    warn(f"ocisync: {text} [{failure.code}]")


def _name_of(place: Locator | str, tag: TagReport, *, of: int) -> str:
    """A place, and which of its images when there are several."""
    from ocisync.commands.image_names import KEEPS_NAMES, with_tag

    if isinstance(place, str) or (isinstance(place, KEEPS_NAMES) and of > 1):
        return printable(f"{place} {tag.tag}")
    return printable(with_tag(place, tag.tag))
