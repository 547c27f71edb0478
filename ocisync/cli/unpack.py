"""`ocisync unpack`: an image to a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from ocisync.cli.formatting import counted, printable, size_text
from ocisync.cli.progress import progress
from ocisync.commands.image_names import parse_source
from ocisync.commands.unpack import Unpacked, unpack_options, unpack_to
from ocisync.wiring.session import optional_session, run_async


def unpack_image(
    source: str, folder: Path, platform: str, cache: Path | None, rootless: bool, config: Path | None
) -> None:
    """Unpack an image and say what was done."""
    locator = parse_source(source)

    async def main() -> Unpacked:
        with progress() as shown:
            async with optional_session(config, shown) as session:
                options = unpack_options(session, rootless=rootless)
                return await unpack_to(session, locator, folder, platform, cache, options)

    done = run_async(main)
    for warning in done.warnings:
        print(f"ocisync: {printable(warning)}", file=sys.stderr)
    fetched = f"{counted(done.fetched.blobs, 'blob')} fetched, {size_text(done.fetched.bytes)}"
    print(f"{folder}\n{done.digest} ({counted(done.layers, 'layer')}, {fetched})")
