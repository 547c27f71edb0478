"""A static registry as commands name it: a configured target, a directory, or a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from ocisync.content.repository import Source
from ocisync.daemon.schedule import Schedule
from ocisync.errors import ConfigError, InvalidName, NotFound
from ocisync.maintenance.tasks import MaintainedTarget
from ocisync.model.image_name import parse_name, split_tag
from ocisync.model.registry_root import DirectoryRoot, parse_root
from ocisync.stores.static.options import DAY, StaticOptions
from ocisync.sync.job import Job
from ocisync.wiring.catalog_rules import expand_rule
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import journal_of, maintained_target
from ocisync.wiring.session import Session, optional_session


@dataclass(frozen=True, slots=True)
class RegistryScope:
    """A registry, and the repository in it that a command is about ("" for all)."""

    session: Session
    target: MaintainedTarget
    options: StaticOptions
    repository: str = ""

    @asynccontextmanager
    async def origins(self, repository: str) -> AsyncIterator[Sequence[Source]]:
        """The sources of the rules that fill a repository."""
        jobs = await _all_jobs(self.session)
        filling = [job for job in jobs if (job.target.target, job.target.repository) == (self.target.name, repository)]
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.session.stores.source(job.source)) for job in filling]


async def _all_jobs(session: Session) -> list[Job]:
    """The jobs of all sync rules, found as when they run."""
    jobs: list[Job] = []
    for rule in session.config.sync:
        schedule = Schedule(rule.name, tuple(sync_jobs(rule, session.config)), rule.shortest_interval)
        jobs.extend(job for job in (await expand_rule(schedule, session)).jobs if isinstance(job, Job))
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
            scope = await _scope_at(session, text)
        else:
            scope = await _configured_scope(session, text)
        await _check_repository(scope)
        yield scope


async def _configured_scope(session: Session, text: str) -> RegistryScope:
    name, _, repository = text.partition("/")
    if not session.config.targets:
        raise ConfigError(
            f"{name[:100]!r} is looked for among the targets of a configuration: name one with --config, or write "
            "static:DIR or s3://BUCKET?endpoint=URL"
        )
    target = await maintained_target(session, name)
    static = await session.stores.static_registry(name)
    return RegistryScope(session, target, static.options, _repository(repository))


async def _scope_at(session: Session, text: str) -> RegistryScope:
    root, repository = parse_root(text)
    if isinstance(root, DirectoryRoot) and not await anyio.Path(root.directory).is_dir():
        raise NotFound(f"{root.directory}: there is no such folder; name the one that holds `v2`")
    if name := await session.stores.target_at(root):
        return await _configured_scope(session, f"{name}/{repository}")
    static = await session.stores.static_registry_at(root)
    journal = journal_of(session.config, str(root))
    target = MaintainedTarget(str(root), static.audit(), grace=DAY, limit=0.5, policy=None, journal=journal)
    return RegistryScope(session, target, static.options, _repository(repository))


async def _check_repository(scope: RegistryScope) -> None:
    if scope.repository:
        async for _ in scope.target.registry.list_repositories(scope.repository):
            return
        name = scope.target.name
        raise NotFound(
            f"{name}: there is no repository {scope.repository}; `ocisync ls {name}` lists those that are there"
        )


def _repository(text: str) -> str:
    """A repository's name, or nothing.

    Raises:
        InvalidName: it is none, or has a tag.
    """
    name, tag = split_tag(text) if text else ("", "")
    if tag:
        raise InvalidName(f"{text[:200]!r}: this is about whole repositories: leave out the tag")
    return parse_name(name) if name else ""
