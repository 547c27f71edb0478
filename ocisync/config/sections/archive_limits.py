"""The section `archives`: how much archives and layers may hold."""

from __future__ import annotations

from pydantic import Field

from ocisync.config.fields import Section, Size
from ocisync.config.parsers import BYTES


class ArchiveLimits(Section):
    """What is beyond these is taken for an attack, and refused."""

    size: Size = Field(
        64 * BYTES["GiB"], gt=0, description="The most bytes that an archive or a layer may have when decompressed."
    )
    ratio: int = Field(
        1000, ge=2, description="How many times larger than compressed it may be; counted from 64 MiB on."
    )
    members: int = Field(500_000, ge=1, description="The most files, folders and links in an archive or a layer.")
