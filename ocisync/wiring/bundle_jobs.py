"""Rules about bundles: their schedules, and their jobs run with a configuration's settings."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from ocisync.bundles.bundle_job import BundleJob
from ocisync.config.models import BundleRule, Config, DropRuleSettings
from ocisync.content.threads import run_file
from ocisync.daemon.schedule import Schedule
from ocisync.errors import BundleError, ConfigError, DiskError, OcisyncError
from ocisync.sync.reports import Failure, JobReport, describe_failure
from ocisync.wiring.session import Session

if TYPE_CHECKING:  # the start of the daemon does not pay for bundles
    from ocisync.bundles.create_bundle import Created
    from ocisync.bundles.inbox import Emptied
    from ocisync.bundles.inventory import BundleInventory
    from ocisync.model.digest import Digest

log = structlog.get_logger()

_Rule = TypeVar("_Rule", BundleRule, DropRuleSettings)
_LAST, _FULL = "last.bundle.json", "full.bundle.json"


def bundle_schedules(config: Config, wanted: Collection[str] | None = None) -> Iterator[Schedule]:
    """One schedule for each rule that writes bundles, and for each drop rule that takes them; None: all enabled."""
    for rule in config.bundle:
        if rule.name in wanted if wanted is not None else rule.enabled:
            job = BundleJob(rule.name, "create", rule.name)
            yield Schedule(rule.name, (job,), rule.interval, cron=rule.cron, settings=(rule,))
    for drop in config.drop:
        if drop.bundles is not None and (drop.name in wanted if wanted is not None else drop.enabled):
            job = BundleJob(f"bundles {drop.name}", "apply", drop.name)
            yield Schedule(job.rule, (job,), drop.rescan, settings=(drop,), label=drop.label or "")


async def run_bundle_job(job: BundleJob, session: Session) -> JobReport:
    """Write a bundle, or take those of an inbox; every OcisyncError ends up in the report."""
    report = job.report()
    started, is_idle = time.monotonic(), False
    with structlog.contextvars.bound_contextvars(rule=job.rule, target=report.target):
        try:
            if job.task == "create":
                _report_created(await _create(_find(session.config.bundle, job.of), session), report)
            else:
                emptied = await _empty(_find(session.config.drop, job.of), session)
                _report_emptied(emptied, report)
                is_idle = not (emptied.applied or emptied.failed)
        except OcisyncError as exc:
            report.failure = describe_failure(exc)
        report.seconds = time.monotonic() - started
        if report.failure is not None:
            log.warning("job.failed", code=report.failure.code, error=report.failure.message)
        elif not is_idle:
            log.info("job.finished", bytes=report.traffic.bytes, seconds=round(report.seconds, 3))
    return report


def _find(rules: Collection[_Rule], name: str) -> _Rule:
    found = next((rule for rule in rules if rule.name == name), None)
    if found is None:
        raise ConfigError(f"no rule is named {name[:80]!r}")
    return found


async def _create(rule: BundleRule, session: Session) -> Created:
    """Write the next bundle of a rule, and remember what it built up to: the files in the outbox are carried away."""
    from ocisync.bundles.create_bundle import BundleRequest, create_bundle
    from ocisync.wiring.bundles import find_bundled_jobs, load_signer

    memory = _place_of_memory(rule, session.config)
    last, base, digest = await run_file(partial(_choose_base, rule, memory))
    password = rule.key_password.get_secret_value() if rule.key_password else None
    signer = await run_file(partial(load_signer, rule.key, password)) if rule.key else None
    least = last.sequence + 1 if last else 1
    request = BundleRequest(rule.outbox, rule.name, rule.volume or 0, base, digest, signer, least)
    found = await find_bundled_jobs(session, rule.rules)
    created = await create_bundle(found.jobs, session.tools, request)
    created.reports = [*found.reports, *created.reports]
    if created.inventory is not None:
        log.info("bundle.written", bundle=created.inventory.id, blobs=created.fresh, bytes=created.bytes)
        await run_file(partial(_remember, memory, created.inventory))
    return created


def _place_of_memory(rule: BundleRule, config: Config) -> Path:
    """Where it is remembered what was bundled: where several daemons share the work, beside the bundles, for all."""
    return (rule.outbox / ".ocisync" if config.dsn else config.daemon.state / "bundles") / rule.name


def _choose_base(
    rule: BundleRule, memory: Path
) -> tuple[BundleInventory | None, BundleInventory | None, Digest | None]:
    """The last bundle, and the inventory that the next one builds on; blocks."""
    from ocisync.bundles.receipt import newest_receipt

    last, last_digest = _read(memory / _LAST)
    is_full_due = rule.full_every is not None and last is not None and last.sequence % rule.full_every == 0
    if rule.base == "none" or is_full_due:
        return last, None, None
    if rule.base == "receipt" and rule.receipts is not None:
        receipt = newest_receipt(rule.receipts, rule.name)
        return last, *(_read(receipt) if receipt else (None, None))
    if rule.base == "first":
        return last, *_read(memory / _FULL)
    return last, last, last_digest


def _read(path: Path) -> tuple[BundleInventory | None, Digest | None]:
    """An inventory; None where there is none, or only a damaged one: then the next bundle is full."""
    from ocisync.bundles.inventory_json import parse_inventory
    from ocisync.bundles.receipt import read_inventory_file
    from ocisync.model.digest import sha256

    try:
        raw = read_inventory_file(path.parent, path.name)
        return (parse_inventory(raw, ("bundle", "receipt")), sha256(raw)) if raw is not None else (None, None)
    except BundleError as exc:
        log.warning("bundle.base_unusable", path=str(path), error=exc.message)
        return None, None


def _remember(memory: Path, inventory: BundleInventory) -> None:
    """Keep the inventory: who carries the bundle away may have done so by now."""
    from ocisync.bundles.inventory_json import render_inventory
    from ocisync.stores.archive.atomic_file import write_file

    try:
        memory.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"{exc.filename}: {exc.strerror}", errno=exc.errno) from exc
    raw = render_inventory(inventory)
    write_file(memory / _LAST, raw)
    if inventory.base is None:
        write_file(memory / _FULL, raw)


def _report_created(created: Created, report: JobReport) -> None:
    report.traffic.blobs, report.traffic.bytes = created.fresh, created.bytes
    failures = [failure for one in created.reports if (failure := one.worst()) is not None]
    if failures:
        more = f", and {len(failures) - 1} more" if failures[1:] else ""
        report.failure = Failure(failures[0].code, f"left out: {failures[0].message}{more}", failures[0].handling)


async def _empty(rule: DropRuleSettings, session: Session) -> Emptied:
    from ocisync.bundles.apply_bundle import ApplyOptions
    from ocisync.bundles.inbox import Inbox, empty_inbox
    from ocisync.wiring.bundles import load_check, place_at, tag_renaming

    settings = rule.bundles
    if settings is None:
        raise ConfigError(f"{rule.name}: the rule takes no bundles")
    (place,) = rule.target
    text = f"{place.target}/{place.repository}" if place.repository else place.target
    options = ApplyOptions(
        place_at(session, text, settings.rename),
        tag_renaming(settings.rename),
        rule.name,
        await run_file(partial(load_check, settings.trust)),
        settings.prune,
        settings.whole_images_only,
    )
    receipts = settings.receipts_in(session.config.daemon.state, rule.name)
    inbox = Inbox(
        rule.path, receipts, session.config.temporary_path, rule.done, rule.done_path, rule.failed_path, rule.stable
    )
    return await empty_inbox(inbox, session.tools, options)


def _report_emptied(emptied: Emptied, report: JobReport) -> None:
    for applied in emptied.applied:
        for one in applied.reports:
            report.tags.extend(one.tags)
            report.warnings.extend(one.warnings)
            report.traffic.blobs += one.traffic.blobs
            report.traffic.bytes += one.traffic.bytes
            report.failure = report.failure or one.failure
        log.info("bundle.applied", bundle=applied.inventory.id, ok=applied.ok, removed=len(applied.removed))
        if applied.lacking:
            report.failure = Failure("bundle.incomplete", applied.lacking, "fail")
    for bundle, reason in emptied.waiting.items():
        log.info("bundle.waiting", bundle=bundle, reason=reason)
        report.warnings.append(f"{bundle} waits: {reason}")
    for bundle, error in emptied.failed.items():
        report.failure = report.failure or describe_failure(error.at(bundle))
