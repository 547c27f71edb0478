"""`ocisync copy` and `ocisync push`: one image, now."""

from __future__ import annotations

import sys
from pathlib import Path

from ocisync.cli.progress import progress
from ocisync.cli.text import size_text
from ocisync.errors import ConfigError
from ocisync.spec.locator import Locator, locate_in, parse_locator
from ocisync.spec.reference import split_tag
from ocisync.sync.reports import JobReport
from ocisync.wiring.copying import copy_to, set_in_folder
from ocisync.wiring.session import optional_session, run_async


def copy_image(source: str, destination: str, config: Path | None) -> int:
    """Copy one image; the exit status."""
    return _copy(parse_locator(source), [parse_locator(destination)], config)


def push_folder(folder: Path, destination: str, tags: list[str], config: Path | None) -> int:
    """Publish a folder's archives as one image under every tag; the exit status."""
    places = [locate_in(destination, *_name_and_tag(tag)) for tag in tags]
    return _copy(set_in_folder(folder), places, config)


def _name_and_tag(text: str) -> tuple[str, str]:
    name, tag = split_tag(text)
    if not name:
        raise ConfigError(f"--tag {text[:100]!r}: expected NAME:TAG, such as team/app:1.0")
    return name, tag or "latest"


def _copy(source: Locator, places: list[Locator], config: Path | None) -> int:
    async def main() -> list[JobReport]:
        with progress() as shown:
            async with optional_session(config, shown) as session:
                return [await copy_to(session, source, place) for place in places]

    reports = run_async(main)
    for place, report in zip(places, reports, strict=True):
        _tell(source, place, report)
    return 0 if all(report.ok for report in reports) else 1


def _tell(source: Locator, place: Locator, report: JobReport) -> None:
    failure = report.worst()
    if failure is not None:
        print(f"ocisync: {source} was not copied to {place}: {failure.message} [{failure.code}]", file=sys.stderr)
        return
    traffic = report.traffic
    sent = f"{traffic.blobs} blobs sent, {traffic.mounted} linked, {traffic.skipped} there already"
    print(f"{place}\n{report.tags[0].digest} ({sent}, {size_text(traffic.bytes)}, {report.seconds:.1f} s)")
