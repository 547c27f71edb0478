"""`ocisync engine migrate`, `engine status` and `state move`: many daemons on PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import AsJson, ConfigFile, Quiet, service_config
from ocisync.cli.display.output import counted, printable, show, show_json, table
from ocisync.model.text.quantities import duration_text

if TYPE_CHECKING:  # the start of other commands does not pay for the engine
    from ocisync.engine.status import EngineNow


def migrate(config: ConfigFile = None) -> None:
    """Make or update the tables in PostgreSQL, before the daemons of a new version start.

    Several may run it at the same time, and it may be repeated: one works, the others find nothing to do.

    Example: ocisync engine migrate --config ocisync.yaml
    """
    from ocisync.commands.engine import migrate_engine
    from ocisync.config.load import load_config

    before, after = migrate_engine(load_config(service_config(config), needs_secrets=False))
    show("the tables are up to date" if before == after else f"the tables are now of version {after}; before: {before}")


def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the daemons that share the work, what each of them does, and what waits and why.

    Example: ocisync engine status
    """
    from ocisync.commands.engine import look_at_engine
    from ocisync.config.load import load_config

    now = run_async(look_at_engine, load_config(service_config(config), needs_secrets=False))
    if as_json:
        show_json(asdict(now))
        return
    _print_status(now)
    raise typer.Exit(0 if any(worker.is_alive for worker in now.workers) else 1)


def move(
    source: Annotated[
        str, typer.Option("--from", metavar="DIR|DSN", help="Where it is. Default: daemon.state of the configuration.")
    ] = "",
    target: Annotated[
        str, typer.Option("--to", metavar="DIR|DSN", help="Where it goes. Default: engine.dsn of the configuration.")
    ] = "",
    config: ConfigFile = None,
    quiet: Quiet = False,
) -> None:
    """Copy what the ledger remembers from a folder to PostgreSQL, or back; stop the daemons before.

    What is there already stays, unless it has the same name. A connection string on the command line can be read by
    every user of the machine: leave it in the configuration, as engine.dsn.

    Example: ocisync state move

    Example: ocisync state move --from "$DSN" --to /var/lib/ocisync
    """
    from ocisync.commands.engine import move_state
    from ocisync.config.load import load_config

    moved = run_async(move_state, load_config(service_config(config), needs_secrets=False), source, target)
    if not quiet:
        show(f"copied {', '.join(f'{count} {table}' for table, count in sorted(moved.rows.items())) or 'nothing'}")


def _print_status(now: EngineNow) -> None:
    if not now.workers:
        show("no daemon shares the work now; start one with `ocisync run`")
    rows = [
        (
            printable(worker.id),
            "alive" if worker.is_alive else f"not seen for {duration_text(worker.seen)}",
            str(sum(unit.worker == worker.id for unit in now.running)),
            str(worker.slots),
            printable(worker.labels) or "-",
            worker.generation,
        )
        for worker in now.workers
    ]
    if rows:
        show(table([("DAEMON", "STATE", "RUNS", "SLOTS", "LABELS", "CONFIGURATION"), *rows]))
    for unit in now.running:
        who = printable(unit.worker)
        show(f"{printable(unit.rule)}: {printable(unit.item)}: runs for {duration_text(unit.seconds)} at {who}")
    for unit in now.waiting:
        show(f"{printable(unit.rule)}: {printable(unit.item)}: waits {unit.reason}, {duration_text(unit.seconds)}")
    when = "" if now.next_due is None else f", the first in {duration_text(max(0.0, now.next_due))}"
    show(f"{counted(len(now.waiting), 'unit')} waiting; {counted(now.later, 'unit')} due later{when}")
