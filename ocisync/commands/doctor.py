"""`doctor`: examine a published registry over the network."""

from __future__ import annotations

from pathlib import Path

from ocisync.doctor.diagnosis import Diagnosis, examine, parse_address
from ocisync.doctor.http_probe import open_probe


async def diagnose(url: str, ca: Path | None = None) -> Diagnosis:
    """Examine a registry from outside.

    Raises:
        InvalidName: not a URL that can be examined.
        ConfigError: the file of authorities cannot be used.
    """
    address = parse_address(url)
    async with open_probe(ca) as probe:
        return await examine(probe, address)
