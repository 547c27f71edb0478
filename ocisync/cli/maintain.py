"""`ocisync reconcile`, `ls`, `rm`, `keep`, `gc` and `verify`: looking after a static registry."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ocisync.cli.formatting import counted, printable, size_text, table, time_text
from ocisync.commands.maintenance import (
    Collecting,
    Verification,
    apply_policy,
    check_image,
    collect_scope,
    list_scope,
    reconcile_scope,
    remove_images,
    verify_scope,
)
from ocisync.config.units import parse_duration, parse_size
from ocisync.errors import ConfigError
from ocisync.maintenance.findings import Finding, Verified
from ocisync.maintenance.gc import Collected
from ocisync.maintenance.gc_plan import Totals
from ocisync.maintenance.retention import KeepPolicy
from ocisync.maintenance.tags import RepositoryView, TagView
from ocisync.sync.reports import Failure
from ocisync.wiring.session import run_async

_SHOWN = 50  # lines of findings


def run_reconcile(place: str, config: Path | None, as_json: bool) -> int:
    """Derive everything anew; the exit status."""
    done = run_async(reconcile_scope, place, config)
    if as_json:
        print(json.dumps({"ok": done.ok, **asdict(done)}, indent=2))
    else:
        _print_failures(done.failures)
        print("\n".join(map(printable, done.changed[:_SHOWN])) or "nothing had to be changed")
        print(f"{counted(done.repositories, 'repository')}, {counted(len(done.changed), 'object')} changed")
    return 0 if done.ok else 1


def show_list(place: str, config: Path | None, as_json: bool) -> int:
    """Repositories, or tags; the exit status."""
    views = run_async(list_scope, place, config)
    if as_json:
        print(json.dumps([asdict(view) for view in views], indent=2))
    else:
        print(_as_table(views))
    return 0


def _as_table(views: Sequence[RepositoryView] | Sequence[TagView]) -> str:
    if not views:
        return "nothing is there"
    rows: list[tuple[str, ...]] = []
    for view in views:
        if isinstance(view, RepositoryView):
            rows = rows or [("REPOSITORY", "TAGS", "MANIFESTS", "BLOBS", "SIZE", "SHARED", "NEWEST TAG")]
            counts = (str(view.tags), str(view.manifests), str(view.blobs))
            rows.append((view.name, *counts, size_text(view.size), size_text(view.shared), time_text(view.newest)))
        else:
            rows = rows or [("TAG", "SIZE", "SHARED", "PUBLISHED", "DIGEST")]
            sizes = (size_text(view.size), size_text(view.shared))
            rows.append((view.tag, *sizes, time_text(view.published), view.digest))
    return table(rows)


def run_remove(place: str, images: Sequence[str], config: Path | None, dry_run: bool) -> int:
    """Remove tags; the exit status."""
    removed = run_async(remove_images, place, [check_image(image) for image in images], config, dry_run)
    word = "would be removed" if dry_run else "removed"
    print("\n".join(f"{word}: {image}" for image in removed) or "there are no tags")
    return 0


def run_keep(
    place: str, config: Path | None, policy: KeepPolicy | None, limit: float | None, dry_run: bool, as_json: bool
) -> int:
    """Remove tags by age; the exit status."""
    done = run_async(apply_policy, place, config, policy, limit, dry_run)
    if as_json:
        print(json.dumps({"ok": done.ok, **asdict(done)}, indent=2))
        return 0 if done.ok else 1
    for name, decisions in done.decisions.items():
        rows = [("STAYS" if one.stays else "GOES", f"{name}:{one.tag}", printable(one.reason)) for one in decisions]
        print(table([("", "TAG", "REASON"), *rows]))
    _print_failure(done.problems)
    _print_failures(done.failures)
    print(f"{counted(done.removed, 'tag')} removed" if not dry_run else "nothing was changed")
    return 0 if done.ok else 1


def keep_policy(newest: int | None, newer_than: str | None, tags: Sequence[str]) -> KeepPolicy | None:
    """The policy that a command line gives, or None."""
    if newest is None and newer_than is None and not tags:
        return None
    return KeepPolicy(newest or 0, seconds(newer_than) or 0.0, tuple(tags))


def run_gc(place: str, config: Path | None, how: Collecting, as_json: bool) -> int:
    """Collect garbage; the exit status."""
    totals, done, journal = run_async(collect_scope, place, config, how)
    ok = done.ok if done else not totals.problems
    if as_json:
        removed = asdict(done) if done else None
        print(json.dumps({"ok": ok, "plan": asdict(totals), "removed": removed, "journal": str(journal)}, indent=2))
    else:
        _print_failure(done.problems if done else totals.problems)
        print(_collected_text(totals, done, journal, how))
    return 0 if ok else 1


def _collected_text(totals: Totals, done: Collected | None, journal: Path, how: Collecting) -> str:
    plan = (
        f"{counted(totals.objects, 'object')} in {counted(totals.repositories, 'repository')}; "
        f"nothing reaches {totals.doomed} of them "
        f"({size_text(totals.bytes)})"
    )
    if done is None:
        return plan + (f"; the plan is in {how.plan}" if how.plan else "; nothing was changed")
    _print_failures(done.failures)
    left = f"{counted(done.left.uploads, 'upload')} aborted, {counted(done.left.scratch, 'scratch object')} removed"
    lines = [plan, f"{done.removed} removed ({size_text(done.bytes)}), {done.spared} spared, {left}"]
    return "\n".join([*lines, f"the journal is {journal}"] if done.removed else lines)


def run_verify(place: str, config: Path | None, how: Verification, as_json: bool) -> int:
    """Verify a registry; the exit status."""
    report = run_async(verify_scope, place, config, how)
    print(json.dumps(report.as_json(), indent=2) if as_json else _verified_text(report))
    return 0 if report.ok else 1


def _verified_text(report: Verified) -> str:
    lines = [_finding_text(finding) for finding in report.findings[:_SHOWN]]
    if len(report.findings) > _SHOWN:
        lines.append(f"… and {len(report.findings) - _SHOWN} more; --json tells all")
    _print_failures(report.failures)
    repaired = sum(finding.repaired for finding in report.findings)
    found = {
        "repository": report.repositories,
        "tag": report.tags,
        "manifest": report.manifests,
        "blob": report.blobs,
    }
    counts = ", ".join(counted(number, noun) for noun, number in found.items())
    read = f", {size_text(report.bytes)} read" if report.bytes else ""
    omitted = f", {counted(report.omitted, 'image')} left out on purpose" if report.omitted else ""
    verdict = f"{counted(len(report.findings), 'fault')}, {repaired} repaired" if report.findings else "all is well"
    return "\n".join([*lines, f"{counts}{omitted}{read}: {verdict}"])


def _finding_text(finding: Finding) -> str:
    sign = ("@" if ":" in finding.reference else ":") if finding.repository else ""
    place = f"{finding.repository}{sign}{finding.reference}"
    needed = f" (needed by {', '.join(finding.tags)})" if finding.tags else ""
    detail = f": {printable(finding.detail)}" if finding.detail else ""
    mark = "repaired" if finding.repaired else "FAULT"
    return f"{mark}  {finding.kind.value} {place} {finding.fault.value}{detail}{needed}"


def seconds(text: str | None) -> float | None:
    """A duration on the command line."""
    return _parsed(text, parse_duration)


def size(text: str | None) -> float | None:
    """A size on the command line."""
    return _parsed(text, parse_size)


def _parsed(text: str | None, parse: Callable[[str], float]) -> float | None:
    if text is None:
        return None
    try:
        return float(parse(text))
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _print_failure(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"left alone: {printable(problem)}", file=sys.stderr)


def _print_failures(failures: Mapping[str, Failure]) -> None:
    for name, failure in failures.items():
        print(f"{name or 'registry'}: {printable(failure.message)} [{failure.code}]", file=sys.stderr)
