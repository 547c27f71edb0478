"""What static targets keep beside images, and how they are looked after."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ocisync.config.fields import Duration, Items, Pattern, Section
from ocisync.config.parsers import SECONDS

_DAY = SECONDS["d"]


class Keep(Section):
    """Which tags stay; a tag that none of these keeps is removed."""

    newest: int | None = Field(None, ge=1, description="Keep this many of the newest tags of each repository.")
    newer_than: Duration | None = Field(None, gt=0, description="Tags that were published within this time stay.")
    tags: Items[Pattern] = Field((), description="Tags that one of these expressions matches stay.")
    repositories: Items[Pattern] = Field(
        (),
        description="Only tags of repositories that one of these expressions matches are removed. Not given: of all.",
    )
    every: Duration = Field(_DAY, ge=1, description="How often the daemon removes what is not kept.")


class MaintenanceOptions(Section):
    """The part that static targets of every kind share."""

    referrers: bool = Field(
        True,
        description="Keep a list of referrers for every manifest; `false`: keep none, and remove those that are there.",
    )
    catalog: bool = Field(True, description="Keep `v2/_catalog`, the list of repositories; `false`: remove it.")
    order: Literal["lexical", "newest"] = Field(
        "lexical", description="The order of tags/list: as the specification says, or the newest first."
    )
    reconcile: Duration | None = Field(
        None,
        ge=1,
        description="How often the daemon rebuilds all lists, for targets that other tools write to. Not given: never.",
    )
    keep: Keep | None = Field(None, description="Which tags stay; the daemon removes the others. Not given: all stay.")
    gc: Duration | None = Field(
        None, ge=1, description="How often the daemon removes what no tag reaches. Not given: never."
    )
    grace: Duration = Field(
        _DAY,
        ge=1,
        description="Content that is younger is never removed; use the same value for all writers of a target.",
    )
    limit: float = Field(
        0.5, gt=0, le=1, description="The largest share of all objects, or tags, that may be removed at one time."
    )
