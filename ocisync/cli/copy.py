"""`ocisync copy` and `ocisync push`: images, now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ocisync.cli.formatting import counted, printable, size_text
from ocisync.cli.progress import progress
from ocisync.commands.copy import Copied, CopyOptions, copy_all, copy_images, copy_to, set_in_folder
from ocisync.commands.image_names import KEEPS_NAMES, parse_source, tagged
from ocisync.content.compress import Compression, Kind
from ocisync.errors import ConfigError
from ocisync.model.image_name import split_tag
from ocisync.model.locator import Locator, ViewLocator, locate_in, parse_locator
from ocisync.model.media_type_families import Format
from ocisync.model.platform import parse_platform
from ocisync.sync.referrer_set import ReferrerChoice
from ocisync.sync.reports import JobReport, TagReport
from ocisync.wiring.session import optional_session, run_async


@dataclass(frozen=True, slots=True)
class CopyArguments:
    """What `copy` was told beside where from and where to."""

    every: bool = False
    platform: str = ""
    format: Format | None = None
    drop_signatures: bool = False
    compression: Compression | None = None  # of docker-archives' layers that come uncompressed
    referrers: bool = False
    artifact_types: Sequence[str] = ()
    digest_tags: bool = False
    include_external: bool = False
    force: bool = False

    @property
    def extent(self) -> CopyOptions:
        """How far the copy goes.

        Raises:
            ConfigError: options that contradict each other.
        """
        if self.artifact_types and not self.referrers:
            raise ConfigError("--artifact-type goes with --referrers: it says which of them to take")
        if (self.referrers or self.digest_tags) and self.format is not None:
            raise ConfigError(
                "--format changes digests, so nothing that refers to an image fits: leave one of them out"
            )
        choice = ReferrerChoice(self.referrers or None, tuple(self.artifact_types), self.digest_tags)
        return CopyOptions(choice, self.include_external, self.force)

    def seen(self, source: Locator) -> Locator:
        """A source as the options want it seen."""
        if self.drop_signatures and self.format is None:
            raise ConfigError("--drop-signatures goes with --format: without a conversion signatures stay valid")
        if self.format == "docker" and self.compression is not None and self.compression.kind == "zstd":
            raise ConfigError("--compression zstd needs OCI's media types: docker reads no zstd in its own")
        if not self.platform and self.format is None:
            return source
        platform = parse_platform(self.platform) if self.platform else None
        return ViewLocator(source, platform, self.format, self.drop_signatures)


def copy_command(sources: Sequence[str], destination: str, options: CopyArguments, config: Path | None) -> int:
    """Copy images to one place; the exit status."""
    places = [options.seen(parse_source(source)) for source in sources]
    if options.every and len(places) > 1:
        raise ConfigError("--all takes one source; copy the others by further calls")

    extent = options.extent
    if (options.referrers or options.digest_tags) and destination.startswith("docker-archive:"):
        raise ConfigError("a docker-archive holds images only, not what refers to them: write an oci-archive")

    async def main() -> list[Copied]:
        with progress() as shown:
            async with optional_session(config, shown, options.compression) as session:
                if options.every:
                    return await copy_all(session, places[0], destination, extent)
                return await copy_images(session, places, parse_locator(destination), extent)

    copied = run_async(main)
    for one in copied:
        _print_result(one.source, one.place, one.report)
    return 0 if all(one.report.ok for one in copied) else 1


def compression_of(kind: Kind | None, level: int | None) -> Compression | None:
    """What was asked for; None when nothing was. Raises ConfigError where the kind has no such level."""
    return None if kind is None and level is None else Compression(kind or "gzip", level)


def push_folder(
    folder: Path, destination: str, tags: list[str], config: Path | None, compression: Compression | None = None
) -> int:
    """Publish a folder's archives as one image under every tag; the exit status."""
    places = [locate_in(destination, *_name_and_tag(tag)) for tag in tags]
    source = set_in_folder(folder)

    async def main() -> list[JobReport]:
        with progress() as shown:
            async with optional_session(config, shown, compression) as session:
                return [await copy_to(session, source, place) for place in places]

    reports = run_async(main)
    for place, report in zip(places, reports, strict=True):
        _print_result(source, place, report)
    return 0 if all(report.ok for report in reports) else 1


def _name_and_tag(text: str) -> tuple[str, str]:
    name, tag = split_tag(text)
    if not name:
        raise ConfigError(f"--tag {text[:100]!r}: expected NAME:TAG, such as team/app:1.0")
    return name, tag or "latest"


def _print_result(source: Locator, place: Locator | str, report: JobReport) -> None:
    if report.failure is not None:
        _print_failures(str(source), place, report.failure.message, report.failure.code)
    for tag in report.failed:
        if tag.failure is not None:
            _print_failures(f"{source} ({tag.tag})", place, tag.failure.message, tag.failure.code)
    done = [tag for tag in report.tags if tag.failure is None]
    for tag in done:
        print(f"{_shown(place, tag, of=len(report.tags))}\n{tag.digest}", end="\n" if len(done) > 1 else " ")
    if done:
        traffic = report.traffic
        sent = f"{counted(traffic.blobs, 'blob')} sent, {traffic.mounted} linked, {traffic.skipped} there already"
        print(f"({sent}, {size_text(traffic.bytes)}, {report.seconds:.1f} s)")


def _print_failures(source: str, place: Locator | str, message: str, code: str) -> None:
    print(f"ocisync: {printable(f'{source} was not copied to {place}: {message}')} [{code}]", file=sys.stderr)


def _shown(place: Locator | str, tag: TagReport, *, of: int) -> str:
    """A place, and which of its images when there are several."""
    if isinstance(place, str) or (isinstance(place, KEEPS_NAMES) and of > 1):
        return printable(f"{place} {tag.tag}")
    return printable(tagged(place, tag.tag))
