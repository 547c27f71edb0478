"""The sections `drop` and `sync`: what is brought to which target, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from ocisync.config.fields import (
    CronFields,
    Duration,
    FolderPath,
    Items,
    Label,
    Layout,
    PlatformName,
    Retention,
    Section,
    Size,
    TargetReference,
    Targets,
    TimeZone,
    check_duration,
    check_target,
    context_of,
    parse_name_text,
    parse_references,
)
from ocisync.config.parsers import DURATION_PATTERN, SECONDS, parse_duration, parse_source, parse_source_registry
from ocisync.config.sections.bundle_settings import BundleInbox
from ocisync.config.sections.referrer_options import ReferrerOptions
from ocisync.config.sections.selection import Digests, NameRules, Rename, TagRules
from ocisync.config.sections.tag_policy import TagPolicy
from ocisync.config.sections.verify_policies import TrustOptions, VerifyOption
from ocisync.config.validation_context import describe
from ocisync.errors import InvalidName
from ocisync.model.cron import Cron
from ocisync.model.image_name import ImageName, parse_name, parse_tag
from ocisync.model.locator import TargetLocator
from ocisync.model.name_mapping import NAME, REPOSITORY, TAG, Placing
from ocisync.model.place_name import PlaceName

SHORTEST_INTERVAL = 0.1  # seconds
_REGISTRY, _IMAGE = "registry", "image"


def _parse_source_field(value: object, info: ValidationInfo) -> object:
    if isinstance(value, ImageName):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected an image's name, found {describe(value)}")  # noqa: TRY004
    kind = info.data.get("type")
    if kind == _REGISTRY:
        return parse_name_text(parse_source_registry, value)
    context = context_of(info)
    found = parse_name_text(lambda text: parse_source(text, digests=kind == _IMAGE, folder=context.folder), value)
    if isinstance(found, PlaceName) and isinstance(found.place, TargetLocator):
        check_target(found.place.target, info)
    return found


def _parse_place(name: str, rest: str) -> TargetReference:
    """A target's name and templates of a repository and a tag."""
    repository, colon, tag = rest.partition(":")
    example = repository.replace(REPOSITORY, "x").replace(NAME, "x")
    unknown = re.search(r"[{}]", example + tag.replace(TAG, "x"))
    if unknown:
        raise ValueError(f"{rest[:100]!r}: the placeholders are {REPOSITORY}, {NAME} and, after a colon, {TAG}")
    if repository:
        parse_name_text(parse_name, example)
    if colon:
        parse_name_text(parse_tag, tag.replace(TAG, "x"))
    return TargetReference(name, repository, tag)


def _parse_places(value: object, info: ValidationInfo) -> object:
    return parse_references(value, info, _parse_place)


_TEXT = {"type": "string", "minLength": 1}
_PLACES_SCHEMA = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True}]}
SyncSource = Annotated[ImageName, BeforeValidator(_parse_source_field), WithJsonSchema(_TEXT)]
Places = Annotated[tuple[TargetReference, ...], BeforeValidator(_parse_places), WithJsonSchema(_PLACES_SCHEMA)]


class IncompleteSettings(Section):
    """What becomes of a set that still lacks a declared platform."""

    after: Duration = Field(description="How long after the last file was added to the set.")
    action: Literal["warn", "publish", "fail"] = Field(
        "warn",
        description="`warn` logs it and waits, `publish` takes what is there, `fail` moves the files to `failed`.",
    )


class DropRuleSettings(VerifyOption):
    """A folder to watch: archives put there are published."""

    name: Label = Field("", description="The rule's name in logs, metrics and commands. Not given: the folder's name.")
    path: FolderPath = Field(description="The folder to watch; made when it is not there.")
    target: Targets = Field(
        description="Where to publish: a target's name or a list of them. A path after it goes before every repository."
    )
    enabled: bool = Field(True, description="Whether the rule runs; `false` keeps it in the file without running it.")
    label: Label | None = Field(
        None,
        description="With several daemons: only those with this label in `engine.labels` watch the folder. "
        "Not given: one of them does, whichever, so all must have the folder.",
    )
    layout: Layout = Field(
        "{name}/{tag}/{os}.{arch}",
        description="How the files of a set are named, without .tar, .tar.gz or .tgz. `{name}` may span folders.",
    )
    platforms: Items[PlatformName] = Field(
        (), description="The platforms a set must have before it is published. Not given: those there after `settle`."
    )
    incomplete: IncompleteSettings | None = Field(
        None, description="What becomes of a set that still lacks one of `platforms`. Not given: it waits without end."
    )
    settle: Duration = Field(
        10.0, description="A set without declared `platforms` is published when no file was added for this long."
    )
    stable: Duration = Field(
        2.0, description="A file is read when its size and modification time have not changed for this long."
    )
    rescan: Duration = Field(
        60.0, ge=0.1, description="How often the whole folder is read, in addition to the system's notifications."
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
    bundles: BundleInbox | None = Field(
        None,
        description="Take the bundles (`ocisync bundle`) that are put into the folder. Not given: bundles are ignored.",
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


@dataclass(frozen=True, slots=True)
class IntervalRange:
    """An interval that follows how often something changes; seconds."""

    min: float
    max: float


def _parse_interval(value: object) -> object:
    if not isinstance(value, dict):
        return _check_interval(check_duration(value))
    if value.keys() != {"min", "max"} or not all(isinstance(one, str) for one in value.values()):
        raise ValueError("expected a duration, or two. Write 1h, or {min: 5m, max: 6h}")
    shortest, longest = _check_interval(parse_duration(value["min"])), parse_duration(value["max"])
    if longest < shortest:
        raise ValueError("`max` is shorter than `min`. Write the longer one as `max`")
    return IntervalRange(shortest, longest)


def _check_interval(seconds: float) -> float:
    if seconds < SHORTEST_INTERVAL:
        raise ValueError(f"{seconds:g}s is out of range. Write at least 100ms")
    return seconds


Interval = Annotated[
    float | IntervalRange,
    BeforeValidator(_parse_interval),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": DURATION_PATTERN},
                {
                    "type": "object",
                    "properties": {
                        "min": {"type": "string", "pattern": DURATION_PATTERN},
                        "max": {"type": "string", "pattern": DURATION_PATTERN},
                    },
                    "required": ["min", "max"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class SyncRule(TagPolicy, ReferrerOptions, TrustOptions):
    """A repository, an image or a whole registry to mirror."""

    name: Label = Field(
        "", description="The rule's name in logs, metrics and commands. Not given: the last part of the source's name."
    )
    type: Literal["repository", "registry", "image"] = Field(
        "repository", description="What `source` is: a repository, a registry with all of its own, or one image."
    )
    source: SyncSource = Field(
        description="The repository to copy from, as docker names it: `ghcr.io/org/app`. With a tag: only that one. "
        "With `type: registry` a host, with `type: image` a tag or a digest. Other places as on the command line: "
        "`static:DIR//NAME`, `s3://BUCKET/NAME?…`, `target:NAME/REPOSITORY`, `oci:DIR`, `oci-archive:FILE`."
    )
    repositories: NameRules = Field(
        NameRules(), description="With `type: registry`: which repositories to copy. Not given: all."
    )
    rename: Rename = Field(Rename(), description="What repositories and tags are called at the target.")
    target: Places = Field(
        description="Where to copy to: a target's name or a list of them. A path after it is the repository there, "
        "`{repository}` and `{name}` in it stand for the source's; without one it is named as at the source. "
        "`:{tag}-x` after the path names tags."
    )
    format: Literal["oci", "docker"] | None = Field(
        None, description="Rewrite images in these media types, which changes digests. Not given: as they are."
    )
    drop_signatures: bool = Field(
        False, description="With `format`: convert signed images too, and leave their signatures behind."
    )
    tags: TagRules = Field(TagRules(), description="Which tags to copy. Not given: all.")
    tag_sets: Items[TagRules] = Field((), description="More tags to copy: a tag is copied when any set matches it.")
    digests: Digests = Field(
        default_factory=dict,
        description="Images to copy by their digests: a mapping of tags to them, or a list, which get digest-… tags.",
    )
    platforms: Items[PlatformName] = Field(
        (), description="Only the images for these platforms of a multi-platform one. Not given: all."
    )
    attestations: Literal["matching", "all", "none"] = Field(
        "matching",
        description="Which attestations (entries for unknown/unknown) of an index: those about images that are copied.",
    )
    rewrite_index: bool | None = Field(
        None,
        description="With `platforms` and a registry as target: `true` makes a new index, whose digest differs; "
        "`false` pushes the source's, which most registries refuse.",
    )
    max_size: Size | None = Field(None, description="Leave out tags whose image needs more than this to be pulled.")
    enabled: bool = Field(True, description="Whether the rule runs; `false` keeps it in the file without running it.")
    interval: Interval = Field(
        3600.0,
        description="How long to wait from one run's start to the next one's. `{min: 5m, max: 6h}`: the wait "
        "grows while nothing changes; a change, or a webhook, starts again with `min`.",
    )
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

    @field_validator("max_size")
    @classmethod
    def _check_size(cls, value: int | None) -> int | None:
        if value is not None and value <= 0:
            raise ValueError("no image can be that small. Write a size such as 2GiB, or remove it")
        return value

    @model_validator(mode="after")
    def _check_places(self) -> SyncRule:
        try:
            if self.type != "registry":
                self.places_of(self.source.repository)
        except InvalidName as exc:
            raise ValueError(f"`target` and `rename` together make no repository's name: {exc.message}") from exc
        return self

    @property
    def shortest_interval(self) -> float:
        """Seconds from one run to the next while something changes."""
        return self.interval.min if isinstance(self.interval, IntervalRange) else self.interval

    @property
    def longest_interval(self) -> float:
        """Seconds from one run to the next when nothing has changed for long."""
        return self.interval.max if isinstance(self.interval, IntervalRange) else self.interval

    @property
    def cron(self) -> Cron | None:
        """When it runs by the calendar, where it does."""
        return Cron(self.schedule, self.time_zone) if self.schedule else None

    @property
    def places(self) -> tuple[TargetReference, ...]:
        """The targets, each with the repository's name there."""
        return self.places_of(self.source.repository)

    def places_of(self, repository: str) -> tuple[TargetReference, ...]:
        """Where a repository of the source goes.

        Raises:
            InvalidName: it would get a name that no repository can have.
        """
        found = []
        for one in self.target:
            if one.repository and "{" not in one.repository:  # the same name whatever the source is called
                found.append(TargetReference(one.target, parse_name(one.repository), one.tag))
                continue
            placing = Placing(one.repository or REPOSITORY, self.rename.strip_prefix, self.rename.repositories)
            found.append(TargetReference(one.target, placing.apply(repository), one.tag))
        return tuple(found)


_REGISTRY, _IMAGE = "registry", "image"
