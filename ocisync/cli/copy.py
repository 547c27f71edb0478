"""`ocisync copy` and `ocisync push`: images, now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_images
from ocisync.cli.arguments.options import (
    AuthFile,
    Cache,
    CompressionLevel,
    ConfigFile,
    Creds,
    LayerCompression,
    Quiet,
    TlsVerify,
    compression_of,
    with_access,
    with_access_of,
)
from ocisync.cli.display.output import counted, printable, show, warn
from ocisync.errors import ConfigError
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for what copies
    from collections.abc import Callable, Sequence

    from ocisync.commands.images.copy import Copied, PlannedCopy
    from ocisync.config.models import Config
    from ocisync.model.locator import Locator
    from ocisync.model.media_type_families import Format
    from ocisync.sync.judging.acceptance import Acceptance
    from ocisync.sync.referrers.referrer_set import ReferrerChoice
    from ocisync.sync.reports import Failure, JobReport, TagReport


_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="What to copy, such as docker://ghcr.io/org/app:1.0 or FILE.",
        autocompletion=complete_images,
    ),
]
_Place = Annotated[
    str,
    typer.Argument(
        help="Where to, such as static:./registry//app:1.0 or oci-archive:FILE.", autocompletion=complete_images
    ),
]
_All = Annotated[bool, typer.Option("--all", help="Copy every named image of the source, under its name.")]
_Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", help="Only this platform, such as linux/arm64; repeat it for a new index of several."),
]
_Format = Annotated[
    Literal["oci", "docker"] | None,
    typer.Option("--format", help="Convert to these media types; digests change."),
]
_DropSignatures = Annotated[
    bool, typer.Option("--drop-signatures", help="With --format: convert signed images too, without their signatures.")
]
_Referrers = Annotated[
    bool,
    typer.Option("--referrers", help="Also copy what refers to the image, such as signatures and SBOMs."),
]
_Types = Annotated[
    list[str] | None,
    typer.Option("--artifact-type", help="With --referrers: only this type; may be repeated."),
]
_DigestTags = Annotated[
    bool, typer.Option("--digest-tags", help="Also copy cosign's tags of the image: .sig, .att and .sbom.")
]
_External = Annotated[
    bool, typer.Option("--include-external", help="Copy foreign layers too, from their own URLs if necessary.")
]
_Verify = Annotated[
    str,
    typer.Option(
        "--verify",
        metavar="POLICY",
        help="Copy only what is signed so: a policy of the configuration, or a public key's file.",
    ),
]
_Force = Annotated[bool, typer.Option("--force", help="Send everything again, even what the destination has.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be copied, and copy nothing.")]
_SourceCreds = Annotated[str, typer.Option("--src-creds", metavar="USER:PASSWORD", help="As --creds, at the source.")]
_PlaceCreds = Annotated[
    str, typer.Option("--dest-creds", metavar="USER:PASSWORD", help="As --creds, at the destination.")
]
_SourceTls = Annotated[
    Literal["true", "false"] | None,
    typer.Option("--src-tls-verify", help="As --tls-verify, at the source."),
]
_PlaceTls = Annotated[
    Literal["true", "false"] | None,
    typer.Option("--dest-tls-verify", help="As --tls-verify, at the destination."),
]


def copy(
    sources: _Sources,
    destination: _Place,
    every: _All = False,
    platform: _Platforms = None,
    form: _Format = None,
    drop_signatures: _DropSignatures = False,
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    referrers: _Referrers = False,
    artifact_type: _Types = None,
    digest_tags: _DigestTags = False,
    include_external: _External = False,
    verify: _Verify = "",
    force: _Force = False,
    cache: Cache = None,
    dry_run: _DryRun = False,
    quiet: Quiet = False,
    creds: Creds = "",
    src_creds: _SourceCreds = "",
    dest_creds: _PlaceCreds = "",
    tls_verify: TlsVerify = None,
    src_tls_verify: _SourceTls = None,
    dest_tls_verify: _PlaceTls = None,
    authfile: AuthFile = None,
    config: ConfigFile = None,
) -> None:
    """Copy images with all their platforms, digests unchanged; several images into one archive.

    Example: ocisync copy docker://alpine:3 static:./registry//alpine:3

    Example: ocisync copy app.tar docker://registry.example.com/team/app:1.0

    Example: ocisync copy docker://alpine:3 docker://busybox:1 oci-archive:base.tar

    Example: ocisync copy --verify cosign.pub docker://ghcr.io/acme/app:1.0 static:./registry//app:1.0

    Example: ocisync copy --dry-run --platform linux/arm64 docker://ghcr.io/org/app:1.0 oci:./layout
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.images.copy import CopyOptions, copy_sources, plan_copies, view_source
    from ocisync.commands.images.names import complete_destination, parse_source
    from ocisync.sync.referrers.referrer_set import ReferrerChoice

    destination = complete_destination(destination)
    choice = ReferrerChoice(referrers or None, tuple(artifact_type or ()), digest_tags)
    acceptance = _demand(verify, destination)
    options = CopyOptions(choice, include_external, send_again=force, cache=cache, acceptance=acceptance)
    packing = compression_of(compression, level)
    views = [view_source(parse_source(source), platform or (), form, drop_signatures, packing) for source in sources]
    _check_referrers(choice, form, destination)
    _check_cache(cache, choice, every)
    ours = (sources, src_creds or creds, src_tls_verify or tls_verify)
    theirs = ([destination], dest_creds or creds, dest_tls_verify or tls_verify)
    settings = _with_policy(with_access_of(config, ours, theirs, authfile), verify, cache)
    if dry_run:
        raise typer.Exit(_print_plan(run_async(plan_copies, settings, views, destination, every)))
    with progress(quiet) as shown:
        copied = run_async(partial(copy_sources, every=every), settings, shown, packing, views, destination, options)
    raise typer.Exit(_print_results(copied, destination, quiet))


def _print_results(copied: Sequence[Copied], destination: str, quiet: bool) -> int:
    """Say what was copied; the exit status."""
    is_piped = destination.partition(":")[2].partition(":")[0] == "-"
    tell = _ignore if quiet else warn if is_piped else show
    for one in copied:
        _print_result(one.source, one.place, one.report, tell)
    return 0 if all(one.report.ok and not one.report.withheld for one in copied) else 1


def _demand(policy: str, destination: str) -> Acceptance | None:
    """What images must fulfil; their signatures come along to where there is a place for them."""
    from ocisync.sync.judging.acceptance import Acceptance

    return Acceptance((policy,), brings_signatures=not destination.startswith("docker-archive:")) if policy else None


def _with_policy(settings: Path | Config | None, policy: str, cache: Path | None) -> Path | Config | None:
    """The configuration in which the policy is known.

    Raises:
        ConfigError: there is none of that name, or a cache is to be used, which has no signatures.
    """
    if not policy:
        return settings
    if cache is not None:
        raise ConfigError("--verify reads signatures at the source, not in a cache: leave one of the two out")
    from ocisync.commands.images.verify_policy import with_policy

    return with_policy(settings, policy)


def push(
    folder: Annotated[Path, typer.Argument(help="A folder of archives named OS.ARCH.tar.gz.")],
    destination: Annotated[str, typer.Argument(help="A registry: s3://BUCKET?endpoint=URL, static:DIR, docker://HOST")],
    tag: Annotated[list[str], typer.Option("--tag", "-t", help="Publish as NAME:TAG; may be repeated.")],
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    config: ConfigFile = None,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
    quiet: Quiet = False,
) -> None:
    """Publish a folder of archives, one per platform, as one multi-platform image.

    Example: ocisync push ./build static:./registry --tag team/app:1.0 --tag team/app:latest
    """
    from ocisync.cli.display.progress import progress
    from ocisync.commands.images.copy import push_set, set_in_folder
    from ocisync.model.locator import locate_in

    packing = compression_of(compression, level)
    places = [locate_in(destination, *_name_and_tag(text)) for text in tag]
    found = set_in_folder(folder)
    for name, reason in found.skipped.items():
        warn(f"ocisync: {printable(f'{folder}/{name}')} is skipped: {reason}")
    settings = with_access(config, [destination], creds, tls_verify, authfile)
    with progress(quiet) as shown:
        reports = run_async(push_set, settings, shown, packing, found.source, places)
    for place, report in zip(places, reports, strict=True):
        _print_result(found.source, place, report, _ignore if quiet else show)
    raise typer.Exit(0 if all(report.ok for report in reports) else 1)


def _print_plan(plans: Sequence[PlannedCopy]) -> int:
    for plan in plans:
        if plan.failure is not None:
            _print_failure(str(plan.source), plan.place, plan.failure)
            continue
        images = f"{counted(plan.images, 'image')}, {counted(plan.blobs, 'blob')}, {size_text(plan.bytes)}"
        show(f"would copy {printable(plan.source)} to {printable(plan.place)}\n{plan.digest} ({images} at most)")
    return 1 if any(plan.failure for plan in plans) else 0


def _check_cache(cache: Path | None, choice: ReferrerChoice, every: bool) -> None:
    if cache is not None and (every or choice.referrers or choice.digest_tags):
        raise ConfigError("--cache is for single images: leave out --all, --referrers and --digest-tags")


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


def _print_result(source: Locator, place: Locator | str, report: JobReport, tell: Callable[[str], None]) -> None:
    """`tell` prints the result: standard output may be taken by the archive itself."""
    if report.failure is not None:
        _print_failure(str(source), place, report.failure)
    for tag in report.tags:
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


def _ignore(text: str) -> None:
    """Print nothing."""
    del text


def _print_failure(source: str, place: Locator | str, failure: Failure) -> None:
    text = printable(f"{source} was not copied to {place}: {failure.message}")
    warn(f"ocisync: {text} [{failure.code}]")


def _name_of(place: Locator | str, tag: TagReport, *, of: int) -> str:
    """A place, and which of its images when there are several."""
    from ocisync.commands.images.names import KEEPS_NAMES, with_tag

    if isinstance(place, str) or (isinstance(place, KEEPS_NAMES) and of > 1):
        return printable(f"{place} {tag.tag}")
    return printable(with_tag(place, tag.tag))
