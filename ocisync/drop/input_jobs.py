"""The jobs that publish an input, and what they publish. Pure but for asking an archive for its names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from ocisync.drop.inputs import Input
from ocisync.drop.naming import SingleArchive, check_name
from ocisync.drop.rule import ArchiveReader, DropRule
from ocisync.errors import InputError, InvalidName, OcisyncError
from ocisync.model.image_name import find_own_repository, is_tag, names_digest_only, parse_image_name, parse_name
from ocisync.model.locator import ArchiveLocator, LayoutLocator, Locator, SetLocator, SetMember, TargetLocator
from ocisync.sync.job import Job
from ocisync.sync.select import TagSelection


def source_of(dropped: Input) -> Locator:
    """What an input's jobs copy from."""
    return _set_locator(dropped) if dropped.is_set else _archive_locator(dropped)


@dataclass(frozen=True, slots=True)
class InputJobs:
    """What is to be done about an input."""

    jobs: list[Job]  # one per target repository
    warnings: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()  # images of the archive that nothing names, as `@N`


async def jobs_of(dropped: Input, rule: DropRule, archives: ArchiveReader) -> InputJobs:
    """The jobs that publish an input.

    Raises:
        ArchiveError: the archive cannot be read.
        InputError: `name.missing`: neither the archive nor its path names the image.
        InvalidName: a name in the archive breaks the grammar.
    """
    if dropped.refusal is not None:
        raise dropped.refusal
    if dropped.is_set:
        return InputJobs(_jobs(rule, _set_locator(dropped), {dropped.name: {dropped.tag: ""}}))
    locator = _archive_locator(dropped)
    references = await archives.names(locator)
    wanted, warnings = repositories_of(dropped, references)
    return InputJobs(_jobs(rule, locator, wanted), warnings, unnamed_images(references))


def published_by(jobs: Sequence[Job]) -> tuple[str, ...]:
    """target/repository:tag of everything that jobs publish."""
    return tuple(f"{job.lock_name}:{tag}" for job in jobs for tag in job.tags.literal or ())


def without_names(jobs: Sequence[Job], names: Collection[str]) -> list[Job]:
    """The jobs without some of the names that they would publish; those that have none left are gone."""
    kept = []
    for job in jobs:
        literal = {
            tag: reference
            for tag, reference in (job.tags.literal or {}).items()
            if f"{job.lock_name}:{tag}" not in names
        }
        if literal:
            kept.append(replace(job, tags=replace(job.tags, literal=literal)))
    return kept


def repositories_of(dropped: Input, references: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Repository -> target tag -> the archive's reference, and warnings; raises as `jobs_of` does."""
    path = dropped.members[0].entry.relative
    default = SingleArchive(dropped.name, dropped.tag)
    wanted: dict[str, dict[str, str]] = {}
    warnings: list[str] = []
    refused: list[OcisyncError] = []
    named = [reference for reference in references if not _is_unnamed(reference)]
    for reference in named or references or [""]:
        try:
            name, tag = _choose_name(path, reference, default)
        except (InputError, InvalidName) as exc:
            refused.append(exc)
            continue
        taken = wanted.setdefault(name, {}).setdefault(tag, reference)
        if taken == reference:
            continue
        if _is_unnamed(taken) or _is_unnamed(reference):
            raise InputError(f"{path}: several of its images have no name; save each under a name", code="name.missing")
        warnings.append(f"{path}: {reference} and {taken} would both become {name}:{tag}; {taken} is published")
    if refused and not wanted:
        if len(named) > 1 or not default.default_name or isinstance(refused[0], InvalidName):
            raise refused[0]
        name, tag = check_name(path, default)  # a digest is no name: as where there is none, the path tells it
        return {name: {tag: named[0]}}, []
    warnings += [f"{exc.message}; the archive's other names are used" for exc in refused]
    warnings += [
        f"{path}: its image {reference} has no name to be published by, and is left out: save it under a name"
        for reference in unnamed_images(references)
    ]
    return wanted, warnings


def unnamed_images(references: Sequence[str]) -> tuple[str, ...]:
    """The images that are not published, because nothing names them while others have names."""
    unnamed = tuple(reference for reference in references if _is_unnamed(reference))
    return unnamed if len(unnamed) < len(references) else ()


def _choose_name(path: str, reference: str, default: SingleArchive) -> tuple[str, str]:
    """The name without its host, and the tag, under which a reference is published."""
    if _is_unnamed(reference) or is_tag(reference):
        name, tag = check_name(path, default)
        return name, tag if _is_unnamed(reference) else reference
    try:
        image = parse_image_name(reference)
    except InvalidName as exc:
        told = f"{path}: the archive calls an image {reference[:200]!r}, which cannot be a name"
        raise InvalidName(f"{told}: {exc.message}; save it under another") from exc
    if names_digest_only(image):
        raise InputError(f"{path}: {reference[:200]!r} names a digest; save the image with a tag", code="name.missing")
    return find_own_repository(reference), image.tag or "latest"


def _is_unnamed(reference: str) -> bool:
    return not reference or reference.startswith("@")


def _archive_locator(dropped: Input) -> ArchiveLocator | LayoutLocator:
    entry = dropped.members[0].entry
    return LayoutLocator(entry.path) if entry.is_folder else ArchiveLocator(entry.path, identity=entry.identity)


def _set_locator(dropped: Input) -> SetLocator:
    members = ((member.platform, member.entry) for member in dropped.members)
    return SetLocator(
        tuple(SetMember(platform, entry.path, entry.identity) for platform, entry in members if platform is not None)
    )


def _jobs(rule: DropRule, source: Locator, wanted: dict[str, dict[str, str]]) -> list[Job]:
    return [
        Job(
            rule.name,
            source,
            TargetLocator(target.target, parse_name(target.repository(name))),
            TagSelection(literal=tags),
            acceptance=rule.acceptance,
        )
        for target in rule.targets
        for name, tags in wanted.items()
    ]
