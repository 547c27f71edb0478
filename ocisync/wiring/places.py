"""A static registry as commands name it: a configured target, a directory, or a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ocisync.config.models import Config, Keep, RegistryTarget
from ocisync.content.auditing import AuditedRegistry
from ocisync.content.protocols import Source
from ocisync.daemon.schedule import Schedule
from ocisync.errors import ConfigError, InvalidName
from ocisync.spec.locator import S3Locator, StaticLocator, parse_locator
from ocisync.spec.reference import parse_name, parse_tag, split_tag
from ocisync.stores.static.options import DAY
from ocisync.stores.static.target import StaticRegistry
from ocisync.sync.audit_retention import KeepPolicy
from ocisync.sync.job import Job
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.registries import expanded
from ocisync.wiring.session import Session, optional_session

_ANY = "any"  # a repository's name, where a locator needs one and a registry is meant


@dataclass(frozen=True, slots=True)
class Place:
    """A registry, and the repository in it that a command is about ("" for all)."""

    session: Session
    label: str  # the target's name, or the locator
    static: StaticRegistry
    repository: str = ""
    tag: str = ""
    grace: float = DAY  # seconds
    limit: float = 0.5
    policy: KeepPolicy | None = None

    @property
    def registry(self) -> AuditedRegistry:
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
async def open_place(text: str, config: Path | None) -> AsyncIterator[Place]:
    """What `TARGET[/NAME[:TAG]]`, `static:DIR[//NAME[:TAG]]` or `s3://BUCKET[/NAME[:TAG]]?…` means.

    Raises:
        ConfigError: there is no such target, or it is no static registry.
    """
    async with optional_session(config) as session:
        if text.startswith(("static:", "s3:")):
            yield await _located(session, text)
        else:
            name, _, image = text.partition("/")
            yield await target_place(session, name, image)


async def target_place(session: Session, name: str, image: str = "") -> Place:
    """A configured target; raises as `open_place` does."""
    if not session.config.targets:
        raise ConfigError(
            f"{name[:100]!r} is looked for among the targets of a configuration: name one with --config, or write "
            "static:DIR or s3://BUCKET?endpoint=URL"
        )
    static = await session.stores.static_registry(name)
    settings = session.config.targets[name]
    repository, tag = _image(image)
    policy = keep_policy(session.config, name)
    if isinstance(settings, RegistryTarget):
        raise ConfigError(f"{name}: not a static registry")
    return Place(session, name, static, repository, tag, settings.grace, settings.limit, policy)


def keep_policy(config: Config, target: str) -> KeepPolicy | None:
    """What a target's `keep` says."""
    settings = config.targets[target]
    keep: Keep | None = None if isinstance(settings, RegistryTarget) else settings.keep
    if keep is None:
        return None
    return KeepPolicy(keep.newest or 0, keep.newer_than or 0.0, keep.tags, keep.repositories)


async def _located(session: Session, text: str) -> Place:
    whole, image = _split(text)
    locator = parse_locator(whole)
    if not isinstance(locator, StaticLocator | S3Locator):
        raise InvalidName(f"{text[:200]!r} is no static registry")
    label = whole.replace(f"//{_ANY}", "") if isinstance(locator, StaticLocator) else f"s3://{locator.bucket}"
    return Place(session, label, await session.stores.static_registry_of(locator), *_image(image))


def _split(text: str) -> tuple[str, str]:
    """A locator of a registry with a repository's name in it, and the image that the text named."""
    if text.startswith("static:"):
        directory, slashes, image = text.removeprefix("static:").rpartition("//")
        return (f"static:{directory}//{_ANY}", image) if slashes else (f"static:{image}//{_ANY}", "")
    address, question, query = text.partition("?")
    bucket, _, image = address.removeprefix("s3://").partition("/")
    return f"s3://{bucket}/{_ANY}{question}{query}", image


def _image(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    name, tag = split_tag(text)
    return parse_name(name), parse_tag(tag) if tag else ""
