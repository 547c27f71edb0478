"""What a static registry keeps beside manifests and blobs, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY = 24 * 3600.0  # seconds

TagOrder = Literal["lexical", "newest"]


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """One registry's switches."""

    referrers: bool = True  # a list of referrers for every manifest; all of them or none
    catalog: bool = True
    page: bool = False  # index.html, a page to browse the registry
    order: TagOrder = "lexical"  # of tags/list
    grace: float = DAY  # seconds; younger content is never collected, and what is reused is refreshed at half of it
