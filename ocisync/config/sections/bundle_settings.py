"""The section `bundle`, and `bundles` of drop rules: for sites without a network."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ocisync.config.fields import (
    CronFields,
    Duration,
    FilePath,
    FolderPath,
    Items,
    Label,
    Secret,
    Section,
    Size,
    TimeZone,
)
from ocisync.config.sections.selection import Rename
from ocisync.model.cron import Cron

_SMALLEST = 1024 * 1024  # bytes


class BundleRule(Section):
    """A bundle of what sync rules mirror, written into an outbox by schedule."""

    name: Label = Field(min_length=1, description="What the bundles are called: `NAME-0001.tar`.")
    rules: Items[Label] = Field(min_length=1, description="The sync rules whose images they hold.")
    outbox: FolderPath = Field(description="The folder that they are written to; made when it is not there.")
    enabled: bool = Field(True, description="Whether the rule runs; `false` keeps it in the file without running it.")
    base: Literal["last", "receipt", "first", "none"] = Field(
        "last",
        description="What a bundle builds on: the last one written; the newest of `receipts`; the last full one, so "
        "that each brings all since then; nothing, so that each is full.",
    )
    receipts: FolderPath | None = Field(
        None, description="With `base: receipt`: where receipts that were carried back are put."
    )
    full_every: int | None = Field(
        None, ge=1, description="One of so many bundles is a full one. Not given: only the first."
    )
    volume: Size | None = Field(None, description="The size of a volume, such as 4480MiB. Not given: one volume.")
    key: FilePath | None = Field(
        None, description="The private key (PEM) that signs them. Not given: they are not signed."
    )
    key_password: Secret | None = Field(None, description="The password of the key.")
    interval: Duration = Field(86400.0, ge=0.1, description="How long to wait from one bundle's start to the next's.")
    schedule: CronFields | None = Field(
        None, description='When to write one, in place of `interval`: five fields as in crontab, such as "30 3 * * *".'
    )
    time_zone: TimeZone = Field(
        default_factory=lambda: UTC,
        description="The zone whose clocks `schedule` follows.",
        json_schema_extra={"default": "UTC"},
    )

    @field_validator("volume")
    @classmethod
    def _check_volume(cls, value: int | None) -> int | None:
        if value is not None and value < _SMALLEST:
            raise ValueError("a volume cannot be that small. Write 1MiB or more, or remove it")
        return value

    @property
    def cron(self) -> Cron | None:
        """When it runs by the calendar, where it does."""
        return Cron(self.schedule, self.time_zone) if self.schedule else None


class BundleInbox(Section):
    """How a drop rule takes the bundles that are put into its folder."""

    trust: Items[FilePath] = Field(
        (), description="Public keys (PEM): only bundles that one of them signed are taken. Not given: any bundle."
    )
    rename: Rename = Field(Rename(), description="What repositories and tags are called at the target.")
    prune: bool = Field(False, description="Remove tags that are gone at the source.")
    whole_images_only: bool = Field(False, description="Publish the images that are complete even if others are not.")
    receipts: FolderPath | None = Field(
        None, description="Where a receipt of each bundle is written. Not given: a folder in the daemon's state."
    )

    def receipts_in(self, state: Path, rule: str) -> Path:
        """Where the receipts of a rule are."""
        return self.receipts or state / "receipts" / rule
