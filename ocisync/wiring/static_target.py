"""A static registry as commands name it: a configured target, a directory, or a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from ocisync.config.models import Config, Keep, RegistryTarget
from ocisync.content.repository import Source
from ocisync.daemon.schedule import Schedule
from ocisync.errors import ConfigError, InvalidName, NotFound
from ocisync.maintenance.gc_files import Collection
from ocisync.maintenance.protocols import MaintainedRegistry
from ocisync.maintenance.retention import KeepPolicy
from ocisync.model.image_name import parse_name, split_tag
from ocisync.model.locator import S3Locator, StaticLocator, parse_locator
from ocisync.stores.static.options import DAY
from ocisync.stores.static.registry import StaticRegistry
from ocisync.sync.job import Job
from ocisync.wiring.catalog_rules import expanded
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.session import Session, optional_session

_ANY = "any"  # a repository's name, where a locator needs one and a registry is meant


@dataclass(frozen=True, slots=True)
class RegistryScope:
    """A registry, and the repository in it that a command is about ("" for all)."""

    session: Session
    label: str  # the target's name, or the locator
    static: StaticRegistry
    repository: str = ""
    grace: float = DAY  # seconds
    limit: float = 0.5
    policy: KeepPolicy | None = None

    @property
    def registry(self) -> MaintainedRegistry:
        """The whole registry."""
        return self.static.audit()

    @property
    def journal(self) -> Path:
        """Where what is collected is written down."""
        safe = "".join(char if char.isalnum() or char in "-_." else "-" for char in self.label)
        return self.session.config.daemon.state / "gc" / f"{safe}.jsonl"

    @asynccontextmanager
    async def origins(self, repository: str) -> AsyncIterator[Sequence[Source]]:
        """The sources of the rules that fill a repository."""
        jobs = await _all_jobs(self.session)
        filling = [job for job in jobs if (job.target.target, job.target.repository) == (self.label, repository)]
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.session.stores.source(job.source)) for job in filling]


async def _all_jobs(session: Session) -> list[Job]:
    """The jobs of all sync rules, found as when they run."""
    jobs: list[Job] = []
    for rule in session.config.sync:
        schedule = Schedule(rule.name, tuple(sync_jobs(rule, session.config)), rule.interval)
        jobs.extend((await expanded(schedule, session)).jobs)
    return jobs


@asynccontextmanager
async def open_scope(text: str, config: Path | None) -> AsyncIterator[RegistryScope]:
    """What `TARGET[/NAME]`, `static:DIR[//NAME]` or `s3://BUCKET[/NAME]?…` means.

    Raises:
        ConfigError: there is no such target, or it is no static registry.
        NotFound: there is no such folder or repository.
    """
    async with optional_session(config) as session:
        if text.startswith(("static:", "s3:")):
            place = await _located(session, text)
        else:
            name, _, repository = text.partition("/")
            place = await target_scope(session, name, repository)
        if place.repository and not [one async for one in place.registry.list_repositories(place.repository)]:
            told = f"{place.label}: there is no repository {place.repository}"
            raise NotFound(f"{told}; `ocisync ls {place.label}` lists those that are there")
        yield place


async def target_scope(session: Session, name: str, repository: str = "") -> RegistryScope:
    """A configured target; raises as `open_scope` does."""
    if not session.config.targets:
        raise ConfigError(
            f"{name[:100]!r} is looked for among the targets of a configuration: name one with --config, or write "
            "static:DIR or s3://BUCKET?endpoint=URL"
        )
    static = await session.stores.static_registry(name)
    settings = session.config.targets[name]
    repository = _repository(repository)
    policy = keep_policy(session.config, name)
    if isinstance(settings, RegistryTarget):
        raise ConfigError(f"{name}: not a static registry")
    return RegistryScope(session, name, static, repository, settings.grace, settings.limit, policy)


def keep_policy(config: Config, target: str) -> KeepPolicy | None:
    """What a target's `keep` says."""
    settings = config.targets[target]
    keep: Keep | None = None if isinstance(settings, RegistryTarget) else settings.keep
    if keep is None:
        return None
    return KeepPolicy(keep.newest or 0, keep.newer_than or 0.0, keep.tags, keep.repositories)


async def _located(session: Session, text: str) -> RegistryScope:
    whole, repository = _split(text)
    locator = parse_locator(whole)
    if not isinstance(locator, StaticLocator | S3Locator):
        raise InvalidName(f"{text[:200]!r} is no static registry")
    if isinstance(locator, StaticLocator) and not await anyio.Path(locator.directory).is_dir():
        raise NotFound(f"{locator.directory}: there is no such folder; name the one that holds `v2`")
    label = whole.replace(f"//{_ANY}", "") if isinstance(locator, StaticLocator) else f"s3://{locator.bucket}"
    return RegistryScope(session, label, await session.stores.static_registry_of(locator), _repository(repository))


def _split(text: str) -> tuple[str, str]:
    """A locator of a registry with a repository's name in it, and the repository that the text named.

    Raises:
        InvalidName: it names no directory or bucket.
    """
    if text.startswith("static:"):
        directory, slashes, image = text.removeprefix("static:").rpartition("//")
        directory, image = (directory, image) if slashes else (image, "")
        if not directory:
            raise InvalidName(f"{text[:200]} needs the form static:DIR[//NAME]")
        return f"static:{directory}//{_ANY}", image
    address, question, query = text.partition("?")
    bucket, _, image = address.removeprefix("s3://").partition("/")
    if not bucket or not address.startswith("s3://"):
        raise InvalidName(f"{address[:200]} needs the form s3://BUCKET[/NAME]?endpoint=URL")
    return f"s3://{bucket}/{_ANY}{question}{query}", image


def _repository(text: str) -> str:
    """A repository's name, or nothing.

    Raises:
        InvalidName: it is none, or has a tag.
    """
    name, tag = split_tag(text) if text else ("", "")
    if tag:
        raise InvalidName(f"{text[:200]!r}: this is about whole repositories: leave out the tag")
    return parse_name(name) if name else ""


def collection_of(place: RegistryScope) -> Collection:
    """A place's collection with its own settings."""
    return Collection(place.registry, place.label, place.grace, place.limit, place.journal)
