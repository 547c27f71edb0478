"""`ocisync reconcile`, `ls`, `rm`, `keep`, `gc` and `verify`: looking after a static registry.

`ls`, `rm` and `verify` also take an ordinary registry: `cli.registry.contents` has their display.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_names, complete_targets
from ocisync.cli.arguments.options import (
    AsJson,
    AuthFile,
    ConfigFile,
    Creds,
    TlsVerify,
    optional_config,
    service_config,
    with_access,
)
from ocisync.cli.display.output import counted, local_time, printable, show, show_json, table, warn
from ocisync.cli.registry.contents import show_checked, show_content
from ocisync.errors import ConfigError
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for maintenance
    from ocisync.commands.maintenance import GcOptions
    from ocisync.maintenance.findings import Finding, Verified
    from ocisync.maintenance.gc import Collected
    from ocisync.maintenance.gc_plan import Totals
    from ocisync.maintenance.retention import KeepPolicy
    from ocisync.maintenance.tags import RepositoryView, TagView
    from ocisync.sync.reports import Failure

_SHOWN = 50  # lines of findings

Registry = Annotated[
    str,
    typer.Argument(
        metavar="TARGET[/NAME]",
        help="A target of the configuration, static:DIR, or s3://BUCKET?…",
        autocompletion=complete_targets,
    ),
]
AnyRegistry = Annotated[
    str,
    typer.Argument(
        metavar="TARGET[/NAME]",
        help="A target of the configuration, static:DIR, s3://BUCKET?…, docker://HOST[/NAME]",
        autocompletion=complete_targets,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")]
Limit = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Largest share that may be removed. Default: the target's, or 0.5."),
]


def reconcile(target: Registry, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Rebuild the lists of tags, referrers and repositories, after other tools wrote to a static registry.

    Example: ocisync reconcile static:./registry

    Example: ocisync reconcile mirror/team/app
    """
    from ocisync.commands.maintenance import reconcile_scope

    done = run_async(reconcile_scope, target, _config_for(target, config))
    if as_json:
        show_json({"ok": done.ok, **asdict(done)})
    else:
        _print_failures(done.failures)
        show("\n".join(map(printable, done.changed[:_SHOWN])) or "nothing had to be changed")
        show(f"{counted(done.repositories, 'repository')}, {counted(len(done.changed), 'object')} changed")
    raise typer.Exit(0 if done.ok else 1)


def ls(
    target: AnyRegistry,
    config: ConfigFile = None,
    as_json: AsJson = False,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """List a registry's repositories, or a repository's tags; of a static registry with sizes and dates.

    Example: ocisync ls static:./registry

    Example: ocisync ls mirror/team/app

    Example: ocisync ls docker://registry.example.com
    """
    from ocisync.commands.maintenance import list_scope
    from ocisync.commands.registry.images import find_place

    file = _config_for(target, config)
    if found := find_place(target, file):
        show_content(found[0], with_access(config, [str(found[0])], creds, tls_verify, authfile), as_json)
        return
    views = run_async(list_scope, target, file)
    show_json([asdict(view) for view in views]) if as_json else show(_views_table(views))


def rm(
    context: typer.Context,
    target: AnyRegistry,
    image: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[:TAG]]...", help="A tag, or all tags of a repository.", autocompletion=complete_names
        ),
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """Remove tags; in a static registry their blobs stay until `ocisync gc`.

    Example: ocisync rm static:./registry team/app:1.0

    Example: ocisync rm docker://registry.example.com/team/app:1.0 --dry-run

    Example: ocisync rm docker://registry.example.com/team/app@sha256:DIGEST
    """
    from ocisync.commands.maintenance import check_image, remove_images
    from ocisync.commands.registry.images import find_place, remove_from_registry

    file = _config_for(target, config)
    if found := find_place(target, file):
        root = str(found[0])
        going = [found] if not image else [place for one in image if (place := find_place(f"{root}/{one}", None))]
        settings = with_access(config, [root], creds, tls_verify, authfile)
        removed = run_async(remove_from_registry, going, settings, dry_run)
    elif image:
        removed = run_async(remove_images, target, [check_image(text) for text in image], file, dry_run)
    else:
        raise typer.BadParameter("name what to remove, such as team/app:1.0", context, param_hint="NAME[:TAG]")
    word = "would be removed" if dry_run else "removed"
    show("\n".join(f"{word}: {name}" for name in removed) or "there are no tags")


def keep(
    target: Registry,
    newest: Annotated[int | None, typer.Option(min=1, help="Keep this many of the newest tags.")] = None,
    newer_than: Annotated[str | None, typer.Option(help="Keep tags newer than this, such as 90d.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Keep tags that match this expression; may be repeated.")
    ] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove old tags, as the target's `keep` or these options say.

    Example: ocisync keep mirror --dry-run

    Example: ocisync keep static:./registry//team/app --newest 10 --newer-than 90d --tag 'v.*'
    """
    from ocisync.commands.maintenance import apply_policy

    policy = _policy(newest, newer_than, tag or [])
    done = run_async(apply_policy, target, _config_for(target, config), policy, limit, dry_run)
    if as_json:
        show_json({"ok": done.ok, **asdict(done)})
        raise typer.Exit(0 if done.ok else 1)
    for name, decisions in done.decisions.items():
        rows = [("STAYS" if one.stays else "GOES", f"{name}:{one.tag}", printable(one.reason)) for one in decisions]
        show(table([("", "TAG", "REASON"), *rows]))
    _print_problems(done.problems)
    _print_failures(done.failures)
    show(f"{counted(done.removed, 'tag')} removed" if not dry_run else "nothing was changed")
    raise typer.Exit(0 if done.ok else 1)


def gc(
    target: Registry,
    plan: Annotated[Path | None, typer.Option(help="Only write to this file what would be removed.")] = None,
    apply: Annotated[
        Path | None, typer.Option(help="Remove what such a file lists, if it is still unreferenced.")
    ] = None,
    dry_run: DryRun = False,
    grace: Annotated[str | None, typer.Option(help="Keep what is younger. Default: the target's, or 1d.")] = None,
    limit: Limit = None,
    journal: Annotated[Path | None, typer.Option(help="Where to write down what is removed.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove from a static registry what no tag reaches; safe while others write.

    Example: ocisync gc mirror --dry-run

    Example: ocisync gc static:./registry --plan plan.jsonl

    Example: ocisync gc static:./registry --apply plan.jsonl
    """
    from ocisync.commands.maintenance import GcOptions, collect_scope

    options = GcOptions(plan, apply, dry_run, _seconds(grace), limit, journal)
    totals, done, written = run_async(collect_scope, target, _config_for(target, config), options)
    ok = done.ok if done else not totals.problems
    if as_json:
        removed = asdict(done) if done else None
        show_json({"ok": ok, "plan": asdict(totals), "removed": removed, "journal": str(written)})
    else:
        _print_problems(done.problems if done else totals.problems)
        show(_collected_text(totals, done, written, options))
    raise typer.Exit(0 if ok else 1)


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET[/NAME]",
            help="A target of the configuration, static:DIR, s3://BUCKET?…, docker://HOST/NAME[:TAG], or FILE",
            autocompletion=complete_targets,
        ),
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Read every blob and check its digest.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch again what is missing or damaged.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a --deep that was interrupted.")] = False,
    rate: Annotated[str | None, typer.Option(help="Read at most this much per second, such as 50MiB.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="How many objects to check at one time.")] = 8,
    config: ConfigFile = None,
    as_json: AsJson = False,
    creds: Creds = "",
    tls_verify: TlsVerify = None,
    authfile: AuthFile = None,
) -> None:
    """Check that every tag is whole; exit 1 if something is wrong and was not repaired.

    In an ordinary registry or an archive every blob is read and checked, as with --deep.

    Example: ocisync verify mirror --deep --rate 50MiB

    Example: ocisync verify static:./registry//team/app --repair

    Example: ocisync verify docker://registry.example.com/team/app:1.0

    Example: ocisync verify app.tar
    """
    from ocisync.commands.maintenance import VerifyOptions, verify_scope
    from ocisync.commands.registry.images import find_place, is_image_file

    found = find_place(target, _config_for(target, config))
    if found or is_image_file(target):
        if repair or resume or rate:
            raise ConfigError("--repair, --resume and --rate are for static registries; copy the image again instead")
        image = f"{found[0]}{'@' if ':' in found[1] else ':'}{found[1]}".rstrip(":") if found else target
        raise typer.Exit(show_checked(image, with_access(config, [image], creds, tls_verify, authfile), as_json))
    options = VerifyOptions(deep, repair, resume, _size(rate) or 0.0, concurrency)
    report = run_async(verify_scope, target, _config_for(target, config), options)
    show_json(report.as_json()) if as_json else show(_verified_text(report))
    raise typer.Exit(0 if report.ok else 1)


def _config_for(target: str, config: Path | None) -> Path | None:
    """The configuration; for one of its targets root works as the service does, whose files these are."""
    file = optional_config(config)
    return service_config(file) if file is not None and ":" not in target.partition("/")[0] else file


def _views_table(views: Sequence[RepositoryView] | Sequence[TagView]) -> str:
    from ocisync.maintenance.tags import RepositoryView

    if not views:
        return "nothing is there"
    rows: list[tuple[str, ...]] = []
    for view in views:
        if isinstance(view, RepositoryView):
            rows = rows or [("REPOSITORY", "TAGS", "MANIFESTS", "BLOBS", "SIZE", "SHARED", "NEWEST TAG")]
            counts = (str(view.tags), str(view.manifests), str(view.blobs))
            rows.append((view.name, *counts, size_text(view.size), size_text(view.shared), local_time(view.newest)))
        else:
            rows = rows or [("TAG", "SIZE", "SHARED", "PUBLISHED", "DIGEST")]
            sizes = (size_text(view.size), size_text(view.shared))
            rows.append((view.tag, *sizes, local_time(view.published), view.digest))
    return table(rows)


def _policy(newest: int | None, newer_than: str | None, tags: Sequence[str]) -> KeepPolicy | None:
    """The policy that a command line gives, or None."""
    from ocisync.maintenance.retention import KeepPolicy

    if newest is None and newer_than is None and not tags:
        return None
    return KeepPolicy(newest or 0, _seconds(newer_than) or 0.0, tuple(tags))


def _collected_text(totals: Totals, done: Collected | None, journal: Path, options: GcOptions) -> str:
    plan = (
        f"{counted(totals.objects, 'object')} in {counted(totals.repositories, 'repository')}; "
        f"{totals.doomed} unreferenced ({size_text(totals.bytes)})"
    )
    if done is None:
        return plan + (f"; the plan is in {options.plan}" if options.plan else "; nothing was changed")
    _print_failures(done.failures)
    left = f"{counted(done.left.uploads, 'upload')} aborted, {counted(done.left.scratch, 'scratch object')} removed"
    lines = [plan, f"{done.removed} removed ({size_text(done.bytes)}), {done.spared} spared, {left}"]
    return "\n".join([*lines, f"the journal is {journal}"] if done.removed else lines)


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


def _seconds(text: str | None) -> float | None:
    """A duration on the command line."""
    from ocisync.config.parsers import parse_duration

    return _parse_optional(text, parse_duration)


def _size(text: str | None) -> float | None:
    """A size on the command line."""
    from ocisync.config.parsers import parse_size

    return _parse_optional(text, parse_size)


def _parse_optional(text: str | None, parse: Callable[[str], float]) -> float | None:
    if text is None:
        return None
    try:
        return float(parse(text))
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems:
        warn(f"left alone: {printable(problem)}")


def _print_failures(failures: Mapping[str, Failure]) -> None:
    for name, failure in failures.items():
        warn(f"{name or 'registry'}: {printable(failure.message)} [{failure.code}]")
