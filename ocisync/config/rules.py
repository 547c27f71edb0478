"""The sections `drop` and `sync`: what is brought to which target, and when."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Literal

from pydantic import Field

from ocisync.config.kinds import (
    CronFields,
    Duration,
    FolderPath,
    Items,
    Label,
    Layout,
    Pattern,
    PlatformName,
    Retention,
    Section,
    Source,
    TargetReference,
    Targets,
    TimeZone,
)
from ocisync.config.units import SECONDS
from ocisync.config.writing import Writing
from ocisync.spec.cron import Cron


class Incomplete(Section):
    """What becomes of a set that stays without a declared platform."""

    after: Duration = Field(description="How long after a file last joined the set.")
    action: Literal["warn", "publish", "fail"] = Field(
        "warn",
        description="`warn` says so and waits on, `publish` takes what is there, `fail` puts the files to the failed.",
    )


class DropRule(Section):
    """A folder to watch: archives put there are published."""

    name: Label = Field("", description="The rule's name in logs, metrics and commands. Not given: the folder's name.")
    path: FolderPath = Field(description="The folder to watch; made when it is not there.")
    target: Targets = Field(
        description="Where to publish: a target's name or a list of them. A path after it goes before every repository."
    )
    enabled: bool = Field(True, description="Whether the rule runs; `false` keeps it in the file without running it.")
    layout: Layout = Field(
        "{name}/{tag}/{os}.{arch}",
        description="How the files of a set are named, without .tar, .tar.gz or .tgz. `{name}` may span folders.",
    )
    platforms: Items[PlatformName] = Field(
        (), description="The platforms a set must have before it is published. Not given: those there after `settle`."
    )
    incomplete: Incomplete | None = Field(
        None, description="What becomes of a set that stays without one of `platforms`. Not given: it waits, for ever."
    )
    settle: Duration = Field(
        10.0, description="A set without declared `platforms` is published when no file joined it for this long."
    )
    stable: Duration = Field(
        2.0, description="A file is taken when its size and time of change stayed the same for this long."
    )
    rescan: Duration = Field(
        60.0, ge=0.1, description="How often the whole folder is read, whatever the system's notifications told."
    )
    done: Literal["keep", "move", "delete"] = Field(
        "keep", description="What becomes of published files: left in place, moved to `done_folder`, or deleted."
    )
    done_folder: FolderPath | None = Field(
        None, description="Where `done: move` puts published files. Not given: `done` inside `path`."
    )
    failed_folder: FolderPath | None = Field(
        None, description="Where bad files are put, each with its reason beside it. Not given: `failed` inside `path`."
    )
    keep_done: Retention = Field(
        7 * SECONDS["d"], description="How long files stay in the folder of published ones; or `forever`."
    )
    keep_failed: Retention = Field(
        30 * SECONDS["d"], description="How long files stay in the folder of bad ones; or `forever`."
    )
    format: Literal["oci", "docker"] = Field("oci", description="The media types of images made from docker archives.")
    compression: Literal["gzip", "zstd", "none"] = Field(
        "gzip", description="How uncompressed layers of archives are compressed; `zstd` needs `format: oci`."
    )
    level: int | None = Field(
        None, ge=1, le=19, description="How hard to compress: gzip 1 to 12, zstd 1 to 19. Not given: a fast one."
    )

    @property
    def done_path(self) -> Path:
        """Where `done: move` puts files."""
        return self.done_folder or self.path / "done"

    @property
    def failed_path(self) -> Path:
        """Where bad files go."""
        return self.failed_folder or self.path / "failed"


class TagRules(Section):
    """Expressions that must match a whole tag; Python's syntax."""

    allow: Items[Pattern] = Field((), description="Only tags that one of these expressions matches. Not given: all.")
    deny: Items[Pattern] = Field((), description="Not those that one of these matches, whatever `allow` says.")


class SyncRule(Writing):
    """A repository to mirror from a registry."""

    name: Label = Field(
        "", description="The rule's name in logs, metrics and commands. Not given: the last part of the source's name."
    )
    source: Source = Field(
        description="The repository to copy from, as docker names it: `ghcr.io/org/app`. With a tag: only that one."
    )
    target: Targets = Field(
        description="Where to copy to: a target's name or a list of them. A path after it is the repository there; "
        "without one it is named as at the source."
    )
    format: Literal["oci", "docker"] | None = Field(
        None, description="Rewrite images in these media types, which changes digests. Not given: as they are."
    )
    drop_signatures: bool = Field(
        False, description="With `format`: convert signed images too, and leave their signatures behind."
    )
    tags: TagRules = Field(TagRules(), description="Which tags to copy. Not given: all.")
    enabled: bool = Field(True, description="Whether the rule runs; `false` keeps it in the file without running it.")
    interval: Duration = Field(3600.0, ge=0.1, description="How long to wait from one run's start to the next one's.")
    jitter: float = Field(
        0.1, ge=0, le=1, description="The share of `interval` by which a start is moved at random, so rules spread out."
    )
    schedule: CronFields | None = Field(
        None,
        description='When to run, in place of `interval`: five fields as in crontab, such as "30 3 * * *", or @daily.',
    )
    time_zone: TimeZone = Field(
        default_factory=lambda: UTC,
        description="The zone whose clocks `schedule` follows.",
        json_schema_extra={"default": "UTC"},
    )
    recheck: Duration = Field(
        86400.0,
        description="How long a verified image is trusted to be whole before all of it is looked up again.",
    )

    @property
    def cron(self) -> Cron | None:
        """When it runs by the calendar, where it does."""
        return Cron(self.schedule, self.time_zone) if self.schedule else None

    @property
    def places(self) -> tuple[TargetReference, ...]:
        """The targets, each with the repository's name there."""
        name = self.source.repository
        return tuple(TargetReference(one.target, one.repository or name) for one in self.target)
