"""The commands that look after a static registry, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ocisync.cli.options import AsJson, ConfigFile, optional_config, start_logging

Registry = Annotated[
    str, typer.Argument(metavar="TARGET[/NAME]", help="A target of the configuration, static:DIR, or s3://BUCKET?…")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Limit = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(min=0.0, max=1.0, help="The largest share that may be removed; the target's, else 0.5."),
]


def add_commands(app: typer.Typer) -> None:
    """Give a command line these commands."""
    for command in (reconcile, ls, rm, keep, gc, verify):
        app.command()(command)


def reconcile(context: typer.Context, target: Registry, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Derive lists of tags, referrers and repositories anew, after other tools wrote to a static registry."""
    start_logging(context)
    from ocisync.cli.maintain import run_reconcile

    raise typer.Exit(run_reconcile(target, optional_config(config), as_json))


def ls(context: typer.Context, target: Registry, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List a static registry's repositories, or one repository's tags, with sizes, dates and what they share."""
    start_logging(context)
    from ocisync.cli.maintain import show_list

    raise typer.Exit(show_list(target, optional_config(config), as_json))


def rm(
    context: typer.Context,
    target: Registry,
    image: Annotated[list[str], typer.Argument(metavar="NAME[:TAG]...", help="A tag, or all tags of a repository.")],
    config: ConfigFile = None,
    dry_run: DryRun = False,
) -> None:
    """Remove tags from a static registry; what only they reached stays until `ocisync gc`."""
    start_logging(context)
    from ocisync.cli.maintain import run_remove

    raise typer.Exit(run_remove(target, image, optional_config(config), dry_run))


def keep(
    context: typer.Context,
    target: Registry,
    newest: Annotated[Optional[int], typer.Option(min=1, help="So many of the newest tags stay.")] = None,  # noqa: UP045
    newer_than: Annotated[Optional[str], typer.Option(help="Tags stay that are newer than this, such as 90d.")] = None,  # noqa: UP045
    tag: Annotated[Optional[list[str]], typer.Option(help="Tags stay that match; may be given again.")] = None,  # noqa: UP045
    limit: Limit = None,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove tags by age, as the target's `keep` or these options say."""
    start_logging(context)
    from ocisync.cli.maintain import keep_policy, run_keep

    policy = keep_policy(newest, newer_than, tag or [])
    raise typer.Exit(run_keep(target, optional_config(config), policy, limit, dry_run, as_json))


def gc(
    context: typer.Context,
    target: Registry,
    plan: Annotated[Optional[Path], typer.Option(help="Only write what would be removed, to this file.")] = None,  # noqa: UP045
    apply: Annotated[Optional[Path], typer.Option(help="Remove what such a file names and still may go.")] = None,  # noqa: UP045
    dry_run: DryRun = False,
    grace: Annotated[Optional[str], typer.Option(help="Spare what is younger; the target's, else 1d.")] = None,  # noqa: UP045
    limit: Limit = None,
    journal: Annotated[Optional[Path], typer.Option(help="Where to note what is removed.")] = None,  # noqa: UP045
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove from a static registry what no tag reaches; safe beside running writers."""
    start_logging(context)
    from ocisync.cli.maintain import run_gc, seconds
    from ocisync.commands.maintenance import Collecting

    how = Collecting(plan, apply, dry_run, seconds(grace), limit, journal)
    raise typer.Exit(run_gc(target, optional_config(config), how, as_json))


def verify(
    context: typer.Context,
    target: Registry,
    deep: Annotated[bool, typer.Option("--deep", help="Read every blob, and check its sha256.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Bring what is missing or damaged again.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a cut-off --deep stopped.")] = False,
    rate: Annotated[Optional[str], typer.Option(help="Read no faster than this per second, such as 50MiB.")] = None,  # noqa: UP045
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Objects looked at at a time.")] = 8,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check that every tag of a static registry is whole; exit 1 if anything is wrong and was not repaired."""
    start_logging(context)
    from ocisync.cli.maintain import run_verify, size
    from ocisync.commands.maintenance import Verification

    how = Verification(deep, repair, resume, size(rate) or 0.0, concurrency)
    raise typer.Exit(run_verify(target, optional_config(config), how, as_json))
