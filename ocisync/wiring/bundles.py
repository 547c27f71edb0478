"""What bundles need of a configuration: the jobs of rules, places at targets, keys, and new names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ocisync.bundles.inventory import check_bundle_name
from ocisync.config.diagnostics import make_config_error
from ocisync.config.load import read_text
from ocisync.config.messages import explain
from ocisync.config.sections.selection import Rename
from ocisync.config.validation_context import Context
from ocisync.config.yaml_document import SyntaxProblem, parse_document
from ocisync.daemon.schedule import Schedule
from ocisync.errors import ConfigError
from ocisync.model.image_name import parse_name
from ocisync.model.locator import TargetLocator, locate_in
from ocisync.model.name_mapping import Placing, Renaming
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.wiring.catalog_rules import expand_rule
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.session import Session

if TYPE_CHECKING:
    from ocisync.bundles.bundle_files import Check, Signer

_MAX_KEY = 64 * 1024  # bytes
_ROOTS = ("static:", "s3:", "docker:")


@dataclass(slots=True)
class BundledJobs:
    """What the rules of a bundle would mirror."""

    jobs: list[Job] = field(default_factory=list)
    reports: list[JobReport] = field(default_factory=list)  # of catalogs that could not be read


async def find_bundled_jobs(session: Session, rules: Sequence[str]) -> BundledJobs:
    """The jobs of sync rules; of a rule with several targets those for the first.

    Raises:
        ConfigError: a name is no sync rule's.
    """
    known = {rule.name: rule for rule in session.config.sync}
    if unknown := [name for name in rules if name not in known]:
        raise ConfigError(f"no sync rule is named {', '.join(unknown)}; known are {', '.join(sorted(known)) or 'none'}")
    found = BundledJobs()
    for name in dict.fromkeys(rules):
        rule = known[name]
        schedule = Schedule(rule.name, tuple(sync_jobs(rule, session.config)), rule.shortest_interval)
        expansion = await expand_rule(schedule, session)
        jobs = [job for job in expansion.jobs if isinstance(job, Job)]
        found.jobs += [job for job in jobs if not job.shares or job.shares[0] == job.lock_name]
        found.reports += expansion.reports
    return found


def name_of_bundle(given: str, rules: Sequence[str], base: str) -> str:
    """What a bundle is called: as it was given, else as its base, else as its only rule.

    Raises:
        ConfigError: it has several rules and no name, or bundles cannot be called so.
    """
    name = given or base or (rules[0] if len(rules) == 1 else "")
    if not name:
        raise ConfigError("a bundle of several rules needs a name: give --name")
    if base and name != base:
        raise ConfigError(f"the base is a bundle of {base}, not of {name}: a delta has the name of its base")
    return check_bundle_name(name)


def place_at(session: Session, text: str, rename: Rename) -> Callable[[str], TargetLocator]:
    """Where a repository of a bundle goes: `TARGET[/PREFIX]` of the configuration, `static:DIR`, `s3://…`, `docker://…`.

    Raises:
        ConfigError: there is no such target.
    """
    placing = Placing(strip=rename.strip_prefix, substitutions=rename.repositories)
    if text.startswith(_ROOTS):
        return lambda name: session.stores.as_target(locate_in(text, placing.apply(name), "latest"))
    target, _, prefix = text.partition("/")
    if target not in session.config.targets:
        known = ", ".join(sorted(session.config.targets)) or "none"
        raise ConfigError(f"no target is named {target[:100]!r}; known are {known}")

    def place(name: str) -> TargetLocator:
        return TargetLocator(target, parse_name(f"{prefix}/{placing.apply(name)}" if prefix else placing.apply(name)))

    return place


def tag_renaming(rename: Rename) -> Callable[[str], str]:
    """What tags are called at the target."""
    return Renaming(rename.tags).apply


def load_renaming(file: Path | None) -> Rename:
    """New names from a file of its own: `strip_prefix`, `repositories` and `tags`, as in a sync rule's `rename`.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    if file is None:
        return Rename()
    try:
        document = parse_document(read_text(file))
    except SyntaxProblem as exc:
        raise make_config_error(str(file), [exc.problem]) from exc
    if document.problems:
        raise make_config_error(str(file), list(document.problems))
    try:
        return Rename.model_validate(document.value or {}, context=Context(file.parent.absolute(), {}))
    except ValidationError as exc:
        raise make_config_error(str(file), explain(exc.errors(include_url=False), document)) from None


def load_signer(file: Path, password: str | None = None) -> Signer:
    """What signs inventories with a private key.

    Raises:
        ConfigError: it cannot be read, or is no key.
    """
    from ocisync.trust.keys import load_private_key, sign_blob  # only those who sign pay for it

    try:
        key = load_private_key(_read_key(file), password.encode() if password else None)
    except ConfigError as exc:
        raise ConfigError(f"{file}: {exc.message}") from exc
    return lambda data: sign_blob(key, data)


def load_check(files: Iterable[Path]) -> Check | None:
    """What checks signatures with public keys; None where none is given. Raises as `load_signer` does."""
    from ocisync.trust.keys import load_public_key, verify_blob

    keys = []
    for file in files:
        try:
            keys.append(load_public_key(_read_key(file)))
        except ConfigError as exc:
            raise ConfigError(f"{file}: {exc.message}") from exc
    if not keys:
        return None

    def check(signature: bytes, data: bytes) -> None:
        verify_blob(signature, data, keys)

    return check


def _read_key(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_KEY)
    except OSError as exc:
        raise ConfigError(f"{file}: the key cannot be read: {exc.strerror}") from exc
